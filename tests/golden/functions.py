"""Make functions.npz and functions.json: AlphaPose's own functions on generated inputs, edge cases among them.

    python3 -m tests.golden.functions ../AlphaPose

`../AlphaPose` is a clone with AlphaPose.patch that the running Python has installed, as scripts/reference.sh leaves it.
The inputs are functions of a seed, so only results are kept. The tests make the same inputs and compare.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
INPUT, HEATMAP, JOINTS = (256, 192), (64, 48), 17
PAIRS = [[left, left + 1] for left in range(1, JOINTS, 2)]
CLASSES = 80
FORMATS = (None, "cmu", "open")
ODD_BOXES_XYWH = [(30, 40, 0, 0), (30, 40, 0, 80), (30, 40, 80, 0), (-900, 5000, 20, 30), (10, 20, 75, 100),
                  (10, 20, 76, 100), (10, 20, 74, 100), (-11, 20, 20, 40), (20, -11, 20, 20), (3, 4, 1e-3, 1e-2),
                  (-4000, -4000, 9000, 9000)]


def boxes_xyxy(number: int = 48) -> np.ndarray:
    """(N, 4) float64: the odd ones first, then boxes in and around an image of 320 x 240 pixels."""
    rng = np.random.default_rng(1)
    ordinary = np.concatenate([rng.uniform(-60, 300, (number, 2)), rng.uniform(5, 260, (number, 2))], axis=1)
    boxes = np.concatenate([np.array(ODD_BOXES_XYWH, float), ordinary])
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def photo() -> np.ndarray:
    """(240, 320, 3) uint8 RGB: noise over a smooth ground, so that every rule of sampling shows."""
    rng = np.random.default_rng(2)
    ground = cv2.resize(rng.uniform(0, 255, (6, 8, 3)), (320, 240), interpolation=cv2.INTER_CUBIC)
    return np.clip(ground + rng.normal(0, 30, ground.shape), 0, 255).astype(np.uint8)


def heatmaps(number: int, seed: int) -> np.ndarray:
    """(N, 17, 64, 48) float32: peaks anywhere, on the border too, ties, maps that are flat, and maps below zero."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEATMAP[0], :HEATMAP[1]]
    center = rng.uniform([-1, -1], [HEATMAP[1], HEATMAP[0]], (number, JOINTS, 2))[..., None, None]
    spread = rng.uniform(1, 5, (number, JOINTS, 1, 1))
    maps = np.exp(-((columns - center[:, :, 0]) ** 2 + (rows - center[:, :, 1]) ** 2) / (2 * spread ** 2))
    maps += rng.normal(0, 0.02, maps.shape)
    maps[0, :4] = np.array([0, 0.5, -1, 0])[:, None, None]
    maps[0, 3, 20:22, 30:32] = 1  # four cells that are equally high
    maps[1, 5] -= 2
    return maps.astype(np.float32)


def crowd(number: int, seed: int) -> List[Dict[str, Any]]:
    """People as COCO results, close enough that some are dropped."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(0, 80, (1, JOINTS, 2)) + rng.normal(0, 2, (number, JOINTS, 2))
    scores = rng.uniform(-0.1, 1.1, (number, JOINTS, 1))
    return [{"image_id": index % 3, "uid": index, "score": score, "area": area, "keypoints": person.ravel()}
            for index, (person, score, area) in enumerate(zip(
                np.concatenate([joints, scores], axis=2), rng.uniform(0, 1, number).tolist(),
                rng.uniform(2000, 9000, number).tolist()))]


def poses(number: int, seed: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """float32 boxes (N, 4) xyxy, their scores (N, 1), keypoints (N, 17, 2), joint scores (N, 17, 1): three people and
    nearly the same ones again."""
    rng = np.random.default_rng(seed)
    people = rng.uniform(0, 100, (3, JOINTS, 2)) * [1, 2] + 200 * np.arange(3)[:, None, None]
    keypoints = people[rng.integers(0, 3, number)] + rng.normal(0, 4, (number, JOINTS, 2))
    boxes = np.concatenate([keypoints.min(axis=1) - 5, keypoints.max(axis=1) + 5], axis=1)
    arrays = boxes, rng.uniform(0.1, 1, (number, 1)), keypoints, rng.uniform(0, 1, (number, JOINTS, 1))
    return tuple(array.astype(np.float32) for array in arrays)  # type: ignore[return-value]


def detector_rows(number: int, seed: int) -> np.ndarray:
    """(1, N, 85) float32 decoded rows of a detector: clusters of overlapping boxes; the best class is often another."""
    rng = np.random.default_rng(seed)
    clusters = np.concatenate([rng.uniform(0, 608, (number // 6, 2)), rng.uniform(30, 120, (number // 6, 2))], axis=1)
    rows = np.concatenate([clusters[rng.integers(0, len(clusters), number)] + rng.normal(0, 4, (number, 4)),
                           rng.uniform(0, 1, (number, 1)), rng.uniform(0, 0.9, (number, CLASSES))], axis=1)
    rows[rng.uniform(size=number) < 0.7, 5] = 0.95
    return rows[None].astype(np.float32)


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def geometry() -> Tuple[Dict[str, np.ndarray], List[str]]:
    """Centres, scales and crop boxes of the boxes, and the digests of the crops that are cut there."""
    from alphapose.utils.bbox import _box_to_center_scale, _center_scale_to_box
    from alphapose.utils.transforms import get_affine_transform, im_to_torch

    centers, scales, crops, digests = [], [], [], []
    for x1, y1, x2, y2 in boxes_xyxy():
        center, scale = _box_to_center_scale(x1, y1, x2 - x1, y2 - y1, INPUT[1] / INPUT[0])
        centers.append(center)
        scales.append(scale)
        crops.append(_center_scale_to_box(center, scale))
        crop = cv2.warpAffine(photo(), get_affine_transform(center, scale, 0, [INPUT[1], INPUT[0]]),
                              (INPUT[1], INPUT[0]), flags=cv2.INTER_LINEAR)
        tensor = im_to_torch(crop)
        for channel, mean in enumerate((0.406, 0.457, 0.480)):
            tensor[channel].add_(-mean)
        digests.append(sha256(tensor.numpy()))
    return {"center": np.array(centers), "scale": np.array(scales), "crop_xyxy": np.array(crops, np.float32)}, digests


def decoded() -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """Keypoints and scores by both decoders, without a mirrored crop and with each shift of it."""
    import torch
    from alphapose.utils.transforms import flip_heatmap, heatmap_to_coord_simple, heatmap_to_coord_simple_regress

    normal, mirrored = (torch.from_numpy(heatmaps(8, seed)) for seed in (3, 4))
    crops = geometry()[0]["crop_xyxy"][-len(normal):].tolist()
    arrays, digests = {}, {}
    for name, shift in (("none", None), ("clean", "clean"), ("original", "original")):
        flipped = [None] * len(normal) if shift is None else flip_heatmap(mirrored, PAIRS, shift=shift)
        if shift:
            digests[name] = sha256(flipped.numpy())
        for decoder, decode in (("gaussian", heatmap_to_coord_simple),
                                ("softmax", lambda maps, box, hms_flip: heatmap_to_coord_simple_regress(
                                    maps, box, HEATMAP, "softmax", hms_flip))):
            rows = [decode(maps.clone(), box, hms_flip=other) for maps, other, box in zip(normal, flipped, crops)]
            arrays[f"{decoder}_{name}_keypoints"] = np.array([row[0] for row in rows], np.float32)
            arrays[f"{decoder}_{name}_scores"] = np.array([row[1] for row in rows], np.float32)[..., 0]
    return arrays, digests


def kept_people() -> Dict[str, Any]:
    """Which people both NMS by OKS keep, with their scores."""
    from alphapose.utils.pPose_nms import oks_pose_nms

    return {f"{seed} {'soft' if soft else 'greedy'}": [[row["uid"], float(row["score"])] for row in
                                                        oks_pose_nms(crowd(40, seed), soft)]
            for seed in range(4) for soft in (False, True)}


def joined_people() -> Dict[str, Any]:
    """What the parametric NMS picks and joins, and the three result files of that."""
    import torch
    from alphapose.utils.pPose_nms import pose_nms, write_json

    found, images = {}, []
    for seed in range(4):
        boxes, box_scores, keypoints, scores = map(torch.from_numpy, poses(14, seed))
        ids = torch.zeros(len(boxes), 1)  # as without tracking
        rows = pose_nms(boxes, box_scores, ids, keypoints, scores, 3000 * (seed % 2))
        out_boxes, out_scores, groups, out_keypoints, out_joint_scores, picked = rows
        found[str(seed)] = {"picked": list(map(int, picked)), "merged": [np.ravel(group).size for group in groups],
                            "keypoints": [value.tolist() for value in out_keypoints],
                            "scores": [value.ravel().tolist() for value in out_joint_scores]}
        people = zip(out_boxes, out_scores, out_keypoints, out_joint_scores, groups)
        images.append({"imgname": f"{seed}.jpg", "result": [
            {"keypoints": joints, "kp_score": values, "box": [float(value) for value in (
                box[0], box[1], box[2] - box[0], box[3] - box[1])],
             "proposal_score": torch.mean(values) + score + 1.25 * max(values), "idx": group}
            for box, score, joints, values, group in people]})
    return {"poses": found, "formats": {str(form): written(write_json, images, form) for form in FORMATS}}


def written(write_json: Any, images: List[Dict[str, Any]], form: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        write_json(images, folder, form=form)
        return json.loads((Path(folder) / "alphapose-results.json").read_text())


def found_people() -> Dict[str, Any]:
    """Boxes of people among a detector's rows, few of them and more than the 100 after which the NMS runs again."""
    import torch
    from yolo.util import dynamic_write_results

    torch.Tensor.cuda = lambda self: self  # its IoU asks for a GPU

    return {str(number): dynamic_write_results(torch.from_numpy(detector_rows(number, number)), 0.1, CLASSES, True,
                                               0.6)[:, 1:6].tolist() for number in (60, 900)}


def network_crop() -> np.ndarray:
    """(1, 3, 64, 48) float32, as normalised pixels."""
    return np.random.default_rng(6).standard_normal((1, 3, 64, 48), np.float32)


def network(clone: Path) -> Dict[str, np.ndarray]:
    """Names and shapes of FastPose's tensors, and its heatmaps of `network_crop`."""
    import torch
    from alphapose.models import builder
    from alphapose.utils.config import update_config

    from .weights import fill, listed

    config = update_config(str(clone / "configs/coco/resnet/256x192_res50_lr1e-3_1x.yaml"))
    fastpose = fill(builder.build_sppe(config.MODEL, preset_cfg=config.DATA_PRESET))
    with torch.inference_mode():
        heatmaps = fastpose(torch.from_numpy(network_crop())).numpy()
    return {"fastpose_tensors": listed(fastpose), "fastpose_heatmaps": heatmaps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clone", type=Path, help="an installed clone of AlphaPose with AlphaPose.patch")
    clone = parser.parse_args().clone
    sys.path.insert(0, str(clone / "detector"))
    places, crops = geometry()
    arrays, flips = decoded()
    np.savez_compressed(HERE / "functions.npz", **places, **arrays, **network(clone))
    facts = {"crops": crops, "flips": flips, "oks": kept_people(), **joined_people(), "detector": found_people()}
    (HERE / "functions.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
