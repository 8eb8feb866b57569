"""The whole way of a kit: packed here, run on an emulated server, judged here."""
from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Dict, List

import pytest
from ascend_cases import run
from conftest import done, patch_model
from kit_cases import BARE, BATCH, SOC, Kits, run_kit, unpack
from server_python import ONNXRUNTIME, TQDM

from tests.emulator import environment
from tests.tensorrt_emulator import environment as nvidia

pytest.importorskip("torch", reason="checkpoints are exported with torch")


@pytest.fixture(scope="module")
def kits(tmp_path_factory) -> Kits:
    return Kits(tmp_path_factory.mktemp("kits"))


@pytest.fixture(scope="module")
def kit(kits) -> Path:
    """For an Ascend310P3, of uint8 bins."""
    output = kits.folder / "kit.tar"
    done(kits.pack(output, "--target", SOC, "--batch", BATCH))
    return output


@pytest.fixture(scope="module")
def direct(kits) -> bytes:
    """The keypoints of a run without a kit, with all packages beside an emulated card; packs keep what it made."""
    done(run(environment(), "run.py", "--quiet", *kits.inputs, "--targets", SOC, "--batch", BATCH, "--uint8", "--work",
             kits.work))
    return (kits.work / "results" / f"{SOC}_bs{BATCH}_uint8_score" / "keypoints.json").read_bytes()


def table(text: str) -> List[Dict[str, str]]:
    """The rows of the last table in a command's output, by the words of its head."""
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")]
                      for line in text.splitlines() if line.startswith("|"))
    return [dict(zip(head, row)) for row in rows]


def report(results: Path) -> str:
    with tarfile.open(results) as tar:
        return tar.extractfile("kit_results/results.json").read().decode()


@pytest.mark.parametrize("version, machine, options", [
    ("3.7", {"ais_bench": "old", "cann": "6.0.RC1"}, []),
    ("3.9", {"devices": 2, "cann": "8.0.0"}, ["--device", "0,1"]), ("3.7", {"ais_bench": None, "cann": "7.0.0"}, [])],
    ids=["3.7, ais_bench of 2023", "3.9, two devices", "3.7, pyACL"])
def test_the_whole_way_gives_what_a_direct_run_gives(kits, kit, direct, server_python, tmp_path, version, machine,
                                                     options):
    """On a server whose only Python is an old one, which has numpy, and tqdm where there is ais_bench."""
    ais_bench = machine.get("ais_bench", "new")
    python = server_python(version, *([TQDM] if ais_bench else []))
    finished = run_kit(unpack(kit, tmp_path), environment(python=python, **machine), *options)
    assert "self-check: 100.0 %" in done(finished)
    assert ("runner: acl" in finished.stdout) == (ais_bench is None)
    assert f", \"python\": \"{version}." in " ".join(report(tmp_path / "kit_results.tar").split())
    judged = done(kits.judge(tmp_path / "kit_results.tar"))
    cpu, card = table(judged)
    assert cpu["target"] == "cpu" and card["target"] == SOC and card["bins"] == "uint8, AIPP"
    assert card["AP"] == f"{cpu['AP']} (emulated)" and card["agrees with the CPU"] == "yes (emulated)"
    results = Path(judged.split()[-1]).parent / "results" / f"{SOC}_bs{BATCH}_uint8_score"
    assert (results / "keypoints.json").read_bytes() == direct
    assert json.loads((results / "metrics.json").read_text())["emulated"] is True


@pytest.fixture(scope="module")
def two_targets(kits) -> Path:
    """For a GPU in two precisions and for a CPU, cut into parts and joined as their list says."""
    folder = kits.folder / "split"
    split = done(kits.pack(folder / "kit.tar", "--target", "gpu", "cpu", "--precision", "fp32", "fp16", "--batch",
                           BATCH, "--split", "1MB"))
    assert "kit.tar.sha256" in split and not (folder / "kit.tar").exists()
    assert len(list(folder.glob("kit.tar.0*"))) > 3
    commands = [line[1:].strip() for line in (folder / "kit.tar.sha256").read_text().splitlines() if line[0] == "#"]
    subprocess.run(["bash", "-ec", "\n".join(commands[1:])], cwd=folder, check=True, capture_output=True)
    return folder / "kit.tar"


def test_a_gpu_and_a_cpu_in_one_table(kits, two_targets, tmp_path):
    refused = run_kit(unpack(two_targets, tmp_path / "gpu"), nvidia())
    assert refused.returncode == 2 and "Name one: gpu cpu" in refused.stderr
    tars = []
    for target, env in (("gpu", nvidia()), ("cpu", BARE)):
        done(run_kit(unpack(two_targets, tmp_path / target), env, target))
        tars.append((tmp_path / target / "kit_results.tar").rename(tmp_path / f"{target}.tar"))
    rows = table(done(kits.judge(*tars)))
    assert [(row["target"], row["from"]) for row in rows] == \
        [("cpu", "this machine"), ("gpu", "gpu.tar"), ("gpu", "gpu.tar"), ("cpu", "cpu.tar")]
    assert [row["agrees with the CPU"] for row in rows] == ["-", "yes (emulated)", "yes (emulated)", "yes"]
    assert [row["model"].rsplit("_", 1)[1] for row in rows[1:3]] == ["fp32.engine", "fp16.engine"]


@pytest.mark.parametrize("target, version, packages, machine", [
    ("gpu", "3.7", [], {"tensorrt": "8.6.1"}), ("cpu", "3.9", [ONNXRUNTIME], {})])
def test_a_server_without_the_package_onnx(kits, two_targets, server_python, tmp_path, target, version, packages,
                                           machine):
    """With trtexec alone, whose numbers have six digits, and with ONNX Runtime alone."""
    env = nvidia(trtexec=True, python=server_python(version, *packages), **machine)
    finished = run_kit(unpack(two_targets, tmp_path), env, target)
    assert "self-check: 100.0 %" in done(finished)
    assert ("runner: trtexec" if target == "gpu" else "runner: onnxruntime") in finished.stdout
    cpu, *rows = table(done(kits.judge(tmp_path / "kit_results.tar")))
    assert all(row["agrees with the CPU"].startswith("yes") for row in rows)
    assert {row["AP"].split()[0] for row in rows} == {cpu["AP"]}
    assert len(rows) == (2 if target == "gpu" else 1)


def test_int8_is_made_here_and_gives_what_a_direct_run_gives(coco, small_cfg, prepared, tmp_path):
    """In the form that each server wants, in one kit. The smallest model is used."""
    model = patch_model(tmp_path / "m.onnx", BATCH)
    options = ["--model", model, "--cfg", small_cfg, "--dataroot", coco, "--detections", coco / "detections.json",
               "--batch", BATCH, "--precision", "int8", "--calibration", prepared / "prep_data", "--work",
               tmp_path / "work"]
    done(run(BARE, "pack.py", "--quiet", *options, "--target", SOC, "gpu", "cpu", "--dtype", "float32", "--output",
             tmp_path / "kit.tar"))
    done(run(environment(), "run.py", "--quiet", *options, "--targets", SOC))
    servers, tars = {SOC: environment(ais_bench=None), "gpu": nvidia(), "cpu": BARE}, []
    for target, env in servers.items():
        finished = run_kit(unpack(tmp_path / "kit.tar", tmp_path / target), env, target, "--anyway")
        assert f"for {target}_bs{BATCH}_int8\n" in done(finished)
        tars.append(tmp_path / target / "kit_results.tar")
    judged = run(BARE, "pack.py", "--quiet", "--judge", *tars, "--work", tmp_path / "work").stdout
    cpu, *rows = table(judged)
    assert [row["precision"] for row in (cpu, *rows)] == ["fp32", "int8", "int8", "int8"]
    assert ["int8" in row["model"] or "deploy" in row["model"] for row in rows] == [True] * 3
    results = next(Path(line).parent for line in judged.splitlines() if f"validation_{SOC}" in line) / "results"
    assert (results / f"{SOC}_bs{BATCH}_int8_score" / "keypoints.json").read_bytes() == \
        (tmp_path / "work" / "results" / f"{SOC}_bs{BATCH}_score" / "keypoints.json").read_bytes()


def test_a_kit_of_one_pass_brings_back_keypoints(kits, tmp_path):
    """204 bytes for each person, and no mirrored crops."""
    done(kits.pack(tmp_path / "kit.tar", "--target", SOC, "--batch", BATCH, "--one_pass"))
    assert not list(unpack(tmp_path / "kit.tar", tmp_path).glob("*_flip"))
    done(run_kit(tmp_path / "kit", environment(), "--runner", "acl"))
    people = json.loads((tmp_path / "kit" / "kit.json").read_text())["people"]
    dumps = list((tmp_path / "kit" / "results" / f"{SOC}_bs{BATCH}_one_pass").glob("*_0.bin"))
    assert [path.stat().st_size for path in dumps] == [204] * people
    cpu, card = table(done(kits.judge(tmp_path / "kit_results.tar")))
    assert card["AP"] == f"{cpu['AP']} (emulated)" and card["agrees with the CPU"] == "yes (emulated)"
