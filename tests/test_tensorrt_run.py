"""infer.py, postprocess.py and detect.py with --backend tensorrt, on the emulated GPU."""
from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest
from conftest import ROOT, done, one_error, patch_model, tree

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from ascend_cases import wait_for  # noqa: E402
from tensorrt_cases import build_engine  # noqa: E402

from backends.tensorrt.backend import SLOTS  # noqa: E402
from contract import machine  # noqa: E402
from contract.dumps import read_settings  # noqa: E402
from contract.run_record import find_mismatch, remarks  # noqa: E402
from demo.render import render  # noqa: E402
from detection.darknet import read_cfg, read_weights  # noqa: E402
from detection.onnx_graph import build_onnx  # noqa: E402
from tests.tensorrt_emulator import emulated, environment  # noqa: E402

YOLO_CFG, YOLO_WEIGHTS = ROOT / "configs" / "demo_yolov3_tiny.cfg", ROOT / "demo" / "yolov3_demo.weights"
PHOTOGRAPHS, SEED = 7, 5


def check_traces(path: Path, processes: int = 1) -> List[Dict[str, Any]]:
    """What each process left open or did wrong: nothing."""
    traces = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(traces) == processes
    for trace in traces:
        assert trace["leaks"] == {} and trace["notes"] == []
    return traces


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> SimpleNamespace:
    """For people, with a fixed batch and with a profile; 12 people make batches of 5, 5 and 2."""
    folder = tmp_path_factory.mktemp("models")
    static, symbolic = patch_model(folder / "static.onnx", 5), patch_model(folder / "any.onnx")
    return SimpleNamespace(folder=folder, static=static, any=symbolic)


@pytest.fixture()
def infer(script, prepared, small_cfg, tmp_path):
    """Run infer.py over `prepared`, into a folder `name` of results."""

    def run(name: str, *options: object, env: Dict[str, str]):
        return script("infer.py", "--input", prepared / "prep_data", "--output", tmp_path / "results",
                      "--output_dirname", name, "--cfg", small_cfg, *options, env=env)

    return run


@pytest.fixture()
def infer_here(main, prepared, small_cfg, tmp_path):
    """The same in this process, in batches of 5, also over the mirrored bins."""

    def run(name: str, suffix: str, *options: object) -> None:
        done(main("infer", "--input", f"{prepared}/prep_data{suffix}", "--output", tmp_path / "results",
                  "--output_dirname", f"{name}{suffix}", "--cfg", small_cfg, "--batchsize", 5, *options))

    return run


@pytest.mark.parametrize("version, layout, schedule", [("8.6.1", "old", "late"), ("10.3.0", "old", "shuffle"),
                                                       ("10.3.0", "new", "late"), ("11.4.0", "new", "shuffle")])
@pytest.mark.parametrize("kind", ["static", "any"])
def test_keypoints_equal_those_of_onnx_runtime(main, infer_here, models, prepared, coco, tmp_path, kind, version,
                                               layout, schedule):
    """To the last bit: the emulated engine is the same ONNX, so whatever differs was lost on the way."""
    onnx = getattr(models, kind)
    engine = build_engine(onnx, tmp_path / "m.engine", [(1, 5, 5)] if kind == "any" else [], tensorrt=version)
    for suffix in ("", "_flip"):
        infer_here("ort", suffix, "--model", onnx)
    with emulated(tensorrt=version, layout=layout, schedule=schedule) as machine:
        for suffix in ("", "_flip"):
            infer_here("trt", suffix, "--backend", "tensorrt", "--model", engine)
        assert machine.state.leaks() == {} and machine.notes == [] and machine.state.pageable == 0
    scores = []
    for name in ("ort", "trt"):
        results = tmp_path / "results"
        done(main("postprocess", "--dataroot", coco, "--dump_dir", results / name, "--dump_dir_flip",
                  results / f"{name}_flip", "--manifest", prepared / "prep_data" / "manifest.json", "--output",
                  tmp_path / f"score_{name}"))
        scores.append((dumps(results / name), dumps(results / f"{name}_flip"),
                       (tmp_path / f"score_{name}" / "keypoints.json").read_bytes()))
    assert scores[0] == scores[1] and len(scores[0][0]) == 12 and json.loads(scores[0][2])


def dumps(folder: Path) -> Dict[str, str]:
    return {name: digest for name, digest in tree(folder).items() if name.endswith(".bin")}


def test_several_devices_give_the_bytes_of_one(infer, models, tmp_path):
    """A process each; the first one opens a device to read the shapes, and closes it before the others start."""
    engine = build_engine(models.any, tmp_path / "m.engine", [(1, 4, 4)])
    one, two = tmp_path / "one.trace", tmp_path / "two.trace"
    options = ("--backend", "tensorrt", "--model", engine, "--batchsize", 4)
    done(infer("one", *options, env=environment(devices=2, trace=str(one))))
    done(infer("two", *options, "--device", "0,cuda:1", env=environment(devices=2, trace=str(two))))
    first, second = (dumps(tmp_path / "results" / name) for name in ("one", "two"))
    assert first == second and len(first) == 12
    check_traces(one)
    assert sum(trace["counts"]["kernel"] for trace in check_traces(two, 3) if "kernel" in trace["counts"]) == \
        3 + 2 * 2 * SLOTS  # three batches, and a warm-up of every slot in each process


def test_the_summary_has_a_time_a_batch(infer, models, tmp_path):
    engine = build_engine(models.any, tmp_path / "m.engine", [(1, 2, 2)])
    done(infer("a", "--backend", "tensorrt", "--model", engine, "--batchsize", 4, env=environment()))
    summary = json.loads((tmp_path / "results" / "a_summary.json").read_text())
    assert len(summary["npu_compute_time_list"]) == 3  # batches of 4 in chunks of 2: a time for each 4


CLOCKS = [({"clocks": [1095]}, "clocks locked, 1095 MHz"),
          ({"clocks": [1410]}, "clocks not locked, 1410 MHz"),
          ({"clocks": [1410, 1305], "throttled": 0x4}, "clocks not locked, 1305 to 1410 MHz, power cap"),
          ({"clocks": [1095], "throttled": 0x20}, "clocks not locked, 1095 MHz, heat (software)"),
          ({"clocks": ["[N/A]"]}, "clocks unknown"), ({"devices": 0}, None)]


@pytest.mark.parametrize("config, expected", CLOCKS)
def test_what_nvidia_smi_tells_of_a_run(monkeypatch, config, expected):
    """Locked is only what stands still below the highest clock while nothing holds it down."""
    for name in ("NVIDIA_EMULATOR", "NVIDIA_EMULATOR_CONFIG", "PATH"):
        monkeypatch.setenv(name, environment(watts=200.0, **config)[name])
    monkeypatch.setattr(machine, "SAMPLES_APART", 20)
    watch = machine.MachineWatch("NVIDIA A100-SXM4-40GB", "cuda:0")
    wait_for(lambda: watch.gpu.process.poll() is not None or os.fstat(watch.gpu.file.fileno()).st_size > 400)
    found = watch.stop()
    words = remarks([{"record": {"machines": [{**found, "busy_with_others": 0, "cpu_joules": None}], "crops": 10,
                                 "of": 10}}])
    if expected is None:
        assert words == [] and found["gpus"] == []
        return
    assert words == [expected, f"{200 * found['monotonic_s'] / 10:.2f} J per crop"]
    assert machine.MachineWatch("NVIDIA T4", "0").stop()["gpus"] == []  # CUDA and nvidia-smi count in two orders


def test_a_speed_of_a_gpu_says_whether_its_clocks_were_locked(infer, models, tmp_path):
    engine = build_engine(models.static, tmp_path / "m.engine")
    done(infer("a", "--backend", "tensorrt", "--model", engine, env=environment(clocks=[1200, 900])))
    folder, summary = tmp_path / "results" / "a", json.loads((tmp_path / "results" / "a_summary.json").read_text())
    assert find_mismatch(folder, summary, read_settings(folder)) is None
    assert any(word.startswith("clocks not locked, ") for word in remarks([summary]))
    assert summary["record"]["machines"][0]["gpus"][0]["power_limit_w"] == 400


def test_a_kernel_that_fails_ends_the_run_in_one_line_and_it_continues(infer, models, tmp_path):
    engine = build_engine(models.any, tmp_path / "m.engine", [(1, 4, 4)])
    options = ("--backend", "tensorrt", "--model", engine, "--batchsize", 4)
    failed = infer("a", *options, env=environment(errors=[{"call": "kernel", "nth": 3, "code": 700}]))
    assert "cudaErrorIllegalAddress" in one_error(failed)
    done(infer("a", *options, env=environment()))
    assert len(list((tmp_path / "results" / "a").glob("*.bin"))) == 12


@pytest.mark.parametrize("config, words", [({"devices": 0}, "cudaErrorInsufficientDriver"),
                                           ({"tensorrt": "10.3.1"}, "library version 10.3.1 got 10.3.0")])
def test_a_machine_that_cannot_run_it_says_so_in_one_line(infer, models, tmp_path, config, words):
    engine = build_engine(models.static, tmp_path / "m.engine")
    assert words in one_error(infer("a", "--backend", "tensorrt", "--model", engine, env=environment(**config)))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    render(folder, PHOTOGRAPHS, SEED)
    return folder


@pytest.mark.parametrize("batch", [None, 3])
def test_the_detector_finds_the_same_people_in_the_same_order(script, photographs, tmp_path, batch):
    """One thread reads and letterboxes, and another than made the engine asks for its results."""
    network = read_cfg(YOLO_CFG)
    model = tmp_path / "yolo.onnx"
    model.write_bytes(build_onnx(network, read_weights(YOLO_WEIGHTS, network), batch).SerializeToString())
    engine = build_engine(model, tmp_path / "yolo.engine", [] if batch else [(1, 3, 3)])
    trace = tmp_path / "trace"
    common = ("--dataroot", photographs, "--yolo_cfg", YOLO_CFG, "--batch", 3)
    done(script("detect.py", "--model", model, "--output", tmp_path / "ort.json", *common))
    done(script("detect.py", "--backend", "tensorrt", "--model", engine, "--output", tmp_path / "trt.json", *common,
                env=environment(trace=str(trace))))
    assert (tmp_path / "trt.json").read_bytes() == (tmp_path / "ort.json").read_bytes()
    assert len(json.loads((tmp_path / "trt.json").read_text())) >= PHOTOGRAPHS
    check_traces(trace)


def test_the_detector_needs_an_engine_and_not_weights(script, photographs, tmp_path):
    finished = script("detect.py", "--backend", "tensorrt", "--weights", YOLO_WEIGHTS, "--yolo_cfg", YOLO_CFG,
                      "--dataroot", photographs, "--output", tmp_path / "a.json", env=environment())
    assert "does not read --weights" in one_error(finished)
