"""Kills, damaged inputs, full disks, missing permissions and attempts to run code: how many of each, and what survived.

    python3 benchmarks/robustness.py --work ./runs/robustness --kills 50 --inputs 100000

Every stage is killed at random moments and run again: its outputs must be those of an undisturbed run, byte for byte.
Every reader is given damaged copies of a right file, in this process: it must read them, or say in one line what is
wrong. WORK/attempts.jsonl holds what was tried, so that a run that was stopped goes on; delete it to begin again. The
scoreboard is printed and in WORK/robustness.md. Exit code 3: something did not survive.
"""
from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from backends.tensorrt.calibration_table import read_table  # noqa: E402
from backends.tensorrt.trtexec import read_times  # noqa: E402
from comparison.results import load_keypoints  # noqa: E402
from contract.arguments import HelpFormatter, at_least  # noqa: E402
from contract.dumps import read_settings  # noqa: E402
from contract.errors import DONE, MISSED, UserError  # noqa: E402
from contract.files import make_folder, write_file  # noqa: E402
from contract.locks import hold  # noqa: E402
from contract.manifest import load_manifest  # noqa: E402
from contract.onnx_file import load_onnx, sha256_of_model  # noqa: E402
from contract.records import read_record  # noqa: E402
from contract.spec import load_spec  # noqa: E402
from contract.tables import format_table  # noqa: E402
from detection.darknet import read_cfg  # noqa: E402
from pose.annotations import load_annotations  # noqa: E402
from pose.coco import load_detections  # noqa: E402
from pose.photos import read_photograph  # noqa: E402

CFG, CHECKPOINT = ROOT / "configs" / "demo_fastpose.yaml", ROOT / "demo" / "fastpose_small.pth"
SECONDS = 5  # after which a reader counts as hanging
MEMORY = 1 << 30  # bytes that a reader may take beyond what this process has
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
TABLE = "TRT-8601-EntropyCalibration2\nimage: 3c010a14\noutput: 3d41c2f1\n"
TIMES = '[{"startEnqMs": 0.1, "endEnqMs": 0.2, "computeMs": 1.5, "startComputeMs": 0.2, "endComputeMs": 1.7}]'
LEFT_BY_OTHERS = (".ses",)  # in TMPDIR: ONNX Runtime's, of undisturbed runs too
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def stages(world: Path, out: Path) -> Dict[str, List[str]]:
    """Name -> the command of each stage, which reads from `world` and writes into `out`."""
    data, bins, dumps = world / "data", world / "preprocess" / "bins", world / "infer" / "dumps"
    commands = {
        "preprocess": ["preprocess.py", "--dataroot", data, "--gt_boxes", "--cfg", CFG, "--output", out / "bins",
                       "--output_flip", out / "bins_flip"],
        "pth2onnx": ["pth2onnx.py", CFG, CHECKPOINT, out / "m.onnx"],
        "infer": ["infer.py", "--model", world / "pth2onnx" / "m.onnx", "--cfg", CFG, "--input", bins, "--output", out,
                  "--output_dirname", "dumps"],
        "postprocess": ["postprocess.py", "--dataroot", data, "--dump_dir", dumps, "--manifest", bins / "manifest.json",
                        "--output", out / "score"],
        "detect": ["detect.py", "--dataroot", data, "--weights", ROOT / "demo" / "yolov3_demo.weights", "--yolo_cfg",
                   ROOT / "configs" / "demo_yolov3_tiny.cfg", "--output", out / "detections.json"]}
    return {name: [sys.executable, *map(str, command)] for name, command in commands.items()}


def run(command: List[str], **options: Any) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=600, **options)


def make_world(world: Path) -> Dict[str, float]:
    """What an undisturbed run gives; the seconds that each stage takes."""
    run([sys.executable, "-m", "demo.render", "--output", str(world / "data"), "--images", "4"])
    seconds = {}
    for name, command in stages(world, world).items():
        command, start = stages(world, make_folder(world / name))[name], time.monotonic()
        finished = run(command)
        if finished.returncode:
            raise UserError(f"{name} fails undisturbed: {finished.stderr.strip()[-200:]}")
        seconds[name] = time.monotonic() - start
    return seconds


def contents(folder: Path) -> Dict[str, str]:
    """Path -> digest of every file; summaries, which hold times, are left out."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith("_summary.json")}


def recovers(world: Path, out: Path, name: str, disturbed: subprocess.CompletedProcess, allowed: tuple) -> str:
    """Why a stage that was disturbed, and is run again here, did not survive; empty when it did."""
    by_python = disturbed.returncode == -signal.SIGINT  # before the first line of ours: it shows its own traceback
    if disturbed.returncode not in allowed or "Traceback" in disturbed.stderr and not by_python:
        return f"ended with {disturbed.returncode}: {disturbed.stderr.strip()[-200:]}"
    again = run(stages(world, out)[name])
    if again.returncode:
        return f"the rerun failed: {again.stderr.strip()[-200:]}"
    return "" if contents(out) == contents(world / name) else "the rerun's files are others"


def kill(world: Path, name: str, seconds: float, out: Path, dice: random.Random) -> str:
    number, temporary = dice.choice(SIGNALS), make_folder(out.with_suffix(".tmpdir"))
    process = subprocess.Popen(stages(world, out)[name], cwd=ROOT, text=True, errors="replace", stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(temporary)})
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(dice.uniform(0, 1.1 * seconds))
    process.send_signal(number)
    _, errors = process.communicate()
    left = [path for path in temporary.iterdir() if path.name not in LEFT_BY_OTHERS]
    if left and number != signal.SIGKILL and process.returncode > 0:
        return f"{left[0].name} is left in TMPDIR after {number.name}"
    ended = subprocess.CompletedProcess([], process.returncode, "", errors)
    return recovers(world, out, name, ended, (0, -number, 128 + number))


def fill_disk(world: Path, name: str, seconds: float, out: Path, dice: random.Random) -> str:
    """No file may grow beyond a random size: what a full disk does, without one."""
    limit = int(10 ** dice.uniform(1, 6))
    ended = run(stages(world, out)[name], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    return recovers(world, out, name, ended, (0, 2))


def take_permission(world: Path, name: str, seconds: float, out: Path, dice: random.Random) -> str:
    """The folder of the outputs may not be written."""
    os.chmod(out, 0o555)
    try:
        ended = run(stages(world, out)[name], preexec_fn=drop_privileges)
    finally:
        os.chmod(out, 0o755)
    return recovers(world, out, name, ended, (2,))


def drop_privileges() -> None:
    """Root may be refused too, once its programs cannot have these two capabilities; others have none to lose."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability)


DISTURBANCES = {"killed": kill, "disk full": fill_disk, "not permitted": take_permission}


def readers(world: Path) -> Dict[str, tuple]:
    """Name -> what reads a file, a right file of it, and whether it is cheap."""
    write_file(world / "table", TABLE.encode())
    write_file(world / "times.json", TIMES.encode())
    photo = sorted((world / "data" / "val2017").iterdir())[0]
    return {"manifest": (load_manifest, world / "preprocess" / "bins" / "manifest.json", True),
            "settings": (lambda path: read_settings(path.parent), world / "infer" / "dumps" / "settings.json", True),
            "record": (read_record, world / "detect" / "detections.json.settings.json", True),
            "detections": (load_detections, world / "detect" / "detections.json", True),
            "annotations": (load_annotations, next((world / "data" / "annotations").glob("*.json")), True),
            "keypoints": (load_keypoints, world / "postprocess" / "score" / "keypoints.json", True),
            "yaml": (load_spec, CFG, True), "darknet cfg": (read_cfg, ROOT / "configs" / "demo_yolov3_tiny.cfg", True),
            "CalibrationTable": (read_table, world / "table", True),
            "trtexec times": (read_times, world / "times.json", True),
            "photo": (read_photograph, photo, False), "onnx": (load_onnx, world / "pth2onnx" / "m.onnx", False),
            "onnx identity": (sha256_of_model, world / "pth2onnx" / "m.onnx", False)}


def damage(content: bytes, dice: random.Random) -> bytes:
    """A copy with a few bytes changed, a piece cut out, doubled or swapped for something odd."""
    odd = (b"NaN", b"-1", b"1e999", b"null", b"[]", b"{}", b'"\x1b[2J"', b"\xff\xfe", b"\x00" * 9, b"9" * 400,
           b"[" * 999)
    for _ in range(dice.randint(1, 4)):
        start = dice.randrange(len(content) + 1)
        end = min(len(content), start + int(dice.expovariate(1 / 20)))
        piece = dice.choice((b"", content[start:end] * 2, dice.choice(odd), dice.randbytes(end - start)))
        content = content[:start] + piece + content[end:] if dice.random() < 0.95 else content[:start]
    return content


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_damaged(reader: Callable[[Path], Any], path: Path) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with within(SECONDS):
            reader(path)
    except UserError as error:
        if "\n" in str(error):
            return f"more than one line: {error}"
    except TimeoutError as error:
        return f"hangs: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return "" if grown < MEMORY else f"took {grown >> 20} MiB"


def attacks(world: Path, out: Path) -> Dict[str, List[str]]:
    """Commands that would make the file `canary` of `out` if anything in their input were run or followed."""
    class Attack:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch '{out}/canary'",)

    command = stages(world, out)
    write_file(out / "evil.pth", pickle.dumps({"conv1.weight": Attack()}))
    write_file(out / "evil.yaml", f"MODEL: !!python/object/apply:os.system ['touch {out}/canary']\n".encode())
    name = "$(touch canary); `touch canary`' \" <script>"
    shutil.copytree(world / "data", out / name)
    swap = {str(CHECKPOINT): str(out / "evil.pth"), str(CFG): str(out / "evil.yaml"),
            str(world / "data"): str(out / name)}
    return {what: [swap.get(argument, argument) if argument == before else argument for argument in command[stage]]
            for what, stage, before in (("pickle", "pth2onnx", str(CHECKPOINT)), ("yaml", "preprocess", str(CFG)),
                                        ("quotes in a path", "preprocess", str(world / "data")),
                                        ("quotes, detected", "detect", str(world / "data")))}


class Log:
    """What was tried, a line of JSON each, in a file that a stopped run goes on with."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.done = {(one["kind"], one["what"], one["number"]): one["failure"]
                     for one in map(json.loads, lines) if one}

    def attempt(self, kind: str, what: str, number: int, work: Callable[..., str], *arguments: Any) -> None:
        """Once: `work` gets `arguments` and dice, which are always the same for an attempt, and says why it failed."""
        if (kind, what, number) in self.done:
            return
        failure = work(*arguments, random.Random(f"{kind} {what} {number}"))
        self.done[kind, what, number] = failure
        with open(self.path, "a") as file:
            file.write(json.dumps({"kind": kind, "what": what, "number": number, "failure": failure}) + "\n")

    def table(self) -> str:
        rows: Dict[tuple, List[str]] = {}
        for (kind, what, _), failure in self.done.items():
            rows.setdefault((kind, what), []).append(failure)
        return format_table(("what happens", "to", "attempts", "survived", "first failure"), (
            (kind, what, len(failures), failures.count(""), next(filter(None, failures), ""))
            for (kind, what), failures in rows.items()))


def campaign(work: Path, kills: int, inputs: int, log: Log) -> None:
    world = work / "world"
    shutil.rmtree(world, ignore_errors=True)
    seconds = make_world(world)
    for kind, disturb in DISTURBANCES.items():
        for name in seconds:
            for number in range(kills if disturb is kill else max(1, kills // 10)):
                with scratch(work) as out:
                    log.attempt(kind, name, number, disturb, world, name, seconds[name], out)
    for what in attacks_named(work, world):
        with scratch(work) as out:
            log.attempt("runs code", what, 0, run_attack, world, what, out)
    for name, (reader, path, cheap) in readers(world).items():
        content = path.read_bytes()
        with scratch(work) as out:
            for number in range(inputs if cheap else max(1, inputs // 50)):
                log.attempt("damaged", name, number, read_copy, reader, out / path.name, content)


def attacks_named(work: Path, world: Path) -> List[str]:
    with scratch(work) as out:
        return list(attacks(world, out))


def run_attack(world: Path, what: str, out: Path, dice: random.Random) -> str:
    ended = run(attacks(world, out)[what])
    if (out / "canary").exists() or (ROOT / "canary").exists():
        return "it was run"
    return "a traceback" if ended.returncode not in (0, 2) or "Traceback" in ended.stderr else ""


def read_copy(reader: Callable[[Path], Any], path: Path, content: bytes, dice: random.Random) -> str:
    path.write_bytes(damage(content, dice))
    return read_damaged(reader, path)


@contextlib.contextmanager
def scratch(work: Path) -> Iterator[Path]:
    out = make_folder(work / "scratch")
    try:
        yield out
    finally:
        for folder in (out, out.with_suffix(".tmpdir")):
            shutil.rmtree(folder, ignore_errors=True)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/robustness"), help="folder for everything")
    parser.add_argument("--kills", type=at_least(1), default=5, help="of each stage; a tenth of it full disks and "
                        "missing permissions")
    parser.add_argument("--inputs", type=at_least(1), default=200, help="damaged copies for each reader that reads "
                        "text; a fiftieth of it for photos and ONNX files")
    return parser.parse_args(argv)


def main() -> int:
    args = parse_args()
    work, start = make_folder(args.work.absolute()), time.time()
    with hold(work):
        log = Log(work / "attempts.jsonl")
        campaign(work, args.kills, args.inputs, log)
    text = f"{time.strftime('%Y-%m-%d')}, {time.time() - start:.0f} s\n\n{log.table()}\n"
    write_file(work / "robustness.md", text.encode())
    print(text, end="")
    return MISSED if any(log.done.values()) else DONE


if __name__ == "__main__":
    sys.exit(exit_code(main))
