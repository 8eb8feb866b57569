"""A stage that is killed or interrupted at any moment and run again gives the bytes of an uninterrupted one."""
from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, done, make_coco, one_error, patch_model, tree, write_config

# Runs a script and sends itself a signal when it is about to make file number N whole: what is written until then is
# on disk under its temporary name.
STOPPER = """
import itertools, os, runpy, sys
number, signum, script = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
replace, count = os.replace, itertools.count(1)
def stop(source, target):
    if next(count) == number:
        os.kill(os.getpid(), signum)
    replace(source, target)
os.replace = stop
sys.argv = sys.argv[3:]
runpy.run_path(script, run_name="__main__")
"""
SIGNALS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}  # and how the process ends


def stop_at(number: int, signum: int, name: str, *args: object) -> None:
    """Run a script that is stopped at its file `number`."""
    command = [sys.executable, "-c", STOPPER, str(number), str(int(signum)), f"{name}.py", *map(str, args)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == SIGNALS[signum], finished.stderr
    assert "Traceback" not in finished.stderr
    assert signum == signal.SIGKILL or "interrupted" in finished.stderr


def halve_leftovers(folder: Path) -> None:
    """As if the kill had come in the middle of a write."""
    for path in folder.rglob("*.tmp"):
        path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def whole_files(folder: Path) -> dict:
    """Path -> time of the last change of every bin below `folder`."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")}


def assert_kept(before: dict) -> None:
    """What was whole was not written again."""
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.fixture()
def stages(coco, prepared, inferred, small_cfg, small_model, tmp_path) -> SimpleNamespace:
    """Arguments of each stage for outputs below tmp_path."""
    manifest = prepared / "prep_data" / "manifest.json"
    return SimpleNamespace(
        preprocess=["--dataroot", coco, "--detections", coco / "detections.json", "--cfg", small_cfg, "--output",
                    tmp_path / "prep_data", "--output_flip", tmp_path / "prep_data_flip"],
        infer=["--model", small_model, "--cfg", small_cfg, "--input", prepared / "prep_data", "--output", tmp_path,
               "--output_dirname", "all", "--batchsize", 5],
        postprocess=["--dataroot", coco, "--dump_dir", inferred / "results" / "all", "--dump_dir_flip",
                     inferred / "results" / "all_flip", "--manifest", manifest, "--output", tmp_path / "score"])


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("number", [1, 2, 3, 14, 26, 27, 28])  # 2 unfinished manifests, 24 bins, 2 manifests
def test_preprocess(stages, prepared, main, tmp_path, number, signum):
    stop_at(number, signum, "preprocess", *stages.preprocess)
    halve_leftovers(tmp_path)
    assert not (tmp_path / "prep_data_flip" / "manifest.json").exists()
    kept = whole_files(tmp_path)
    done(main("preprocess", *stages.preprocess))
    if len(kept) == 24:
        assert_kept(kept)
    for name in ("prep_data", "prep_data_flip"):
        assert tree(tmp_path / name) == tree(prepared / name)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("number", [1, 2, 8, 13, 14])  # settings, 12 dumps, summary
def test_infer(stages, main, tmp_path, number, signum):
    stop_at(number, signum, "infer", *stages.infer)
    halve_leftovers(tmp_path)
    assert not (tmp_path / "all_summary.json").exists()
    kept = whole_files(tmp_path)
    assert len(kept) <= 12
    done(main("infer", *stages.infer))
    if len(kept) == 12:
        assert_kept(kept)
    assert (tmp_path / "all_summary.json").exists() and not list(tmp_path.rglob("*.tmp"))
    expected = tmp_path / "uninterrupted"
    done(main("infer", *stages.infer, "--output_dirname", expected.name))
    assert tree(tmp_path / "all") == tree(expected) and len(tree(expected)) == 13


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("number", [1, 2])  # keypoints, metrics
def test_postprocess(stages, main, tmp_path, number, signum):
    stop_at(number, signum, "postprocess", *stages.postprocess)
    halve_leftovers(tmp_path)
    assert not (tmp_path / "score" / "metrics.json").exists()
    done(main("postprocess", *stages.postprocess))
    expected = tmp_path / "uninterrupted"
    done(main("postprocess", *stages.postprocess, "--output", expected))
    assert tree(tmp_path / "score") == tree(expected) and set(tree(expected)) == {"keypoints.json", "metrics.json"}


@pytest.mark.parametrize("signum", SIGNALS)
def test_postprocess_over_an_older_result(stages, main, tmp_path, signum):
    """Metrics of one run beside keypoints of another would look whole."""
    done(main("postprocess", *stages.postprocess, "--flip_shift", "original"))
    stop_at(2, signum, "postprocess", *stages.postprocess)
    assert {path.name for path in (tmp_path / "score").iterdir() if path.suffix == ".json"} == {"keypoints.json"}


@pytest.mark.parametrize("signum", SIGNALS)
def test_pth2onnx(tmp_path, main, signum):
    torch, _ = pytest.importorskip("torch"), pytest.importorskip("onnxsim")
    from networks.registry import build_network
    from pose.spec import load_spec

    cfg = write_config(tmp_path / "narrow.yaml", (64, 32), (16, 8), "TYPE: FastPose, NUM_LAYERS: 50, WIDTH: 0.05")
    torch.save(build_network(load_spec(cfg)).state_dict(), tmp_path / "narrow.pth")
    arguments = [cfg, tmp_path / "narrow.pth", tmp_path / "onnx" / "m.onnx", "--batch", 2]
    stop_at(2, signum, "pth2onnx", *arguments)  # the second file
    halve_leftovers(tmp_path)
    assert not (tmp_path / "onnx" / "m_bs2.onnx").exists()
    first = (tmp_path / "onnx" / "m.onnx").stat().st_mtime_ns
    assert "kept" in done(main("pth2onnx", *arguments))
    assert (tmp_path / "onnx" / "m.onnx").stat().st_mtime_ns == first
    arguments[2] = tmp_path / "uninterrupted" / "m.onnx"
    done(main("pth2onnx", *arguments))
    assert tree(tmp_path / "onnx") == tree(tmp_path / "uninterrupted")


def test_what_is_missing_is_all_that_is_written_again(work, stages, coco, small_cfg, main, tmp_path):
    arguments = ["--dataroot", coco, "--detections", coco / "detections.json", "--cfg", small_cfg, "--output",
                 work / "prep_data", "--output_flip", work / "prep_data_flip"]
    expected = tree(work / "prep_data"), tree(work / "prep_data_flip")
    (work / "prep_data" / "000000000004.bin").unlink()
    (work / "prep_data_flip" / "000000000009.bin").write_bytes(b"short")
    kept = {path: changed for path, changed in whole_files(work / "prep_data").items()
            if path.stem not in ("000000000004", "000000000009")}
    assert "2 bins written, 10 kept" in done(main("preprocess", *arguments))
    assert_kept(kept)
    assert (tree(work / "prep_data"), tree(work / "prep_data_flip")) == expected
    kept = whole_files(work)
    assert "0 bins written, 12 kept" in done(main("preprocess", *arguments))
    assert_kept(kept)


def test_inference_that_is_done_is_not_done_again(stages, main, tmp_path):
    done(main("infer", *stages.infer))
    summary, kept = (tmp_path / "all_summary.json").read_bytes(), whole_files(tmp_path)
    assert "already" in done(main("infer", *stages.infer))
    assert_kept(kept)
    assert (tmp_path / "all_summary.json").read_bytes() == summary
    (tmp_path / "all_summary.json").unlink()  # killed after its last dump
    done(main("infer", *stages.infer))
    assert_kept(kept)
    assert json.loads((tmp_path / "all_summary.json").read_text())["filesinfo"].keys() == {str(n) for n in range(12)}


def test_a_score_needs_no_speed(stages, inferred, main, tmp_path):
    """Dumps of a run that was killed before its summary are scored all the same."""
    for suffix in ("", "_flip"):
        shutil.copytree(inferred / "results" / f"all{suffix}", tmp_path / f"all{suffix}")
    arguments = [*stages.postprocess, "--dump_dir", tmp_path / "all", "--dump_dir_flip", tmp_path / "all_flip"]
    expected = done(main("postprocess", *stages.postprocess))
    assert done(main("postprocess", *arguments)).splitlines()[:3] == expected.splitlines()[:3]
    for name in ("all", "all_flip"):  # ended without anything to time
        (tmp_path / f"{name}_summary.json").write_text('{"throughput": null, "end_to_end": null}')
    assert done(main("postprocess", *arguments)).splitlines()[:3] == expected.splitlines()[:3]


def test_an_interrupted_run_is_not_continued_with_other_settings(stages, small_cfg, prepared, main, tmp_path):
    stop_at(9, signal.SIGKILL, "preprocess", *stages.preprocess)
    stop_at(5, signal.SIGKILL, "infer", *stages.infer)
    before = {name: digest for name, digest in tree(tmp_path).items() if not name.endswith((".tmp", ".lock"))}
    assert "batch" in one_error(main("preprocess", *stages.preprocess, "--batch", 3))
    other = write_config(tmp_path / "other.yaml", MEAN=[0, 0, 0])
    assert "config" in one_error(main("preprocess", *stages.preprocess, "--cfg", other))
    assert "batch" in one_error(main("infer", *stages.infer, "--batchsize", 4))
    model = patch_model(tmp_path / "other.onnx", seed=1)
    assert "model" in one_error(main("infer", *stages.infer, "--model", model))
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before
    done(main("preprocess", *stages.preprocess))
    done(main("infer", *stages.infer))
    assert tree(tmp_path / "prep_data") == tree(prepared / "prep_data")


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, small_cfg, small_model, script) -> SimpleNamespace:
    """1200 people, enough to catch a stage in the middle of its work; both stages done without interruption."""
    folder = tmp_path_factory.mktemp("crowd")
    coco = make_coco(folder / "coco")
    rows = json.loads((coco / "detections.json").read_text())
    (coco / "detections.json").write_text(json.dumps((rows * 100)[:1200]))

    def preprocess(output: Path) -> list:
        return ["preprocess.py", "--dataroot", coco, "--detections", coco / "detections.json", "--cfg", small_cfg,
                "--output", output / "prep_data", "--output_flip", output / "prep_data_flip"]

    def infer(output: Path) -> list:
        return ["infer.py", "--model", small_model, "--cfg", small_cfg, "--input", folder / "prep_data", "--output",
                output, "--output_dirname", "all", "--batchsize", 2]

    for command in (preprocess, infer):
        done(script(*command(folder)))
    yield SimpleNamespace(folder=folder, preprocess=preprocess, infer=infer)
    shutil.rmtree(folder)


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("stage, outputs", [("preprocess", ["prep_data", "prep_data_flip"]), ("infer", ["all"])])
def test_stopped_from_outside(crowd, script, tmp_path, stage, outputs, signum):
    command = getattr(crowd, stage)(tmp_path)
    with subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and len(list((tmp_path / outputs[0]).glob("*.bin"))) < 20:
            time.sleep(0.002)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == SIGNALS[signum] and "Traceback" not in errors
    assert 20 <= len(list((tmp_path / outputs[0]).glob("*.bin"))) < 1200
    done(script(*command))
    for name in outputs:
        assert tree(tmp_path / name) == tree(crowd.folder / name)
    assert not list(tmp_path.rglob("*.tmp"))
    shutil.rmtree(tmp_path)


def test_new_bins_without_a_manifest_are_not_taken_for_the_old_ones(work, small_cfg, small_model, main, tmp_path):
    (work / "prep_data" / "manifest.json").unlink()
    command = ("infer", "--model", small_model, "--cfg", small_cfg, "--input", work / "prep_data", "--output", tmp_path,
               "--output_dirname", "dumps")
    done(main(*command))
    assert "there already" in done(main(*command))
    path = work / "prep_data" / "000000000000.bin"
    path.write_bytes(np.fromfile(path, np.float32)[::-1].tobytes())
    assert "files" in one_error(main(*command))
    done(main(*command, "--replace"))
