"""The room of OpenVINO: its numbers are ONNX Runtime's, on networks of every kind; precisions, hints and threads."""
from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import done, patch_heatmaps, patch_model, run_onnx
from detection_cases import random_weights, tiny_cfg
from golden.weights import fill

from contract.errors import UserError
from contract.threads import cpu_limit

openvino = pytest.importorskip("openvino")
onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from backends.openvino.backend import Backend, SharedClock  # noqa: E402


def error(came: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(came - expected).max() / np.abs(expected).max())


def can(precision: str) -> bool:
    return precision.upper() in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def export_network(network, path: Path, shape: tuple) -> Path:
    torch = pytest.importorskip("torch")
    torch.onnx.export(network, torch.zeros(1, *shape), str(path), opset_version=13, input_names=["image"],
                      output_names=["output"], dynamic_axes={"image": {0: "batch"}, "output": {0: "batch"}},
                      dynamo=False)
    return path


def fastpose(folder: Path) -> Path:
    from networks.fastpose import FastPose

    return export_network(fill(FastPose(width=0.1)), folder / "model.onnx", (3, 64, 64))


def hourglass(folder: Path) -> Path:
    from networks.hourglass import Hourglass

    return export_network(fill(Hourglass(width=1 / 32)), folder / "model.onnx", (3, 128, 128))


def yolo(folder: Path) -> Path:
    from detection.darknet import read_cfg, write_weights
    from detection.export import export

    (folder / "net.cfg").write_text(tiny_cfg(classes=1))
    network = read_cfg(folder / "net.cfg")
    write_weights(folder / "net.weights", network, random_weights(network))
    return export(folder / "net.cfg", folder / "net.weights", folder / "model.onnx")[0]


def bot(folder: Path) -> Path:
    from networks.bot import BagTricks

    return export_network(fill(BagTricks(width=0.1)), folder / "model.onnx", (3, 64, 32))


@pytest.mark.parametrize("make", [fastpose, hourglass, yolo, bot])
def test_networks_give_onnxruntimes_numbers(tmp_path, make):
    pytest.importorskip("torch")
    path = make(tmp_path)
    backend = Backend(path)
    rows = np.random.default_rng(0).uniform(0, 1, (2, *backend.input_shape[1:])).astype(np.float32)
    assert error(backend.infer(rows), run_onnx(path, rows)) <= 1e-4


def test_real_weights_are_those_of_onnxruntime(shared):
    path = shared / "models/ultralight_simplepose.onnx"
    rows = np.random.default_rng(0).standard_normal((3, 3, 256, 192), np.float32)
    assert error(Backend(path).infer(rows), run_onnx(path, rows)) <= 1e-5


def test_float32_is_pinned_and_bfloat16_is_asked_for(tmp_path):
    """OpenVINO's own default is bfloat16 where the CPU has it."""
    path, rows = fastpose(tmp_path), np.random.default_rng(0).uniform(-0.5, 0.6, (2, 3, 64, 64)).astype(np.float32)
    expected, full = run_onnx(path, rows), Backend(path)
    assert (full.describe()["precision"], full.describe()["vendor_precision"]) == ("fp32", "f32")
    assert error(full.infer(rows), expected) <= 1e-4
    if can("bf16"):
        half = Backend(path, precision="bf16")
        assert (half.describe()["precision"], half.describe()["vendor_precision"]) == ("bf16", "bf16")
        assert 1e-4 < error(half.infer(rows), expected) <= 5e-2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_the_cpu_lacks_is_refused(small_model, precision):
    """OpenVINO would silently take another."""
    if can(precision):
        pytest.skip(f"this CPU has {precision}")
    with pytest.raises(UserError, match=f"^--precision {precision}: this CPU has no such [^\n]*fp32[^\n]*$"):
        Backend(small_model, precision=precision)


def quantized(folder: Path) -> Path:
    """The smallest model with QuantizeLinear and DequantizeLinear before its convolution."""
    model = onnx.load(str(patch_model(folder / "float.onnx")))
    scale = onnx.numpy_helper.from_array(np.array(1 / 127, np.float32), "scale")
    zero = onnx.numpy_helper.from_array(np.array(0, np.int8), "zero")
    model.graph.initializer.extend([scale, zero])
    nodes = [onnx.helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["levels"]),
             onnx.helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["rounded"])]
    model.graph.node[0].input[0] = "rounded"
    nodes.append(onnx.NodeProto.FromString(model.graph.node[0].SerializeToString()))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import[0].version = 13
    model.ir_version = 8
    onnx.save(model, str(folder / "int8.onnx"))
    return folder / "int8.onnx"


def test_a_quantized_file_is_int8_and_rounds_as_it_says(tmp_path):
    rows = np.random.default_rng(0).uniform(-0.5, 0.6, (2, 3, 64, 48)).astype(np.float32)
    backend = Backend(quantized(tmp_path))
    described = backend.describe()
    assert (described["precision"], described["vendor_precision"], described["options"]) == ("int8", "i8", "f32")
    came, rounded = backend.infer(rows), np.rint(rows * np.float32(127)) / 127
    assert error(came, patch_heatmaps(rounded)) <= 1e-5 < error(came, patch_heatmaps(rows))


def test_bytes_are_taken_as_bytes(tmp_path):
    model = onnx.load(str(patch_model(tmp_path / "float.onnx")))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["floats"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "floats"
    onnx.save(model, str(tmp_path / "uint8.onnx"))
    backend = Backend(tmp_path / "uint8.onnx")
    rows = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 48), np.uint8)
    assert backend.input_dtype == np.uint8
    assert error(backend.infer(rows), patch_heatmaps(rows)) <= 1e-5


def test_threads_are_those_asked_for(small_model):
    assert Backend(small_model, threads=1).describe()["threads"] == 1


@pytest.mark.parametrize("files, limit", [
    ({}, None), ({"cpu.max": "max 100000\n"}, None), ({"cpu.max": "250000 100000\n"}, 3),
    ({"cpu.max": "50000 100000\n"}, 1), ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4)])
def test_the_quota_of_a_container_limits_the_threads(tmp_path, files, limit):
    """As the kernel's documents of both versions of control groups have them."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cpu_limit(str(tmp_path)) == limit


def test_calls_at_once_give_the_same_numbers_and_share_the_time(small_model):
    backend = Backend(small_model, threads=2, hint="throughput")
    rows = np.random.default_rng(0).uniform(-0.5, 0.6, (40, 2, 3, 64, 48)).astype(np.float32)
    backend.infer(rows[0])
    backend.times.clear()
    started = time.perf_counter()
    with ThreadPoolExecutor(backend.slots) as pool:
        came = list(pool.map(backend.infer, rows))
    elapsed = 1000 * (time.perf_counter() - started)
    for one, outputs in zip(rows, came):
        assert error(outputs, patch_heatmaps(one)) <= 1e-5
    assert len(backend.times) == len(rows) and sum(backend.times) <= elapsed
    assert Backend(small_model).slots == 1


def test_calls_that_overlap_are_charged_their_share():
    """From second 0 to 4 and from 2 to 8: of the two seconds in common, one each."""
    seconds = iter([0, 2, 4, 8])
    clock = SharedClock(lambda: next(seconds))
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with clock:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with clock:
        leave.set()
        thread.join()
    assert clock.times == [3000, 5000]


def test_a_compiled_model_is_kept_and_found_again(small_model, tmp_path):
    rows = np.random.default_rng(0).uniform(-0.5, 0.6, (2, 3, 64, 48)).astype(np.float32)
    expected = Backend(small_model, model_cache=tmp_path / "cache").infer(rows)
    blobs = list((tmp_path / "cache").glob("*.blob"))
    again = Backend(small_model, model_cache=tmp_path / "cache")
    assert len(blobs) == 1 and list((tmp_path / "cache").glob("*.blob")) == blobs
    np.testing.assert_array_equal(again.infer(rows), expected)
    assert again.describe()["precision"] == "fp32"


def test_rows_of_another_shape_are_refused_in_one_line(small_model):
    with pytest.raises(UserError, match=r"^[^\n]*patches.onnx: OpenVINO [^\n]*cannot run it on 1 x 64 x 48 x 3[^\n]*$"):
        Backend(small_model).infer(np.zeros((1, 64, 48, 3), np.float32))


def test_an_operator_that_openvino_lacks_is_named(tmp_path):
    model = onnx.load(str(patch_model(tmp_path / "model.onnx")))
    model.graph.node[0].op_type = "Unheard"
    onnx.save(model, str(tmp_path / "odd.onnx"))
    with pytest.raises(UserError, match=r"^[^\n]*odd.onnx: OpenVINO [^\n]*Unheard[^\n]*$"):
        Backend(tmp_path / "odd.onnx")


def test_infer_runs_a_folder_with_all_streams(prepared, small_cfg, small_model, tmp_path, script):
    command = ("infer.py", "--backend", "openvino", "--model", small_model, "--input", prepared / "prep_data",
               "--output", tmp_path, "--output_dirname", "new", "--cfg", small_cfg, "--batchsize", 5)
    done(script(*command))
    settings = json.loads((tmp_path / "new" / "settings.json").read_text())
    assert (settings["backend"], settings["precision"], settings["hint"]) == ("openvino", "fp32", "throughput")
    assert "there already" in done(script(*command))
