"""The bundled person detector on the rendered test set, alone and before the bundled pose network; its training."""
from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import ROOT  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402
from test_demo import CHECKPOINT, CONFIG, IMAGES, infer, read_bins  # noqa: E402

from contract.manifest import load_manifest  # noqa: E402
from demo import train, train_detector, training  # noqa: E402
from demo.render import TEST_SEED, render  # noqa: E402
from detection.darknet import read_cfg  # noqa: E402
from detection.decoding import Thresholds, anchor_rows, find_people  # noqa: E402
from detection.detector import Detector, detect_folder  # noqa: E402
from detection.letterbox import boxes_to_photograph  # noqa: E402
from detection.spec import DetectorSpec  # noqa: E402
from networks.registry import load_network  # noqa: E402
from pose.coco_results import results_of  # noqa: E402
from pose.decoders import heatmaps_to_keypoints  # noqa: E402
from pose.score import score_keypoints  # noqa: E402
from pose.spec import load_spec  # noqa: E402
from preprocess import preprocess  # noqa: E402

CFG = ROOT / "configs" / "demo_yolov3_tiny.cfg"
WEIGHTS = ROOT / "demo" / "yolov3_demo.weights"
UNLIKELY = -9.0  # raw objectness


@pytest.fixture(scope="module")
def network():
    return read_cfg(CFG)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The test set, with what the detector finds on it in found.json."""
    folder = tmp_path_factory.mktemp("demo")
    render(folder, IMAGES, TEST_SEED)
    detect_folder(folder / "val2017", folder / "found.json", Detector(weights=WEIGHTS, cfg=CFG))
    return folder


def test_boxes_average_precision(data):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data / "annotations" / "person_keypoints_val2017.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(data / "found.json")), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, 0, 0, -1]  # (101 recalls), people of any size, 100 a photograph
    assert precision.mean() >= 0.90


def test_keypoints_in_found_boxes_are_nearly_as_good_as_in_annotated_ones(data, tmp_path):
    found = average_precision(data, data / "found.json", tmp_path)
    annotated = average_precision(data, None, tmp_path)
    assert found >= annotated - 0.03


def average_precision(data: Path, boxes, folder: Path) -> float:
    """Keypoint AP of the bundled network with the flip test, in the boxes of a file, or in the annotated if None."""
    config = load_spec(CONFIG)
    preprocess(data, folder / "prep", folder / "flip", config, boxes, replace=True, workers=2)
    manifest = load_manifest(folder / "prep" / "manifest.json")
    network = load_network(config, CHECKPOINT)
    heatmaps, heatmaps_flip = (infer(network, read_bins(folder / name, manifest)) for name in ("prep", "flip"))
    keypoints, scores = heatmaps_to_keypoints(heatmaps, heatmaps_flip, manifest["crop_xyxy"], config)
    return score_keypoints(data, results_of(manifest, keypoints, scores), None)["AP"]


def test_weights_are_small_and_load_in_torch(network):
    assert WEIGHTS.stat().st_size <= 3_000_000
    rows = load_network(DetectorSpec(network), WEIGHTS)(torch.zeros(1, *network.input_shape))
    assert rows.shape == (1, *network.output_shape)


def test_every_data_set_has_its_own_seed():
    assert len({train.TRAIN_SEED, train_detector.TRAIN_SEED, TEST_SEED}) == 3


def test_batches_are_functions_of_their_number(network):
    batches = train_detector.Batches(network, steps=3)
    images, boxes = batches[1]
    assert all(np.array_equal(one, other) for one, other in zip((images, boxes), batches[1]))
    assert not np.array_equal(images, batches[2][0])
    assert images.shape[1:] == (network.height, network.width, 3) and len(images) == len(boxes)
    people = boxes[boxes[..., 2] > 0]
    low, high = people[:, :2] - people[:, 2:] / 2, people[:, :2] + people[:, 2:] / 2
    assert len(people) >= len(images) and (low >= -0.01).all() and (high <= network.width + 0.01).all()
    assert not boxes[boxes[..., 2] == 0].any()


def test_boxes_into_the_letterbox_are_the_inverse_of_the_way_back():
    boxes = np.array([[10, 20, 100, 200], [300, 0, 127, 427]], float)
    x, y, width, height = train_detector.boxes_to_letterbox(boxes, (640, 427), (320, 320)).T
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    back = boxes_to_photograph(corners.astype(np.float32), (320, 320), (640, 427))
    np.testing.assert_allclose(back, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), atol=1e-3)


def test_the_loss_is_least_where_inference_finds_the_people(network):
    """Rows that are taught nothing more (no gradient) decode to the boxes that they were taught."""
    rng, anchors = np.random.default_rng(5), anchor_rows(network)
    boxes = np.concatenate([rng.uniform(60, 260, (4, 2)), rng.uniform((30, 60), (110, 220), (4, 2))], axis=1)
    raw = torch.zeros(1, len(anchors), network.columns)
    raw[..., 4] = UNLIKELY
    raw.requires_grad_()
    target = torch.from_numpy(boxes[None].astype(np.float32))
    optimizer = torch.optim.Adam([raw], 0.1)
    for _ in range(500):
        optimizer.zero_grad()
        train_detector.detection_loss(raw, target, torch.from_numpy(anchors)).backward()
        optimizer.step()
    people = find_people(raw.detach().numpy()[0], anchors, Thresholds())
    found = np.concatenate([(people[:, :2] + people[:, 2:4]) / 2, people[:, 2:4] - people[:, :2]], axis=1)
    assert len(found) == len(boxes) and (people[:, 4] > 0.9).all()
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], boxes[np.argsort(boxes[:, 0])], atol=0.5)


def test_other_rows_that_find_the_person_are_left_alone_and_the_rest_are_not(network):
    anchors = torch.from_numpy(anchor_rows(network))
    person = torch.tensor([[[176.0, 176, 67, 178]]])  # of the size of an anchor, in the middle of a cell
    raw = torch.zeros(1, len(anchors), network.columns, requires_grad=True)
    train_detector.detection_loss(raw, person, anchors).backward()
    objectness = raw.grad[0, :, 4]
    low, high = ((anchors[:, :2] + 0.5) * anchors[:, 2:3] + sign * anchors[:, 3:5] / 2 for sign in (-1, 1))
    sides = torch.minimum(high, person[0, :, :2] + person[0, :, 2:] / 2) - torch.maximum(
        low, person[0, :, :2] - person[0, :, 2:] / 2)
    common = sides.clamp(min=0).prod(dim=1)
    overlap = common / (anchors[:, 3:5].prod(dim=1) + 67 * 178 - common)
    assert (objectness < 0).sum() == 1 and overlap[objectness.argmin()] > 0.99
    assert torch.equal(objectness > 0, overlap <= train_detector.IGNORED_OVERLAP)


def test_stopped_and_run_again_equals_uninterrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(train_detector, "SCENES_A_BATCH", 1)
    monkeypatch.setattr(training, "SAVE_SECONDS", -1)

    def run(name: str) -> bytes:
        train_detector.train(tmp_path / name, CFG, 3, tmp_path / f"{name}.state", workers=0)
        return (tmp_path / name).read_bytes()

    def stop_at_last(self, step, whole=train_detector.Batches.__getitem__):
        if step == 2:
            raise KeyboardInterrupt
        return whole(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(train_detector.Batches, "__getitem__", stop_at_last)
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    before = (tmp_path / "stopped").read_bytes()
    assert run("stopped") == run("whole") != before
