"""What a ReID model is: FastReID's YAML files and ours, its --opts, and crops of each way against FastReID's."""
from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import ROOT
from golden import fastreid, functions

from contract.errors import UserError
from contract.spec import load_spec as load_any
from reid.crops import RESIZES, region, to_row
from reid.spec import ReidSpec, load_spec

OURS = ROOT / "configs" / "bot_r50_market1501.yaml"
# The text of FastReID's configs/Market1501/bagtricks_R50.yml in its keys; its base is not beside it.
THEIRS = """_BASE_: ../Base-bagtricks.yml
DATASETS: {NAMES: ("Market1501",), TESTS: ("Market1501",)}
OUTPUT_DIR: logs/market1501/bagtricks_R50
"""


def test_our_file_is_the_published_model():
    spec = load_any(OURS)
    assert isinstance(spec, ReidSpec) and spec == load_spec(OURS)
    assert (spec.input_shape, spec.outputs, spec.network) == ((3, 256, 128), {"output": (2048,)}, "BagTricks")
    assert {cell.figure: cell.value for cell in spec.published} == {"Rank-1": 0.944, "mAP": 0.861, "mINP": 0.594}


def test_fastreids_file_is_the_same_model_with_its_base_or_without(tmp_path):
    path = tmp_path / "Market1501" / "bagtricks_R50.yml"
    path.parent.mkdir()
    path.write_text(THEIRS)
    plain = load_spec(path)
    assert plain.of_data() == load_spec(OURS).of_data() and plain.parameters == load_spec(OURS).parameters
    base = "MODEL: {BACKBONE: {WITH_IBN: True}}\nINPUT: {SIZE_TEST: [384, 128]}\n"
    (tmp_path / "Base-bagtricks.yml").write_text(base)
    based = load_spec(path)
    assert based.parameters["IBN"] is True and based.input_size == (384, 128)


def test_opts_change_what_they_name():
    spec = load_spec(OURS, ["MODEL.BACKBONE.WITH_NL", "True", "INPUT.SIZE_TEST", "[128, 64]"])
    assert spec.parameters["NON_LOCAL"] is True and spec.input_size == (128, 64)
    with pytest.raises(UserError, match="^--opts MODEL.DEVICE: expected KEY VALUE pairs"):
        load_spec(OURS, ["MODEL.DEVICE"])


@pytest.mark.parametrize("key, value, says", [
    ("MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPooling", "MODEL.HEADS.POOL_LAYER is GeneralizedMeanPooling"),
    ("MODEL.META_ARCHITECTURE", "MGN", "MODEL.META_ARCHITECTURE is MGN"),
    ("MODEL.BACKBONE.DEPTH", "34x", "MODEL.BACKBONE.DEPTH is 34x"),
    ("MODEL.BACKBONE.NAME", "build_osnet_backbone", "expected build_resnet_backbone"),
    ("MODEL.HEADS.EMBEDDING_DIM", "512", "MODEL.HEADS.EMBEDDING_DIM is 512"),
    ("MODEL.PIXEL_MEAN", "[0, 0, 0]", r"MODEL.PIXEL_MEAN is \[0.0, 0.0, 0.0\], expected \[123.675"),
    ("INPUT.SIZE_TEST", "256", "INPUT.SIZE_TEST is 256, expected 2 numbers above 0"),
    ("INPUT.SIZE_TEST", "[.nan, 128]", "expected 2 numbers"),
    ("INPUT.RESIZE", "nearest", "INPUT.RESIZE is 'nearest', expected one of pil, cv2"),
    ("MODEL.BACKBONE", "7", "MODEL.BACKBONE is 7, expected a section")])
def test_what_is_not_built_here_is_refused_by_its_key(key, value, says):
    with pytest.raises(UserError, match=f"^{OURS}: [^\n]*{says}[^\n]*$"):
        load_spec(OURS, [key, value])


@pytest.mark.parametrize("way", RESIZES)
def test_crops_are_fastreids(way):
    with np.load(ROOT / "tests" / "golden" / "fastreid_current.npz") as golden:
        expected = golden[f"crops_{way}"].tolist()
    regions = [region(functions.photo(), bbox) for bbox in fastreid.REGIONS]
    assert [functions.sha256(RESIZES[way](part, (256, 128))) for part in regions] == expected


@pytest.mark.parametrize("bbox, size", [((-5, -5, 20, 10), (5, 15)), ((90, 50, 99, 99), (10, 10)),
                                        ((500, 500, 3, 3), (1, 1)), ((7.9, 3.2, 0.1, 0.1), (1, 1))])
def test_boxes_are_cut_to_the_image(bbox, size):
    assert region(np.zeros((60, 100, 3), np.uint8), bbox).shape == (*size, 3)


def test_rows_are_bytes_pixels_or_normalised():
    crop = np.random.default_rng(0).integers(0, 256, (4, 2, 3)).astype(np.uint8)
    assert to_row(crop, "uint8", (0,) * 3, (1,) * 3) is crop
    np.testing.assert_array_equal(to_row(crop, "float32", ReidSpec.mean, ReidSpec.std), crop.transpose(2, 0, 1))
    normal = to_row(crop, "float32", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    np.testing.assert_allclose(normal[1], (crop[..., 1] / 255 - 0.456) / 0.224, rtol=1e-5)


def test_what_lacks_pillow_is_told_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match="requirements-reid.txt") as raised:
        RESIZES["pil"](np.zeros((8, 4, 3), np.uint8), (16, 8))
    assert (ROOT / str(raised.value).split()[-1]).read_text().startswith("Pillow")
