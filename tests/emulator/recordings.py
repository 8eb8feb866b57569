"""Replaying a recording of the real ais_bench package (golden/ais_bench) on the emulator, and comparing the two."""
from __future__ import annotations

import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from tests.emulator import HERE, environment

CROP, SEED, PEOPLE = (3, 256, 192), 20260, 12
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


class Result(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


def normalise(text: str, places: Dict[str, str]) -> str:
    """places: directory -> the name that stands for it."""
    for path, name in places.items():
        text = text.replace(path, name)
    for pattern, replacement in CHANGES:
        text = re.sub(pattern, replacement, text)
    return text


def known_contents() -> Iterator[bytes]:
    """What the input files of the recordings may hold: crops of one generator, in several types."""
    rng = np.random.default_rng(SEED)
    crops = [rng.standard_normal(CROP, np.float32) for _ in range(PEOPLE)]
    for crop in crops:
        yield crop.tobytes()
        yield crop.astype(np.float64).tobytes()
        for array in (crop, crop[None], crop.astype(np.float64), crop[None].astype(np.float64)):
            file = io.BytesIO()
            np.save(file, array)
            yield file.getvalue()
    for first, second in zip(crops[::2], crops[1::2]):
        yield first.tobytes() + second.tobytes()


class Contents:
    """sha256 -> bytes."""

    def __init__(self) -> None:
        self.known = {hashlib.sha256(data).hexdigest(): data for data in known_contents()}

    def get(self, size: int, sha256: str) -> bytes:
        """Other sizes are the first bytes of the generator, or zeros; KeyError where neither is what was recorded."""
        stream = np.random.default_rng(SEED).standard_normal(size // 4 + 1, np.float32).tobytes()[:size]
        for data in (self.known.get(sha256, b""), stream, bytes(size), b"x" * size, b"{}"):
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        raise KeyError(f"no file of {size} bytes with sha256 {sha256[:8]} can be made")


def lay_out(entries: List[dict], folder: Path, contents: Contents) -> None:
    """The input tree of a recording."""
    for entry in entries:
        path = folder / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry["type"] == "dir":
            path.mkdir(exist_ok=True)
        elif entry["type"] == "symlink":
            path.symlink_to(entry["target"])
        else:
            path.write_bytes(contents.get(entry["size"], entry["sha256"]))
    for entry in reversed(entries):  # a folder's mode last
        if entry["type"] != "symlink":
            (folder / entry["path"]).chmod(int(entry["mode"], 8))


def replay(recording: dict, folder: Path, trace: Path) -> Result:
    """Run the recorded command on the emulator. Python's own buffering must be as it was recorded."""
    env = environment(ais_bench=recording["generation"], devices=8, trace=str(trace))
    for name in ("PYTHONUNBUFFERED", "COLUMNS"):
        env.pop(name, None)
    command = [sys.executable, *recording["argv"][1:]]
    options = {"cwd": folder, "env": env, "preexec_fn": lambda: os.umask(int(recording["umask"], 8))}
    if recording["stdout_kind"].startswith("pty"):
        return _on_terminal(command, options)
    done = subprocess.run(command, capture_output=True, timeout=120, **options)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def _on_terminal(command: List[str], options: Dict[str, Any]) -> Result:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, **options)
    os.close(theirs)
    parts: List[bytes] = []
    while True:
        try:
            parts.append(os.read(ours, 1 << 16))
        except OSError:  # the terminal is gone with its last user
            break
        if not parts[-1]:
            break
    os.close(ours)
    return Result(process.wait(timeout=120), b"".join(parts).decode(), "")


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
        keys = ("mode", "type") if name.endswith("_summary.json") else ("mode", "type", "size", "sha256")
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
    if "multidevice:" in recording["stdout_normalised"]:
        pairs = [(unordered(stdout), unordered(recording["stdout_normalised"]))]
    else:
        pairs = [(lines(stdout), recording["stdout_lines"])]
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


def model_of(recording: dict) -> Tuple[str, int]:
    """Name and batch of the recording's model."""
    argv = recording["argv"]
    name = argv[argv.index("--model") + 1]
    batch = re.search(r"_bs(\d+)\.om$", name)
    return name, int(batch.group(1)) if batch else 0


def site(generation: str) -> str:
    return str(HERE / "site_ais_bench" / generation)
