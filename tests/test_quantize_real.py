"""int8 of a network with real weights, calibrated on people of every other photo and measured on the rest."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import IMAGENET_MEAN, IMAGENET_STD, write_config

CALIBRATED, MEASURED = 32, 8
# What the search keeps first, by node.
WORST = ("mobilenetv20_features_linearbottleneck0_conv0_fwd", "mobilenetv20_features_conv0_fwd",
         "mobilenetv20_features_linearbottleneck0_conv1_fwd", "hybridsequential0_conv2_fwd",
         "hybridsequential0_conv6_fwd", "hybridsequential0_conv7_fwd")


@pytest.fixture(scope="module")
def trials(shared, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    from layers.graphs import load_graph
    from quantization.calibrate import calibrate
    from quantization.graph import prepare
    from quantization.trials import Trials

    path = shared / "models" / "ultralight_simplepose.onnx"
    model = prepare(load_graph(path), path)
    crops = people(shared / "data/coco_mini", tmp_path_factory.mktemp("boxes"))
    ranges = calibrate(model, (row[None] for row in crops["calibrate"][:CALIBRATED]), path)
    return Trials(model, "cpu", ranges, crops["measure"][:MEASURED], path)


def people(root: Path, folder: Path) -> dict:
    from quantization.crops import open_source

    annotations = json.loads((root / "annotations/person_keypoints_val2017.json").read_text())["annotations"]
    seen = [one for one in annotations if one["num_keypoints"]]
    photos = sorted({one["image_id"] for one in seen})
    config = write_config(folder / "imagenet.yaml", (256, 192), (64, 48), MEAN=IMAGENET_MEAN, STD=IMAGENET_STD)
    crops = {}
    for part, name in enumerate(("calibrate", "measure")):
        boxes = [{"image_id": one["image_id"], "category_id": 1, "bbox": one["bbox"], "score": 1.0} for one in seen
                 if photos.index(one["image_id"]) % 2 == part]
        (folder / f"{name}.json").write_text(json.dumps(boxes))
        source = open_source(root / "val2017", config, folder / f"{name}.json")
        crops[name] = source.read(range(min(len(source), 40)))
    return crops


def cosine(trials, method: str, kept: tuple) -> float:
    from quantization.evaluation import mean_cosine

    decision = trials.decide(method, dict.fromkeys(kept, "a test"))
    return mean_cosine(trials.expected, trials.network(decision).infer(trials.rows))


@pytest.mark.parametrize("method", ["minmax", "average", "percentile", "mse"])
def test_few_measured_layers_hold_the_pose(trials, method):
    """Not by `entropy`, which cuts too much off such tensors, and is not chosen for them."""
    trials.correct(method)
    assert cosine(trials, method, WORST) >= 0.995


def test_bias_correction_wins_where_everything_is_int8(trials):
    trials.bias = {}
    before = cosine(trials, "minmax", ())
    trials.correct("minmax")
    assert before >= 0.97 and cosine(trials, "minmax", ()) > before


def test_the_worst_layers_are_found_by_their_effect(trials):
    """Of three layers alone, that of the stem's depthwise convolution is worst, as it is of all."""
    trials.correct("mse")
    names = [layer.name for layer in trials.layers]
    effects = {name: trials.distance(trials.decide("mse", {other: "a test" for other in names if other != name}))
               for name in (WORST[0], WORST[3], "mobilenetv20_features_linearbottleneck8_conv1_fwd")}
    assert max(effects, key=effects.get) == WORST[0] and np.isclose(min(effects.values()), 0, atol=1e-4)
