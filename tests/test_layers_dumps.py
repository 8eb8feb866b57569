"""Dumps of layers from a card: their names, what is read from them, and what is refused."""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from layers_cases import change_weight, make_crops, options, save, small_graph

from contract.errors import UserError
from layers.comparison import compare_dumps
from layers.graphs import find_layers
from layers.layer_dumps import layers_named, open_dumps
from layers.net import Net


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_crops()


def write_dumps(folder: Path, crops: np.ndarray, scale: float = 1.0) -> Path:
    """What every node of the network gives of 4 people, in float16, the weights of `left2` times `scale`."""
    model = small_graph()
    change_weight(model, "left2.w", lambda values: values * scale)
    values = Net(model, [layer.tensor for layer in find_layers(model, fused=False)], "card").run(crops[:4])
    folder.mkdir()
    for name, tensor in values.items():
        np.save(folder / f"{name}.npy", tensor.astype(np.float16))
    return folder


@pytest.fixture()
def small(tmp_path) -> str:
    return str(save(small_graph(), tmp_path / "a.onnx"))


def test_dumps_that_agree_and_dumps_with_a_fault(small, crops, tmp_path):
    agree = compare_dumps(small, str(write_dumps(tmp_path / "sound", crops)), crops, options())
    assert agree.agree and agree.first is None and agree.people == 4 and len(agree.errors) == 11
    differ = compare_dumps(small, str(write_dumps(tmp_path / "faulty", crops, 1.5)), crops, options())
    assert not differ.agree and differ.first.layer.name == "left2" and differ.to_keep == ["left2"]
    assert differ.first.isolated is None and differ.first.distance == pytest.approx(0.5, rel=0.05)


def test_dumps_of_some_layers_are_judged_by_these(small, crops, tmp_path):
    folder = write_dumps(tmp_path / "some", crops, 1.5)
    for name in ("l2", "r", "heatmaps", "s0"):
        (folder / f"{name}.npy").unlink()
    compared = compare_dumps(small, str(folder), crops, options())
    assert not compared.agree and compared.first.layer.name == "add"  # the first after the fault that was dumped
    assert compared.output is None and {layer.tensor for layer in compared.alone} == {"l2", "r", "heatmaps", "s0"}


def named(tensor: str, node: str, index: int = 0) -> SimpleNamespace:
    return SimpleNamespace(tensor=tensor, nodes=[node], index=index)


PLACES = [named("/conv1/Conv_output_0", "/conv1/Conv"), named("/layer1.0/Split_output_1", "Split_12", 1),
          named("33", ""), named("add", "add_1")]


@pytest.mark.parametrize("stem, tensor", [
    ("_conv1_Conv_output_0", "/conv1/Conv_output_0"), ("conv1_Conv_output_0", "/conv1/Conv_output_0"),
    ("_conv1_Conv", "/conv1/Conv_output_0"), ("_conv1_Conv.0", "/conv1/Conv_output_0"),
    ("_conv1_Conv.0.1682173283664871", "/conv1/Conv_output_0"),
    ("Conv2D._conv1_Conv.3.16.1682173283664871.output.0", "/conv1/Conv_output_0"),
    ("Split_12.1", "/layer1.0/Split_output_1"), ("_layer1.0_Split_output_1", "/layer1.0/Split_output_1"),
    ("33", "33"), ("add", "add"), ("add_1.0", "add"),
    ("Split_12", None), ("Conv2D._conv1_Conv.3.16.1682173283664871.input.0", None), ("conv", None), ("34", None)])
def test_a_file_is_of_the_layer_that_its_name_names(stem, tensor):
    assert layers_named(stem, PLACES) == ({tensor} if tensor else set())


def test_a_name_that_may_mean_two_layers_is_refused(tmp_path):
    layers = [named("a/b", "one"), named("a_b", "two")]
    assert layers_named("a_b", layers) == {"a_b"}  # exactly a tensor's name
    np.save(tmp_path / "a.b.npy", np.zeros((1, 2), np.float32))
    with pytest.raises(UserError, match=r"could belong to a/b or a_b. Rename"):
        open_dumps(tmp_path, layers)


@pytest.mark.parametrize("damage, message", [
    (lambda folder: np.save(folder / "stem.0.npy", np.zeros((4, 2), np.float32)), "both belong to s0"),
    (lambda folder: np.save(folder / "s.npy", np.load(folder / "s.npy")[:2]), "holds 2 people, but"),
    (lambda folder: (folder / "s.npy").write_bytes(b"none"), "cannot be read as .npy"),
    (lambda folder: np.save(folder / "s.npy", np.zeros(4, np.int32)), "expected floats"),
    (lambda folder: np.save(folder / "s.npy", np.array([{}] * 4)), "cannot be read as .npy"),
    (lambda folder: np.save(folder / "s.npy", np.load(folder / "s.npy").reshape(4, -1)), "another network or layout"),
    (lambda folder: [path.rename(folder / f"x{path.name}") for path in folder.iterdir()], "named after a layer"),
])
def test_broken_dumps_are_one_line(damage, message, small, crops, tmp_path):
    damage(write_dumps(tmp_path / "dumps", crops))
    with pytest.raises(UserError, match=message) as raised:
        compare_dumps(small, str(tmp_path / "dumps"), crops, options())
    assert "\n" not in str(raised.value)


def test_dumps_of_more_people_than_there_are_bins_are_refused(small, crops, tmp_path):
    with pytest.raises(UserError, match="dumps of 4 people, but there are bins of 3"):
        compare_dumps(small, str(write_dumps(tmp_path / "dumps", crops)), crops[:3], options())
