"""The contract of a backend, held by every room. A new room adds its smallest model to MODELS and nothing else."""
from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Dict, Iterator

import numpy as np
import pytest
from conftest import patch_heatmaps, patch_model

from backends.rooms import ROOMS, backend_of, open_backend, open_model
from backends.rooms import room as room_named
from contract.backend import infer_rows
from contract.errors import UserError
from contract.room import PRECISIONS
from pose.spec import PoseSpec
from tests.emulator import environment
from tests.tensorrt_emulator import emulated

CONFIG = PoseSpec(input_size=(64, 32), heatmap_size=(16, 8), parameters={"WIDTH": 0.05})
TOLERANCE = 1e-5  # of the largest value, against the same model in float64 on the CPU
PEOPLE = 7


def onnxruntime_model(folder: Path, batch: object) -> SimpleNamespace:
    pytest.importorskip("onnxruntime")
    path = patch_model(folder / "model.onnx", batch or "batch", CONFIG.input_size)
    return SimpleNamespace(path=path, reference=patch_heatmaps, fixes_batch=True)


def pytorch_model(folder: Path, batch: object) -> SimpleNamespace:
    torch = pytest.importorskip("torch")
    from networks.registry import build_network, load_network

    path = folder / "model.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(build_network(CONFIG).state_dict(), path)

    def reference(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return load_network(CONFIG, path).double()(torch.from_numpy(rows.astype(np.float64))).numpy()

    return SimpleNamespace(path=path, reference=reference, fixes_batch=False)


def acl_model(folder: Path, batch: object) -> SimpleNamespace:
    """Built by the emulated atc; the model of any batch has a gear for each size up to PEOPLE."""
    pytest.importorskip("onnxruntime")
    onnx_path = patch_model(folder / "model.onnx", batch or "batch", CONFIG.input_size)
    gears = () if batch else ("--dynamic_batch_size=" + ",".join(map(str, range(1, PEOPLE + 1))),)
    subprocess.run(["atc", "--framework=5", f"--model={onnx_path}", f"--output={folder / 'model'}",
                    f"--input_shape=image:{batch or -1},3,64,32", "--input_format=NCHW", "--soc_version=Ascend310P3",
                    *gears], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return SimpleNamespace(path=folder / "model.om", reference=patch_heatmaps, fixes_batch=True)


def tensorrt_model(folder: Path, batch: object) -> SimpleNamespace:
    """Built by the emulated TensorRT; the model of any batch takes PEOPLE in two parts."""
    pytest.importorskip("onnxruntime")
    from tensorrt_cases import build_engine

    onnx_path = patch_model(folder / "model.onnx", batch or "batch", CONFIG.input_size)
    build_engine(onnx_path, folder / "model.engine", () if batch else [(1, 2, 4)])
    return SimpleNamespace(path=folder / "model.engine", reference=patch_heatmaps, fixes_batch=True)


@functools.cache
def ncnn_files() -> Dict[str, bytes]:
    """Name -> content of what pnnx makes of the smallest model; the same for every batch."""
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    pytest.importorskip("onnxruntime")
    from backends.ncnn.build import build

    with tempfile.TemporaryDirectory() as folder:
        build(str(patch_model(Path(folder) / "model.onnx", "batch", CONFIG.input_size)), Path(folder) / "model.param")
        return {path.name: path.read_bytes() for path in Path(folder).glob("model.[bp]*")}


def ncnn_model(folder: Path, batch: object) -> SimpleNamespace:
    for name, content in ncnn_files().items():
        (folder / name).write_bytes(content)
    return SimpleNamespace(path=folder / "model.param", reference=patch_heatmaps, fixes_batch=False)


@functools.cache
def openvino_files(batch: object) -> Dict[str, bytes]:
    """Name -> content of OpenVINO's own form of the smallest model."""
    openvino = pytest.importorskip("openvino")
    with tempfile.TemporaryDirectory() as folder:
        onnx_path = patch_model(Path(folder) / "model.onnx", batch or "batch", CONFIG.input_size)
        openvino.save_model(openvino.Core().read_model(onnx_path), Path(folder) / "model.xml", compress_to_fp16=False)
        return {path.name: path.read_bytes() for path in Path(folder).glob("model.[bx]*")}


def openvino_model(folder: Path, batch: object) -> SimpleNamespace:
    for name, content in openvino_files(batch).items():
        (folder / name).write_bytes(content)
    return SimpleNamespace(path=folder / "model.xml", reference=patch_heatmaps, fixes_batch=True)


def caffe_model(folder: Path, batch: object) -> SimpleNamespace:
    pytest.importorskip("onnxruntime")
    from backends.caffe.build import build

    build(patch_model(folder / "model.onnx", "batch", CONFIG.input_size))
    return SimpleNamespace(path=folder / "model.prototxt", reference=patch_heatmaps, fixes_batch=False)


MODELS = {"acl": acl_model, "caffe": caffe_model, "ncnn": ncnn_model, "onnxruntime": onnxruntime_model,
          "openvino": openvino_model, "pytorch": pytorch_model, "tensorrt": tensorrt_model}


def test_every_room_has_a_model_here():
    assert MODELS.keys() == ROOMS.keys()


@pytest.fixture(params=sorted(ROOMS))
def room(request, monkeypatch) -> Iterator[str]:
    if request.param == "acl":  # on the emulated card of tests/emulator
        variables = environment()
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for path in reversed(variables["PYTHONPATH"].split(os.pathsep)):
            monkeypatch.syspath_prepend(path)
    with emulated() if request.param == "tensorrt" else contextlib.nullcontext():
        yield request.param


@pytest.fixture()
def model(room, tmp_path) -> SimpleNamespace:
    """A model of the room that takes any batch."""
    return MODELS[room](tmp_path, None)


@pytest.fixture()
def backend(room, model):
    backend = open_model(room, model.path, CONFIG)
    yield backend
    backend.close()


@pytest.fixture()
def rows() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.6, (PEOPLE, *CONFIG.input_shape)).astype(np.float32)


def assert_close(heatmaps: np.ndarray, expected: np.ndarray) -> None:
    assert heatmaps.dtype == np.float32 and heatmaps.shape == expected.shape
    np.testing.assert_allclose(heatmaps, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_shapes_are_those_of_the_model_batch_first(backend):
    assert tuple(backend.input_shape) == (None, 3, 64, 32)
    assert tuple(backend.output_shape) == (None, 17, 16, 8)


def test_the_numbers_are_those_of_the_cpu_reference(backend, model, rows):
    assert_close(backend.infer(rows), model.reference(rows))


@pytest.mark.parametrize("people", [1, 2, 7])
def test_any_batch_where_the_model_takes_any(backend, model, rows, people):
    assert_close(backend.infer(rows[:people]), model.reference(rows[:people]))


def test_strided_input_is_the_same_as_contiguous(backend, rows):
    wide = np.repeat(rows, 2, axis=0)
    channels_last = np.ascontiguousarray(rows.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    mirrored = np.ascontiguousarray(rows[..., ::-1])[..., ::-1]
    expected = backend.infer(rows)
    for strided in (wide[::2], channels_last, mirrored):
        assert not strided.flags.c_contiguous
        np.testing.assert_array_equal(backend.infer(strided), expected)


def test_the_input_is_left_alone(backend, rows):
    before = rows.copy()
    backend.infer(rows)
    np.testing.assert_array_equal(rows, before)


def test_results_are_the_callers_to_keep(backend, rows):
    first = backend.infer(rows)
    kept = first.copy()
    backend.infer(rows[::-1])
    np.testing.assert_array_equal(first, kept)
    first[:] = 0  # and to write to
    np.testing.assert_array_equal(backend.infer(rows), kept)


def test_two_runs_are_equal(backend, room, model, rows):
    again = open_model(room, model.path, CONFIG)
    np.testing.assert_array_equal(backend.infer(rows), backend.infer(rows))
    np.testing.assert_array_equal(backend.infer(rows), again.infer(rows))
    again.close()


@pytest.mark.parametrize("batch", [1, 2, 4, 16])
def test_a_short_last_batch_is_padded_where_needed_and_the_padding_not_returned(room, tmp_path, rows, batch):
    model = MODELS[room](tmp_path, batch)
    backend = open_model(room, model.path, CONFIG)
    assert backend.input_shape[0] == backend.output_shape[0] == (batch if model.fixes_batch else None)
    seen = []
    spy = SimpleNamespace(input_shape=backend.input_shape, infer=lambda part: seen.append(len(part)) or
                          backend.infer(part))
    assert_close(infer_rows(spy, rows, batch), model.reference(rows))
    whole, rest = divmod(PEOPLE, batch)
    tail = [] if not rest else [batch] if model.fixes_batch else [rest]
    assert seen == [batch] * whole + tail
    backend.close()


def test_other_heatmaps_than_the_configs_are_refused_with_both_shapes(room, model):
    other = dataclasses.replace(CONFIG, heatmap_size=(32, 16))
    with pytest.raises(UserError, match="N x 17 x 16 x 8.*N x 17 x 32 x 16") as caught:
        open_model(room, model.path, other)
    assert str(model.path) in str(caught.value) and "--cfg" in str(caught.value)


def test_another_input_than_the_configs_is_refused_with_both_shapes(room, model):
    other = dataclasses.replace(CONFIG, input_size=(128, 64))
    with pytest.raises(UserError, match="N x 3 x 64 x 32.*N x 3 x 128 x 64|N x 17 x 32 x 16.*N x 17 x 16 x 8"):
        open_model(room, model.path, other)


def test_it_says_what_decides_its_numbers(backend):
    described = backend.describe()
    assert {"device", "precision", "vendor_precision"} < described.keys() and described["precision"] in PRECISIONS


def test_a_time_for_each_call(backend, rows):
    """However many parts a room makes of a call, and whoever calls: rates are batches over times."""
    assert backend.slots >= 1 and len(backend.times) == 0
    for people in (1, PEOPLE, 2):
        backend.infer(rows[:people])
    assert len(backend.times) == 3 and min(backend.times) > 0


def test_a_room_says_what_it_is_without_its_packages(room, model):
    """Its own flags, by which it is opened; the suffix of its model; and its words, in the vocabulary of all."""
    said = room_named(room)
    assert model.path.suffix in said.suffixes and backend_of(model.path) == room
    assert set(said.words.values()) <= set(PRECISIONS) and said.packages and said.install
    backend = importlib.import_module(f"{ROOMS[room]}.backend").Backend
    assert set(said.flags) == set(inspect.signature(backend).parameters) - {"model", "device", "spec"}


@pytest.mark.parametrize("name", ["model.xyz", "model"])
def test_a_file_that_no_room_runs_is_refused_with_what_they_run(name):
    with pytest.raises(UserError, match=f"^{name}: [^\n]*--backend[^\n]*.onnx [^\n]*.om"):
        backend_of(name)


def test_an_unknown_device_is_refused_by_name(room, model):
    with pytest.raises(UserError, match="^[^\n]*--device abacus[^\n]*$"):
        open_backend(room, model.path, "abacus", CONFIG)


@pytest.mark.parametrize("content", [None, b"", b"no model at all"], ids=["missing", "empty", "text"])
def test_what_is_no_model_is_refused_by_name(room, model, content):
    path = model.path.with_name("broken" + model.path.suffix)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"^[^\n]*{path.name}[^\n]*$"):
        open_backend(room, path, None, CONFIG)


def test_a_model_cut_short_is_refused(room, model):
    content = model.path.read_bytes()
    model.path.write_bytes(content[:len(content) // 2])
    with pytest.raises(UserError, match=f"^[^\n]*{model.path.name}[^\n]*$"):
        open_backend(room, model.path, None, CONFIG)


@pytest.mark.parametrize("room, package", [("onnxruntime", "onnxruntime"), ("pytorch", "torch")])
def test_a_missing_package_is_named_in_one_line(monkeypatch, tmp_path, room, package):
    monkeypatch.delitem(sys.modules, f"{ROOMS[room]}.backend", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"^--backend {room} [^\n]* {package}[^\n]*$"):
        open_backend(room, tmp_path / "model", None, CONFIG)


@pytest.mark.parametrize("given, threads", [("3", 3), ("2,1", 2), ("", 0), ("many", 0)])
def test_onnx_runtime_takes_as_many_threads_as_openmp_would(tmp_path, monkeypatch, given, threads):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    backend = open_backend("onnxruntime", patch_model(tmp_path / "model.onnx"))
    assert backend.session.get_session_options().intra_op_num_threads == threads


def test_an_onnx_file_that_loads_and_cannot_be_run_is_refused(tmp_path):
    """Two people into a reshape that leaves room for one."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    shape = onnx.helper.make_node("Constant", [], ["shape"], value=onnx.helper.make_tensor(
        "shape", onnx.TensorProto.INT64, [4], [1, 3, 64, 32]))
    node = onnx.helper.make_node("Reshape", ["image", "shape"], ["output"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3, 64, 32])
              for name in ("image", "output")]
    graph = onnx.helper.make_graph([shape, node], "one", values[:1], values[1:])
    path = tmp_path / "one.onnx"
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)],
                                            ir_version=6).SerializeToString())
    backend = open_backend("onnxruntime", path)
    backend.infer(np.zeros((1, 3, 64, 32), np.float32))
    with pytest.raises(UserError, match="^[^\n]*one.onnx[^\n]*cannot run it[^\n]*$"):
        backend.infer(np.zeros((2, 3, 64, 32), np.float32))


def test_simcc_outputs_are_refused_by_name(tmp_path):
    """As mmdeploy names those of RTMPose."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    path = patch_model(tmp_path / "model.onnx")
    model = onnx.load(str(path))
    model.graph.output[0].name = model.graph.node[0].output[0] = "simcc_x"
    model.graph.node.append(onnx.helper.make_node("Identity", ["simcc_x"], ["simcc_y"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("simcc_y", onnx.TensorProto.FLOAT, None))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="^[^\n]*simcc_x[^\n]*SimCC models, such as RTMPose[^\n]*$"):
        open_backend("onnxruntime", path)


def test_an_onnx_file_with_more_inputs_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    path = patch_model(tmp_path / "model.onnx")
    model = onnx.load(str(path))
    model.graph.input.append(onnx.helper.make_tensor_value_info("scale", onnx.TensorProto.FLOAT, [1]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="image.*scale"):
        open_backend("onnxruntime", path)
