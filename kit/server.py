"""What a kit does on the server besides the vendor's tools. run.sh calls it; Python 3.7 and numpy 1.16 are enough.

    python3 -m kit.server check Ascend310P3       the kit is complete, and this machine can take it
    python3 -m kit.server runner Ascend310P3      what will run the model, by what is installed
    python3 -m kit.server few PREP_DATA           make check/PREP_DATA, of 32 of the people
    python3 -m kit.server verify FOLDER           dumps of the few, normal and mirrored, against the CPU's
    python3 -m kit.server collect Ascend310P3 0   write kit_results.tar beside the kit
"""
from __future__ import annotations

from contract.script import exit_code

import argparse
import importlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from contract.bins import open_bins, spread
from contract.dumps import DumpReader
from contract.errors import DIFFERS, DONE, UserError, note
from contract.files import (
    FILE_MODE,
    FOLDER_MODE,
    make_folder,
    read_json,
    remove_file,
    sha256_of_file,
    write_file,
    write_json,
)
from contract.manifest import MANIFEST, Manifest, load_manifest, save_manifest
from contract.progress import Progress
from contract.spec import first_of
from kit.archive import identity, read_sums, tar_bytes, write_tar
from kit.step import LOG

KIT, RESULTS, FEW, LOGS, MODELS = "kit.json", "results", "check", "plog", "models"
EXPECTED = "expected.json"  # what the CPU made of the few
RESULTS_TAR, RESULTS_TOP, REPORT = "kit_results.tar", "kit_results", "results.json"
PEOPLE = 32  # of the self-check
NEAR, SHARE = 1.0, 0.95  # of the joints that the CPU is surest of, this share must lie within so many heatmap pixels
MOST_LOGS = 50 << 20  # bytes of plog that are brought back
FIRST_YEAR = 2024  # a clock that shows an earlier one is wrong
FORMAT = 1


def kit_of(folder: Path) -> Dict[str, Any]:
    kit = read_json(folder / KIT, "kit")
    if not isinstance(kit, dict) or kit.get("format") != FORMAT:
        raise UserError(f"{folder / KIT}: was not packed by this version. Pack it again with pack.py")
    return kit


def runs_of(kit: Dict[str, Any], target: str) -> List[Dict[str, Any]]:
    runs = [run for run in kit["runs"] if run["target"] == target]
    if not runs:
        targets = ", ".join(dict.fromkeys(run["target"] for run in kit["runs"]))
        raise UserError(f"this kit is not for {target}, but for {targets}. Name one of these, or pack another kit")
    return runs


def dumps_of(run: Dict[str, Any], kit: Dict[str, Any]) -> List[str]:
    """Names of the folders of a run's dumps."""
    return [run["name"], f"{run['name']}_flip"][:len(kit["bins"])]


# --- check

def check(folder: Path, target: str) -> None:
    kit = kit_of(folder)
    runs = runs_of(kit, target)
    check_clock()
    check_chip(target)
    check_files(folder)
    check_modes(folder)
    check_disk(folder, kit, runs)
    print(f"{folder}: kit {identity(folder)[:12]} is complete: {kit['people']} people, {kit['dtype']} bins, for "
          f"{', '.join(run['name'] for run in runs)}")


def check_clock() -> None:
    if time.localtime().tm_year < FIRST_YEAR:
        note(f"this machine's clock says {time.strftime('%Y-%m-%d')}, which is wrong: dates in logs and results will "
             "be wrong too, measured times will not")


def check_chip(target: str) -> None:
    """Where the target is an Ascend chip and another one is here. Where none is found, the doctor says why."""
    try:
        found = importlib.import_module("ascend.soc").detect() if target.startswith("Ascend") else target
    except UserError:
        return
    if found != target:
        raise UserError(f"this machine has {found}, and its model would not load from a build for {target}. Pack a kit "
                        f"with --target {found}, or run this one on the machine that it is for")


def check_files(folder: Path) -> None:
    """Every file of the kit is there and as it was packed. Raises UserError that tells the likely reason."""
    sums = read_sums(folder)
    missing = [name for name in sums if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: {_why_missing(folder, missing[0], sums)}{len(missing)} of {len(sums)} files are "
                        f"missing ({missing[0]}). Copy the tar itself to this machine, and unpack it here")
    with Progress(total=len(sums), desc="checking the kit", unit="file") as bar:
        for name, digest in sums.items():
            if sha256_of_file(folder / name) != digest:
                raise UserError(f"{folder / name}: damaged: its bytes are not those that were packed. Copy the tar "
                                "itself to this machine, compare its sha256sum, and unpack it here")
            bar.update()


def _why_missing(folder: Path, name: str, sums: Dict[str, str]) -> str:
    """Where a file of the same bytes has another name, that: copies through Windows change names."""
    place = (folder / name).parent
    for other in sorted(place.iterdir()) if place.is_dir() else ():
        if other.is_file() and f"{other.relative_to(folder)}" not in sums and sha256_of_file(other) == sums[name]:
            return f"{name} is called {other.name} here: a copy, perhaps through Windows, has changed names. "
    return ""


def check_modes(folder: Path) -> None:
    """Put right what a copy has done to permissions: ais_bench of 2024 refuses files that others may write."""
    for path in [folder, *(Path(place) / name for place, folders, names in os.walk(folder)
                           for name in [*folders, *names])]:
        wanted = FOLDER_MODE if path.is_dir() else FILE_MODE
        if not _suits(path, wanted):
            try:
                os.chmod(path, wanted)
            except PermissionError:
                pass
            if not _suits(path, wanted):
                raise UserError(f"{path}: its permissions are {stat.S_IMODE(path.stat().st_mode):04o}, expected "
                                f"{wanted:04o}, and they cannot be changed. Unpack the tar as this user, on a disk of "
                                "this machine and not on a stick or a share")


def _suits(path: Path, wanted: int) -> bool:
    others_write = path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return not others_write and os.access(path, os.R_OK | (os.X_OK if wanted == FOLDER_MODE else 0))


def check_disk(folder: Path, kit: Dict[str, Any], runs: List[Dict[str, Any]]) -> None:
    """Say what the run will write, and refuse to start where it does not fit."""
    count = kit["people"] * len(kit["bins"]) * len(runs)
    built = 2 * sum((folder / run["model"]).stat().st_size for run in runs)
    there = sum(path.stat().st_size for path in (folder / RESULTS).rglob("*") if path.is_file())
    here = max(count * kit["dump_bytes"] + built - there, 0)
    beside = count * tar_bytes([kit["dump_bytes"]])
    print(f"this run writes {gigabytes(here)} into {folder}, and then {gigabytes(beside)} into "
          f"{folder.parent / RESULTS_TAR}; {gigabytes(shutil.disk_usage(folder).free)} are free", flush=True)
    same = folder.stat().st_dev == folder.parent.stat().st_dev
    for place, needed in ((folder, here + beside if same else here), (folder.parent, beside)):
        free = shutil.disk_usage(place).free
        if needed > free:
            raise UserError(f"{place}: {gigabytes(free)} are free on its disk, and this run needs {gigabytes(needed)}. "
                            "Make room, or unpack the kit on a larger disk")


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def choose_runner(folder: Path, target: str) -> str:
    """The first of the target's runners that has what it needs here, or the last."""
    runners = runs_of(kit_of(folder), target)[0]["runners"]
    return next((name for name, job in runners.items() if not importlib.import_module(job).missing_packages(name)),
                list(runners)[-1])


# --- self-check

def make_few(source: Path, output: Path) -> None:
    """A folder of bins of PEOPLE of the people of another, in the same order, of links where the disk has them."""
    bins = open_bins(source, None)
    chosen = spread(bins, PEOPLE)
    assert bins.manifest is not None  # a kit has one
    few = Manifest(bins.manifest.settings, {name: values[chosen] for name, values in bins.manifest.columns.items()})
    shutil.rmtree(output, ignore_errors=True)
    make_folder(output)
    for number, name in zip(chosen, few.bin_names):
        link(bins.folder / bins.names[number], output / name)
    save_manifest(output, few)


def link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def peaks_of(dumps: Sequence[Path], manifest: Manifest) -> List[Tuple[np.ndarray, np.ndarray]]:
    """`peaks` of the dumps of crops and, where there are two, of mirrored ones."""
    return [peaks(one, each) for one, each in zip(dumps, (manifest, manifest.mirrored()))]


def peaks(dumps: Path, manifest: Manifest) -> Tuple[np.ndarray, np.ndarray]:
    """Of each person's joints: (N, K, 2) x and y of the peak in its heatmap, and (N, K) its value. A one-pass model
    gives them in pixels of the crop, (height, width, 3) bytes."""
    reader = DumpReader(dumps, manifest)
    came = reader.read_all(range(len(reader.names)))
    if len(reader.shape) == 2:
        height = first_of(manifest.tensors.outputs)[1]
        return came[..., :2] * (height / manifest.tensors.input_shape[0]), came[..., 2]
    people, joints, height, width = came.shape
    rows = came.reshape(people, joints, height * width)
    place = rows.argmax(axis=2)
    return np.stack([place % width, place // width], axis=2), rows.max(axis=2)


def expected_of(dumps: Sequence[Path], manifest: Manifest) -> List[Dict[str, Any]]:
    """What EXPECTED holds, of the CPU's dumps."""
    return [{"places": places.tolist(), "values": values.tolist()} for places, values in peaks_of(dumps, manifest)]


def verify(folder: Path, dumps: List[Path]) -> int:
    """Compare the joints of the few with the CPU's, of which the half with the higher values must be near."""
    manifest = load_manifest(folder / FEW / kit_of(folder)["bins"][0] / MANIFEST)
    near, apart = [], []
    for (places, values), expected in zip(peaks_of(dumps, manifest), read_json(folder / EXPECTED, "expected results")):
        sure = np.array(expected["values"]) >= np.median(expected["values"])
        distances = np.hypot(*np.moveaxis(places - np.array(expected["places"]), -1, 0))[sure]
        near.append((distances <= NEAR).mean())
        apart.append(np.abs(values - np.array(expected["values"])).max())
    share = float(min(near))
    print(f"self-check: {100 * share:.1f} % of the joints of {len(manifest)} people that the CPU is surest of lie "
          f"within {NEAR:g} heatmap pixel of the CPU's; values differ by at most {max(apart):.3g}", flush=True)
    if share < SHARE:
        print(f"error: self-check: expected at least {100 * SHARE:.0f} %, so the long run was not started. Send "
              f"{RESULTS_TAR}; bash run.sh --anyway runs all people all the same", file=sys.stderr)
        return DIFFERS
    return DONE


# --- the run

def collect(folder: Path, target: str, runner: str, code: int) -> None:
    """Write what there is into kit_results.tar beside the kit: of a run that failed, the logs."""
    kit, place = kit_of(folder), folder.parent / RESULTS_TAR
    names = [name for run in runs_of(kit, target) for name in dumps_of(run, kit)]
    manifest = f"{kit['bins'][0]}/{MANIFEST}"
    files: Dict[str, Any] = {manifest: folder / manifest, KIT: folder / KIT}
    complete = [name for name in names if (folder / RESULTS / f"{name}_summary.json").is_file()]
    for path in sorted((folder / RESULTS).rglob("*")):
        inside = path.relative_to(folder / RESULTS).parts
        if path.is_file() and (inside[0] in complete or len(inside) == 1):
            files[f"{RESULTS}/{'/'.join(inside)}"] = path
    files.update({path.relative_to(folder).as_posix(): path for path in _records(folder)})
    report = {"format": FORMAT, "kit": identity(folder), "target": target, "runner": runner, "complete": complete,
              "code": code, "made": time.time(), "environment": environment()}
    remove_file(place)
    write_file(folder / REPORT, b"")
    write_json(folder / REPORT, report)
    files[REPORT] = folder / REPORT
    files["environment.txt"] = vendor_tools().encode()
    write_tar(place, RESULTS_TOP, files)
    print(f"{place}: written, {gigabytes(place.stat().st_size)}. Copy it back: python3 pack.py --judge {RESULTS_TAR}")


def _records(folder: Path) -> List[Path]:
    """Logs, and how the models were built; the newest of the vendor's logs, as many as are allowed."""
    found = [folder / LOG, *(path for path in sorted((folder / MODELS).rglob("*")) if path.is_file() and
                             path.suffix in (".json", ".log", ".txt", ".plog") and path.stat().st_size < MOST_LOGS)]
    left = MOST_LOGS
    logs = [path for path in (folder / LOGS).rglob("*") if path.is_file()]
    for path in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
        left -= path.stat().st_size
        if left >= 0:
            found.append(path)
    return [path for path in found if path.is_file()]


def environment() -> Dict[str, Any]:
    """What this machine is; nothing of the user's variables but the vendor's."""
    return {"platform": platform.platform(), "machine": platform.machine(), "cores": os.cpu_count(),
            "python": platform.python_version(), "numpy": np.__version__,
            "variables": {name: value for name, value in sorted(os.environ.items())
                          if name.startswith(("ASCEND_", "CUDA_", "NVIDIA_"))}}


def vendor_tools() -> str:
    """What the vendor's tools print about the card; those that are not here say so."""
    text = ""
    for command in (["npu-smi", "info"], ["nvidia-smi"], [sys.executable, "-m", "pip", "list"]):
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            came = done.stdout.decode(errors="replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            came = f"{error}\n"
        text += f"== {' '.join(command)}\n{came}\n"
    return text


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m kit.server", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("check", "runner", "few", "verify", "collect"))
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    return parser.parse_args(argv)


def main() -> Optional[int]:
    args, folder = parse_args(), Path.cwd()
    if args.what == "verify":
        return verify(folder, [Path(one) for one in args.rest])
    if args.what == "runner":
        print(choose_runner(folder, *args.rest))
    elif args.what == "check":
        check(folder, *args.rest)
    elif args.what == "few":
        for bins in args.rest:
            make_few(folder / bins, folder / FEW / bins)
    else:
        target, runner, code = args.rest
        collect(folder, target, runner, int(code))
    return None


if __name__ == "__main__":
    sys.exit(exit_code(main))
