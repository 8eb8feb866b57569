"""mmpose's Hourglass, against the names, shapes and heatmaps of mmpose v0.29.0 itself."""
from __future__ import annotations

import json
import re
import zlib

import numpy as np
import pytest

from contract.errors import UserError

torch = pytest.importorskip("torch")

from networks.checkpoint import load_checkpoint  # noqa: E402
from networks.hourglass import Hourglass, mmpose_1x_to_0x  # noqa: E402

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def damped(key: str, shape: tuple) -> np.ndarray:
    """The recipe of golden/wave2/README.md: a tensor as a function of its key and shape."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        values = 0.75 + 0.5 * random.rand(*shape)
    elif key.endswith(("running_mean", ".bias")):
        values = 0.1 * random.randn(*shape)
    elif len(shape) == 1:
        values = (1.0 + 0.1 * random.randn(*shape)) * (0.2 if re.search(r"\.bn2\.weight$", key) else 1.0)
    else:
        values = random.randn(*shape) * np.sqrt((1.0 if "final_layer" in key else 2.0) / np.prod(shape[1:]))
    return values.astype(np.float32)


def damp(network):
    weights = {key: torch.from_numpy(np.asarray(damped(key, tuple(value.shape))))
               for key, value in network.state_dict().items()}
    network.load_state_dict(weights)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return damp(Hourglass())


def test_names_shapes_and_order_are_mmposes(shared, network):
    expected = json.loads((shared / "reference/hourglass52_state_dict.json").read_text())
    came = [(key, list(value.shape)) for key, value in network.state_dict().items()]
    assert came == [(key, value["shape"]) for key, value in expected["state_dict"].items()]
    assert len(came) == 494
    assert sum(values.numel() for values in network.parameters()) == 94_847_889


def test_heatmaps_are_mmposes(shared, network):
    with np.load(shared / "golden/wave2/hourglass_heatmaps.npz") as golden:
        crop, expected = golden["crop_rgb_u8"], golden["heatmaps"]
        mirrored = golden["heatmaps_of_mirrored_crop_f16"]
    rows = ((crop.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        heatmaps, flipped = (network(torch.from_numpy(np.ascontiguousarray(part))).numpy()
                             for part in (rows, rows[..., ::-1]))
    np.testing.assert_allclose(heatmaps, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(flipped, mirrored.astype(np.float32), rtol=1e-3, atol=1e-2)


SMALL = {"depth": 2, "width": 0.03}


@pytest.fixture()
def weights():
    return damp(Hourglass(**SMALL)).state_dict()


@pytest.mark.parametrize("release", ["0.x", "0.x in state_dict", "1.x"])
def test_checkpoints_of_both_releases_load(weights, tmp_path, release):
    content = weights
    if release == "0.x in state_dict":
        content = {"meta": {"mmpose_version": "0.29.0", "epoch": 210}, "state_dict": weights}
    if release == "1.x":
        renamed = {key.replace("keypoint_head.", "head."): value for key, value in weights.items()}
        content = {"state_dict": {"data_preprocessor.mean": torch.zeros(3, 1, 1), **renamed}}
    torch.save(content, tmp_path / "checkpoint.pth")
    loaded = Hourglass(**SMALL)
    load_checkpoint(loaded, tmp_path / "checkpoint.pth", mmpose_1x_to_0x)
    assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("other, key", [({"stacks": 2}, "hourglass_modules.1"), ({"depth": 3}, "low2.low2")])
def test_a_checkpoint_of_another_size_is_refused_by_its_keys(weights, tmp_path, other, key):
    torch.save(weights, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match=re.escape(key)):
        load_checkpoint(Hourglass(**{**SMALL, **other}), tmp_path / "checkpoint.pth", mmpose_1x_to_0x)


def test_every_stack_counts():
    """Two stacks with weights of their own: the second reads the first, and the output is that of the second."""
    network = damp(Hourglass(stacks=2, **SMALL))
    crops = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32))
    with torch.inference_mode():
        before = network(crops)
        network.backbone.hourglass_modules[0].low3[0].conv1.weight.mul_(2)
        through_first = network(crops)
        network.keypoint_head.multi_final_layers[0].weight.mul_(2)
        assert before.shape == (1, 17, 16, 16)
        assert not torch.equal(before, through_first)
        assert torch.equal(network(crops), through_first)


@pytest.mark.parametrize("depth", [0, 6])
def test_a_depth_that_is_not_mmposes_is_refused(depth):
    with pytest.raises(UserError, match="DEPTH"):
        Hourglass(depth=depth)
