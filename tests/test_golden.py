"""End to end on real photographs with a real model: the golden keypoints and metrics, and validate_gt's."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import IMAGENET_MEAN, IMAGENET_STD, SWAP, done, dumps_in, read_score, write_config

from contract.manifest import load_manifest
from pose.people import spec_of


def runnable(model: Path, folder: Path) -> Path:
    """The model, or where ONNX Runtime is older a copy without `spatial` = 0 in its batch norms. They mean 1: the
    statistics are of channels. Newer releases take them so."""
    import onnx
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    try:
        session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, 256, 192), np.float32)})
    except Exception:  # its errors share no base class
        graph = onnx.load(str(model))
        for node in graph.graph.node:
            for attribute in [attribute for attribute in node.attribute if attribute.name == "spatial"]:
                node.attribute.remove(attribute)
        model = folder / model.name
        onnx.save(graph, str(model))
    return model


class Golden:
    """The coco_mini run with the recorded detections and the real model, done once."""

    def __init__(self, folder: Path, shared: Path, script):
        self.folder, self.shared, self.script = folder, shared, script
        self.dataroot = shared / "data" / "coco_mini"
        self.model = runnable(shared / "models" / "ultralight_simplepose.onnx", folder)
        self.cfg = write_config(folder / "imagenet.yaml", (256, 192), (64, 48), "TYPE: SimplePose", MEAN=IMAGENET_MEAN,
                                STD=IMAGENET_STD)

    def preprocess(self, name: str, *options: object) -> Path:
        done(self.script("preprocess.py", "--dataroot", self.dataroot, "--cfg", self.cfg, "--output",
                         self.folder / name, "--output_flip", self.folder / f"{name}_flip", *options))
        return self.folder / name

    def infer(self, bins: Path, *options: object) -> Path:
        for suffix in ("", "_flip"):
            done(self.script("infer.py", "--model", self.model, "--cfg", self.cfg, "--input", f"{bins}{suffix}",
                             "--output", self.folder / "results", "--output_dirname", f"{bins.name}{suffix}", *options))
        return self.folder / "results" / bins.name

    def postprocess(self, dumps: Path, output: Path, *options: object) -> SimpleNamespace:
        done(self.script("postprocess.py", "--dataroot", self.dataroot, "--dump_dir", dumps, "--output", output,
                         *options))
        return read_score(output)


@pytest.fixture(scope="module")
def golden(shared, script, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("golden")
    run = Golden(folder, shared, script)
    run.bins = run.preprocess("prep_data", "--detections", shared / "golden" / "detections.json")
    run.dumps = run.infer(run.bins)
    run.manifest = run.bins / "manifest.json"
    run.options = ("--manifest", run.manifest, "--dump_dir_flip", f"{run.dumps}_flip")
    yield run
    shutil.rmtree(folder)  # 1.0 GB of bins and dumps


def assert_are_golden_keypoints(results: list, records: list) -> None:
    ours, theirs = (np.array([record["keypoints"] for record in rows]).reshape(-1, 17, 3)
                    for rows in (results, records))
    distance = np.abs(ours - theirs)[..., :2].max(axis=2)
    assert (distance < 1e-3).mean() >= 0.999
    np.testing.assert_allclose(ours[..., 2], theirs[..., 2], rtol=0, atol=1e-4)


def test_golden_keypoints_and_metrics_end_to_end(golden, tmp_path):
    run = golden.postprocess(golden.dumps, tmp_path, *golden.options)
    folder = golden.shared / "golden"
    records = json.loads((folder / "keypoints_pre_nms.json").read_text())
    after = json.loads((folder / "keypoints_post_nms.json").read_text())
    expected = json.loads((folder / "metrics.json").read_text())
    assert run.people == {"boxes": expected["detections"], "after_nms": expected["after_nms"]}
    for name, value in expected["flip_clean"].items():
        assert run.metrics[name] == pytest.approx(value, abs=0.003), name
    assert list(run.metrics) == list(expected["flip_clean"])
    kept = [records[index] for index in after["keep_index"]]
    assert [result["image_id"] for result in run.results] == [record["image_id"] for record in kept]
    assert_are_golden_keypoints(run.results, kept)
    for result, record in zip(run.results, kept):
        assert result.keys() == record.keys()
        assert result["bbox"] == record["bbox"] and result["category_id"] == 1
        assert result["area"] == pytest.approx(record["area"], rel=1e-6)  # of the crop, not of the box


def test_golden_keypoints_of_everyone_before_the_nms(golden):
    """From the dumps by the project's own decoder, since postprocess.py writes who is left."""
    from pose.decoders import heatmaps_to_keypoints

    manifest = load_manifest(golden.manifest)
    normal, mirrored = (dumps_in(Path(f"{golden.dumps}{suffix}"), (17, 64, 48)) for suffix in ("", "_flip"))
    keypoints, scores = heatmaps_to_keypoints(normal, mirrored, manifest["crop_xyxy"], spec_of(manifest))
    records = json.loads((golden.shared / "golden" / "keypoints_pre_nms.json").read_text())
    ours = np.concatenate([keypoints, scores[..., None]], axis=2).reshape(len(manifest), -1)
    assert_are_golden_keypoints([{"keypoints": row} for row in ours], records)
    assert manifest["score"].astype(np.float32).tolist() == [record["score"] for record in records]


def test_options_of_the_flip_test_and_number_formats(golden, tmp_path):
    clean = golden.postprocess(golden.dumps, tmp_path / "clean", *golden.options)
    original = golden.postprocess(golden.dumps, tmp_path / "original", *golden.options, "--flip_shift", "original")
    without = golden.postprocess(golden.dumps, tmp_path / "without", "--manifest", golden.manifest)
    assert [run.settings["flip_test"] for run in (clean, original, without)] == [True, True, False]
    assert original.metrics["AP"] < clean.metrics["AP"]  # the smear costs AP on these photographs
    assert without.metrics["AP"] < clean.metrics["AP"] - 0.005  # so does leaving out the flip test
    for suffix in ("", "_flip"):
        (tmp_path / f"half{suffix}").mkdir()
        for path in Path(f"{golden.dumps}{suffix}").glob("*.bin"):
            np.fromfile(path, np.float32).astype(np.float16).tofile(tmp_path / f"half{suffix}" / path.name)
    half = golden.postprocess(tmp_path / "half", tmp_path / "half_score", "--manifest", golden.manifest,
                              "--dump_dir_flip", tmp_path / "half_flip")
    assert half.metrics["AP"] == pytest.approx(clean.metrics["AP"], abs=0.002)
    assert half.metrics != clean.metrics


def test_annotated_boxes_follow_validate_gt(golden, tmp_path):
    """Against the rules written out in a straight line, with nothing of the project."""
    bins = golden.preprocess("gt", "--gt_boxes")
    run = golden.postprocess(golden.infer(bins), tmp_path, "--manifest", bins / "manifest.json", "--dump_dir_flip",
                             f"{golden.folder}/results/gt_flip")
    expected, stats = validate_gt(golden.dataroot, golden.model)
    assert len(run.results) == len(expected) > 0
    assert_are_golden_keypoints(run.results, expected)
    for result, other in zip(run.results, expected):
        assert result.keys() == other.keys() and result["image_id"] == other["image_id"]
        np.testing.assert_allclose(result["bbox"], other["bbox"], atol=1e-3)
        assert result["score"] == pytest.approx(other["score"], abs=1e-4)
    np.testing.assert_allclose(list(run.metrics.values()), stats, atol=0.003)


def validate_gt(dataroot: Path, model: Path) -> tuple:
    import contextlib
    import io

    import onnxruntime
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(dataroot / "annotations" / "person_keypoints_val2017.json"))
        results = []
        for image_id in sorted(truth.getImgIds()):
            info = truth.loadImgs(image_id)[0]
            image = cv2.imread(str(dataroot / "val2017" / f"{image_id:012d}.jpg"))[:, :, ::-1]
            for person in truth.loadAnns(truth.getAnnIds(image_id, iscrowd=False)):
                if max(person["keypoints"]) == 0 or person["area"] <= 0 or person["num_keypoints"] == 0:
                    continue
                x, y, w, h = person["bbox"]
                x1, y1 = min(max(x, 0), info["width"] - 1), min(max(y, 0), info["height"] - 1)
                x2 = min(max(x + max(w - 1, 0), 0), info["width"] - 1)
                y2 = min(max(y + max(h - 1, 0), 0), info["height"] - 1)
                if x2 > x1 and y2 > y1:
                    results.append(estimate(session, image, image_id, x1, y1, x2 - x1, y2 - y1))
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "keypoints")
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    return results, evaluation.stats


def estimate(session, image: np.ndarray, image_id: int, x: float, y: float, w: float, h: float) -> dict:
    """One person: crop, two runs, decode, record."""
    cx, cy = np.float32(x + w * 0.5), np.float32(y + h * 0.5)
    w, h = max(w, 0.75 * h), max(h, w / 0.75)
    w, h = (float(np.float32(np.float32(side) * np.float32(1.25))) for side in (w, h))
    above = cy - np.float32(w) * np.float32(0.5)  # float32 at each step, which shows in single pixels
    matrix = cv2.getAffineTransform(np.float32([[cx, cy], [cx, above], [cx - (cy - above), above]]),
                                    np.float32([[96, 128], [96, 32], [0, 32]]))
    crop = cv2.warpAffine(np.ascontiguousarray(image), matrix, (192, 256), flags=cv2.INTER_LINEAR)
    row = ((crop.astype(np.float32) / 255 - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)).transpose(2, 0, 1)
    name = session.get_inputs()[0].name
    heatmap, other = (session.run(None, {name: np.ascontiguousarray(one[None], np.float32)})[0][0]
                      for one in (row, row[:, :, ::-1]))
    other = other[SWAP][:, :, ::-1]
    heatmap = (heatmap + np.concatenate([other[:, :, :1], other[:, :, :-1]], axis=2)) / 2
    keypoints = []
    for joint in heatmap:
        row, column = divmod(int(joint.argmax()), 48)
        score = float(joint[row, column])
        px, py = (float(column), float(row)) if score > 0 else (0.0, 0.0)
        if score > 0 and 1 < column < 47 and 1 < row < 63:
            px += 0.25 * np.sign(joint[row, column + 1] - joint[row, column - 1])
            py += 0.25 * np.sign(joint[row + 1, column] - joint[row - 1, column])
        keypoints += [float(cx) + (px - 24) * w / 48, float(cy) + (py - 32) * w / 48, score]
    scores = keypoints[2::3]
    return {"bbox": [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], "image_id": image_id,
            "score": sum(scores) / 17 + max(scores), "category_id": 1, "keypoints": keypoints}
