"""What is compared between a recording of the real ais_bench package and its replay on the emulator."""
from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Dict, List

from tests.emulator.recordings import Result

NUMBER = r"[-+\d.e]+"
STATISTIC = r"((?:min|max|mean|median|percentile\(99%\)) = )" + NUMBER
CHANGES = [(STATISTIC, r"\1<MS>"),  # in this order: what differs from run to run -> how the recordings write it
           (rf"(NPU_compute_time\.mean)\({NUMBER}\): {NUMBER}", r"\1(<MS>): <TP>"),
           (rf"(summary throughput|device_\d+ throughput):{NUMBER}", r"\1:<TP>"),
           (rf"(start_time|end_time):{NUMBER}", r"\1:<EPOCH>"),
           (r"\|[^|\r\n]*\| (\d+/\d+) \[[^\]]*\]", r"|<BAR>| \1 [<TQDM>]"),
           (r"\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d", "<TIMESTAMP>")]
BAR = re.compile(r"Inference [\w ]+:[^\]]*<TQDM>\]")
WAITER = re.compile(r"subprocess_\d+")  # how many give up waiting depends on who is done first
RACES = re.compile(r"(qsize:\d+|time:\d+ s)(?= )")  # in lines of a child of a run on several devices
UNDER_WAY = re.compile(r"\rInference [\w ]+: +[1-9]\d?%\|[^\r\n]*?<TQDM>\]")  # tqdm shows it after 0.1 s or not at all
FRAMES = re.compile(r"(Traceback \(most recent call last\):\n)(?: .*\n)+")


def normalise(text: str, places: Dict[str, str]) -> str:
    """places: directory -> the name that stands for it."""
    for path, name in places.items():
        text = text.replace(path, name)
    for pattern, replacement in CHANGES:
        text = re.sub(pattern, replacement, text)
    return text


def lines(text: str) -> List[str]:
    """Of each line what is left on a terminal: the text after the last carriage return."""
    return [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]


def unordered(text: str) -> List[str]:
    """The lines of processes that write at once: sorted, without progress bars and the numbers that they race for."""
    rest = BAR.sub("\n", text.replace("\r", "\n"))
    found = [RACES.sub("<RACE>", line) for line in rest.split("\n") if line.strip()]
    waited = {WAITER.sub("subprocess_<RACE>", line) for line in found if line.endswith("elapsed")}
    return sorted(waited) + sorted(line for line in found if not line.endswith("elapsed"))


def tree(folder: Path) -> Dict[str, dict]:
    """Everything below `folder` but the models, as the recordings describe it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] == "model":
            continue
        mode = oct(path.lstat().st_mode & 0o7777)
        if path.is_symlink():
            found[name] = {"mode": mode, "type": "symlink"}
        elif path.is_dir():
            found[name] = {"mode": mode, "type": "dir"}
        else:
            data = path.read_bytes()
            found[name] = {"mode": mode, "type": "file", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {normalise(name, {}): facts for name, facts in found.items()}


def compare_files(recording: dict, before: Dict[str, dict], after: Dict[str, dict]) -> List[str]:
    """What differs; of a summary only the mode, its content is compared by itself."""
    wrong = []
    for entry in recording["produced_or_changed"]:
        name = entry["path_normalised"]
        differs = name.endswith("_summary.json") or ("pure_infer_data" in name and "random" in recording["argv"])
        keys = ("mode", "type") if differs else ("mode", "type", "size", "sha256")
        expected = {key: entry[key] for key in keys if key in entry}
        came = {key: after.get(name, {}).get(key) for key in expected}
        if came != expected:
            wrong.append(f"{name}: {came}, recorded {expected}")
    recorded = {entry["path_normalised"] for entry in recording["produced_or_changed"]}
    wrong += [f"{name}: not recorded" for name in after if name not in before and name not in recorded]
    wrong += [f"{name}: changed, recorded as untouched" for name in recording["results_files_untouched"]
              if after.get(name) != before.get(name)]
    return wrong + [f"{name}: still there" for name in recording["deleted"] if name in after]


def compare_summaries(recording: dict, folder: Path, places: Dict[str, str]) -> List[str]:
    """Keys, their order, and all content that is not a time."""
    wrong = []
    devices = recording["argv"][recording["argv"].index("--device") + 1].split(",") if (
        "--device" in recording["argv"]) else []
    overwritten = recording["generation"] == "old" and len(set(devices)) < len(devices)  # by whoever ends last
    for summary in recording.get("summaries") or []:
        name = normalise(summary["path"], {})
        path = next(path for path in folder.rglob("*_summary.json")
                    if normalise(str(path.relative_to(folder)), {}) == name)
        content = json.loads(path.read_text())
        if list(content) != summary["key_order"]:
            wrong.append(f"{name}: keys {list(content)}, recorded {summary['key_order']}")
        expected = json.loads(normalise(json.dumps(summary["normalised"]), {}))
        if not overwritten and _without_numbers(content, places) != expected:
            wrong.append(f"{name}: {_without_numbers(content, places)}, recorded {expected}")
    return wrong


def _without_numbers(content: dict, places: Dict[str, str]) -> dict:
    """As the `normalised` summaries of the recordings."""
    known = json.loads(normalise(json.dumps(content), places))
    for name in ("NPU_compute_time", "H2D_latency", "D2H_latency"):
        known[name] = {key: value if key == "count" else "<MS>" for key, value in known[name].items()}
    known["npu_compute_time_list"] = [["<MS>", "<MS>"] if isinstance(value, list) else "<MS>"
                                      for value in known["npu_compute_time_list"]]
    return {**known, "throughput": "<TP>", "pid": "<PID>"}


def compare_text(recording: dict, result: Result, places: Dict[str, str]) -> List[str]:
    """Lines in their order where one process writes. Of a traceback only the exception: the files are others."""
    stdout, stderr = normalise(result.stdout, places), normalise(result.stderr, places)
    arrange = unordered if "multidevice:" in recording["stdout_normalised"] else lines
    pairs = [tuple(arrange(UNDER_WAY.sub("", FRAMES.sub(r"\1", text.replace("\r\n", "\n"))))
                   for text in (stdout, recording["stdout_normalised"]))]
    expected = recording["stderr_normalised"]
    if "Traceback" in expected:
        pairs.append((["Traceback" in stderr, stderr.rstrip("\n").split("\n")[-1]],
                      [True, expected.rstrip("\n").split("\n")[-1]]))
    else:
        pairs.append((stderr.split("\n"), expected.split("\n")))
    return [f"{came}\n  recorded {wanted}" for came, wanted in pairs if came != wanted]


def compare_executions(recording: dict, trace: Path) -> List[str]:
    """As many executions as recorded, over all processes."""
    calls = [json.loads(line)["call"] for line in trace.read_text().splitlines()] if trace.exists() else []
    came, expected = calls.count("aclmdlExecute"), sum(run["loop"] for run in recording["device_runs"])
    return [f"{came} executions, recorded {expected}"] if came != expected else []
