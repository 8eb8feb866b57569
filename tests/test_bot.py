"""FastReID's baseline: its keys, its numbers, and checkpoints of every release of it."""
from __future__ import annotations

import json

import numpy as np
import pytest
from reid_cases import damped_network

from contract.errors import UserError
from reid.spec import ReidSpec

torch = pytest.importorskip("torch")

from networks.bot import CEIL, PADDED, BagTricks, load  # noqa: E402

SPEC = ReidSpec()
WIDTH = 0.125
SMALL = ReidSpec(dim=256, parameters={"WIDTH": WIDTH})
ATOL = 1e-4  # of features up to 19; another thread count or CPU adds in another order


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden" / "wave2" / "reid_features.npz")


@pytest.fixture(scope="module")
def full():
    return damped_network(BagTricks())


def features(network, crops: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32))).numpy()


def test_the_keys_are_fastreids(shared):
    expected = json.loads((shared / "reference" / "bot_r50_state_dict.json").read_text())
    state = BagTricks().state_dict()
    assert [(key, list(value.shape)) for key, value in state.items()] == [
        (key, entry["shape"]) for key, entry in expected["state_dict"].items()]
    assert len(state) == expected["tensors"] == 324


def test_the_features_are_fastreids(golden, full):
    np.testing.assert_allclose(features(full, golden["crop_dataset_rgb_u8"]), golden["feature"], rtol=0, atol=ATOL)


def save(path, weights: dict):
    torch.save({"model": weights}, path)
    return path


def old_names(weights: dict, neck: str) -> dict:
    renamed = {key.replace("heads.bottleneck.0.", neck).replace("heads.weight", "heads.classifier.weight"): value
               for key, value in weights.items()}
    mean = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
    return {**renamed, "pixel_mean": mean, "pixel_std": mean / 2}


def test_the_oldest_release_has_another_pool(golden, full, tmp_path):
    """v0.1.1: its names for the neck are what tells."""
    weights = old_names(full.state_dict(), "heads.bnneck.")
    weights["pixel_std"] = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
    network = load(SPEC, save(tmp_path / "old.pth", weights))
    np.testing.assert_allclose(features(network, golden["crop_dataset_rgb_u8"]), golden["feature_code_v0_1_1"],
                               rtol=0, atol=ATOL)


@pytest.mark.parametrize("neck, pool", [("heads.bnneck.", PADDED), ("heads.bottleneck.0.", CEIL)])
def test_releases_and_their_pixel_buffers(tmp_path, neck, pool):
    small = BagTricks(width=WIDTH, identities=5)
    network = load(SMALL, save(tmp_path / "old.pth", old_names(small.state_dict(), neck)))
    assert network.backbone.maxpool.ceil_mode == (pool == CEIL)
    assert network.pixel_std.flatten()[0] == pytest.approx(123.675 / 2)


def test_variants_run_and_say_something_else():
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3)).astype(np.uint8)
    outputs = []
    for ibn, non_local in ((False, False), (True, False), (False, True)):
        network = damped_network(BagTricks(width=WIDTH, ibn=ibn, non_local=non_local))
        outputs.append(features(network, crops))
    assert np.isfinite(outputs).all()
    assert not np.allclose(outputs[0], outputs[1]) and not np.allclose(outputs[0], outputs[2])


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
    weights = {**BagTricks(width=WIDTH).state_dict(), key: torch.ones(1)}
    with pytest.raises(UserError, match=f"holds {key}, so its head is [^\n]*{head}"):
        load(SMALL, save(tmp_path / "other.pth", weights))


def test_another_depth_is_refused():
    with pytest.raises(UserError, match="DEPTH is 34x"):
        BagTricks(num_layers=34)
