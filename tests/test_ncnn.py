"""The room of ncnn: conversion, the guards of its runner, and int8, on real weights and small networks."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import done, one_error, patch_model, run_onnx
from detection_cases import random_weights, tiny_cfg
from golden.weights import fill

from contract.errors import UserError
from contract.files import write_json

ncnn = pytest.importorskip("ncnn")
pytest.importorskip("pnnx")
onnxruntime = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

import onnx  # noqa: E402

from backends.ncnn.backend import Backend, Net  # noqa: E402
from backends.ncnn.build import build  # noqa: E402
from backends.ncnn.model_file import bin_of, read_param, read_weights  # noqa: E402
from backends.ncnn.quantize import quantize  # noqa: E402


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The mean over rows."""
    a, b = (values.reshape(len(values), -1).astype(np.float64) for values in (a, b))
    return float(((a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))).mean())


def error(came: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(came - expected).max() / np.abs(expected).max())


def export_network(network, path: Path, shape: tuple) -> Path:
    torch.onnx.export(network, torch.zeros(1, *shape), str(path), opset_version=11, input_names=["image"],
                      output_names=["output"], dynamic_axes={"image": {0: "batch"}, "output": {0: "batch"}},
                      dynamo=False)
    import onnxsim

    onnx.save(onnxsim.simplify(onnx.load(str(path)))[0], str(path))
    return path


@pytest.fixture(scope="module")
def hourglass(tmp_path_factory):
    """A narrow Hourglass of full depth: its ONNX file, its .param, its float32 rows and torch's heatmaps of them."""
    from networks.hourglass import Hourglass

    folder = tmp_path_factory.mktemp("hourglass")
    network = fill(Hourglass(width=1 / 32))
    rows = np.random.default_rng(0).standard_normal((2, 3, 128, 128), np.float32)
    path = export_network(network, folder / "hourglass.onnx", rows.shape[1:])
    with torch.inference_mode():
        return path, build(str(path), folder / "hourglass.param"), rows, network(torch.from_numpy(rows)).numpy()


@pytest.fixture(scope="module")
def ultralight(shared, tmp_path_factory) -> Path:
    """The .param of a real pose network, from an ONNX file of opset 8 whose batch norm pnnx cannot read as it is."""
    return build(str(shared / "models/ultralight_simplepose.onnx"), tmp_path_factory.mktemp("ultra") / "ultra.param")


@pytest.fixture(scope="module")
def patches(tmp_path_factory) -> Path:
    """The .param of the smallest model, not to be written to."""
    folder = tmp_path_factory.mktemp("patches")
    return build(str(patch_model(folder / "model.onnx", 1)), folder / "model.param")


@pytest.fixture()
def small(patches, tmp_path) -> Path:
    """A copy of it, to damage."""
    for path in patches.parent.glob("model.[bp]*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "model.param"


def test_input_outputs_and_convolutions_keep_their_names(hourglass):
    path, param, _, _ = hourglass
    model, layers = onnx.load(str(path)), read_param(param)
    assert layers[0].outputs == ["image"] and layers[-1].outputs == ["output"]
    assert {layer.name for layer in layers if layer.kind == "Convolution"} == \
        {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert {node.op_type for node in model.graph.node} <= {"Conv", "Relu", "Add", "Resize", "Constant"}


def test_hourglass_is_torch_onnx_and_ncnn_alike(hourglass):
    path, param, rows, expected = hourglass
    assert error(run_onnx(path, rows), expected) <= 1e-5
    assert error(Backend(param).infer(rows), expected) <= 1e-3


def test_real_weights_are_those_of_onnxruntime(shared, ultralight, real_crops):
    backend = Backend(ultralight)
    assert backend.input_shape == (None, 3, 256, 192) and backend.output_shape == (None, 17, 64, 48)
    cleaned = onnx.load(str(shared / "models/ultralight_simplepose.onnx"))
    for node in cleaned.graph.node:
        for attribute in [one for one in node.attribute if one.name == "spatial"]:
            node.attribute.remove(attribute)
    session = onnxruntime.InferenceSession(cleaned.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: real_crops["measure"]})[0]
    assert error(backend.infer(real_crops["measure"]), expected) <= 1e-5
    assert cosine(Backend(ultralight, precision="bf16").infer(real_crops["measure"]), expected) >= 0.999


def test_float16_halves_the_file_and_says_so(shared, ultralight, real_crops, tmp_path):
    half = build(str(shared / "models/ultralight_simplepose.onnx"), tmp_path / "half.param", "fp16")
    assert bin_of(half).stat().st_size < 0.52 * bin_of(ultralight).stat().st_size
    backend = Backend(half)
    assert backend.describe()["precision"] == "fp16"
    assert cosine(backend.infer(real_crops["measure"]), Backend(ultralight).infer(real_crops["measure"])) >= 0.9999


def test_fastpose_and_yolo_run_here_too(tmp_path, main):
    """As their own exporters write them."""
    from detection.darknet import read_cfg, write_weights
    from networks.fastpose import FastPose

    rows = np.random.default_rng(0).uniform(-0.5, 0.6, (2, 3, 64, 64)).astype(np.float32)
    path = export_network(fill(FastPose(width=0.1)), tmp_path / "pose.onnx", rows.shape[1:])
    assert error(Backend(build(str(path), tmp_path / "pose.param")).infer(rows), run_onnx(path, rows)) <= 1e-4
    (tmp_path / "net.cfg").write_text(tiny_cfg(classes=1))
    network = read_cfg(tmp_path / "net.cfg")
    write_weights(tmp_path / "net.weights", network, random_weights(network))
    from detection.export import export

    path = export(tmp_path / "net.cfg", tmp_path / "net.weights", tmp_path / "yolo.onnx")[0]
    images = np.random.default_rng(0).random((2, *network.input_shape), np.float32)
    backend = Backend(build(str(path), tmp_path / "yolo.param"))
    assert error(backend.infer(images), run_onnx(path, images)) <= 1e-4


def test_what_is_made_of_the_same_file_is_kept(patches, capsys):
    before = {path: path.stat().st_mtime_ns for path in patches.parent.glob("model.[bp]*")}
    build(str(patches.with_suffix(".onnx")), patches)
    assert "kept" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_graph_that_pnnx_cannot_convert_is_refused_with_its_last_line(tmp_path):
    node = onnx.helper.make_node("Unheard", ["image"], ["output"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 8, 8])
              for name in ("image", "output")]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "odd", values[:1], values[1:]),
                                   opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=6)
    onnx.save(model, str(tmp_path / "odd.onnx"))
    with pytest.raises(UserError, match=r"^[^\n]*odd.onnx: pnnx [^\n]* cannot convert it[^\n]*$"):
        build(str(tmp_path / "odd.onnx"), tmp_path / "odd.param")
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]


@pytest.mark.parametrize("batch", [2, "uint8"])
def test_an_input_that_is_not_one_float_image_is_refused(tmp_path, batch):
    path = patch_model(tmp_path / "model.onnx", 2 if batch == 2 else 1)
    if batch == "uint8":
        model = onnx.load(str(path))
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
        onnx.save(model, str(path))
    with pytest.raises(UserError, match="expected one float32 image"):
        build(str(path), tmp_path / "model.param")


def test_a_param_without_its_bin_is_refused(small):
    bin_of(small).unlink()
    with pytest.raises(UserError, match=r"model.bin: no such file[^\n]*of the same name"):
        Backend(small)


def test_a_bin_cut_short_is_refused_with_and_without_a_record(small):
    content = bin_of(small).read_bytes()
    bin_of(small).write_bytes(content[:-400])
    with pytest.raises(UserError, match="not the weights that"):
        Backend(small)
    Path(f"{small}.json").unlink()
    with pytest.raises(UserError, match=r"^[^\n]*model.param: ncnn [^\n]*cannot [^\n]*$"):
        Backend(small)


def test_the_bin_of_another_model_is_refused(small, ultralight):
    shutil.copy(bin_of(ultralight), bin_of(small))
    with pytest.raises(UserError, match=r"not the weights that [^\n]*: python3 -m backends.ncnn.build"):
        Backend(small)


def test_a_layer_that_this_ncnn_lacks_is_one_line(small):
    """As in the file of a newer release, or of a build with layers of its own."""
    Path(f"{small}.json").unlink()
    small.write_text(small.read_text().replace("Convolution ", "Convolution9 "))
    with pytest.raises(UserError, match=r"^[^\n]*model.param: ncnn [^\n]*Convolution9[^\n]*$"):
        Backend(small)


def test_an_int8_file_that_this_ncnn_cannot_load_is_one_line(small, patches):
    """A .param that says int8 over float weights without scales, as a foreign writer may leave it."""
    Path(f"{small}.json").unlink()
    small.write_text(small.read_text().replace(" 6=", " 8=102 6="))
    with pytest.raises(UserError, match=r"^[^\n]*model.param: ncnn [^\n]*$"):
        Backend(small)


def test_rows_of_another_shape_never_reach_ncnn(small):
    with pytest.raises(UserError, match="takes rows of"):
        Backend(small).infer(np.zeros((1, 64, 48, 3), np.float32))


def test_vulkan_is_refused_in_one_line(small):
    with pytest.raises(UserError, match="^--device vulkan[^\n]*$"):
        Backend(small, device="vulkan")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_threads_do_not_change_the_numbers(hourglass, precision):
    _, param, rows, expected = hourglass
    one, two = (Backend(param, precision=precision, threads=threads) for threads in (1, 2))
    assert one.describe()["threads"] == 1 and two.describe()["threads"] == 2
    assert cosine(one.infer(rows), expected) >= 0.999
    np.testing.assert_allclose(one.infer(rows), two.infer(rows), rtol=0, atol=1e-4 * np.abs(expected).max())


HEAD = ("upsampled", "last")
MIXED = (*HEAD, "first", "depthwise")


@pytest.mark.parametrize("keep, layers, least", [(HEAD, 52, 0.99), (MIXED, 34, 0.998)])
def test_int8_of_real_weights(ultralight, real_crops, tmp_path, keep, layers, least):
    chosen = quantize(ultralight, tmp_path / "int8.param", real_crops["calibrate"], "percentile", keep, 6, {})
    backend = Backend(tmp_path / "int8.param")
    assert len(chosen) == layers
    assert backend.describe()["precision"] == "int8"
    assert cosine(backend.infer(real_crops["measure"]), Backend(ultralight).infer(real_crops["measure"])) >= least
    assert bin_of(tmp_path / "int8.param").stat().st_size <= 0.45 * bin_of(ultralight).stat().st_size


def quantize_hourglass(hourglass, output: Path, **options) -> list:
    _, param, rows, _ = hourglass
    return quantize(param, output, rows, **{"method": "minmax", "keep": [], "weight_bits": 6, "facts": {}, **options})


@pytest.mark.parametrize("bits", [6, 8])
def test_weight_scales_are_those_of_the_onnx_weights(hourglass, tmp_path, bits):
    """127 / absmax of each channel; 31 / absmax for 3x3 with stride 1 where 6 bits are asked for. They are read back
    from the table, whose lines ncnn2int8 reads."""
    path, _, _, _ = hourglass
    chosen = quantize_hourglass(hourglass, tmp_path / "int8.param", weight_bits=bits)
    model = onnx.load(str(path))
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    table = {words[0]: np.float32(words[1:]) for words in map(
        str.split, (tmp_path / "int8.table").read_text().splitlines())}
    assert set(table) == {*chosen, *(f"{name}_param_0" for name in chosen)}
    for node in model.graph.node:
        if node.op_type == "Conv":
            weights = tensors[node.input[1]]
            stride = next(one.ints[0] for one in node.attribute if one.name == "strides")
            levels = 31 if bits == 6 and weights.shape[2:] == (3, 3) and stride == 1 else 127
            expected = np.float32(levels) / np.abs(weights).max(axis=(1, 2, 3))
            np.testing.assert_array_equal(table[f"{node.name}_param_0"], expected)


def test_int8_weights_are_rounded_as_ncnn_does(hourglass, tmp_path):
    """ncnn itself makes int8 of float weights in a file that has the scales; both must give the same heatmaps."""
    _, param, rows, _ = hourglass
    quantize_hourglass(hourglass, tmp_path / "int8.param")
    layers = read_param(tmp_path / "int8.param")
    ours, floats = read_weights(tmp_path / "int8.bin", layers), read_weights(bin_of(param), read_param(param))
    content = b""
    for layer in layers:
        if layer.name in ours:
            content += bytes(4) + floats[layer.name].values.tobytes() + ours[layer.name].rest.tobytes()
    shutil.copy(tmp_path / "int8.param", tmp_path / "float.param")
    (tmp_path / "float.bin").write_bytes(content)
    np.testing.assert_array_equal(Backend(tmp_path / "int8.param").infer(rows),
                                  Backend(tmp_path / "float.param").infer(rows))


def test_every_value_of_a_calibration_image_is_seen(hourglass, tmp_path):
    """With `minmax` the input scale of the first layer is 127 over the largest pixel of all images."""
    _, _, rows, _ = hourglass
    chosen = quantize_hourglass(hourglass, tmp_path / "int8.param")
    lines = dict(line.split() for line in (tmp_path / "int8.table").read_text().splitlines() if line.count(" ") == 1)
    assert float(lines[chosen[0]]) == pytest.approx(127 / np.abs(rows).max(), rel=1e-6)


def test_layers_are_kept_by_name(hourglass, tmp_path):
    everything = quantize_hourglass(hourglass, tmp_path / "all.param")
    some = quantize_hourglass(hourglass, tmp_path / "some.param", keep=[everything[3], "last"])
    assert everything[0] in some and everything[3] not in some and everything[-1] not in some
    assert Backend(tmp_path / "all.param").describe()["precision"] == "int8"
    with pytest.raises(UserError, match=r"^--keep convolution_of_nobody[^\n]*$"):
        quantize_hourglass(hourglass, tmp_path / "none.param", keep=["convolution_of_nobody"])


def test_an_int8_or_float16_model_is_not_quantized_again(hourglass, tmp_path):
    quantize_hourglass(hourglass, tmp_path / "int8.param")
    with pytest.raises(UserError, match="--precision fp32"):
        quantize(tmp_path / "int8.param", tmp_path / "twice.param", hourglass[2], "minmax", [], 6, {})


def test_the_command_calibrates_on_bins(work, small_cfg, small, main):
    """The smallest model's one convolution is the last, so nothing is left unless it is made int8 too."""
    command = ["backends.ncnn.quantize", small, small.with_name("int8.param"), "--calibration", work / "prep_data",
               "--cfg", small_cfg]
    assert "leaves none of 1 layers" in one_error(main(*command))
    assert "1 of 1 layers in int8" in done(main(*command, "--keep"))
    assert "kept, of the same model" in done(main(*command, "--keep"))
    assert "1 of 1 layers in int8" in done(main(*command, "--keep", "--method", "minmax"))
    assert "1 of 1 layers in int8" in done(main(*command, "--keep"))
    record = json.loads(small.with_name("int8.param.json").read_text())
    assert record["method"] == "percentile" and record["people"] == 12
    assert Net(small.with_name("int8.param")).outputs == ["output"]


def test_the_stages_run_on_it(work, small_cfg, small, infer):
    done(infer("--backend", "ncnn", "--model", small, "--cfg", small_cfg))
    settings = json.loads((work / "results/new/settings.json").read_text())
    assert settings["ncnn"] == ncnn.__version__ and settings["precision"] == "fp32"
    facts = json.loads(Path(f"{small}.json").read_text())
    assert settings["weights_sha256"] == facts["bin_sha256"]
    write_json(f"{small}.json", facts)  # as it was: reading a model does not change it


def test_the_demo_scores_in_float_and_int8(script, tmp_path):
    """The whole job on the first photos, where int8 costs less than 5 points."""
    done(script("run.py", "--targets", "ncnn", "ncnn-int8", "--network", "hourglass", "--demo", "--limit", "6",
                "--no_flip", "--batch", "1", "--work", tmp_path))
    floats, int8 = (json.loads((tmp_path / f"results/{target}_bs1_noflip_score/metrics.json").read_text())
                    ["metrics"]["AP"] for target in ("ncnn", "ncnn-int8"))
    assert floats > 0.85 and int8 > floats - 0.05
