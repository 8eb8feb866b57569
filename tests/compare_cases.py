"""Faults to plant in real results: what tests of `compare.py --explain` share.

A change takes the results of a `Bench` and gives dumps, or people of a keypoints file, as a faulty device leaves them.
"""
from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Dict, List, Optional

import cv2
import numpy as np
import pytest
from conftest import IMAGENET_MEAN, IMAGENET_STD

from backends.rooms import open_backend
from contract.backend import infer_rows
from contract.files import make_folder
from contract.manifest import load_manifest
from pose.crops import get_affine
from pose.decoders import heatmaps_to_keypoints
from pose.heatmaps import flip_back, shift_clean, shift_original
from pose.oks import rescore
from pose.people import spec_of
from pose.photos import open_photos

PEOPLE, BATCH = 38, 16  # the last batch holds 6


@dataclasses.dataclass
class Bench:
    """Real crops and the dumps of real weights; `plant` writes changed ones, `named` runs compare.py on them."""

    folder: Path
    dataroot: Path
    model: Path
    crops: np.ndarray
    dumps: np.ndarray
    flipped: np.ndarray

    def infer(self, crops: np.ndarray, model: Optional[Path] = None) -> np.ndarray:
        backend = open_backend("onnxruntime", model or self.model)
        return infer_rows(backend, np.ascontiguousarray(crops, np.float32), BATCH)

    def plant(self, name: str, dumps: np.ndarray) -> Path:
        folder = make_folder(self.folder / "planted" / name)
        for number, heatmaps in enumerate(dumps):
            np.ascontiguousarray(heatmaps).tofile(folder / f"{number:012d}_0.bin")
        return folder


def fused_keypoints(bench: Bench, flip: Optional[np.ndarray]) -> list:
    """Results, before any NMS, of normal heatmaps averaged with `flip`."""
    manifest = load_manifest(bench.folder / "prep" / "manifest.json")
    heatmaps = bench.dumps if flip is None else (bench.dumps + flip) / np.float32(2)
    keypoints, scores = heatmaps_to_keypoints(heatmaps, None, manifest["crop_xyxy"], spec_of(manifest))
    sizes = manifest["crop_xyxy"][:, 2:].astype(float) - manifest["crop_xyxy"][:, :2]
    joints = np.concatenate([keypoints, scores[..., None]], axis=2).reshape(PEOPLE, -1)
    return [{"image_id": image, "category_id": 1, "bbox": bbox, "area": area, "score": score, "keypoints": person}
            for image, bbox, area, score, person in zip(
                manifest["image_id"].tolist(), manifest["bbox_xywh"].astype(np.float32).tolist(),
                sizes.prod(axis=1).tolist(), rescore(scores, manifest["score"]).tolist(), joints.tolist())]


def colours(bench: Bench) -> np.ndarray:
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return bench.crops * std + mean


def normalized(values: np.ndarray) -> np.ndarray:
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return (values - mean) / std


def moved(crops: np.ndarray, dx: float, dy: float) -> np.ndarray:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    return np.stack([np.stack([cv2.warpAffine(plane, matrix, plane.shape[::-1]) for plane in crop]) for crop in crops])


def cropped_anew(bench: Bench) -> np.ndarray:
    """The crops as a tool makes them that takes pixels for squares: half an input pixel down and to the right."""
    manifest = load_manifest(bench.folder / "prep" / "manifest.json")
    crops = []
    for image, box in zip(manifest["image_id"].tolist(), manifest["crop_xyxy"].astype(np.float64)):
        photograph = open_photos(bench.dataroot).read(image)
        center, scale = ((box[:2] + box[2:]) / 2).astype(np.float32), (box[2:] - box[:2]).astype(np.float32)
        matrix = get_affine(center, scale, (256, 192)) + np.array([[0, 0, 0.5], [0, 0, 0.5]])
        crops.append(cv2.warpAffine(photograph, matrix, (192, 256)).transpose(2, 0, 1) / np.float32(255))
    return bench.infer(normalized(np.stack(crops)))


def tail_duplicated(bench: Bench) -> np.ndarray:
    dumps, first = bench.dumps.copy(), PEOPLE // BATCH * BATCH
    dumps[first + 1:] = dumps[first]
    return dumps


def tail_of_the_batch_before(bench: Bench) -> np.ndarray:
    dumps, first = bench.dumps.copy(), PEOPLE // BATCH * BATCH
    dumps[first:] = dumps[first - BATCH:PEOPLE - BATCH]
    return dumps


def two_swapped(bench: Bench) -> np.ndarray:
    dumps = bench.dumps.copy()
    dumps[[11, 30]] = dumps[[30, 11]]
    return dumps


def few_wrong(bench: Bench) -> np.ndarray:
    dumps = bench.dumps.copy()
    dumps[[5, 17, 33]] = np.random.default_rng(0).random((3, 17, 64, 48), np.float32)
    return dumps


def older_weights(bench: Bench) -> np.ndarray:
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    model = onnx.load(bench.model)
    for weights in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.ndim == 4:
            other = (values * (1 + 0.01 * rng.standard_normal(values.shape))).astype(np.float32)
            weights.CopyFrom(onnx.numpy_helper.from_array(other, weights.name))
    onnx.save(model, bench.folder / "older.onnx")
    return bench.infer(bench.crops, bench.folder / "older.onnx")


SWAPPED = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])  # COCO's joints, left for right

FAULTS: Dict[str, tuple] = {
    "shifted by one file": ("file_order", lambda bench: np.roll(bench.dumps, 1, axis=0)),
    "shifted, the first twice": ("file_order", lambda bench: bench.dumps[[0, *range(PEOPLE - 1)]]),
    "names sorted as text": ("file_order", lambda bench: bench.dumps[sorted(range(PEOPLE), key=str)]),
    "two files exchanged": ("file_order", two_swapped),
    "random order": ("file_order", lambda bench: np.random.default_rng(0).permutation(bench.dumps)),
    "tail repeats its first row": ("batch_tail", tail_duplicated),
    "tail of the batch before": ("batch_tail", tail_of_the_batch_before),
    "left and right exchanged": ("left_right", lambda bench: bench.dumps[:, SWAPPED]),
    "photos read as BGR": ("bgr", lambda bench: bench.infer(normalized(colours(bench)[:, ::-1]))),
    "channels exchanged": ("bgr", lambda bench: bench.infer(bench.crops[:, ::-1])),
    "not normalised": ("normalisation", lambda bench: bench.infer(colours(bench))),
    "normalised twice": ("normalisation", lambda bench: bench.infer(normalized(bench.crops))),
    "values 0..255": ("uint8", lambda bench: bench.infer(np.rint(colours(bench) * 255))),
    "crops NHWC": ("layout", lambda bench: bench.infer(bench.crops.transpose(0, 2, 3, 1).reshape(bench.crops.shape))),
    "heatmaps NHWC": ("layout", lambda bench: bench.dumps.transpose(0, 2, 3, 1).reshape(bench.dumps.shape)),
    "heatmaps transposed": ("transposed", lambda bench: bench.dumps.transpose(0, 1, 3, 2).reshape(bench.dumps.shape)),
    "one column off": ("offset", lambda bench: np.concatenate([bench.dumps[..., 1:], bench.dumps[..., -1:]], axis=3)),
    "half a cell off": ("offset", lambda bench: moved(bench.dumps, 0.5, 0.5)),
    "crops made half a pixel off": ("cropping", cropped_anew),
    "crops half a pixel off": ("offset", lambda bench: bench.infer(moved(bench.crops, 0.5, 0.5))),
    "clipped as int8": ("saturation", lambda bench: np.minimum(bench.dumps, np.float32(0.7))),
    "scores scaled": ("scaled", lambda bench: bench.dumps * np.float32(0.8)),
    "wrists exchanged": ("joint_order", lambda bench: bench.dumps[:, [*range(9), 10, 9, *range(11, 17)]]),
    "heatmaps mirrored": ("mirrored", lambda bench: bench.dumps[..., ::-1]),
    "a sigmoid": ("activation", lambda bench: 1 / (1 + np.exp(-bench.dumps))),
    "half a sigmoid": ("function", lambda bench: 1 / (1 + np.exp(-bench.dumps / 2))),  # almost a line
    "a log of a softmax": ("", lambda bench: bench.dumps - np.log(np.exp(bench.dumps).sum(axis=(2, 3), keepdims=True))),
    "all zero": ("flat", lambda bench: np.zeros_like(bench.dumps)),
    "a joint zero": ("flat", lambda bench: np.where(np.arange(17)[:, None, None] == 9, np.float32(0), bench.dumps)),
    "everybody the same": ("flat", lambda bench: np.repeat(bench.dumps[:1], PEOPLE, axis=0)),
    "8 bits": ("storage", lambda bench: np.rint(bench.dumps * 100) / np.float32(100)),
    "older weights": ("", older_weights),
    "three people wrong": ("few_people", few_wrong),
}


def swapped_results(bench: Bench) -> list:
    results = fused_keypoints(bench, shift_clean(flip_back(bench.flipped)))
    return [{**person, "keypoints": np.reshape(person["keypoints"], (17, 3))[SWAPPED].ravel().tolist()}
            for person in results]


def moved_results(bench: Bench) -> list:
    """Keypoints half a heatmap cell to the right, which is 2 pixels of the input."""
    results = fused_keypoints(bench, shift_clean(flip_back(bench.flipped)))
    for person in results:
        joints = np.reshape(person["keypoints"], (17, 3))
        joints[:, 0] += 2 * np.sqrt(person["area"] * 192 / 256) / 192
        person["keypoints"] = joints.ravel().tolist()
    return results


def scaled_results(bench: Bench) -> list:
    results = fused_keypoints(bench, shift_clean(flip_back(bench.flipped)))
    for person in results:
        joints = np.reshape(person["keypoints"], (17, 3)) * (1, 1, 0.5)
        person["keypoints"] = joints.ravel().tolist()
    return results


def few_wrong_results(bench: Bench) -> list:
    results = fused_keypoints(bench, shift_clean(flip_back(bench.flipped)))
    rng = np.random.default_rng(0)
    for row in (7, 25):
        joints = np.reshape(results[row]["keypoints"], (17, 3))
        joints[:, :2] += rng.normal(0, 40, (17, 2))
        results[row]["keypoints"] = joints.ravel().tolist()
    return results


DECODING_FAULTS: Dict[str, tuple] = {
    "mirrored joints not swapped": ("left_right", lambda bench: fused_keypoints(
        bench, shift_clean(bench.flipped[..., ::-1]))),
    "no shift": ("flip_shift", lambda bench: fused_keypoints(bench, flip_back(bench.flipped))),
    "smeared shift": ("flip_shift", lambda bench: fused_keypoints(bench, shift_original(flip_back(bench.flipped)))),
    "no flip test": ("flip_shift", lambda bench: fused_keypoints(bench, None)),
    "all joints exchanged": ("left_right", swapped_results),
    "keypoints half a cell off": ("offset", moved_results),
    "joint scores halved": ("scaled", scaled_results),
    "few people's keypoints": ("few_people", few_wrong_results),
}


# Words of a Chinese page that are no Chinese: names of formats, functions, files and options.
STAY = {"sigmoid", "softmax", "tanh", "gamma", "keypoints", "settings", "json", "model", "input", "onnx", "dataroot",
        "manifest", "atol", "rtol", "onnxruntime"}


def left_in_english(text: str) -> List[str]:
    """Words of a text of the Chinese page that should have been translated."""
    return [word for word in re.findall(r"(?<![\w.])[a-z_]{3,}(?!\w)", text) if word not in STAY]
