"""int8 in Huawei's form: what ascend.quantize writes, by hand-made sums and on real weights, through atc."""
from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ascend_cases import run
from conftest import done, one_error

from contract.errors import UserError
from contract.onnx_file import read_facts
from tests.emulator import environment
from tests.emulator.local import build_om, load

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from ascend.atc_checks import check_int8  # noqa: E402
from ascend.quantize import to_deploy  # noqa: E402
from contract.ranges import bounds  # noqa: E402
from quantization.calibrate import calibrate  # noqa: E402
from quantization.decision import Decision  # noqa: E402
from quantization.graph import prepare  # noqa: E402
from quantization.qdq import to_qdq  # noqa: E402

LOW, HIGH = -1.3, 2.1  # of the range: an offset other than 0, and values beyond both ends
SIZE = (2, 4, 9, 7)  # batch, channels, height, width


def small_network(groups: int = 2) -> SimpleNamespace:
    """A convolution of stride 2 with a border, two groups and a bias, then a Relu; one channel is dead."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((6, SIZE[1] // groups, 3, 3)).astype(np.float32)
    weights[3] = 0
    bias = rng.standard_normal(6).astype(np.float32)
    tensors = [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(bias, "bias")]
    nodes = [onnx.helper.make_node("Conv", ["image", "weights", "bias"], ["sums"], name="conv", kernel_shape=[3, 3],
                                   pads=[1, 1, 1, 1], strides=[2, 2], group=groups),
             onnx.helper.make_node("Relu", ["sums"], ["output"], name="relu")]
    image, output = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape))
                     for name, shape in (("image", SIZE), ("output", (SIZE[0], 6, 5, 4))))
    graph = onnx.helper.make_graph(nodes, "small", [image], [output], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    return SimpleNamespace(model=model, weights=weights, bias=bias, groups=groups)


def by_hand(network: SimpleNamespace, image: np.ndarray) -> np.ndarray:
    """int8 by its definition, in whole numbers: the weights' largest magnitude is 127, the range has 255 steps."""
    step = (HIGH - LOW) / 255
    zero = round(-128 - LOW / step)
    levels = np.clip(np.rint(image / step) + zero, -128, 127).astype(np.int64) - zero
    steps = np.abs(network.weights).max(axis=(1, 2, 3)) / 127
    steps = np.where(steps > 0, steps, 1e-6)  # any small one: there is only the bias
    weights = np.rint(network.weights / steps[:, None, None, None]).astype(np.int64)
    padded = np.pad(levels, ((0, 0), (0, 0), (1, 1), (1, 1)))
    sums = np.zeros((len(image), 6, 5, 4), np.int64)
    inside, outside = weights.shape[1], 6 // network.groups
    for channel in range(6):
        first = channel // outside * inside
        for y in range(3):
            for x in range(3):
                window = padded[:, first:first + inside, y:y + 9:2, x:x + 7:2]
                sums[:, channel] += np.einsum("nchw,c->nhw", window, weights[channel, :, y, x])
    units = (steps * step)[None, :, None, None]
    return np.maximum(0, (sums + np.rint(network.bias[None, :, None, None] / units)) * units)


def on_a_device(folder: Path, model: object, image: np.ndarray) -> np.ndarray:
    """The numbers of the emulated card, of the .om that the emulated atc builds."""
    onnx.save(model, str(folder / "model.onnx"))
    shape = ",".join(map(str, image.shape))
    om = build_om(folder / "model.onnx", folder / "model", f"{model.graph.input[0].name}:{shape}")
    rows = np.ascontiguousarray(image, np.float32).view(np.uint8).ravel()
    return load("ascend_emulator.om").read(om).run([rows], len(image))[0]


@pytest.mark.parametrize("form", ["ascend", "cpu", "tensorrt"])
def test_integers_are_those_of_the_definition(tmp_path, form):
    """Of whichever form of pairs the file has; that of TensorRT is symmetric, so its range here is too."""
    network = small_network()
    image = np.random.default_rng(1).uniform(1.2 * LOW, 1.2 * HIGH, SIZE).astype(np.float32)
    ranges = {"image": (LOW, HIGH), "output": (0.0, 9.0)}
    deployed, count = to_deploy(to_qdq(network.model, Decision(ranges, {}, "minmax"), form), "m.onnx")
    assert count == 1
    came = on_a_device(tmp_path, deployed, image)
    expected = by_hand(network, image)
    if form == "tensorrt":
        assert np.abs(came - expected).max() <= 0.05 * np.abs(expected).max()
    else:
        np.testing.assert_allclose(came, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_five_layers_in_float_keep_the_pose_of_real_weights(shared, real_crops, tmp_path):
    """The convolutions that read an upsampled map, and the first. msModelSlim's own choice needs 25 for as much."""
    prepared = prepare(onnx.load(str(shared / "models/ultralight_simplepose.onnx")), "ultralight")
    convolutions = [node for node in prepared.graph.node if node.op_type == "Conv"]
    upsampled = {name for node in prepared.graph.node if node.op_type == "ConvTranspose" for name in node.output}
    upsampled |= {node.output[0] for node in prepared.graph.node if node.input[0] in upsampled}
    kept = {node.name: "kept" for node in convolutions if node is convolutions[0] or node.input[0] in upsampled}
    assert len(kept) <= 5
    ranges = calibrate(prepared, [real_crops["calibrate"]], "ultralight")
    decision = Decision({name: bounds(found, "average") for name, found in ranges.items()}, kept, "average")
    deployed, count = to_deploy(to_qdq(prepared, decision, "ascend"), "ultralight")
    assert count == len(convolutions) - len(kept)
    crops = real_crops["measure"]
    session = onnxruntime.InferenceSession(prepared.SerializeToString(), providers=["CPUExecutionProvider"])
    came, expected = (values.reshape(len(crops), -1).astype(np.float64) for values in
                      (on_a_device(tmp_path, deployed, crops), session.run(None, {"data": crops})[0]))
    cosines = (came * expected).sum(axis=1) / np.sqrt((came ** 2).sum(axis=1) * (expected ** 2).sum(axis=1))
    assert cosines.mean() >= 0.995


@pytest.fixture()
def files(tmp_path) -> SimpleNamespace:
    """The small network in float32, with pairs, and in Huawei's form."""
    network = small_network()
    paired = to_qdq(network.model, Decision({"image": (LOW, HIGH)}, {}, "minmax"), "ascend")
    paths = [tmp_path / name for name in ("float.onnx", "int8.onnx", "deploy.onnx")]
    for path, model in zip(paths, (network.model, paired)):
        onnx.save(model, str(path))
    return SimpleNamespace(float=paths[0], pairs=paths[1], deploy=paths[2])


def test_an_om_of_it_is_int8(files, tmp_path):
    assert "1 convolutions in int8" in done(run(dict(os.environ), "-m", "ascend.quantize", files.pairs, files.deploy))
    assert read_facts(files.deploy).deployed and not read_facts(files.pairs).deployed
    done(run(environment(), "-m", "ascend.atc", files.deploy, "--soc_version", "Ascend310P3"))
    assert json.loads((tmp_path / "deploy.om.json").read_text())["precision"] == "int8"
    message = one_error(run(environment(), "-m", "ascend.atc", files.deploy, "--soc_version", "Ascend310P3",
                            "--precision_mode", "force_fp32"))
    assert "is int8, and atc does not build that with force_fp32" in message


def test_atc_takes_no_pairs_and_is_told_what_makes_its_form(files):
    message = one_error(run(environment(), "-m", "ascend.atc", files.pairs, "--soc_version", "Ascend310P3"))
    assert f"python3 -m ascend.quantize {files.pairs} int8_deploy.onnx" in message


def test_int8_is_for_one_batch_size(files):
    check_int8(files.deploy, None, [4])
    with pytest.raises(UserError, match="^[^\n]*deploy.onnx: is int8[^\n]*--batch[^\n]*--gears$"):
        check_int8(files.deploy, None, [1, 4])
    onnx.save(to_deploy(onnx.load(str(files.pairs)), "m.onnx")[0], str(files.deploy))
    with pytest.raises(load("ascend_emulator.atc.errors").AtcError):
        build_om(files.deploy, files.deploy.with_name("m"), "image:2,4,9,7", precision_mode="force_fp32")


@pytest.mark.parametrize("change, message", [
    ("nothing", "holds no convolution with QuantizeLinear"),
    ("weights", "weights of conv have a zero point other than 0"),
    ("scale", "has another scale than the QuantizeLinear before it")])
def test_what_the_form_cannot_say_is_refused_in_one_line(files, change, message):
    model = onnx.load(str(files.float if change == "nothing" else files.pairs))
    for tensor in list(model.graph.initializer):
        if change == "weights" and tensor.name == "conv/weights/zero_point":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones(6, np.int8), tensor.name))
        if change == "scale" and tensor.name == "image/scale":
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "other"))
            node, = (node for node in model.graph.node if node.output[0] == "image/read")
            node.input[1] = "other"
    with pytest.raises(UserError, match=f"^m.onnx: [^\n]*{message}[^\n]*$"):
        to_deploy(model, "m.onnx")
