"""Which chip it is: its name for `atc --soc_version`, and the ids that its devices go by.

    python3 -m ascend.soc

The name comes from ACL or, without it, from `npu-smi info`, whose layouts differ between chips. The id that --device
takes is the logical one, which is not the NPU id that npu-smi takes: a card with NPU id 8 can be device 0.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import difflib
import importlib
import re
import subprocess
import sys
from typing import Dict, List, NamedTuple, Optional, Tuple

from contract.errors import UserError

# Names that atc of CANN 8.1 takes, without their prefix "Ascend"; the 031 and 035 families are not for this job.
KNOWN = ("310", "310B1", "310B2", "310B3", "310B4", "310P1", "310P3", "310P5", "310P7", "610", "610Lite", "910A",
         "910ProA", "910ProB", "910PremiumA", "910B1", "910B2", "910B2C", "910B3", "910B4", "910B4-1", "910_9362",
         "910_9372", "910_9381", "910_9382", "910_9391", "910_9392")
PREFIX = "Ascend"
NEWER = re.compile(r"Ascend(?:910_\d{2,4}|950\w*_\w+)$")  # <Chip Name>_<NPU Name> of later products
FIRST_910B = "Ascend910B"  # to atc, and as the chip of some first-generation cards is called; later ones have a digit
_FAMILY = re.compile(r"Ascend(310P|310B|310|910B(?=\d)|910_93|910|950|610)")
# Chip of each product, and how many a card or module has.
CARDS = {"Atlas 200": ("Ascend310", 1), "Atlas 500": ("Ascend310", 1), "Atlas 300I": ("Ascend310", 4),
         "Atlas 300I Pro": ("Ascend310P3", 1), "Atlas 300V": ("Ascend310P3", 1), "Atlas 300V Pro": ("Ascend310P3", 1),
         "Atlas 300I Duo": ("Ascend310P3", 2)}
_MODEL = re.compile(r"(\((model)?\s*)?\b30[01]0\)?$|\bDK$", re.IGNORECASE)  # 300I 3010, 300I (Model 3000), 200 DK
HALF_NAMES = (PREFIX, "950")  # A3 prints Ascend910, 950 its number: the other half is on the board
PHYSICAL = "Phy-ID"
SECONDS_FOR_NPU_SMI = 60

# A device is two rows of the table. The second is known by its bus id and is tried first: on 310P its first cell is
# two numbers, which would pass for a device's id and name. 950 has a column for each of id and name, empty below.
_CHIP_ROW = re.compile(r"\|\s*(?:(\d+)(?:\s+(\d+))?\s*|\|\s*)"
                       r"\|\s*([0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d|NA)\s*\|")
_NAME_ROW = re.compile(r"\|\s*(\d+)(?:\s*\|)?\s+([A-Za-z0-9][\w-]*)\s*\|([^|]*)\|")
_VERSIONS = re.compile(r"npu-smi\s+(\S+)\s+Version:\s*(\S+)")
_BOARD_FIELD = re.compile(r"^[ \t]*([A-Za-z][\w \-()/]*):(.*)$", re.MULTILINE)


class Device(NamedTuple):
    npu_id: int  # for npu-smi -i
    chip: int  # for npu-smi -c
    device_id: int  # for --device and acl.rt.set_device
    name: str  # as in the table, 310P3
    health: str
    bus_id: str

    @property
    def soc_version(self) -> Optional[str]:
        """None means that the table does not say it, and the board has to be asked."""
        return None if self.name.startswith(HALF_NAMES) else PREFIX + self.name


def parse_npu_smi(text: str) -> List[Device]:
    """The devices in the output of `npu-smi info`.

    Where no logical id is printed it is the order of appearance. A3 prints Phy-ID: the place in the machine, which in a
    container begins with any number, while ACL counts from 0.
    """
    has_ids = PHYSICAL not in text
    devices: List[Device] = []
    name_row = None
    for line in map(str.strip, text.splitlines()):
        if "Process id" in line:
            break
        chip_row = _CHIP_ROW.match(line)
        if chip_row and name_row:
            chip, logical, bus_id = chip_row.groups()
            npu_id, name, health = map(str.strip, name_row.groups())
            number = int(logical) if logical and has_ids else len(devices)
            devices.append(Device(int(npu_id), int(chip or 0), number, name, health, bus_id))
        else:
            name_row = _NAME_ROW.match(line) or name_row
    return devices


def parse_versions(text: str) -> Tuple[Optional[str], Optional[str]]:
    """(version of npu-smi, version of the driver) in the head of `npu-smi info`."""
    match = _VERSIONS.search(text)
    return (match.group(1), match.group(2)) if match else (None, None)


def parse_board(text: str) -> Dict[str, str]:
    """The fields of `npu-smi info -t board`."""
    return {key.strip(): value.strip() for key, value in _BOARD_FIELD.findall(text)}


def npu_smi(*arguments: str) -> str:
    """What `npu-smi info ARGUMENTS` prints. Raises UserError when it cannot be run or fails."""
    try:
        done = subprocess.run(["npu-smi", "info", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=SECONDS_FOR_NPU_SMI)
    except FileNotFoundError:
        raise UserError("npu-smi is not on PATH: the driver is not installed or, in a container, not mounted "
                        "(/usr/local/bin/npu-smi, /usr/local/Ascend/driver, /usr/local/dcmi)") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"npu-smi info did not answer in {SECONDS_FOR_NPU_SMI} s. The driver hangs: restart the "
                        "machine, or ask whoever runs it") from None
    text = done.stdout.decode(errors="replace")
    if "-8020" in text:
        raise UserError("npu-smi reports -8020: another container holds the device. Stop that one, or give this one "
                        "another device")
    if "-8005" in text:
        raise UserError("npu-smi reports -8005: the driver does not answer. Load it; in a container pass /dev/davinci* "
                        "and its other nodes, and mount the driver")
    if done.returncode:
        raise UserError(f"npu-smi info failed with code {done.returncode}: {' '.join(text.split())[:300]}. "
                        "Is the driver loaded?")
    return text


def board_soc_version(device: Device) -> str:
    """<Chip Name>_<NPU Name> of a device whose table shows only half of its name (A3, 950)."""
    chip = [] if "950" in device.name else ["-c", str(device.chip)]
    fields = parse_board(npu_smi("-t", "board", "-i", str(device.npu_id), *chip))
    try:
        return f"{fields['Chip Name']}_{fields['NPU Name']}"
    except KeyError as error:
        raise UserError(f"npu-smi info -t board -i {device.npu_id} shows no {error}, expected Chip Name and NPU Name. "
                        "Give the soc version by hand") from None


def detect() -> str:
    """The soc version of this machine. Raises UserError if neither ACL nor npu-smi reports it."""
    name = _acl_soc_name()
    if name:
        return name
    devices = parse_npu_smi(npu_smi())
    if not devices:
        raise UserError("npu-smi info lists no device. Is a card in this machine, and its driver loaded?")
    return devices[0].soc_version or board_soc_version(devices[0])


def _acl_soc_name() -> Optional[str]:
    try:
        name = importlib.import_module("acl").get_soc_name()
    except (ImportError, AttributeError):
        return None
    return name if name and name.startswith(PREFIX) else None


def family(soc_version: str) -> str:
    """310, 310p, 310b, 910 (the first), 910b, 910_93 or 950: chips whose operators are the same."""
    match = _FAMILY.match(soc_version)
    return match.group(1).lower() if match else soc_version[len(PREFIX):].lower()


def chip_of_card(name: str) -> Optional[str]:
    """Atlas 300I Pro, 300i pro or Atlas300I-Pro -> Ascend310P3; None for what is no card."""
    def short(text: str) -> str:
        return re.sub(r"[^a-z0-9]|^\W*atlas", "", _MODEL.sub("", text.strip()).lower())

    return next((chip for known, (chip, _) in CARDS.items() if short(known) == short(name)), None)


def cards_with(soc_version: str) -> str:
    """The products that have this chip, and the chips of each; empty where none is known."""
    return ", ".join(f"{known} ({count} a card)" for known, (chip, count) in CARDS.items() if chip == soc_version)


def check_soc_version(name: str, found: Optional[str] = None) -> str:
    """`name` when atc can mean only one chip by it, or this machine says it of itself, which is `found`.

    Raises UserError with what was probably meant.
    """
    names = [PREFIX + known for known in KNOWN]
    if name in names or NEWER.match(name) or name == FIRST_910B == (found or _detected()):
        return name
    if name.lower() in ("ascend910b", "910b"):
        raise UserError(f"{name} is the first-generation 910 to atc, whose .om does not load on a 910B card (507008). "
                        "npu-smi info shows which it is: Ascend910B1, B2, B2C, B3, B4 or B4-1; the old one is "
                        "Ascend910A, or Ascend910B on a machine that says so itself")
    if chip_of_card(name):
        raise UserError(f"{name} is a card, and a target is a chip: type {chip_of_card(name)}")
    full = name if name.lower().startswith(PREFIX.lower()) else PREFIX + name
    longer = [known for known in names if known.lower().startswith(full.lower())]
    same = [known for known in names if known.lower() == full.lower()]
    near = same or longer or difflib.get_close_matches(PREFIX + full[len(PREFIX):], names, n=3)
    advice = f"Did you mean {', '.join(near)}?" if near else f"Known are {', '.join(names)}."
    raise UserError(f"unknown soc version {name}. {advice} npu-smi info shows it in the column Name, and "
                    "python3 -m ascend.soc prints the complete name")


def _detected() -> Optional[str]:
    try:
        return detect()
    except UserError:  # a machine without a card, where models are built for others
        return None


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    return argparse.ArgumentParser(prog="python3 -m ascend.soc", description=__doc__.split("\n")[0]).parse_args(argv)


def main() -> None:
    parse_args()
    print(detect())


if __name__ == "__main__":
    sys.exit(exit_code(main))
