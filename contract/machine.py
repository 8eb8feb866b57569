"""What the machine did during a run: its load by others, its clock, the energy it took, and the clocks of a GPU.

    watch = MachineWatch("NVIDIA H100", "0")
    ...
    measured = watch.stop()

Load is the share of the CPUs' time that went to other processes and to other guests of the host (proc(5), /proc/stat).
Energy of CPU packages is RAPL's (Linux, Documentation/power/powercap/powercap.rst), that of a GPU the mean of the power
that nvidia-smi samples, times the seconds. What a machine does not tell is None.
"""
from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from contract.workers import end, start

CPUS = Path("/proc/stat")
CPU_NAMES = Path("/proc/cpuinfo")
POWER_ZONES = Path("/sys/class/powercap")
WORKING = (0, 1, 2, 5, 6, 7)  # columns of /proc/stat: user, nice, system, irq, softirq, steal
SAMPLES_APART = 500  # milliseconds
SECONDS_TO_START = 10  # of nvidia-smi, at most
ASKED = ("name", "clocks.sm", "clocks.max.sm", "power.limit", "power.draw", "clocks_throttle_reasons.active")
IDLE = 0x1  # NVML's nvmlClocksThrottleReasons, of which these hold a clock down
LIMITS = {0x4: "power cap", 0x8: "hardware slowdown", 0x20: "heat (software)", 0x40: "heat (hardware)",
          0x80: "power brake"}


def host() -> str:
    return os.uname().nodename


def cpu_name() -> str:
    lines = CPU_NAMES.read_text().splitlines() if CPU_NAMES.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
                platform.processor())


def describe_machine() -> Dict[str, Any]:
    """Versions and CPU, for a report."""
    return {"cpu": cpu_name(), "threads": os.cpu_count(), "python": platform.python_version(),
            "numpy": np.__version__, "system": platform.release()}


class MachineWatch:
    """Watches from when it is made until `stop`. `device` is what the backend calls its device; with `gpu`, the number
    that the user gave, it is looked for among NVIDIA's."""

    def __init__(self, device: str, gpu: str = ""):
        self.gpu = GpuWatch(device, gpu or "0") if device != "cpu" and shutil.which("nvidia-smi") else None
        self.joules, self.seconds = _rapl(), _cpu_seconds()
        self.started, self.monotonic = time.time(), time.monotonic()

    def stop(self) -> Dict[str, Any]:
        ended, monotonic = time.time(), time.monotonic() - self.monotonic
        others = {name: now - self.seconds[name] for name, now in _cpu_seconds().items()}
        load = [round(value, 2) for value in os.getloadavg()]
        return {"host": host(), **describe_machine(), "started": self.started, "ended": ended, "monotonic_s": monotonic,
                "load_average": load, "busy_with_others": _share(others, monotonic),
                "cpu_joules": _joules(self.joules, _rapl()), "gpus": self.gpu.stop(monotonic) if self.gpu else []}

    def end(self) -> None:
        """Leave nothing running, of a run that failed too."""
        if self.gpu and self.gpu.process.returncode is None:
            end(self.gpu.process)


def _cpu_seconds() -> Dict[str, float]:
    """Seconds of CPU until now: of all processes, and of this one with its children that have ended."""
    if not CPUS.exists():
        return {}
    columns = CPUS.read_text().split("\n", 1)[0].split()[1:]
    everybody = sum(float(columns[number]) for number in WORKING) / os.sysconf("SC_CLK_TCK")
    return {"everybody": everybody, "ours": sum(os.times()[:4])}


def _share(spent: Dict[str, float], seconds: float) -> Optional[float]:
    """From 0 to 1, of what all CPUs could do in these seconds."""
    if not spent or not seconds:
        return None
    return round(min(max((spent["everybody"] - spent["ours"]) / (seconds * (os.cpu_count() or 1)), 0.0), 1.0), 4)


def _rapl() -> Dict[str, int]:
    """Microjoules of each CPU package until now, of those that may be read; they wrap at max_energy_range_uj."""
    found = {}
    for zone in sorted(POWER_ZONES.glob("intel-rapl:*")):
        with contextlib.suppress(OSError, ValueError):
            if (zone / "name").read_text().startswith("package"):
                found[str(zone)] = int((zone / "energy_uj").read_text())
    return found


def _joules(before: Dict[str, int], after: Dict[str, int]) -> Optional[float]:
    spent = 0
    for zone in before.keys() & after.keys():
        one = after[zone] - before[zone]
        spent += one if one >= 0 else one + int((Path(zone) / "max_energy_range_uj").read_text())
    return spent / 1e6 if spent else None


class GpuWatch:
    """An nvidia-smi that samples one GPU. CUDA counts from the first of CUDA_VISIBLE_DEVICES."""

    def __init__(self, device: str, gpu: str):
        number = int("".join(filter(str.isdigit, gpu)) or 0)
        visible = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
        self.device, self.index = device, visible[number] if number < len(visible) else str(number)
        self.file = tempfile.TemporaryFile("w+")
        self.process = start(["nvidia-smi", "-i", self.index, f"--query-gpu={','.join(ASKED)}",
                              "--format=csv,noheader,nounits", "-lms", str(SAMPLES_APART)],
                             stdout=self.file, stderr=subprocess.DEVNULL)

    def stop(self, seconds: float) -> List[Dict[str, Any]]:
        """After a run that was shorter than nvidia-smi takes to start, the sample is of just after it."""
        latest = time.monotonic() + SECONDS_TO_START
        while not os.fstat(self.file.fileno()).st_size and self.process.poll() is None and time.monotonic() < latest:
            time.sleep(0.01)
        end(self.process)
        with self.file as file:
            file.seek(0)
            samples = [line.rstrip("\n").split(", ") for line in file]
        return _gpu([one for one in samples if len(one) == len(ASKED)], self.device, self.index, seconds)


def _gpu(samples: List[List[str]], device: str, index: str, seconds: float) -> List[Dict[str, Any]]:
    """Nothing where nvidia-smi did not answer, or means another GPU: CUDA may count in another order.

    A clock is called locked where it never moved, is below the highest one and nothing held it down: nvidia-smi does
    not tell whether -lgc was given, and a clock that is free goes to the highest or to a limit.
    """
    if not samples or not (device.startswith("cuda") or samples[0][0] == device):
        return []
    reasons = [int(one[5], 16) for one in samples if one[5].startswith("0x")]
    at_work = [one for one in samples if not (one[5].startswith("0x") and int(one[5], 16) & IDLE)] or samples
    clocks, highest, powers = (_numbers(one[place] for one in at_work) for place in (1, 2, 4))
    limits = [name for bit, name in LIMITS.items() if any(reason & bit for reason in reasons)]
    locked = len(clocks) > 1 and len(set(clocks)) == 1 and bool(highest) and clocks[0] < highest[0] and not limits
    return [{"name": samples[0][0], "index": index, "samples": len(samples), "clock_mhz": clocks and
             [min(clocks), max(clocks)], "highest_clock_mhz": max(highest, default=None),
             "power_limit_w": max(_numbers([samples[0][3]]), default=None), "held_down_by": limits, "locked": locked,
             "joules": sum(powers) / len(powers) * seconds if powers else None}]


def _numbers(values: Any) -> List[float]:
    found = []
    for value in values:
        with contextlib.suppress(ValueError):  # [N/A]
            found.append(float(value))
    return found
