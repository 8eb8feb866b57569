"""npu-smi: what the driver's tool prints for the chips of the emulated machine.

Keys of `npu_smi` in the configuration, all optional:

    file       print this text for `npu-smi info` (a recording of a real machine)
    version    of tool and driver
    npu_ids    NPU id of each card; by default 0, 1, ...
    chips      of a card; by default 4 of 310, 2 of A3, else 1 (a 300I Duo has 2)
    phy_ids    {number of a device: what A3 prints as its Phy-ID}, in a container others than 0, 1, ...
    health     of every device (OK)
    error      the number of a driver failure, for example -8005: nothing but its message
"""
from __future__ import annotations

import dataclasses
import sys
from typing import Any, Dict, List, Optional, Tuple

from .machine import machine

CHIPS_PER_CARD = {"310": 4, "A3": 2}
DRIVER_FAILURES = {-8020: "dcmi model initialized failed, because the device is used. ret is -8020",
                   -8005: "dcmi module initialize failed. ret is -8005"}
USAGE = """npu-smi info [-l | -m | -t board|power|product -i NPU_ID [-c CHIP_ID]]"""
BUSES = ("01", "02", "41", "42", "81", "82", "C1", "C2")


@dataclasses.dataclass
class Layout:
    """Of one family. `chip_header` is the first cell of the second row of a device; with four columns, of which the
    first is the NPU id's, that row has neither chip nor number."""
    widths: Tuple[int, ...]
    chip_header: str
    numbered: bool  # the logical device id is printed
    power_header: str
    power: str
    usage_header: str
    usage: str


WIDE = ("Power(W)     Temp(C)           Hugepages-Usage(page)", "NA           37                0     / 0",
        "AICore(%)    Memory-Usage(MB)")  # without high-bandwidth memory
NARROW = ("Power(W)    Temp(C)           Hugepages-Usage(page)", "96.5        36                0    / 0",
          "AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)", "0           0    / 0          {used:<5}/ {mb}")


LAYOUTS = {
    "310": Layout((31, 17, 54), "Chip    Device", True, *WIDE, "0            {used:<5}/ {mb}"),
    "310P": Layout((31, 17, 54), "Chip    Device", True, *WIDE, "0            {used} / {mb}"),
    "310B": Layout((31, 17, 54), "Chip    Device", True, *WIDE, "0            {used} / {mb}"),
    "910": Layout((31, 17, 54), "Chip", False, *WIDE[:2], "AICore(%)    Memory-Usage(MB) HBM-Usage(MB)",
                  "0            1966 / 15039     0    / {mb}"),
    "910B": Layout((27, 15, 52), "Chip", False, *NARROW),
    "A3": Layout((27, 15, 52), "Chip  Phy-ID", True, *NARROW),
    "950": Layout((8, 18, 15, 53), "", False, "Power(W)    Temp(C)           Hugepages-Usage(page)",
                  "195.6       56                0     / 0", "NPU Util(%) Memory-Usage(MB)  HBM-Usage(MB)",
                  "0           0    / 0          {used:<5} / {mb}")}
USED_MB = {"310": 629, "310P": 1700, "310B": 1822, "910B": 3347, "950": 5239}


@dataclasses.dataclass
class Device:
    npu: int
    chip: int
    number: int  # logical

    @property
    def bus(self) -> str:
        return f"0000:{BUSES[self.number % len(BUSES)]}:00.0"


def option(name: str, default: Any) -> Any:
    return machine().npu_smi.get(name, default)


def devices() -> List[Device]:
    per_card = option("chips", CHIPS_PER_CARD.get(machine().chip.layout, 1))
    ids: List[int] = option("npu_ids", list(range(machine().devices)))
    return [Device(ids[number // per_card], number % per_card, number) for number in range(machine().devices)]


def shown_name() -> str:
    """The Name column: A3 and 950 show only the first half, the rest is on the board."""
    soc = machine().soc
    return soc.partition("_")[0] if machine().chip.layout in ("A3", "950") else soc[len("Ascend"):]


def table() -> str:
    """`npu-smi info`."""
    layout = LAYOUTS[machine().chip.layout]
    inner = sum(layout.widths) + 2
    line, double = (f"+{'+'.join(mark * width for width in layout.widths)}+" for mark in "-=")

    def row(*cells: str) -> str:
        return "|" + "|".join(f" {cell:<{width - 1}}" for cell, width in zip(cells, layout.widths)) + "|"

    def pair(left: object, right: str) -> List[str]:
        return [str(left), right] if len(layout.widths) == 4 else [f"{left:<{gap}}{right}"]

    gap = 8 if layout.widths[0] > 30 else 6
    version = option("version", "23.0.7")
    head = f" npu-smi {version:<{24 if gap == 6 else 40}} Version: {version}"
    nothing_below = ["", ""] if len(layout.widths) == 4 else []
    rows = [f"+{'-' * inner}+", f"|{head:<{inner}}|", line,
            row(*pair("NPU", "Name"), "Health", layout.power_header),
            row(*(nothing_below or [layout.chip_header]), "Bus-Id", layout.usage_header), double]
    for device in devices():
        usage = layout.usage.format(mb=machine().chip.memory_mb, used=USED_MB.get(machine().chip.layout, 3134))
        number = f"{physical_id(device)}" if layout.numbered else ""
        rows += [row(*pair(device.npu, shown_name()), option("health", "OK"), layout.power),
                 row(*(nothing_below or pair(device.chip, number)), device.bus, usage), double]
    rows += [line, row(*(nothing_below or ["NPU     Chip"]), "Process id",
                       "Process name             | Process memory(MB)"), double]
    for npu in dict.fromkeys(device.npu for device in devices()):
        rows += [f"|{f' No running processes found in NPU {npu}':<{inner}}|", double]
    return "\n".join(rows)


def facts(pairs: Dict[str, object]) -> str:
    return "\n".join(f"\t{key:<30} : {value}" for key, value in pairs.items())


def listing() -> str:
    """`npu-smi info -l`."""
    cards = list(dict.fromkeys(device.npu for device in devices()))
    rows = [facts({"Total Count": len(cards)})]
    for npu in cards:
        count = sum(device.npu == npu for device in devices())
        rows.append("\n" + facts({"NPU ID": npu, "Chip Count": count}))
    return "\n".join(rows)


def physical_id(device: Device) -> int:
    return option("phy_ids", {}).get(str(device.number), device.number)


def mapping() -> str:
    """`npu-smi info -m`: the documented way from NPU and chip to the logical device."""
    columns: Dict[str, Any] = {"NPU ID": lambda one: one.npu, "Chip ID": lambda one: one.chip,
                               "Chip Logic ID": lambda one: one.number}
    if machine().chip.layout == "A3":
        columns["Phy-ID"] = physical_id
    rows = ["\t" + " ".join(f"{name:<30}" for name in columns) + " Chip Name"]
    rows += ["\t" + " ".join(f"{of(device):<30}" for of in columns.values()) + f" {shown_name()}"
             for device in devices()]
    return "\n".join(rows)


def board(device: Device, with_chip: bool) -> str:
    """`-t board`: the names that make up a soc version are there with a chip (A3), or at once (950)."""
    layout, (name, _, number) = machine().chip.layout, machine().soc.partition("_")
    half = {"NPU Name": number} if layout in ("A3", "950") else {"Chip Type": "Ascend"}
    names = {**half, "Chip Name": name if "NPU Name" in half else name[len("Ascend"):]}
    if with_chip:
        return facts({"NPU ID": device.npu, "Chip ID": device.chip, **names, "Chip Version": "V1", "Board ID": "0x64",
                      "PCB ID": "NA", "BOM ID": 1, "PCIe Bus Info": device.bus})
    return facts({"NPU ID": device.npu, **(names if layout == "950" else {}),
                  "Software Version": option("version", "23.0.7"), "Firmware Version": "7.1.0.3.220",
                  "Compatibility": "OK", "Board ID": "0x64", "PCB ID": "A", "BOM ID": 1,
                  "PCIe Bus Info": device.bus, "Chip Count": sum(one.npu == device.npu for one in devices())})


def query(kind: str, npu: Optional[str], chip: Optional[str]) -> Optional[str]:
    """`-t KIND -i NPU [-c CHIP]`; None where there is no such device."""
    found = [device for device in devices() if str(device.npu) == npu and chip in (None, str(device.chip))]
    if not found:
        return None
    if kind == "board":
        return board(found[0], chip is not None)
    if kind == "power":
        return facts({"NPU ID": found[0].npu, "Chip Count": len(found), "Power Dissipation(W)": 12.8})
    return facts({"NPU ID": found[0].npu, "Product Name": "Atlas"})


def main(argv: List[str]) -> int:
    if option("error", 0):
        print(DRIVER_FAILURES.get(option("error", 0), f"dcmi module initialize failed. ret is {option('error', 0)}"))
        return 255
    words = {argv[place]: argv[place + 1] for place in range(len(argv) - 1) if argv[place] in ("-t", "-i", "-c")}
    if argv == ["info"] and option("file", ""):
        with open(option("file", ""), encoding="utf-8") as file:
            sys.stdout.write(file.read())
        return 0
    if argv in (["info"], ["info", "-l"], ["info", "-m"]):
        print({"info": table, "-l": listing, "-m": mapping}[argv[-1]]())
        return 0
    if argv in (["-v"], ["--version"]):
        print(f"npu-smi version: {option('version', '23.0.7')}")
        return 0
    if argv[:1] == ["info"] and words.get("-t") in ("board", "power", "product"):
        text = query(words["-t"], words.get("-i"), words.get("-c"))
        print(text if text is not None else "This device does not exist.")
        return 0 if text is not None else 1
    print(USAGE)
    return 0 if argv in ([], ["-h"], ["--help"]) else 1
