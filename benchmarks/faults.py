"""Faults to plant in real results: what makes each, and the causes that compare.py may find in it.

Thresholds of comparison/causes were chosen with these in sight; those of fresh_faults.py came later.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from backends.rooms import open_backend
from contract.backend import infer_rows
from contract.manifest import Manifest
from pose.coco_results import results_of
from pose.crops import Normalizer, get_affine, mirror
from pose.decoders import heatmaps_to_keypoints
from pose.heatmaps import flip_back, shift_clean
from pose.photos import open_photos
from pose.skeleton import COCO17
from pose.spec import PoseSpec

BATCH = 16
IMAGENET, HALF = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NONE: Tuple[str, ...] = ()  # no cause covers it


class World(NamedTuple):
    """Crops (N, 3, H, W) of a manifest's people, the dumps that a model makes of them, (N, K, h, w), and those of the
    mirrored crops."""

    spec: PoseSpec
    manifest: Manifest
    model: Path
    dataroot: Path
    crops: np.ndarray
    dumps: np.ndarray
    flipped: np.ndarray

    def infer(self, crops: np.ndarray, model: Optional[Path] = None) -> np.ndarray:
        backend = open_backend("onnxruntime", model or self.model)
        return infer_rows(backend, np.ascontiguousarray(crops, np.float32), backend.input_shape[0] or BATCH)

    def coloured(self, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Dumps of crops whose colours, 0..1, are changed before the normalisation."""
        return self.infer(self.normalised(change(self.colours)))

    @property
    def colours(self) -> np.ndarray:
        return self.crops * _columns(self.spec.std) + _columns(self.spec.mean)

    def normalised(self, values: np.ndarray, mean: Any = None, std: Any = None) -> np.ndarray:
        return (values - _columns(self.spec.mean if mean is None else mean)) / _columns(
            self.spec.std if std is None else std)

    def cut(self, size: float = 1.0, moved: float = 0.0, **options: Any) -> np.ndarray:
        """Dumps of crops cut from the photos anew: a box `size` times as large, pixels moved, other options of cv2."""
        height, width = self.spec.input_size

        def warp(image: np.ndarray, box: np.ndarray) -> np.ndarray:
            center = ((box[:2] + box[2:]) / 2).astype(np.float32)
            scale = ((box[2:] - box[:2]) * size).astype(np.float32)
            matrix = get_affine(center, scale, self.spec.input_size) + np.array([[0, 0, moved], [0, 0, moved]])
            return cv2.warpAffine(image, matrix, (width, height), **{"flags": cv2.INTER_LINEAR, **options})

        return self.cut_by(warp)

    def cut_by(self, cut: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Dumps of the crops (H, W, 3) uint8 that `cut` makes of a photo and a box (4,) xyxy."""
        photos, normalise = open_photos(self.dataroot), Normalizer(self.spec.mean, self.spec.std)
        return self.infer(np.stack([normalise(cut(photos.read(image), box)) for image, box in zip(
            self.manifest["image_id"].tolist(), self.manifest["crop_xyxy"].astype(np.float64))]))

    def people(self, heatmaps: Optional[np.ndarray] = None) -> List[Dict[str, Any]]:
        """A keypoints file of the heatmaps (N, K, h, w); by default of both dumps, as postprocess.py has it."""
        if heatmaps is None:
            heatmaps = (self.dumps + shift_clean(flip_back(self.flipped))) / np.float32(2)
        keypoints, scores = heatmaps_to_keypoints(heatmaps, None, self.manifest["crop_xyxy"], self.spec)
        return results_of(self.manifest, keypoints, scores)


class Fault(NamedTuple):
    """`causes` of which one may be found, or of a pair, all. `plant` gives b's dumps, `plant_flipped` those of the
    mirrored bins, or `people` what b's keypoints file holds. What another cause does as well, exactly, is `equal` to
    it. `says` is what the one line says where the comparison is refused."""

    causes: Tuple[str, ...]
    plant: Optional[Callable[[World], np.ndarray]]
    plant_flipped: Optional[Callable[[World], np.ndarray]]
    people: Optional[Callable[[World], List[Dict[str, Any]]]]
    pair: bool
    equal: str
    says: str


class Faults(Dict[str, Fault]):
    """Faults by their names."""

    def add(self, name: str, causes: Any, plant: Optional[Callable[[World], np.ndarray]] = None,
            flipped: Optional[Callable[[World], np.ndarray]] = None,
            people: Optional[Callable[[World], List[Dict[str, Any]]]] = None, pair: bool = False,
            equal: str = "", says: str = "") -> None:
        if name in self:
            raise KeyError(f"two faults are called {name}")
        self[name] = Fault((causes,) if isinstance(causes, str) else causes, plant, flipped, people, pair, equal, says)


Add = Callable[..., None]


def _columns(values: Any) -> np.ndarray:
    return np.array(values, np.float32)[:, None, None]


def changed(values: np.ndarray, change: Callable[[np.ndarray], Any]) -> np.ndarray:
    """A copy that `change` has changed in place."""
    copy = values.copy()
    change(copy)
    return copy


def moved(values: np.ndarray, dx: float, dy: float, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    return np.stack([np.stack([cv2.warpAffine(plane, matrix, plane.shape[::-1], borderMode=border) for plane in one])
                     for one in values])


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    raw = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((raw + 0x7FFF + ((raw >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def quantised(values: np.ndarray, bits: int, axes: Optional[Tuple[int, ...]] = None) -> np.ndarray:
    step = np.maximum(np.abs(values).max(axis=axes, keepdims=True), 1e-30) / (2 ** (bits - 1) - 1)
    return (np.rint(values / step) * step).astype(np.float32)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(np.einsum("nchw,c->nhw", values, np.array([0.299, 0.587, 0.114], np.float32))[:, None], 3, axis=1)


def jpeg(world: World, quality: int) -> np.ndarray:
    def again(crop: np.ndarray) -> np.ndarray:
        pixels = np.rint(np.clip(crop, 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
        _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR).transpose(2, 0, 1) / np.float32(255)

    return world.coloured(lambda values: np.stack([again(crop) for crop in values]))


def with_weights(world: World, change: Callable[[np.ndarray], np.ndarray], folder: Path,
                 last: bool = False) -> np.ndarray:
    """Dumps of the model with every convolution's weights, or the last one's alone, changed."""
    import onnx

    model = onnx.load(world.model)
    weights = [weight for weight in model.graph.initializer if len(weight.dims) == 4]
    for weight in weights[-1:] if last else weights:
        values = change(onnx.numpy_helper.to_array(weight)).astype(np.float32)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, folder / "changed.onnx")
    return world.infer(world.crops, folder / "changed.onnx")


def swap(order: List[Tuple[int, int]]) -> List[int]:
    joints = list(range(17))
    for one, other in order:
        joints[one], joints[other] = other, one
    return joints


def faults(folder: Path) -> Faults:
    """`folder` is for changed models."""
    made, rng = Faults(), np.random.default_rng(0)
    _add_orders(made.add)
    _add_heatmaps(made.add)
    _add_values(made.add, rng)
    _add_colours(made.add)
    _add_cuts(made.add)
    _add_models(made.add, folder, rng)
    _add_pairs(made.add)
    return made


def _add_orders(add: Add) -> None:
    for by in (1, -1, 2, 5, -7, 16):
        add(f"files shifted by {by}", "file_order", lambda w, by=by: np.roll(w.dumps, by, axis=0))
    add("shifted, the first twice", "file_order", lambda w: w.dumps[[0, *range(len(w.dumps) - 1)]])
    add("sorted as text", "file_order", lambda w: w.dumps[sorted(range(len(w.dumps)), key=str)])
    add("reversed order", "file_order", lambda w: w.dumps[::-1])
    for one, other in ((3, 11), (0, 20)):
        add(f"files {one} and {other} exchanged", ("file_order",), lambda w, one=one, other=other: changed(
            w.dumps, lambda d: d.__setitem__([one, other], w.dumps[[other, one]])))
    for seed in (0, 1):
        add(f"random order {seed}", "file_order", lambda w, seed=seed: np.random.default_rng(seed).permutation(w.dumps))
    for tail in (3, 6):
        add(f"tail of {tail} repeats its first row", ("batch_tail", "few_people"), lambda w, tail=tail: changed(
            w.dumps, lambda d: d.__setitem__(slice(-tail, None), w.dumps[-tail - 1])))
        add(f"tail of {tail} of the batch before", ("batch_tail", "few_people"), lambda w, tail=tail: changed(
            w.dumps, lambda d: d.__setitem__(slice(-tail, None), w.dumps[-tail - BATCH:-BATCH])))
    for rows in ([4], [2, 9, 15], [1, 2, 3, 4]):
        add(f"people {rows} wrong", "few_people", lambda w, rows=rows: changed(w.dumps, lambda d: d.__setitem__(
            rows, np.roll(w.dumps[rows], (7, 9), axis=(2, 3)))))
    for rows in (slice(5, 13), slice(0, 3)):
        add(f"a shard of zeros {rows.start}..{rows.stop}", ("flat", "few_people"), lambda w, rows=rows: changed(
            w.dumps, lambda d: d.__setitem__(rows, 0)))
    add("the mirrored dumps are of normal bins", "mirrored", lambda w: w.dumps, lambda w: w.dumps)
    add("the mirrored dumps are turned back", "mirrored", lambda w: w.dumps, lambda w: flip_back(w.flipped))
    add("the mirrored dumps are turned back and shifted", "mirrored", lambda w: w.dumps,
        lambda w: shift_clean(flip_back(w.flipped)))
    add("normal and mirrored dumps exchanged", "mirrored", lambda w: w.flipped, lambda w: w.dumps)


def _add_heatmaps(add: Add) -> None:
    add("left and right exchanged", "left_right", lambda w: w.dumps[:, COCO17.mirrored])
    for pairs in ([(9, 10)], [(5, 6)], [(0, 16)], [(5, 6), (11, 12)], [(1, 2), (3, 4)]):
        add(f"joints {pairs} exchanged", "joint_order", lambda w, pairs=pairs: w.dumps[:, swap(pairs)])
    add("joints rotated by one", "joint_order", lambda w: np.roll(w.dumps, 1, axis=1))
    add("joints in reversed order", "joint_order", lambda w: w.dumps[:, ::-1])
    add("heatmaps NHWC", "layout", lambda w: w.dumps.transpose(0, 2, 3, 1).reshape(w.dumps.shape))
    add("heatmaps transposed", "transposed", lambda w: w.dumps.transpose(0, 1, 3, 2).reshape(w.dumps.shape))
    add("heatmaps mirrored", "mirrored", lambda w: w.dumps[..., ::-1])
    add("heatmaps upside down", "mirrored", lambda w: w.dumps[..., ::-1, :])
    add("heatmaps turned by 180 degrees", "mirrored", lambda w: w.dumps[..., ::-1, ::-1])
    for dx, dy in ((1, 0), (0, 1), (-1, 0), (-1, -1), (0.5, 0.5), (0.5, 0), (0.25, 0.25), (2, 0)):
        add(f"heatmaps moved by {dx}, {dy}", "offset", lambda w, dx=dx, dy=dy: moved(
            w.dumps, dx, dy, cv2.BORDER_REPLICATE))
    for start in (1, 16, 32, 5):
        add(f"dumps read from value {start} on", ("layout", "offset"), lambda w, start=start: np.roll(
            w.dumps.reshape(len(w.dumps), -1), -start, axis=1).reshape(w.dumps.shape))


def _add_values(add: Add, rng: np.random.Generator) -> None:
    for scale in (0.8, 1.25, 0.5, 255.0, 1 / 255):
        add(f"heatmaps times {scale:.3g}", "scaled", lambda w, scale=scale: w.dumps * np.float32(scale))
    add("heatmaps plus 0.1", "scaled", lambda w: w.dumps + np.float32(0.1))
    add("heatmaps times 0.9 plus 0.05", "scaled", lambda w: w.dumps * np.float32(0.9) + np.float32(0.05))
    scales = np.linspace(0.5, 1.5, 17).astype(np.float32)[:, None, None]
    add("a scale of each joint", "scaled", lambda w: w.dumps * scales)
    for most in (0.7, 0.5, 0.6):
        add(f"clipped at {most}", "saturation", lambda w, most=most: np.minimum(w.dumps, np.float32(most)))
    add("all zero", "flat", lambda w: np.zeros_like(w.dumps))
    add("all 0.5", "flat", lambda w: np.full_like(w.dumps, 0.5))
    add("everybody the first person", "flat", lambda w: np.repeat(w.dumps[:1], len(w.dumps), axis=0))
    add("black crops", ("flat", "few_people"), lambda w: w.coloured(np.zeros_like))
    for joint in (0, 7):
        add(f"joint {joint} zero", "flat", lambda w, joint=joint: changed(
            w.dumps, lambda d: d.__setitem__((slice(None), joint), 0)))
    for name, function in (("sigmoid", lambda d: 1 / (1 + np.exp(-d))), ("tanh", np.tanh), ("exponential", np.exp),
                           ("ReLU", lambda d: np.maximum(d, 0)), ("absolute", np.abs), ("negated", np.negative),
                           ("squared", np.square)):
        add(f"heatmaps {name}", "activation", lambda w, function=function: function(w.dumps))
    add("heatmaps softmax", "activation", lambda w: np.exp(w.dumps) / np.exp(w.dumps).sum(axis=(2, 3), keepdims=True))
    for bits in (8, 4, 6, 5):
        add(f"heatmaps of {bits} bits", "storage", lambda w, bits=bits: quantised(w.dumps, bits))
    add("heatmaps of 8 bits per joint", "storage", lambda w: quantised(w.dumps, 8, (0, 2, 3)))
    add("heatmaps of 6 bits per person and joint", "storage", lambda w: quantised(w.dumps, 6, (2, 3)))
    add("stored as bfloat16", "storage", lambda w: to_bfloat16(w.dumps))
    for size in (0.02, 0.1, 0.3):
        add(f"noise of {size}", NONE, lambda w, size=size: (w.dumps + size * rng.standard_normal(w.dumps.shape)).astype(
            np.float32))
    for kernel in (3, 7):
        add(f"heatmaps blurred by {kernel}", NONE, lambda w, kernel=kernel: np.stack(
            [[cv2.GaussianBlur(plane, (kernel, kernel), 0) for plane in one] for one in w.dumps]))
    add("heatmaps of half the size, enlarged", "resampling", lambda w: np.stack(
        [[cv2.resize(cv2.resize(plane, None, fx=0.5, fy=0.5), plane.shape[::-1]) for plane in one] for one in w.dumps]))


def _add_colours(add: Add) -> None:
    add("photos read as BGR", "bgr", lambda w: w.coloured(lambda v: v[:, ::-1]))
    add("channels exchanged after the normalisation", "bgr", lambda w: w.infer(w.crops[:, ::-1]))
    for order in ([1, 0, 2], [0, 2, 1], [1, 2, 0]):
        add(f"channels in order {order}", "colour", lambda w, order=order: w.coloured(lambda v: v[:, order]))
    add("grey", "colour", lambda w: w.coloured(grey))
    add("limited range", "colour", lambda w: w.coloured(lambda v: (v * 219 + 16) / 255))
    for gamma in (2.2, 1 / 2.2, 1.5):
        add(f"gamma {gamma:.2g}", "colour", lambda w, gamma=gamma: w.coloured(lambda v: np.clip(v, 0, 1) ** gamma))
    add("negative", "colour", lambda w: w.coloured(lambda v: 1 - v))
    for quality in (30, 75):
        add(f"JPEG of quality {quality}", NONE, lambda w, quality=quality: jpeg(w, quality))
    add("brighter by 0.1", NONE, lambda w: w.coloured(lambda v: np.clip(v + 0.1, 0, 1)))
    add("not normalised", "normalisation", lambda w: w.infer(w.colours))
    add("normalised twice", "normalisation", lambda w: w.infer(w.normalised(w.crops)))
    add("mean reversed", "normalisation", lambda w: w.infer(w.normalised(w.colours, w.spec.mean[::-1])))
    add("mean and std reversed", "normalisation", lambda w: w.infer(w.normalised(
        w.colours, w.spec.mean[::-1], w.spec.std[::-1])))
    add("std left out", ("normalisation",), lambda w: w.infer(w.normalised(w.colours, std=(1, 1, 1))))
    add("mean left out", "normalisation", lambda w: w.infer(w.normalised(w.colours, mean=(0, 0, 0))))
    add("ImageNet's constants", "normalisation", lambda w: w.infer(w.normalised(w.colours, *IMAGENET)))
    add("0.5 and 0.5", "normalisation", lambda w: w.infer(w.normalised(w.colours, *HALF)))
    add("divided by 256", "normalisation", lambda w: w.coloured(lambda v: v * np.float32(255 / 256)))
    add("normalised, then rounded", "normalisation", lambda w: w.infer(np.rint(w.crops)))
    add("values 0..255", "uint8", lambda w: w.infer(np.rint(w.colours * 255)))
    add("normalised without dividing by 255", "uint8", lambda w: w.infer(w.normalised(w.colours * 255)))
    add("crops NHWC", "layout", lambda w: w.infer(w.crops.transpose(0, 2, 3, 1).reshape(w.crops.shape)))
    add("crops mirrored", "mirrored", lambda w: w.infer(mirror(w.crops)))
    add("crops upside down", "mirrored", lambda w: w.infer(w.crops[:, :, ::-1]))
    add("crops turned by 180 degrees", "mirrored", lambda w: w.infer(w.crops[:, :, ::-1, ::-1]))
    for dx, dy in ((0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)):
        add(f"crops moved by {dx}, {dy}", "offset", lambda w, dx=dx, dy=dy: w.infer(moved(w.crops, dx, dy)))


def _add_cuts(add: Add) -> None:
    for name, flag in (("nearest", cv2.INTER_NEAREST), ("cubic", cv2.INTER_CUBIC), ("area", cv2.INTER_AREA),
                       ("Lanczos", cv2.INTER_LANCZOS4)):
        add(f"{name} interpolation", "cropping", lambda w, flag=flag: w.cut(flags=flag))
    for border in (114, 128, 255, 60):
        add(f"border of {border}", "cropping", lambda w, border=border: w.cut(borderValue=(border,) * 3))
    for size in (1.0, 1.1, 1.5, 1.15):
        add(f"boxes {size} times as large", "cropping", lambda w, size=size: w.cut(size / 1.25))
    for by in (0.5, -0.5):
        add(f"pixels taken {by} off", ("cropping", "offset"), lambda w, by=by: w.cut(moved=by))


def _add_models(add: Add, folder: Path, rng: np.random.Generator) -> None:
    for name, rounding in (("bfloat16", to_bfloat16), ("int8 per tensor", lambda v: quantised(v, 8)),
                           ("int8 per channel", lambda v: quantised(v, 8, (1, 2, 3))),
                           ("4 bits per channel", lambda v: quantised(v, 4, (1, 2, 3)))):
        add(f"weights in {name}", "precision", lambda w, rounding=rounding: with_weights(w, rounding, folder))
    for size in (0.01, 0.05):
        add(f"weights off by {size}", ("weights",), lambda w, size=size: with_weights(
            w, lambda v: v * (1 + size * rng.standard_normal(v.shape)), folder))
    add("the last layer's weights zero", ("flat",), lambda w: with_weights(w, np.zeros_like, folder, last=True))
    add("the last layer's sign turned", NONE, lambda w: with_weights(w, np.negative, folder, last=True),
        equal="activation")
    add("crops rounded to bfloat16", "precision", lambda w: w.infer(to_bfloat16(w.crops)))


def _add_pairs(add: Add) -> None:
    """Two at once: both are found, or nothing."""

    def add_pair(name: str, causes: Tuple[str, str], plant: Callable[[World], np.ndarray]) -> None:
        add(name, causes, plant, pair=True)

    def bgr(w: World) -> np.ndarray:
        return w.coloured(lambda v: v[:, ::-1])

    add_pair("BGR and files shifted", ("bgr", "file_order"), lambda w: np.roll(bgr(w), 1, axis=0))
    add_pair("BGR and left and right exchanged", ("bgr", "left_right"), lambda w: bgr(w)[:, COCO17.mirrored])
    add_pair("not normalised and files shifted", ("normalisation", "file_order"), lambda w: np.roll(
        w.infer(w.colours), 1, axis=0))
    add_pair("BGR and scaled", ("bgr", "scaled"), lambda w: bgr(w) * np.float32(0.8))
    add_pair("transposed and files shifted", ("transposed", "file_order"), lambda w: np.roll(
        w.dumps.transpose(0, 1, 3, 2).reshape(w.dumps.shape), 1, axis=0))
    add_pair("left and right exchanged and scaled", ("left_right", "scaled"), lambda w: w.dumps[
        :, COCO17.mirrored] * np.float32(0.8))
    add_pair("files shifted and scaled", ("file_order", "scaled"), lambda w: np.roll(
        w.dumps, 1, axis=0) * np.float32(0.5))
    add_pair("values 0..255 and one column off", ("uint8", "offset"), lambda w: moved(
        w.infer(np.rint(w.colours * 255)), 1, 0, cv2.BORDER_REPLICATE))
