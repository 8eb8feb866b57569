"""The summary: log lines and `<folder>_summary.json`."""
from __future__ import annotations

import json
import os
import sys
from typing import Any, Dict, List, Optional

import numpy as np

from .log import logger
from .paths import open_new

PERCENT = 99
RULE = "-" * 54
TITLE = "-----------------Performance Summary------------------"


def statistics(times: List[float]) -> Dict[str, float]:
    names = ("min", "max", "mean", "median", f"percentile({PERCENT}%)")
    if not times:
        return dict.fromkeys(names, 0.0)
    return dict(zip(names, (np.min(times), np.max(times), np.mean(times), np.median(times),
                            np.percentile(times, PERCENT))))


def busy_mean(intervals: List[Any]) -> Dict[str, float]:
    """Of several threads: the time in which any of them computed, over the number of executions."""
    if not intervals:
        raise RuntimeError("summary.get_list_info failed: inner error")
    busy, end = 0.0, float("-inf")
    for start, stop in sorted(intervals, key=lambda interval: interval[0]):
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return {"mean": busy / len(intervals)}


class Report:
    """Of one process."""

    def __init__(self) -> None:
        self.files: Dict[int, Dict[str, List[str]]] = {}
        self.batchsizes: List[int] = []

    def note_files(self, sample: int, infiles: List[str], outfile: str) -> None:
        entry = self.files.setdefault(sample, {"infiles": list(infiles), "outfiles": []})
        entry["outfiles"].append(outfile)

    def write(self, batchsize: float, times: Dict[str, List[Any]], folder: Optional[str], args: Any) -> float:
        """times: lists of milliseconds under NPU_compute_time, H2D_latency, D2H_latency. Returns the throughput."""
        threads = args.pipeline and args.threads > 1
        found = {name: statistics(values) for name, values in times.items() if not (
            threads and name == "NPU_compute_time")}
        if threads:
            found["NPU_compute_time"] = busy_mean(times["NPU_compute_time"])
        if self.batchsizes:
            batchsize = sum(self.batchsizes) / len(self.batchsizes)
        mean = found["NPU_compute_time"]["mean"]
        throughput = 1000 * batchsize / mean if mean else 0
        self._show(found, args.display_all_summary, threads)
        logger.info(f"throughput 1000*batchsize.mean({batchsize})/NPU_compute_time.mean({mean}): {throughput}")
        logger.info(RULE)
        if folder is not None:
            self._write_json(folder, found, times, throughput, args.new, threads)
        return throughput

    @staticmethod
    def _show(found: Dict[str, Dict[str, float]], everything: bool, threads: bool) -> None:
        logger.info(TITLE)
        for name in ("H2D_latency", "NPU_compute_time", "D2H_latency"):
            if everything or name == "NPU_compute_time":
                values = {"mean": found[name]["mean"]} if threads else found[name]
                logger.info(f"{name} (ms): " + ", ".join(f"{key} = {value}" for key, value in values.items()))

    def _write_json(self, folder: str, found: Dict[str, Dict[str, float]], times: Dict[str, List[Any]],
                    throughput: float, new: bool, threads: bool) -> None:
        blocks = {name: {**({"mean": found[name]["mean"]} if threads else found[name]), "count": len(times[name])}
                  for name in ("NPU_compute_time", "H2D_latency", "D2H_latency")}
        tail = {"npu_compute_time_list": times["NPU_compute_time"], "throughput": throughput}
        order = tail if new else dict(reversed(list(tail.items())))
        text = json.dumps({"filesinfo": self.files, "args": sys.argv, **blocks, **order, "pid": os.getpid()})
        with open_new(folder + "_summary.json") if new else open(folder + "_summary.json", "w") as file:
            file.write(text)
