"""Small bins, dumps and manifests, made with numpy alone."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from contract.files import make_folder
from contract.manifest import Manifest, save_manifest
from pose.coco import Detections
from pose.people import build_manifest
from pose.spec import PoseSpec

CONFIG = PoseSpec(input_size=(8, 4), heatmap_size=(2, 1))


def detections_of(people: int) -> Detections:
    low = np.random.default_rng(0).uniform(0, 99, (people, 2))
    size = np.full((people, 2), 1 / 3)
    return Detections(np.arange(people) // 2 + 10 ** 11, np.concatenate([low, size], axis=1),
                      np.concatenate([low, low + size], axis=1), np.linspace(0.1, 1, people))


def manifest_of(people: int, batch: int = 1) -> Manifest:
    return build_manifest(detections_of(people), "0" * 64, CONFIG, batch)


def crops_of(people: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((people, *CONFIG.input_shape)).astype(np.float32)


def filled(folder: Path, people: int, batch: int = 1, manifest: bool = True) -> np.ndarray:
    """A folder of bins, made with numpy alone; the crops in it."""
    crops = crops_of(people)
    make_folder(folder)
    for number, start in enumerate(range(0, people, batch)):
        crops[start:start + batch].tofile(folder / f"{number:012d}.bin")
    if manifest:
        save_manifest(folder, manifest_of(people, batch))
    return crops


def heatmaps_in(folder: Path, people: int, batch: int = 1, dtype: type = np.float32) -> np.ndarray:
    """A folder of dumps, made with numpy alone; the heatmaps in it."""
    heatmaps = np.random.default_rng(2).standard_normal((people, *CONFIG.outputs["output"])).astype(dtype)
    make_folder(folder)
    for number, start in enumerate(range(0, people, batch)):
        heatmaps[start:start + batch].tofile(folder / f"{number:012d}_0.bin")
    return heatmaps
