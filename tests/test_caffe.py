"""The Caffe writer: every layer alone and whole networks against ONNX Runtime, in OpenCV's reader and by the schema."""
from __future__ import annotations

import io
import warnings

import cv2
import numpy as np
import pytest
from conftest import done, one_error
from golden.weights import fill

from contract.errors import UserError

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")

from torch import nn  # noqa: E402

from backends.caffe.backend import Backend  # noqa: E402
from backends.caffe.build import build  # noqa: E402


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Gate(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x.mean(dim=(2, 3), keepdim=True))


LAYERS = {
    "convolution": nn.Conv2d(4, 6, 3, stride=2, padding=1), "depthwise": nn.Conv2d(4, 4, 3, groups=4, bias=False),
    "oblong": nn.Conv2d(4, 2, (3, 1), padding=(1, 0)), "dilated": nn.Conv2d(4, 2, 3, dilation=2),
    "deconvolution": nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1),
    "depthwise deconvolution": nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, groups=4),
    "deconvolution and norm": nn.Sequential(nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2, bias=False),
                                            nn.BatchNorm2d(6), nn.ReLU()),
    "norm": nn.BatchNorm2d(4), "instance norm": nn.InstanceNorm2d(4, affine=True),
    "pixel shuffle": nn.PixelShuffle(2), "nearest": nn.Upsample(scale_factor=2),
    "pool rounded down": nn.MaxPool2d(3, 2, padding=1), "pool rounded up": nn.MaxPool2d(3, 2, ceil_mode=True),
    "mean pool": nn.AvgPool2d(2, 2), "ReLU6": nn.ReLU6(), "gate": Gate(),
    "linear": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "normalisation": Lambda(lambda x: (x - torch.tensor([1., 2, 3, 4]).view(1, 4, 1, 1)) / 3),
    "halves": Lambda(lambda x: torch.cat([x[:, :2], 2 * x[:, 2:]], dim=1)),
    "sum": Lambda(lambda x: torch.relu(x) + x), "product": Lambda(lambda x: torch.relu(x) * x),
}


def export(network: nn.Module, shape: tuple, path):
    """An ONNX file of `network` with weights that leave nothing at zero or one."""
    onnxsim = pytest.importorskip("onnxsim")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.normal_(module.running_mean, 0, 0.1)
        stream = io.BytesIO()
        torch.onnx.export(network.eval(), torch.rand(1, *shape), stream, opset_version=13, input_names=["image"],
                          output_names=["output"], dynamo=False, dynamic_axes={"image": {0: "batch"}})
    model = onnx.load_from_string(stream.getvalue())
    path.write_bytes(onnxsim.simplify(model)[0].SerializeToString())
    return path


def worst(path, rows: np.ndarray) -> float:
    """How far OpenCV with the written files is from ONNX Runtime, of the largest value."""
    expected = onnxruntime.InferenceSession(str(path)).run(None, {"image": rows})[0]
    came = Backend(path.with_suffix(".prototxt")).infer(rows)
    assert came.shape == expected.shape
    return np.abs(came - expected).max() / np.abs(expected).max()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-4, 8, shape).astype(np.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_alone(name, tmp_path):
    path = export(nn.Sequential(nn.Conv2d(4, 4, 1), LAYERS[name]), (4, 10, 8), tmp_path / "layer.onnx")
    build(path)
    assert worst(path, noise(1, 4, 10, 8)) < 1e-5


def test_channels_last_in_depth_to_space(tmp_path):
    """DCR, which torch never exports: its channels are ordered before the shuffle."""
    node = onnx.helper.make_node("DepthToSpace", ["image"], ["output"], blocksize=2, mode="DCR")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
              for name, shape in (("image", [1, 12, 4, 5]), ("output", [1, 3, 8, 10]))]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "dcr", values[:1], values[1:]), ir_version=7,
                                   opset_imports=[onnx.helper.make_opsetid("", 13)])
    path = tmp_path / "dcr.onnx"
    path.write_bytes(model.SerializeToString())
    build(path)
    assert worst(path, noise(1, 12, 4, 5)) == 0


@pytest.fixture(scope="module")
def fastpose(tmp_path_factory):
    from networks.fastpose import FastPose

    return export(fill(FastPose(width=0.25)), (3, 64, 64), tmp_path_factory.mktemp("caffe") / "fastpose.onnx")


@pytest.fixture(scope="module")
def bag_of_tricks(tmp_path_factory):
    from networks.bot import BagTricks

    return export(fill(BagTricks(width=0.25, ibn=True, non_local=True)), (3, 64, 32),
                  tmp_path_factory.mktemp("caffe") / "bot.onnx")


@pytest.mark.parametrize("name, rows", [("fastpose", noise(3, 3, 64, 64)), ("bag_of_tricks", noise(3, 3, 64, 32))])
def test_networks(request, name, rows):
    path = request.getfixturevalue(name)
    build(path)
    assert worst(path, rows) < 1e-4
    backend = Backend(path.with_suffix(".caffemodel"))  # either of the two names the pair
    assert backend.input_shape == (None, *rows.shape[1:]) and backend.times == []
    backend.infer(rows)
    assert len(backend.times) == 1 and backend.describe()["precision"] == "fp32"


def test_the_last_layer_is_called_as_the_output(fastpose):
    build(fastpose)
    net = cv2.dnn.readNetFromCaffe(*(str(fastpose.with_suffix(suffix)) for suffix in (".prototxt", ".caffemodel")))
    assert net.getLayerNames()[-1] == "output"


# Every field that these layers have in BVLC's caffe.proto. A strict parser refuses any other, such as ceil_mode.
BVLC = {"": "name layer", "layer": "name type bottom top convolution_param eltwise_param inner_product_param mvn_param "
        "pooling_param concat_param scale_param input_param", "shape": "dim", "input_param": "shape",
        "convolution_param": "num_output bias_term pad kernel_size group stride pad_h pad_w kernel_h kernel_w stride_h "
        "stride_w dilation", "eltwise_param": "operation", "inner_product_param": "num_output bias_term",
        "mvn_param": "normalize_variance across_channels eps", "scale_param": "axis bias_term",
        "pooling_param": "pool kernel_size stride pad global_pooling", "concat_param": "axis"}
BVLC_LAYERS = {"Input", "Convolution", "Deconvolution", "ReLU", "Sigmoid", "TanH", "Pooling", "Eltwise", "InnerProduct",
               "Scale", "Flatten", "Concat", "MVN"}


def fields(text: str):
    """(section, field, value) of every line of a prototxt, without a protobuf schema."""
    sections = [""]
    for line in map(str.strip, text.splitlines()[1:]):  # the first is a comment
        if line == "}":
            sections.pop()
        elif line.endswith("{"):
            yield sections[-1], line[:-1].strip(), None
            sections.append(line[:-1].strip())
        else:
            name, value = line.split(": ", 1)
            yield sections[-1], name, value


@pytest.mark.parametrize("name", ["fastpose", "bag_of_tricks"])
def test_the_prototxt_holds_bvlcs_fields_alone(request, name):
    path = request.getfixturevalue(name)
    build(path)
    for section, field, value in fields(path.with_suffix(".prototxt").read_text()):
        assert field in BVLC[section].split(), f"{section}.{field}"
        assert (section, field) != ("layer", "type") or value.strip('"') in BVLC_LAYERS


def test_operators_that_caffe_lacks_are_named(tmp_path):
    path = export(Lambda(lambda x: torch.erf(x).cumsum(1)), (4, 4, 4), tmp_path / "odd.onnx")
    with pytest.raises(UserError, match="CumSum, Erf, which Caffe lacks"):
        build(path)
    assert not path.with_suffix(".prototxt").exists()


def test_bytes_are_refused(tmp_path):
    values = [onnx.helper.make_tensor_value_info(name, kind, [1, 4]) for name, kind in
              (("image", onnx.TensorProto.UINT8), ("output", onnx.TensorProto.FLOAT))]
    node = onnx.helper.make_node("Cast", ["image"], ["output"], to=onnx.TensorProto.FLOAT)
    path = tmp_path / "bytes.onnx"
    path.write_bytes(onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:]), ir_version=7,
                                            opset_imports=[onnx.helper.make_opsetid("", 13)]).SerializeToString())
    with pytest.raises(UserError, match="takes UINT8, expected float32"):
        build(path)


def test_a_net_that_says_something_else_is_not_written(tmp_path, monkeypatch):
    from backends.caffe import layers

    monkeypatch.setitem(layers.WRITERS, "Relu", layers.identity)
    path = export(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), (4, 4, 4), tmp_path / "wrong.onnx")
    with pytest.raises(UserError, match="cosine"):
        build(path)
    assert not list(tmp_path.glob("*.caffemodel"))


def test_files_of_two_nets_are_not_a_pair(fastpose, bag_of_tricks, tmp_path):
    for path in (fastpose, bag_of_tricks):
        build(path)
    structure = fastpose.with_suffix(".prototxt").read_text().split("\n", 1)[1]  # as of another writer
    (tmp_path / "mixed.prototxt").write_text(structure)
    (tmp_path / "mixed.caffemodel").write_bytes(bag_of_tricks.with_suffix(".caffemodel").read_bytes())
    with pytest.raises(UserError, match="holds no weights for the layer"):
        Backend(tmp_path / "mixed.prototxt")


def test_weights_of_another_training_are_not_a_pair(tmp_path):
    for folder, network in (("a", nn.Conv2d(4, 4, 1)), ("b", nn.Conv2d(4, 4, 1, bias=False))):
        (tmp_path / folder).mkdir()
        build(export(nn.Sequential(network), (4, 4, 4), tmp_path / folder / "net.onnx"))
    (tmp_path / "a" / "net.caffemodel").write_bytes((tmp_path / "b" / "net.caffemodel").read_bytes())
    with pytest.raises(UserError, match="net.caffemodel: not the weights that [^ ]*net.prototxt was written with"):
        Backend(tmp_path / "a" / "net.prototxt")


@pytest.mark.parametrize("content, message", [(b"", "one layer of type Input"), (b"layer {", "expected a Caffe net"),
                                              (b"\xff\xfe", "expected a Caffe net")])
def test_a_damaged_prototxt_is_one_line(fastpose, tmp_path, content, message):
    build(fastpose)
    (tmp_path / "bad.prototxt").write_bytes(content)
    (tmp_path / "bad.caffemodel").write_bytes(fastpose.with_suffix(".caffemodel").read_bytes())
    with pytest.raises(UserError, match=message):
        Backend(tmp_path / "bad.prototxt")


def test_a_missing_half_is_named(tmp_path):
    (tmp_path / "half.prototxt").write_text("")
    with pytest.raises(UserError, match="half.caffemodel: no such file"):
        Backend(tmp_path / "half.prototxt")


def test_opencv_5_reads_no_caffe(fastpose, monkeypatch):
    build(fastpose)
    monkeypatch.delattr(cv2.dnn, "readNetFromCaffe")
    with pytest.raises(UserError, match="reads no Caffe files"):
        Backend(fastpose.with_suffix(".prototxt"))


def test_the_command(main, fastpose, tmp_path):
    lines = done(main("backends.caffe.build", fastpose, "--output", tmp_path / "net")).splitlines()
    assert lines == [f"{tmp_path}/net.prototxt", f"{tmp_path}/net.caffemodel"]
    assert "no such ONNX file" in one_error(main("backends.caffe.build", tmp_path / "none.onnx"))
