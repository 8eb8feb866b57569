"""What a model is: kinds by TASK, and what others published of it, cell by cell."""
from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, write_config

from contract.errors import UserError
from contract.published import Published, expectations
from contract.spec import KEYPOINTS, KINDS, load_spec
from detection.spec import DetectorSpec
from pose.decoders import DECODERS, heatmaps_to_keypoints
from pose.skeleton import COCO17, SKELETONS, Skeleton
from pose.spec import PoseSpec

FASTPOSE, YOLO = ROOT / "configs" / "256x192_res50_lr1e-3_1x.yaml", ROOT / "configs" / "yolov3-spp.cfg"
HOURGLASS = ROOT / "configs" / "hourglass52_coco_256x256.yaml"
FIELDS = ("input_name", "input_shape", "dtype", "mean", "std", "outputs", "network", "parameters", "geometry", "decode",
          "levels", "weights", "published")


@pytest.mark.parametrize("path, kind", [(FASTPOSE, PoseSpec), (YOLO, DetectorSpec),
                                        (YOLO.with_suffix(".yaml"), DetectorSpec)])
def test_a_file_says_which_kind_it_is(path, kind):
    spec = load_spec(path)
    assert type(spec) is kind and set(KINDS) == {"pose", "detector", "reid"}
    assert all(hasattr(spec, field) for field in FIELDS)


def test_a_detector_and_its_yaml_are_one():
    spec = load_spec(YOLO)
    assert spec == load_spec(YOLO.with_suffix(".yaml"))
    assert spec.input_shape == (3, 608, 608) and spec.outputs == {"output": (22743, 7)}
    assert "heatmaps" in PoseSpec().levels and spec.levels == ("tensors",)


@pytest.mark.parametrize("text, says", [("TASK: depth", "TASK is 'depth', expected one of pose, detector, reid"),
                                        ("TASK: detector", "CFG is None"), ("- a\n- b", "sections"),
                                        ("TASK: detector\nCFG: gone.cfg", "gone.cfg"),
                                        ("TASK: detector\nCONFIG: net.cfg", "CONFIG is not supported")])
def test_what_is_no_model_is_refused_by_name(tmp_path, text, says):
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(UserError, match=f"^[^\n]*{says}[^\n]*$"):
        load_spec(tmp_path / "model.yaml")


def test_a_joint_set_is_one_entry(tmp_path, monkeypatch):
    """Three joints of which two are a pair: read, mirrored and decoded by that entry alone."""
    toy = Skeleton("toy3", ("head", "left", "right"), ((1, 2),), ((0, 1), (0, 2)), (0.1, 0.1, 0.1))
    monkeypatch.setitem(SKELETONS, toy.name, toy)
    path = write_config(tmp_path / "toy.yaml", NUM_JOINTS=3)
    path.write_text(path.read_text() + "SKELETON: toy3\n")
    spec = load_spec(path)
    assert spec.outputs == {"output": (3, 16, 12)} and len(spec.skeleton) == 3
    heatmaps = np.zeros((1, 3, 16, 12), np.float32)
    heatmaps[0, [0, 1, 2], [8, 8, 8], [6, 4, 9]] = 1
    shifted = np.concatenate([heatmaps[..., 1:], heatmaps[..., :1]], axis=3)  # what the shift by one column undoes
    mirrored = shifted[:, [0, 2, 1], :, ::-1]
    crop = np.array([[0, 0, 48, 64]], np.float32)
    keypoints, scores = heatmaps_to_keypoints(heatmaps, mirrored, crop, spec)
    assert keypoints[0].tolist() == [[24, 32], [16, 32], [36, 32]] and scores[0].tolist() == [1, 1, 1]


def test_every_joint_set_fits_together():
    for name, skeleton in SKELETONS.items():
        assert skeleton.name == name and len(skeleton.sigmas) == len(skeleton)
        assert all(0 <= joint < len(skeleton) for pairs in (skeleton.pairs, skeleton.bones) for pair in pairs
                   for joint in pair)
        assert (skeleton.mirrored[skeleton.mirrored] == np.arange(len(skeleton))).all()
    assert COCO17.mirrored.tolist() == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def test_decoders_say_what_they_read():
    for name, decoder in DECODERS.items():
        if name == KEYPOINTS:  # of a one-pass model, which has found the joints
            assert decoder.outputs(PoseSpec()) == {"keypoints": (17, 3)} and decoder.levels == ("keypoints", "score")
        else:
            assert decoder.outputs(PoseSpec()) == {"output": (17, 64, 48)} and decoder.levels[0] == "tensors"


def cells(path, **filters: object) -> list:
    return [cell for cell in load_spec(path).published
            if all(getattr(cell, key) == value for key, value in filters.items())]


def test_every_published_cell_is_there():
    """Counted in the tables of both publications."""
    assert Counter(cell.figure for cell in cells(FASTPOSE)) == {
        "AP": 10, "crops/s": 28, "ms per batch": 14, "times PyTorch": 7, "ms of both": 8, "photos/s of both": 8,
        "times PyTorch of both": 4, "AP on COCO": 1, "AP on MPII": 1, "AP on PoseTrack": 1, "MOTA on PoseTrack": 1}
    assert Counter(cell.figure for cell in cells(YOLO)) == {"ms per batch": 8, "photos/s": 8, "times PyTorch": 4}
    of_all = Counter(cell.figure.split()[0] for cell in cells(HOURGLASS))  # flip or not, int8 or not
    assert of_all == {"AP": 8, "AP50": 8, "AP75": 8, "AR": 8, "APm": 5, "APl": 5}
    every = [cell for path in (FASTPOSE, YOLO, HOURGLASS) for cell in cells(path)]
    assert all(cell.source and cell.protocol and cell.device for cell in every)


@pytest.mark.parametrize("path, rate", [(FASTPOSE, "crops/s"), (YOLO, "photos/s")])
def test_published_cells_agree_with_each_other(path, rate):
    """A rate is batch over time, and a speed-up is a ratio of times, to the digits that are printed."""
    times = {(cell.backend, cell.batch): cell.value for cell in cells(path, figure="ms per batch")}
    rates = {(cell.backend, cell.batch): cell.value for cell in cells(path, figure=rate, device="Tesla T4")}
    assert times.keys() == rates.keys()
    for (backend, batch), milliseconds in times.items():
        assert rates[backend, batch] == pytest.approx(1000 * batch / milliseconds, abs=0.006)
    for cell in cells(path, figure="times PyTorch"):
        assert cell.value == pytest.approx(times["pytorch", cell.batch] / times["tensorrt", cell.batch], abs=0.06)


def test_published_cells_are_those_of_the_tables(shared):
    """The page of the source systems' figures has the values of the YAMLs, each as often, and no others."""
    page = (shared / "reference" / "source_systems.md").read_text().split("## 2.")[0]
    numbers = Counter(float(number) for row in page.splitlines() if row.startswith("|")
                      for cell in row.split("|")[2:-1] for number in re.findall(r"\d+(?:\.\d+)?", cell.split("(")[0]))
    ours = Counter(round(100 * cell.value, 2) if cell.figure == "AP" else cell.value
                   for path in (FASTPOSE, YOLO) for cell in cells(path)
                   if " on " not in cell.figure and not (cell.figure == "AP" and cell.batch is None))
    in_heads = {310.0, 3.0}  # 310, 310P, YOLOv3
    assert not ours - numbers and set(numbers - ours) <= in_heads, (ours - numbers, numbers - ours)


@pytest.mark.parametrize("settings, expected", [
    ({"device": "Ascend310P3", "backend": "acl"}, True), ({"device": "Ascend310", "backend": "acl"}, False),
    ({"device": "Ascend310P", "backend": "ais_bench"}, True), ({"device": "Ascend310B1", "backend": "acl"}, False),
    ({"backend": "acl"}, False)])
def test_a_published_cell_is_of_its_device(settings, expected):
    assert Published("AP", 0.7147, 1, "s", "p", "Ascend310P").is_of(settings) is expected
    assert Published("AP", 0.7147, 1, "s", "p", "any", "pytorch").is_of({**settings, "backend": "pytorch"})
    assert not Published("AP", 0.7147, 1, "s", "p", "any", "pytorch").is_of(settings)


@pytest.mark.parametrize("model, device, boxes, batch, lines", [
    ("fast_res50_256x192_bs16.om", "Ascend310P3", "detections", 16,
     ["AP: expected 0.7147 (published, Ascend310P), got 0.7145", "crops/s: expected 1772.4 (published, Ascend310P), "
      "got 1765"]),
    ("fast_res50_256x192_bs2.om", "Ascend310P3", "detections", 2,
     ["AP: expected 0.7147 (published, Ascend310P), got 0.7145"]),
    ("fast_res50_256x192_bs16.om", "Ascend310P3", "ground_truth", 16,
     ["crops/s: expected 1772.4 (published, Ascend310P), got 1765"]),
    ("fast_res50_256x192_bs16.om", "Ascend910B3", "detections", 16, []),
    ("other_bs16.om", "Ascend310P3", "detections", 16, []), (None, "Ascend310P3", "detections", 16, [])])
def test_published_figures_stand_beside_their_own_network_and_protocol(model, device, boxes, batch, lines):
    settings = {"model": model, "device": device, "backend": "acl", "batch": batch}
    got = {"AP": 0.71452, "crops/s": 1765.0}
    assert sorted(expectations(load_spec(FASTPOSE), settings, got, boxes)) == lines
    assert expectations(load_spec(ROOT / "configs" / "demo_fastpose.yaml"), settings, got, boxes) == []
