"""Darknet's files: against OpenCV's own reader of them, and what is refused."""
from __future__ import annotations

import collections

import cv2
import numpy as np
import pytest
from detection_cases import (
    NET,
    SPP_CFG,
    conv,
    fastest_cfg,
    head,
    narrow_spp_cfg,
    pool,
    random_weights,
    tiny_cfg,
    tiny_v4_cfg,
    v4_cfg,
)

from contract.errors import UserError
from detection.blocks import Convolution, Yolo
from detection.darknet import read_cfg, read_weights, weights_size, write_weights
from detection.decoding import Thresholds, anchor_rows, decode, find_people
from detection.spec import DetectorSpec


@pytest.fixture
def darknet_files(tmp_path):
    """Write a cfg and random weights for it; returns both paths and the parsed network."""

    def make(text: str, change=None):
        cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
        cfg.write_text(text)
        network = read_cfg(cfg)
        arrays = random_weights(network)
        if change:
            change(arrays)
        write_weights(weights, network, arrays)
        return cfg, weights, network

    return make


def opencv_heads(cfg, weights, network, images):
    """Raw predictions of each head, from OpenCV's reader and its own layers; of new_coords before their sigmoid."""
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.setInput(images)
    return net.forward([f"conv_{number - 1}" for number, block in enumerate(network.blocks) if isinstance(block, Yolo)])


def opencv_boxes(cfg, weights, network, images):
    """(rows, 5) centre, size and objectness of the first image, from OpenCV's yolo layers, in the order of our rows."""
    net = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    net.setInput(images)
    heads = net.forward([f"yolo_{number}" for number, block in enumerate(network.blocks) if isinstance(block, Yolo)])
    rows = np.concatenate([head.reshape(len(images), -1, head.shape[-1])[0] for head in heads])
    return rows[:, :5] * [network.width, network.height, network.width, network.height, 1]


def our_heads(weights, network, images):
    torch = pytest.importorskip("torch")
    from networks.darknet import load

    with torch.inference_mode():
        return [raw.numpy() for raw in load(DetectorSpec(network), weights).heads(torch.from_numpy(images))]


def our_rows(weights, network, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    from detection.onnx_graph import build_onnx

    model = build_onnx(network, read_weights(weights, network), batch=len(images))
    return onnxruntime.InferenceSession(model.SerializeToString()).run(["output"], {"image": images})[0]


def people_rows(heads, network):
    """(B, channels, h, w) heads -> (B, rows, 7), one cell at a time."""
    rows = []
    for raw, block in zip(heads, network.heads):
        _, height, width = block.shape
        for y in range(height):
            for x in range(width):
                for values in np.split(raw[:, :, y, x], len(block.anchors), axis=1):
                    others = [values[:, 6:].max(axis=1, keepdims=True)] if block.classes > 1 else []
                    rows.append(np.concatenate([values[:, :6], *others], axis=1))
    return np.stack(rows, axis=1)


NETWORKS = {"yolov3-tiny": tiny_cfg(), "yolov3-tiny of one class": tiny_cfg(classes=1),
            "yolov3": narrow_spp_cfg(pools=False), "yolov4-tiny": tiny_v4_cfg(), "yolov4": v4_cfg(),
            "yolov4-csp": v4_cfg(squared=True), "yolo-fastest": fastest_cfg()}


@pytest.mark.parametrize("text", NETWORKS.values(), ids=NETWORKS)
def test_networks_agree_with_opencv(darknet_files, text):
    cfg, weights, network = darknet_files(text)
    images = np.random.default_rng(1).random((2, 3, 64, 96), np.float32)
    expected = opencv_heads(cfg, weights, network, images)
    for ours, raw in zip(our_heads(weights, network, images), expected):
        np.testing.assert_allclose(ours, raw, atol=1e-4 * np.abs(raw).max())
    rows = people_rows(expected, network)
    np.testing.assert_allclose(our_rows(weights, network, images), rows, atol=1e-4 * np.abs(rows).max())


def test_spp_pools_pad_with_zeros_and_opencv_does_not(darknet_files):
    """Equal to OpenCV where all that is pooled is positive, and not where some of it is negative."""
    pooled = sum(isinstance(block, Convolution) for block in read_cfg(SPP_CFG).blocks[:77])

    def lift(arrays):
        arrays[pooled]["scale"][:], arrays[pooled]["bias"][:] = 0.01, 5

    images = np.random.default_rng(1).random((1, 3, 64, 96), np.float32)
    difference = {}
    for name, change in (("positive", lift), ("as it is", None)):
        cfg, weights, network = darknet_files(narrow_spp_cfg(), change)
        expected = opencv_heads(cfg, weights, network, images)[0]
        ours, rows = our_heads(weights, network, images)[0], our_rows(weights, network, images)
        difference[name] = np.abs(ours - expected).max() / np.abs(expected).max()
        own = people_rows(our_heads(weights, network, images), network)
        np.testing.assert_allclose(rows, own, atol=1e-4 * np.abs(own).max())
    assert difference["positive"] < 2e-4
    assert difference["as it is"] > 1e-2


@pytest.mark.parametrize("text", NETWORKS.values(), ids=NETWORKS)
def test_decoded_boxes_agree_with_opencv(darknet_files, text):
    cfg, weights, network = darknet_files(text)
    images = np.random.default_rng(1).random((2, 3, 64, 96), np.float32)
    rows = decode(our_rows(weights, network, images)[0], anchor_rows(network))
    np.testing.assert_allclose(rows[:, :5], opencv_boxes(cfg, weights, network, images), rtol=1e-4, atol=1e-4)


def test_a_real_detector_agrees_with_opencv(shared):
    """Yolo-Fastest: boxes to 1e-4 of the picture, objectness to 1e-4."""
    cfg, weights = (shared / "models" / f"yolo_fastest_body.{suffix}" for suffix in ("cfg", "weights"))
    network = read_cfg(cfg)
    image = cv2.imread(str(shared / "data" / "coco_mini" / "val2017" / "000000000785.jpg"))
    images = cv2.dnn.blobFromImage(image, 1 / 255, (320, 320), swapRB=True)
    expected = opencv_heads(cfg, weights, network, images)
    for ours, raw in zip(our_heads(weights, network, images), expected):
        np.testing.assert_allclose(ours, raw, atol=1e-4 * np.abs(raw).max())
    rows = decode(our_rows(weights, network, images)[0], anchor_rows(network))
    boxes = opencv_boxes(cfg, weights, network, images)
    np.testing.assert_allclose(rows[:, :5] / [320, 320, 320, 320, 1], boxes / [320, 320, 320, 320, 1], atol=1e-4)
    people = find_people(our_rows(weights, network, images)[0], anchor_rows(network), Thresholds())
    np.testing.assert_allclose(people[0, :4], [140, 34, 250, 295], atol=10)  # the annotated skier


def test_shipped_cfg_is_yolov3_spp():
    network = read_cfg(SPP_CFG)
    kinds = collections.Counter(type(block).__name__ for block in network.blocks)
    assert kinds == {"Convolution": 76, "Shortcut": 23, "Route": 7, "MaxPool": 3, "Upsample": 2, "Yolo": 3}
    assert network.input_shape == (3, 608, 608) and network.output_shape == (22743, 7)
    assert weights_size(network) == 252_209_544  # of the published file
    multiplications = sum(block.in_channels * block.size ** 2 * np.prod(block.shape) for block in network.convolutions)
    assert round(multiplications / 1e9, 2) == 70.72


YOLO = "[yolo]\nanchors=1,1,2,2,3,3\nclasses=1\n"
HEAD = f"[convolutional]\nsize=1\nfilters=18\nactivation=linear\n{YOLO}"


@pytest.mark.parametrize(("text", "words"), [
    (f"[net]\nwidth=9999999\nheight=9999999\n{HEAD}", ["width is '9999999'", "to 8192"]),
    (f"[net]\nwidth=8192\nheight=8192\n{HEAD}", ["values"]),
    (f"{NET}[convolutional]\nsize=1\nfilters=2000000000\nactivation=linear\n{HEAD}", ["filters is '2000000000'"]),
    (f"{NET}[maxpool]\nsize=100000\nstride=1\n{HEAD}", ["size is '100000'"]),
    (f"{NET}[upsample]\nstride=32\n[upsample]\nstride=32\n{HEAD}", ["values", "line 6"]),
    ("[net]\nwidth=4096\nheight=4096\n" + pool(32, 1) * 20 + HEAD,
     ["multiplications"]),
    (NET + "[dropout]\n" * 1001, ["before it"]),
    (NET + pool(1, 1) * 1001 + HEAD, ["1001 sections"]),
    (NET + HEAD + f"jitter={'1' * 5000}\n", ["5007 characters"]),
    (NET + HEAD + "# comment\n" * 110_000, ["bytes", "1048576"]),
    (NET + HEAD.replace("3,3", "3,1e300"), ["numbers in anchors"]),
    (NET + HEAD.replace("filters=18", "filters=1e400"), ["filters is '1e400'"]),
])
def test_a_small_cfg_cannot_ask_for_hours_or_all_memory(tmp_path, text, words):
    path = tmp_path / "bomb.cfg"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_cfg(path)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(("encoding", "comment"), [
    ("utf-8-sig", "# a comment"), ("gbk", "# 训练用的配置"), ("utf-16", "# Windows"), ("utf-8", "# 训练用的配置")])
def test_cfgs_of_other_editors_are_read(tmp_path, encoding, comment):
    path = tmp_path / "net.cfg"
    path.write_bytes(f"{NET}{comment}\n{HEAD}".replace("\n", "\r\n").encode(encoding))
    assert read_cfg(path).heads[0].anchors == ((1, 1), (2, 2), (3, 3))


def test_strides_of_one_direction_go_first(darknet_files):
    """Of a window's positions every fourth is left, whichever section leaves it out."""
    first = "[convolutional]\nsize=3\npad=1\nfilters=18\nactivation=linear\nstride=4\n"
    cfg, weights, plain = darknet_files(NET + first + YOLO)
    images = np.random.default_rng(1).random((1, 3, 64, 96), np.float32)
    expected = our_heads(weights, plain, images)[0]
    cfg.write_text(NET + first + "stride_y=2\n[maxpool]\nsize=1\nstride=1\nstride_y=2\n" + YOLO)
    network = read_cfg(cfg)
    assert [block.shape for block in network.blocks] == [(18, 32, 24), (18, 16, 24), (18, 16, 24)]
    assert np.array_equal(our_heads(weights, network, images)[0], expected)
    rows = people_rows([expected], plain)
    np.testing.assert_allclose(our_rows(weights, network, images), rows, atol=1e-5 * np.abs(rows).max())


@pytest.mark.parametrize(("text", "words"), [
    (NET + conv(8, 3) + "[gru]\nx=1\n", ["[gru] in line 11", "unknown section", "convolutional"]),
    (NET + conv(18, 3) + "[yolo]\nmask=0,1,2\nclasses=1\n", ["[yolo] in line 11", "anchors is missing"]),
    (NET + conv(18, 3) + "[yolo]\nmask=0,3\nanchors=1,2,3,4\nclasses=1\n", ["mask [0, 3]", "4 numbers in anchors"]),
    (NET + conv(20, 3) + head("0,1,2", 1).split("\n", 6)[6], ["20 filters before it", "= 18"]),
    (NET + conv(8, 3), ["expected [yolo]"]),
    (NET, ["expected [yolo]"]),
    (conv(8, 3), ["begins with [net]"]),
    ("", ["no sections"]),
    ("[net]\nheight=64\n", ["width is missing"]),
    ("[net]\nwidth=96\nheight=some\n", ["height is 'some'", "numbers"]),
    (NET + "channels=1\n" + conv(8, 3), ["channels is 1", "expected 3"]),
    (NET + conv(8, 3).replace("leaky", "selu"), ["activation is 'selu'", "leaky or linear"]),
    (NET + conv(8, 3) + "groups=2\n", ["groups is 2", "3 channels"]),
    (NET + conv(8, 3) + "[route]\nlayers=-1\ngroups=3\n", ["groups is 3", "[8] channels"]),
    (NET + conv(8, 3) + "[route]\nlayers=-1\ngroups=2\ngroup_id=2\n", ["group_id is '2'", "from 0 to 1"]),
    (NET + conv(8, 3).replace("filters=8", "filters=0"), ["filters is '0'", "from 1 to"]),
    (NET + conv(8, 3) + "share_index=-2\n", ["line 4", "share_index=-2 changes the numbers"]),
    (NET + conv(8, 3) + conv(8, 3) + "[shortcut]\nfrom=-2\nbeta=0.5\n", ["[shortcut] in line 18", "beta=0.5"]),
    (NET + conv(8, 3) + conv(8, 3) + "[shortcut]\nfrom=-2\nweights_type=per_channel\n", ["weights_type=per_channel"]),
    (NET + conv(8, 3) + "[upsample]\nstride=2\nscale=2\n", ["[upsample] in line 11", "scale=2"]),
    (NET + "[dropout]\n", ["[dropout] in line 4", "a block before it"]),
    (NET + conv(8, 3) + head("0,1,2", 1, options="new_coords=1\n"), ["new_coords=1 expects", "logistic"]),
    (NET + conv(8, 3) + head("0,1,2", 1, options="scale_x_y=0\n"), ["scale_x_y is 0"]),
    (NET + conv(8, 3) + head("0,1,2", 1) + "[route]\nlayers=-1\n", ["takes the output of [yolo], block 2"]),
    (NET + conv(8, 3) + head("0,1,2", 1) + conv(8, 3), ["takes the output of [yolo], block 2"]),
    (NET + conv(8, 3) + head("0,1,2", 1, "logistic", "new_coords=1\n") + "[route]\nlayers=-2\n", ["block 2"]),
    (NET + conv(8, 3) + "[shortcut]\nfrom=-3\n", ["from is -3", "1 blocks come before"]),
    (NET + conv(8, 3) + conv(8, 3, 2) + "[shortcut]\nfrom=-2\n", ["(8, 32, 48)", "(8, 64, 96)"]),
    (NET + conv(8, 3) + conv(8, 3, 2) + "[route]\nlayers=-1,0\n", ["different height or width"]),
    (NET + conv(8, 3) + "[route]\nlayers=1\n", ["layers is 1", "1 blocks come before"]),
    (NET + conv(8, 3, 32) + conv(8, 5).replace("pad=1", "pad=0"), ["size 5", "3x2"]),
    (NET + "filters 3\n", ["line 4", "'filters 3'"]),
    (tiny_cfg(width=100), ["different height or width", "multiples of 32"]),
])
def test_bad_cfg_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "net.cfg"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_cfg(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    assert all(word in message for word in words), message


def test_cfg_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "net.cfg").write_bytes(b"[net]\x00\x80")
    for name, word in (("net.cfg", "not text"), ("other.cfg", "no such darknet .cfg")):
        with pytest.raises(UserError, match=word):
            read_cfg(tmp_path / name)


def test_options_of_training_and_neutral_ones_are_taken(tmp_path):
    (tmp_path / "net.cfg").write_text("[net]\n; a comment\nwidth = 96 # wide\nheight=64\nmomentum=0.9\n" + conv(18, 3)
                                      + "groups=1\n[yolo]\nanchors = 1,2,  3,4, 5.5,6\nclasses=1\nscale_x_y=1.0\n")
    network = read_cfg(tmp_path / "net.cfg")
    assert network.heads[0].anchors == ((1, 2), (3, 4), (5.5, 6))  # no mask is all of them


@pytest.mark.parametrize("change", [-4, 4, -1])
def test_weights_of_another_size_are_refused_with_both_sizes(darknet_files, change):
    _, path, network = darknet_files(tiny_cfg())
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(UserError) as error:
        read_weights(path, network)
    assert str(len(content) + change) in str(error.value) and str(weights_size(network)) in str(error.value)


def test_weights_of_header_0_1_count_photographs_in_four_bytes(darknet_files):
    cfg, path, network = darknet_files(tiny_cfg())
    expected = read_weights(path, network)
    images = np.random.default_rng(1).random((1, 3, 64, 96), np.float32)
    heads = opencv_heads(cfg, path, network, images)
    path.write_bytes(np.array([0, 1, 0, 640000], "<i4").tobytes() + path.read_bytes()[20:])
    for arrays, other in zip(expected, read_weights(path, network)):
        assert all(np.array_equal(arrays[name], other[name]) for name in arrays)
    assert all(map(np.array_equal, heads, opencv_heads(cfg, path, network, images)))  # OpenCV reads both as well
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=f"expected {weights_size(network) - 4} for this cfg"):
        read_weights(path, network)


def test_weights_that_are_not_numbers_or_not_there_are_refused(darknet_files):
    def spoil(arrays):
        arrays[3]["kernel"][0, 0, 0, :2] = np.nan, np.inf

    _, path, network = darknet_files(tiny_cfg(), spoil)
    with pytest.raises(UserError, match="2 numbers are NaN or infinite"):
        read_weights(path, network)
    with pytest.raises(UserError, match="no such weights"):
        read_weights(path.with_name("other.weights"), network)


def test_a_network_in_torch_trains_and_goes_back_to_a_weights_file(darknet_files, tmp_path):
    torch = pytest.importorskip("torch")
    from networks.darknet import get_weights, load

    _, path, network = darknet_files(tiny_cfg(classes=1))
    darknet = load(DetectorSpec(network), path)
    write_weights(tmp_path / "same.weights", network, get_weights(darknet))
    assert (tmp_path / "same.weights").read_bytes() == path.read_bytes()

    images = torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(darknet.parameters(), lr=1e-4)
    darknet.train()
    losses = []
    for _ in range(5):
        loss = sum((raw - 1).square().mean() for raw in darknet.heads(images))
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in darknet.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]

    darknet.eval()
    write_weights(tmp_path / "trained.weights", network, get_weights(darknet))
    with torch.inference_mode():
        expected = darknet(images)
        reread = load(DetectorSpec(network), tmp_path / "trained.weights")(images)
    assert torch.equal(expected, reread)
    np.testing.assert_allclose(our_rows(tmp_path / "trained.weights", network, images.numpy()), expected.numpy(),
                               atol=1e-5 * expected.abs().max().item())
