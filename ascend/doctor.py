"""Check that this machine can run a model on its NPU, and say what to do about each problem.

    python3 -m ascend.doctor --soc_version Ascend310P3

Prints a table of what is ok, what deserves a look (note) and what is a problem; exit code 2 when there is a problem.
Two machines are compared with --save FILE on each, and --diff FILE FILE.
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import glob
import os
import platform
import re
import sys
from typing import Iterator, List, Optional

from ascend import cann
from ascend.findings import NOTE, OK, PROBLEM, Finding, differences, format_table, halves, load, save
from ascend.generations import NEW, find_generation
from ascend.operators import foresee
from ascend.pyacl import call, close_device, initialise, open_device
from ascend.soc import cards_with, check_soc_version, detect, npu_smi, parse_board, parse_npu_smi, parse_versions
from ascend.toolkit_checks import check_kernels, check_python, check_set_env
from contract.arguments import HelpFormatter
from contract.errors import BAD_INPUT, DIFFERS, DONE, UserError
from contract.onnx_file import read_facts

NODES = ("davinci_manager", "devmm_svm", "hisi_hdc")  # in /dev, besides davinci0, davinci1, ...
LITTLE_MEMORY = 8 << 30  # bytes; atc compiles in 8 processes unless told otherwise
ACLRUNTIME = "0.0.2"  # the version that both generations of ais_bench expect


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m ascend.doctor", description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--soc_version", help="the expected chip, which is compared with the installed one")
    parser.add_argument("--device", default="0", help="device id to use, or several, such as 0,1")
    parser.add_argument("--runner", choices=("ais_bench", "acl"), default="ais_bench",
                        help="what will run the model; acl does not need ais_bench")
    parser.add_argument("--model", help="an .onnx; warns of what atc may not build of it here")
    parser.add_argument("--save", metavar="FILE", help="also write the findings into this file, for --diff")
    parser.add_argument("--diff", nargs=2, metavar="FILE", help="only show what differs between two saved machines; "
                        "the exit code is 1 if something differs")
    return parser.parse_args(argv)


def check_driver() -> Iterator[Finding]:
    try:
        text = npu_smi()
    except UserError as error:
        yield Finding("npu-smi", PROBLEM, *halves(error))
        return
    tool, driver = parse_versions(text)
    yield Finding("driver", OK, f"{driver}, npu-smi {tool}")
    devices = parse_npu_smi(text)
    if not devices:
        yield Finding("devices", PROBLEM, "npu-smi info lists none", "is the card seated, and its driver loaded?")
    for npu_id in sorted({device.npu_id for device in devices}):
        yield check_firmware(npu_id)
    for device in devices:
        facts = f"{device.name}, NPU id {device.npu_id}, chip {device.chip}, bus {device.bus_id}, {device.health}"
        healthy = device.health in ("OK", "NA")
        yield Finding(f"device {device.device_id}", OK if healthy else NOTE, facts,
                      "" if healthy else f"npu-smi info -t health -i {device.npu_id} tells more")


def check_firmware(npu_id: int) -> Finding:
    """The firmware of one card, and whether the driver says that it fits."""
    what = f"firmware of NPU {npu_id}"
    try:
        board = parse_board(npu_smi("-t", "board", "-i", str(npu_id)))
    except UserError as error:
        return Finding(what, NOTE, *halves(error))
    version, fit = board.get("Firmware Version", "not told"), board.get("Compatibility", "OK")
    if fit not in ("OK", "NA"):
        return Finding(what, PROBLEM, f"{version}, compatibility {fit}", "install the firmware of the driver's release")
    return Finding(what, OK, version)


def check_acl(wanted: List[int]) -> Iterator[Finding]:
    """Whether the devices can be opened, by opening them."""
    try:
        initialise()
        count = call("rt.get_device_count")
    except UserError as error:
        yield Finding("pyACL", PROBLEM, *halves(error))
        return
    visible = os.environ.get("ASCEND_RT_VISIBLE_DEVICES")
    yield Finding("pyACL", OK, f"{count} devices" + (f", ASCEND_RT_VISIBLE_DEVICES={visible}" if visible else ""))
    all_opened = True
    for device in wanted:
        try:
            open_device(device)
            close_device(device)
            yield Finding(f"open device {device}", OK, "opened and closed")
        except UserError as error:
            all_opened = False
            yield Finding(f"open device {device}", PROBLEM, *halves(error))
    if not all_opened:
        yield from check_nodes()


def check_nodes() -> Iterator[Finding]:
    """Where a device cannot be opened: whether there are nodes, and ours to use. In a container a node keeps the
    number that it has on the host, while ids count from 0: one davinci5 is device 0."""
    for path in (glob.glob("/dev/davinci[0-9]*") or ["/dev/davinci0"]) + [f"/dev/{name}" for name in NODES]:
        if not os.path.exists(path):
            yield Finding(path, PROBLEM, "not there", f"in a container pass --device={path}; else load the driver")
        elif not os.access(path, os.R_OK | os.W_OK):
            yield Finding(path, PROBLEM, "not yours to read and write", "join the group HwHiAiUser, or run as root")


def check_soc(wanted: Optional[str], model: Optional[str]) -> Iterator[Finding]:
    """The chip, its operators, and what a model needs of them."""
    try:
        found = detect()
        if wanted and check_soc_version(wanted, found) != found:
            yield Finding("soc version", PROBLEM, f"{found}, but {wanted} is asked for",
                          f"use {found}: an .om for another chip does not load (507008)")
        else:
            cards = cards_with(found)
            yield Finding("soc version", OK, f"{found}: {cards}" if cards else found)
        yield from check_kernels(found)
        if model:
            yield from check_model(model, found)
    except UserError as error:
        yield Finding("soc version", PROBLEM, *halves(error))


def check_model(model: str, soc_version: str) -> Iterator[Finding]:
    try:
        found = list(foresee(read_facts(model), soc_version, cann.version(), None))
    except UserError as error:
        yield Finding(model, PROBLEM, *halves(error))
        return
    for warning in found:
        yield Finding(model, NOTE, *halves(UserError(warning)))
    if not found:
        yield Finding(model, OK, "the vendor's lists have all its operators")


def check_ais_bench(needed: bool) -> Iterator[Finding]:
    try:
        generation, python = find_generation(), cann.ask_python()
    except UserError as error:
        yield Finding("ais_bench", PROBLEM if needed else NOTE, *halves(error))
        return
    version, gate = python["packages"]["aclruntime"], []
    if version != ACLRUNTIME:
        gate.append(f"install the wheel of aclruntime {ACLRUNTIME}")
    if not python["modules"]["pkg_resources"]:
        gate.append(f"{cann.PYTHON} -m pip install 'setuptools<81', which has the pkg_resources that it imports")
    # On either, the release of 2023 goes on in a slower mode, and that of 2024 ends with an UnboundLocalError.
    state = OK if not gate else PROBLEM if needed and generation == NEW else NOTE
    yield Finding("ais_bench", state, f"the generation of {generation}, aclruntime {version}", "; ".join(gate))


def check_memory() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts = f"{total / (1 << 30):.1f} GiB, {platform.machine()}, {os.cpu_count()} cores"
    if total < LITTLE_MEMORY and "TE_PARALLEL_COMPILER" not in os.environ:
        yield Finding("memory", NOTE, facts, "export TE_PARALLEL_COMPILER=1 before atc, or build the .om elsewhere")
    else:
        yield Finding("memory", OK, facts)


def examine(args: argparse.Namespace) -> List[Finding]:
    wanted = [int(device) for device in args.device.split(",")]
    return [*check_set_env(), *check_python(), *check_driver(), *check_acl(wanted),
            *check_soc(args.soc_version, args.model), *check_ais_bench(args.runner == "ais_bench"), *check_memory()]


def show_differences(first: str, second: str) -> int:
    rows = differences(load(first), load(second))
    print(format_table(rows, ("what", first, second)) if rows else "no differences")
    return DIFFERS if rows else DONE


def main() -> int:
    args = parse_args()
    if args.diff:
        return show_differences(*args.diff)
    if not re.fullmatch(r"\d+(,\d+)*", args.device):
        raise UserError(f"--device {args.device}: expected ids, such as 0 or 0,1")
    findings = examine(args)
    if args.save:
        save(args.save, findings, cann.emulated())
    print(format_table(findings))
    problems = sum(finding.state == PROBLEM for finding in findings)
    print(f"{problems} problems" if problems else "ready")
    return BAD_INPUT if problems else DONE


if __name__ == "__main__":
    sys.exit(exit_code(main))
