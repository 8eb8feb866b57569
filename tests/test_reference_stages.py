"""reference/: the inputs that both sides share, what is seen of the original's network, and the verdict."""
from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, bins_in, done, one_error

from pose.annotations import ground_truth_boxes, load_annotations

# What reference.capture needs of AlphaPose, written here: a data set a pass, and a batch shown twice, then mirrored.
MODULE = """
import torch
def build_sppe(scale):
    network = torch.nn.Conv2d(3, 2, 1, bias=False)
    torch.nn.init.constant_(network.weight, scale)
    return network
def build_dataset(config):
    return config
"""
SCRIPT = """
import argparse, json, pathlib, types
import torch
from alphapose.models import builder
parser = argparse.ArgumentParser()
for name in ("cfg", "checkpoint", "dataroot", "flip_shift", "batch", "num_workers", "gpus"):
    parser.add_argument("--" + name)
parser.add_argument("--flip-test", action="store_true")
options = parser.parse_args()
network, found = builder.build_sppe(2.0), []
for people in (3, 5):
    config = builder.build_dataset(types.SimpleNamespace(DET_FILE="theirs"))
    found.append(config.DET_FILE)
    for crops in torch.arange(people * 3 * 4 * 2.0).reshape(people, 3, 4, 2).split(2):
        with torch.no_grad():
            network(crops), network(crops.flip(3))
pathlib.Path("exp/json/seen.json").write_text(json.dumps({**vars(options), "found": found}))
gt_AP, detbox_AP = 0.25, torch.tensor(0.5)
"""


def stage(name: str, *arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"reference.{name}", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **options)


def make_inputs(coco: Path, output: Path, *options: object) -> subprocess.CompletedProcess:
    return stage("inputs", "--dataroot", coco, "--detections", coco / "detections.json", "--output", output, *options)


def test_inputs_of_the_first_photographs(own_coco, tmp_path):
    rows = json.loads((own_coco / "detections.json").read_text())
    cat = {**rows[0], "category_id": 17}
    (own_coco / "detections.json").write_text(json.dumps([cat, *rows]))
    for _ in range(2):  # again over what is there
        done(make_inputs(own_coco, tmp_path / "inputs", "--limit", 2))
    annotations = load_annotations(tmp_path / "inputs")
    assert list(annotations.images) == [3, 14]
    assert len(ground_truth_boxes(annotations)) == 8
    assert json.loads((tmp_path / "inputs" / "detections.json").read_text()) == rows[:8]
    for image in annotations.images.values():  # AlphaPose's way to a photograph: the last two parts of its URL
        assert (tmp_path / "inputs" / Path(*image["coco_url"].split("/")[-2:])).is_file()


def test_inputs_refuse_a_photograph_that_is_not_there(own_coco, tmp_path):
    (own_coco / "val2017" / "000000000014.jpg").unlink()
    assert "000000000014.jpg: no such photo" in one_error(make_inputs(own_coco, tmp_path / "inputs"))
    done(make_inputs(own_coco, tmp_path / "inputs", "--limit", 1))


def test_inputs_refuse_detections_of_nobody(own_coco, tmp_path):
    rows = json.loads((own_coco / "detections.json").read_text())
    (own_coco / "detections.json").write_text(json.dumps(rows[8:]))
    assert "no person on the 1 photos" in one_error(make_inputs(own_coco, tmp_path / "inputs", "--limit", 1))


@pytest.fixture()
def stand_in(own_coco, tmp_path):
    """Run reference.capture on a stand-in for AlphaPose, into `tmp_path`/original."""
    pytest.importorskip("torch", reason="the hook is torch's")
    tree = tmp_path / "tree"
    for path, text in (("alphapose/models/builder.py", MODULE), ("scripts/validate.py", SCRIPT),
                       ("cfg.yaml", "DATASET: {TEST: {TYPE: Mscoco}}")):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    done(make_inputs(own_coco, tmp_path / "inputs"))

    def run(*options: object, cfg: Path = tree / "cfg.yaml") -> str:
        return done(stage("capture", tree, "--cfg", cfg, "--checkpoint", tree / "cfg.yaml", "--inputs",
                          tmp_path / "inputs", "--output", tmp_path / "original", *options,
                          env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin"}))

    return run


def test_capture_keeps_crops_and_heatmaps_of_both_passes(stand_in, tmp_path):
    stand_in()
    captured = json.loads((tmp_path / "original" / "captured.json").read_text())
    assert captured["AP"] == {"annotated": 0.25, "detected": 0.5}
    for name, people in (("annotated", 3), ("detected", 5)):
        crops = np.arange(people * 24, dtype=np.float32).reshape(people, 3, 4, 2)
        for flip, expected in (("", crops), ("_flip", crops[..., ::-1])):
            assert captured["crops"][name][flip] == [hashlib.sha256(crop.tobytes()).hexdigest() for crop in expected]
            heatmaps = bins_in(tmp_path / "original" / name / f"heatmaps{flip}", (2, 4, 2))
            np.testing.assert_array_equal(heatmaps, np.stack([2 * expected.sum(axis=1)] * 2, axis=1))


def test_capture_passes_on_settings_and_runs_once_for_each(stand_in, tmp_path):
    stand_in()
    seen = tmp_path / "original" / "exp" / "json" / "seen.json"
    said = json.loads(seen.read_text())
    assert said["flip_test"] and said["flip_shift"] == "clean" and said["gpus"] == "-1"
    assert said["dataroot"] == str(tmp_path / "inputs")
    assert said["found"] == [str(tmp_path / "inputs" / "detections.json")] * 2
    first = seen.stat().st_mtime_ns
    assert "kept, of the same inputs" in stand_in() and seen.stat().st_mtime_ns == first
    assert "kept" not in stand_in("--flip_shift", "original")
    assert json.loads(seen.read_text())["flip_shift"] == "original"


def test_the_original_gets_a_complete_config_of_its_own_keys(stand_in, tmp_path):
    """A config of this project names no data set, and its published figures have numbers for keys, which no attribute
    can be called."""
    own = tmp_path / "tree" / "configs" / "coco" / "resnet"
    own.mkdir(parents=True)
    theirs = {"DATASET": {"TEST": {"TYPE": "Mscoco"}}, "DATA_PRESET": {"SIGMA": 2, "IMAGE_SIZE": [1, 2]},
              "MODEL": {"NUM_LAYERS": 18, "PRETRAINED": ""}}
    (own / "256x192_res50_lr1e-3_1x.yaml").write_text(yaml.safe_dump(theirs))
    stand_in(cfg=ROOT / "configs" / "256x192_res50_lr1e-3_1x.yaml")
    said = json.loads((tmp_path / "original" / "exp" / "json" / "seen.json").read_text())
    assert yaml.safe_load(Path(said["cfg"]).read_text()) == {
        "DATASET": theirs["DATASET"], "MODEL": {"NUM_LAYERS": 50, "PRETRAINED": "", "TYPE": "FastPose"},
        "DATA_PRESET": {"SIGMA": 2, "IMAGE_SIZE": [256, 192], "HEATMAP_SIZE": [64, 48], "NUM_JOINTS": 17}}


@pytest.fixture(scope="module")
def agreement(inferred, coco, script, tmp_path_factory) -> Path:
    """What both sides leave when they agree: the dumps of `inferred` as ours, and as if they were AlphaPose's."""
    folder = tmp_path_factory.mktemp("agreement")
    original, ours = folder / "original", folder / "ours"
    (original / "exp" / "json").mkdir(parents=True)
    captured = {"AP": {}, "crops": {}}
    for name, keypoints in (("detected", "validate_rcnn_kpt.json"), ("annotated", "validate_gt_kpt.json")):
        (ours / name).mkdir(parents=True)
        for flip in ("", "_flip"):
            shutil.copytree(inferred / f"prep_data{flip}", ours / name / f"prep_data{flip}")
        manifest = inferred / "prep_data" / "manifest.json"
        dumps = [inferred / "results" / f"all{flip}" for flip in ("", "_flip")]
        done(script("postprocess.py", "--dataroot", coco, "--manifest", manifest, "--dump_dir", dumps[0],
                    "--dump_dir_flip", dumps[1], "--output", ours / name / "score"))
        shutil.copy(ours / name / "score" / "keypoints.json", original / "exp" / "json" / keypoints)
        both = f"{dumps[0]},{dumps[1]},{ours / name / 'score' / 'keypoints.json'}"
        done(script("compare.py", f"a={both}", f"b={both}", "--manifest", manifest, "--bootstrap", 0, "--json",
                    ours / name / "compare.json"))
        captured["AP"][name] = json.loads((ours / name / "score" / "metrics.json").read_text())["metrics"]["AP"]
        captured["crops"][name] = {
            flip: [hashlib.sha256(path.read_bytes()).hexdigest()
                   for path in sorted((inferred / f"prep_data{flip}").glob("*.bin"))] for flip in ("", "_flip")}
    (original / "captured.json").write_text(json.dumps(captured))
    return folder


@pytest.fixture()
def agreeing(agreement, tmp_path) -> Path:
    """A copy of `agreement` to damage."""
    return Path(shutil.copytree(agreement, tmp_path / "agreement"))


def verdict(folder: Path) -> subprocess.CompletedProcess:
    return stage("verdict", "--original", folder / "original", "--ours", folder / "ours")


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_verdict_of_equal_results(agreeing):
    finished = verdict(agreeing)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("24 of 24 crops equal") == 2 and finished.stdout.count("px: agree") == 2


@pytest.mark.parametrize("file, change, stages", [
    ("original/captured.json", lambda c: c["crops"]["detected"]["_flip"].reverse(), "crops"),
    ("original/captured.json", lambda c: c["AP"].update(detected=c["AP"]["detected"] + 2e-4), "AP"),
    ("ours/detected/compare.json", lambda c: c.update(agree=False), "compare.py"),
    ("original/exp/json/validate_rcnn_kpt.json", lambda c: c[0]["keypoints"].__setitem__(0, 7e3), "keypoints"),
    ("original/exp/json/validate_rcnn_kpt.json", lambda c: c.pop(), "keypoints"),
])
def test_verdict_names_the_stage_that_differs(agreeing, file, change, stages):
    edit(agreeing / file, change)
    finished = verdict(agreeing)
    assert finished.returncode == 1, finished.stderr
    assert f"DIFFERENT in {stages}\nannotated boxes: " in finished.stdout and "px: agree" in finished.stdout


def test_verdict_refuses_other_people(agreeing):
    edit(agreeing / "original" / "captured.json", lambda c: c["crops"]["annotated"][""].pop())
    assert "12 crops, but AlphaPose made 11" in one_error(verdict(agreeing))
