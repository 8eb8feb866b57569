"""FastPose against AlphaPose's own parameters and heatmaps, and what happens to files that do not fit."""
from __future__ import annotations

import argparse
import collections
import dataclasses
import shlex
import subprocess
import sys
import zlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import ROOT  # noqa: E402
from golden.functions import network_crop  # noqa: E402
from golden.weights import listed, weights  # noqa: E402

from contract.errors import UserError  # noqa: E402
from networks.checkpoint import load_checkpoint, read_state_dict  # noqa: E402
from networks.fastpose import FastPose  # noqa: E402
from networks.registry import build_network, load_network  # noqa: E402
from pose.spec import PoseSpec  # noqa: E402

FULL, SMALL = PoseSpec(), PoseSpec(parameters={"WIDTH": 0.1})


def recipe_a(shapes: dict) -> dict:
    """Weights made from names and shapes, as the golden outputs' README says."""
    return {key: torch.from_numpy(np.asarray(recipe_a_value(key, shape))) for key, shape in shapes.items()}


def recipe_a_value(key: str, shape: list) -> np.ndarray:
    rs = np.random.RandomState(zlib.crc32(key.encode("utf-8")))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        return (0.75 + 0.5 * rs.random_sample(shape)).astype(np.float32)
    z = rs.standard_normal(shape)
    if key.endswith(("running_mean", "bias")):
        value = 0.1 * z
    elif len(shape) == 4:
        value = (1 if key == "conv_out.weight" else np.sqrt(2)) * z / np.sqrt(shape[1] * shape[2] * shape[3])
    elif len(shape) == 2:
        value = z / np.sqrt(shape[1])
    else:
        value = (0.5 if key.endswith("bn3.weight") else 1) * (1 + 0.1 * z)
    return value.astype(np.float32)


@pytest.fixture()
def small_weights() -> dict:
    return build_network(SMALL).state_dict()


def test_a_checkpoint_gives_alphaposes_heatmaps(tmp_path):
    """Names, order and shapes of its tensors, and what it computes with them (tests/golden/functions.py)."""
    with np.load(ROOT / "tests" / "golden" / "functions.npz") as golden:
        lines, expected = golden["fastpose_tensors"].tolist(), golden["fastpose_heatmaps"]
    torch.save(weights(lines), tmp_path / "checkpoint.pth")
    network = load_network(FULL, tmp_path / "checkpoint.pth")
    assert len(lines) == 348 and listed(network).tolist() == lines
    with torch.inference_mode():
        heatmaps = network(torch.from_numpy(network_crop())).numpy()
    np.testing.assert_allclose(heatmaps, expected, rtol=0, atol=1e-4)  # of values up to 1.9


@pytest.mark.parametrize("num_layers, keys", [(50, 348), (101, 654), (152, 960)])
def test_depth(num_layers, keys):
    """A bottleneck without SE has 18 entries; 101 and 152 layers have 17 and 34 bottlenecks more than 50."""
    assert len(FastPose(num_layers, width=0.1).state_dict()) == keys


def test_conv_dim_is_the_channels_before_the_last_convolution():
    shapes = {key: tuple(value.shape) for key, value in FastPose(conv_dim=256).state_dict().items()}
    assert shapes["duc2.conv.weight"] == (1024, 256, 3, 3)
    assert shapes["conv_out.weight"] == (17, 256, 3, 3)


@pytest.mark.parametrize("width", [0.1, 0.16, 0.33, 0.5])
def test_any_width_gives_heatmaps_a_quarter_of_the_crop(width):
    with torch.inference_mode():
        assert FastPose(width=width).eval()(torch.zeros(2, 3, 64, 96)).shape == (2, 17, 16, 24)


@pytest.mark.parametrize("changes, says", [({"parameters": {"NUM_LAYERS": 34}}, "34"),
                                           ({"network": "HourGlass"}, "HourGlass, expected one of FastPose")])
def test_config_of_something_else(changes, says):
    with pytest.raises(UserError, match=says):
        build_network(dataclasses.replace(SMALL, **changes))


def test_loaded_network_is_in_eval_mode_and_has_the_weights(small_weights, tmp_path):
    torch.save(small_weights, tmp_path / "plain.pth")
    network = load_network(SMALL, tmp_path / "plain.pth")
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(value, small_weights[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("wrap", [
    lambda weights: {f"module.{key}": value for key, value in weights.items()},
    lambda weights: {f"module.module.{key}": value for key, value in weights.items()},
    lambda weights: {f"_orig_mod.{key}": value for key, value in weights.items()},
    lambda weights: {"state_dict": {f"module.model.{key}": value for key, value in weights.items()}},
    lambda weights: {"model": weights, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}},
    lambda weights: {"epoch": 3, "state_dict": weights},
    lambda weights: {"epoch": 3, "model": weights, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    lambda weights: {"network": weights},
    lambda weights: {"model_state_dict": {f"module.{key}": value for key, value in weights.items()}},
    lambda weights: {"meta": {"epoch": 3}, "checkpoint": {"state_dict": weights}},
    lambda weights: {"state_dict": weights, "best_ap": np.float64(0.7), "epoch": np.int64(3), "ok": np.bool_(True)},
    lambda weights: {"state_dict": weights, "ema": weights},
    lambda weights: collections.OrderedDict((key, value) for key, value in weights.items()
                                            if not key.endswith("num_batches_tracked")),
])
def test_wrapped_state_dicts_are_taken(small_weights, tmp_path, wrap):
    torch.save(wrap(small_weights), tmp_path / "wrapped.pth")
    network = load_network(SMALL, tmp_path / "wrapped.pth")
    assert torch.equal(network.conv_out.bias, small_weights["conv_out.bias"])


def test_a_file_of_torch_before_1_6(small_weights, tmp_path):
    """Of 0.4: no zip, and no counters in batch norm."""
    weights = {key: value for key, value in small_weights.items() if not key.endswith("num_batches_tracked")}
    torch.save({"epoch": 3, "model": weights}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    network = load_network(SMALL, tmp_path / "old.pth")
    assert torch.equal(network.conv_out.bias, small_weights["conv_out.bias"])


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize(("wrap", "words"), [
    (lambda weights: {"model": weights, "ema": weights, "epoch": 1}, ["keys model, ema, epoch", '["model"], ']),
    (lambda weights: {"net": weights, "args": argparse.Namespace(lr=1)},
     ["keys net, args", "besides tensors, argparse.Namespace", '["net"], ']),
    (lambda weights: torch.nn.Linear(2, 2), ["a complete network, torch.nn.modules.linear.Linear", ".state_dict(), "]),
])
def test_what_cannot_be_read_is_named_with_the_command_that_saves_it(small_weights, tmp_path, wrap, words, is_zip):
    path = tmp_path / "it's.pth"
    torch.save(wrap(small_weights), path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(UserError) as error:
        load_network(SMALL, path)
    message = str(error.value)
    assert "\n" not in message and all(word in message for word in words), message
    command = shlex.split(message[message.index("python3 -c"):].rpartition(", then give")[0] or
                          message[message.index("python3 -c"):])
    assert command[:2] == ["python3", "-c"] and len(command) == 3
    subprocess.run([sys.executable, *command[1:]], check=True, timeout=120)
    assert isinstance(read_state_dict(tmp_path / "it's_state_dict.pth"), dict)


@pytest.mark.parametrize(("change", "words"), [
    (lambda value: value * float("nan"), "conv_out.bias holds NaN or infinite values, 17 of 17"),
    (lambda value: torch.cat([value[1:], value[:1] / 0]), "conv_out.bias holds NaN or infinite values, 1 of 17"),
    (lambda value: value.to_sparse(), "conv_out.bias is sparse"),
    (lambda value: value.int(), r"of another kind: conv_out.bias torch.int32 \(expected torch.float32\)"),
    (lambda value: value.to(torch.complex64), "of another kind: conv_out.bias torch.complex64"),
])
def test_weights_that_are_no_numbers_are_named(small_weights, tmp_path, change, words):
    torch.save({**small_weights, "conv_out.bias": change(small_weights["conv_out.bias"])}, tmp_path / "c.pth")
    with pytest.raises(UserError, match=words):
        load_network(SMALL, tmp_path / "c.pth")


def test_negative_variances_are_named(small_weights, tmp_path):
    torch.save({**small_weights, "preact.bn1.running_var": -small_weights["preact.bn1.running_var"] - 1},
               tmp_path / "c.pth")
    with pytest.raises(UserError, match="preact.bn1.running_var holds negative variances"):
        load_network(SMALL, tmp_path / "c.pth")


def test_a_damaged_checkpoint(small_weights, tmp_path):
    torch.save(small_weights, tmp_path / "c.pth")
    content = bytearray((tmp_path / "c.pth").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_network(SMALL, tmp_path / "c.pth")


@pytest.mark.parametrize(("content", "words"), [
    (b"<!DOCTYPE html><html>Google Drive - Virus scan warning</html>", "an HTML page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
])
def test_downloads_that_are_no_checkpoint_are_named(tmp_path, content, words):
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(UserError, match=words):
        load_network(SMALL, tmp_path / "c.pth")


def test_a_torchscript_archive_is_named(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "c.pth")
    with pytest.raises(UserError, match="TorchScript"):
        load_network(SMALL, tmp_path / "c.pth")


def test_missing_extra_and_misshapen_keys_are_named(small_weights, tmp_path):
    wrong = dict(small_weights)
    del wrong["duc1.bn.weight"], wrong["preact.bn1.bias"]
    wrong["head.weight"] = torch.zeros(1)
    wrong["conv_out.bias"] = torch.zeros(16)
    torch.save(wrong, tmp_path / "wrong.pth")
    network = build_network(SMALL)
    before = network.preact.conv1.weight.clone()
    with pytest.raises(UserError) as error:
        load_checkpoint(network, tmp_path / "wrong.pth")
    message = str(error.value)
    for part in ("wrong.pth", "duc1.bn.weight", "preact.bn1.bias", "2 of 348", "head.weight",
                 "conv_out.bias (16,) (expected (17,))"):
        assert part in message
    assert torch.equal(network.preact.conv1.weight, before)


def test_checkpoint_of_another_width_names_few_keys(small_weights, tmp_path):
    torch.save(small_weights, tmp_path / "narrow.pth")
    with pytest.raises(UserError, match="WIDTH") as error:
        load_network(FULL, tmp_path / "narrow.pth")
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


class Executed:
    """Its unpickling would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickled_code_is_not_run(tmp_path):
    torch.save({"conv_out.bias": Executed(tmp_path / "ran")}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="code.pth.*besides tensors, _?io.open"):
        load_network(SMALL, tmp_path / "code.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [
    b"", b"no checkpoint", b"PK\x03\x04 cut short", b"<html>not found</html>", bytes(1000), b"\x80\x02}q\x00.",
    b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
])
def test_files_that_are_no_checkpoint(content, tmp_path):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(UserError, match="file.pth: expected a state_dict"):
        load_network(SMALL, tmp_path / "file.pth")


def test_cut_checkpoint(small_weights, tmp_path):
    torch.save(small_weights, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(UserError, match="cut.pth: expected a state_dict"):
        load_network(SMALL, tmp_path / "cut.pth")


@pytest.mark.parametrize("value", [[1, 2], {}, {"conv_out.bias": 3}, torch.zeros(3), {1: torch.zeros(3)}])
def test_other_saved_values(value, tmp_path):
    torch.save(value, tmp_path / "value.pth")
    with pytest.raises(UserError, match="value.pth"):
        load_network(SMALL, tmp_path / "value.pth")


def test_missing_checkpoint(tmp_path):
    with pytest.raises(UserError, match="none.pth: no such checkpoint"):
        load_network(SMALL, tmp_path / "none.pth")
