"""The program atc."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

from .. import om
from ..machine import machine
from .build import build, read_model
from .errors import AtcError
from .flags import FILES, check, split

FAILED = 255  # main returns -1
NEWER_TEXTS = "8.0"
SITE_CANN = str(Path(__file__).resolve().parents[3] / "site_cann")
HELP = """usage: atc <args>
example:
    atc --model=./m.onnx --framework=5 --output=./m --soc_version=<soc_version>
arguments: --{}"""


def show_model(values: Dict[str, str]) -> None:
    """--mode=6: what an .om says of itself."""
    if "om" not in values:
        raise AtcError("E10054", flag="om")
    try:
        facts = om.read(values["om"]).facts
    except om.NotAModel as error:
        raise AtcError("E10041", value=values["om"], reason=error) from None
    print("============ Display Model Info start ============")
    print(f"Original Atc command line: {facts['command']}")
    print(f"system   info: atc_version[{facts['cann']}], soc_version[{facts['soc']}], framework_type[Onnx].")
    print(f"resource info: memory_size[{facts['work_size']} B], weight_size[{facts['weight_size']} B], stream_num[1], "
          "event_num[0].")
    print(f"om       info: modeldef_size[{facts['weight_size']} B], weight_data_size[{facts['weight_size']} B], "
          "tbe_kernels_size[0 B], cust_aicpu_kernel_store_size[0 B], task_info_size[0 B].")
    print("============ Display Model Info end   ============")


def litter() -> None:
    """What a real atc leaves in the directory that it runs in."""
    os.makedirs("kernel_meta", exist_ok=True)
    with open("kernel_meta/buildPidInfo.json", "w", encoding="utf-8") as file:
        json.dump([], file)
    with open("fusion_result.json", "w", encoding="utf-8") as file:
        json.dump([{"graph_fusion": {}, "session_and_graph_id": "0_0", "ub_fusion": {}}], file)


def check_python() -> None:
    """atc embeds the python3 on PATH, and imports the operator compiler with it, for which it extends PYTHONPATH."""
    if not machine().libpython:
        raise AtcError("E40001")
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), SITE_CANN])
    done = subprocess.run(["python3", "-c", "import tbe"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise AtcError("E40020", reason=(done.stderr.strip().splitlines() or ["no reason"])[-1])


def convert(values: Dict[str, str], command: str, effect: str) -> None:
    """--mode=0. `effect` of a fault: no_file, truncated, killed, or os_arch for a name that has them in it."""
    litter()
    check_python()
    folder = os.path.dirname(values["output"]) or "."
    os.makedirs(folder, exist_ok=True)
    data = build(values, command)
    if effect == "killed":  # the kernel does this when memory runs out
        os.kill(os.getpid(), signal.SIGKILL)
    if effect != "no_file":
        place = f"_linux_{os.uname().machine}" if effect == "os_arch" else ""
        try:
            with open(f"{values['output']}{place}.om", "wb") as file:
                file.write(data if effect != "truncated" else data[:40])
        except OSError as error:
            raise AtcError("E10021", value=values["output"], flag="output", reason=error.strerror) from None


def write_plog(text: str) -> None:
    """The detailed log, where the environment names a place for it: never in the home of whoever rehearses."""
    folder = os.environ.get("ASCEND_PROCESS_LOG_PATH")
    if folder is None and "ASCEND_WORK_PATH" in os.environ:
        folder = os.path.join(os.environ["ASCEND_WORK_PATH"], "log")
    line = f"[ERROR] GE({os.getpid()},atc.bin):{time.strftime('%Y-%m-%d-%H:%M:%S')} {text}\n"
    if os.environ.get("ASCEND_SLOG_PRINT_TO_STDOUT") == "1":
        print(line, end="")
    if folder is not None:
        folder = os.path.join(folder, "debug", "plog")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"plog-{os.getpid()}_{time.strftime('%Y%m%d%H%M%S')}.log"), "w") as file:
            file.write(line)


def run(values: Dict[str, str], command: str) -> None:
    check(values)
    for name in FILES:
        if name in values and not os.path.isfile(values[name]):
            raise AtcError("E10410", value=values[name], flag=name)
    fault = machine().enter("atc")
    if fault is not None and not fault.effect:
        raise AtcError(fault.message if fault.message in ("E40021", "E20001", "E19999") else "E20001",
                       value="conv1", reason=fault.message or "an injected failure")
    mode = values.get("mode", "0")
    if mode == "6":
        show_model(values)
    elif mode == "0":
        convert(values, command, fault.effect if fault else "")
    elif mode == "3":
        read_model(values["model"])
    else:
        raise AtcError("E10001", value=mode, flag="mode", reason="the emulator has modes 0, 3 and 6")


def main(argv: List[str]) -> int:
    if not argv or argv[0] in ("--help", "-h", "-help"):
        print(HELP.format(" --".join(sorted(FILES))))
        return 0
    values = split(argv)
    print("ATC start working now, please wait for a moment.", flush=True)
    try:
        run(values, " ".join(["atc", *argv]))
    except AtcError as error:
        print("\nATC run failed, Please check the detail log, Try 'atc --help' for more information")
        print(error.block(newer=om.version_key(machine().cann) >= om.version_key(NEWER_TEXTS)))
        if values.get("log", "null") != "null":
            write_plog(str(error))
        sys.stdout.flush()
        return FAILED
    print("...")
    print("ATC run success, welcome to the next use.")
    return 0
