"""mmpose's Hourglass, against its names, shapes and heatmaps by mmpose itself (tests/golden/mmpose.py)."""
from __future__ import annotations

import re

import numpy as np
import pytest
from conftest import ROOT
from golden.mmpose import NETWORKS, crop_tensor
from golden.weights import fill, listed, weights

from contract.errors import UserError

torch = pytest.importorskip("torch")

from networks.checkpoint import load_checkpoint  # noqa: E402
from networks.hourglass import Hourglass, mmpose_1x_to_0x  # noqa: E402

SMALL = {"depth": 2, "width": 0.03}


@pytest.mark.parametrize("version, name", [("0.x", "hourglass52"), ("0.x", "two_stacks"), ("1.x", "two_stacks")])
def test_heatmaps_are_mmposes(version, name):
    with np.load(ROOT / "tests" / "golden" / f"mmpose_{version}.npz") as golden:
        lines, expected = golden[f"{name}_tensors"], golden[f"{name}_heatmaps"]
    backbone, size = NETWORKS[name]
    with torch.device("meta"):  # without the time for random weights
        network = Hourglass(backbone.get("downsample_times", 5), backbone.get("num_stacks", 1)).eval()
    if version == "0.x":
        assert listed(network).tolist() == lines.tolist()
    network.load_state_dict(mmpose_1x_to_0x(weights(lines)), assign=True)
    with torch.inference_mode():
        heatmaps = network(torch.from_numpy(crop_tensor(size))).numpy()
    np.testing.assert_allclose(heatmaps, expected, rtol=0, atol=1e-4)  # of values up to 11


@pytest.fixture()
def small():
    return fill(Hourglass(**SMALL)).state_dict()


@pytest.mark.parametrize("release", ["0.x", "0.x in state_dict", "1.x"])
def test_checkpoints_of_both_releases_load(small, tmp_path, release):
    content = small
    if release == "0.x in state_dict":
        content = {"meta": {"mmpose_version": "0.29.0", "epoch": 210}, "state_dict": small}
    if release == "1.x":
        renamed = {key.replace("keypoint_head.", "head."): value for key, value in small.items()}
        content = {"state_dict": {"data_preprocessor.mean": torch.zeros(3, 1, 1), **renamed}}
    torch.save(content, tmp_path / "checkpoint.pth")
    loaded = Hourglass(**SMALL)
    load_checkpoint(loaded, tmp_path / "checkpoint.pth", mmpose_1x_to_0x)
    assert all(torch.equal(value, small[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("other, key", [({"stacks": 2}, "hourglass_modules.1"), ({"depth": 3}, "low2.low2")])
def test_a_checkpoint_of_another_size_is_refused_by_its_keys(small, tmp_path, other, key):
    torch.save(small, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match=re.escape(key)):
        load_checkpoint(Hourglass(**{**SMALL, **other}), tmp_path / "checkpoint.pth", mmpose_1x_to_0x)


def test_every_stack_counts():
    """Two stacks with weights of their own: the second reads the first, and the output is that of the second."""
    network = fill(Hourglass(stacks=2, **SMALL))
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
