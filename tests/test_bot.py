"""FastReID's baseline: its keys, its numbers (tests/golden/fastreid.py), and checkpoints of every release of it."""
from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT
from golden.fastreid import network_crops
from golden.weights import listed, weights

from contract.errors import UserError
from reid.spec import ReidSpec

torch = pytest.importorskip("torch")

from networks.bot import BagTricks, load  # noqa: E402

WIDTH = 0.125
SMALL = ReidSpec(dim=256, parameters={"WIDTH": WIDTH})
VARIANT = {"IBN": True, "NON_LOCAL": True}
NETWORKS = {"r50": {}, "r50_ibn_nl": VARIANT, "r101_ibn_nl": {**VARIANT, "NUM_LAYERS": 101}}


@pytest.mark.parametrize("release, name", [*(("current", name) for name in NETWORKS), ("v1.0.0", "r50"),
                                           ("v0.1.1", "r50")])
def test_checkpoints_give_fastreids_features(release, name, tmp_path):
    """Of each release: its names of the head's tensors, its pool behind the stem, and its buffers of pixels."""
    with np.load(ROOT / "tests" / "golden" / f"fastreid_{release}.npz") as golden:
        lines, expected = golden[f"{name}_tensors"], golden[f"{name}_features"]
    torch.save({"model": weights(lines)}, tmp_path / "checkpoint.pth")
    network = load(ReidSpec(parameters=NETWORKS[name]), tmp_path / "checkpoint.pth")
    if release == "current":
        assert listed(network).tolist() == lines.tolist()
    with torch.inference_mode():
        features = network(torch.from_numpy(network_crops().transpose(0, 3, 1, 2).astype(np.float32)))
    np.testing.assert_allclose(features.numpy(), expected, rtol=0, atol=1e-4)  # of values up to 30


def test_a_non_local_block_is_the_matrix_of_its_paper():
    from networks.bot import NonLocal

    with torch.random.fork_rng():
        torch.manual_seed(0)
        block, x = NonLocal(6).eval(), torch.randn(2, 6, 4, 3)
    torch.nn.init.normal_(block.W[1].weight)
    with torch.inference_mode():
        g, theta, phi = (convolution(x).flatten(2).transpose(1, 2) for convolution in (block.g, block.theta, block.phi))
        affinity = theta @ phi.transpose(1, 2) / (4 * 3)  # positions by positions
        expected = block.W((affinity @ g).transpose(1, 2).reshape(2, 1, 4, 3)) + x
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("key, head", [("heads.pool_layer.p", "GeM"), ("heads.bottleneck.1.weight", "reduced"),
                                       ("b1_head.weight", "MGN")])
def test_another_head_is_refused_by_name(tmp_path, key, head):
    torch.save({**BagTricks(width=WIDTH).state_dict(), key: torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=f"holds {key}, so its head is [^\n]*{head}"):
        load(SMALL, tmp_path / "other.pth")


def test_another_depth_is_refused():
    with pytest.raises(UserError, match="DEPTH is 34x"):
        BagTricks(num_layers=34)
