"""Faults that were written after every threshold had been chosen, and run once before anything was changed for them."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Optional

import cv2
import numpy as np
from faults import NONE, Add, Faults, World, changed, jpeg, moved, quantised, to_bfloat16, with_weights

from pose.crops import get_affine, mirror
from pose.decoders import heatmaps_to_keypoints
from pose.heatmaps import flip_back, shift_clean
from pose.skeleton import COCO17

LEGS = [(11, 12), (13, 14), (15, 16)]


def fresh_faults(folder: Path) -> Faults:
    """`folder` is for changed models."""
    made = Faults()
    _add_orders(made.add, folder)
    _add_bytes(made.add)
    _add_heatmaps(made.add)
    _add_colours(made.add)
    _add_cuts(made.add)
    _add_models(made.add, folder)
    _add_mirrored(made.add)
    _add_keypoints(made.add)
    _add_decoding(made.add)
    _add_pairs(made.add)
    return made


def _add_orders(add: Add, folder: Path) -> None:
    for by in (3, -4):
        add(f"files moved by {by}", "file_order", lambda w, by=by: np.roll(w.dumps, by, axis=0))
    add("shards of two devices written alternately", "file_order",
        lambda w: np.concatenate([w.dumps[::2], w.dumps[1::2]]))
    add("halves exchanged", "file_order", lambda w: np.roll(w.dumps, len(w.dumps) // 2, axis=0))
    add("each batch of 8 reversed", "file_order", lambda w: np.concatenate(
        [w.dumps[first:first + 8][::-1] for first in range(0, len(w.dumps), 8)]))
    add("every second file is the one before", "file_order", lambda w: w.dumps[np.arange(len(w.dumps)) // 2 * 2])
    add("a stale shard: 8..15 hold 0..7", "file_order", lambda w: changed(
        w.dumps, lambda d: d.__setitem__(slice(8, 16), w.dumps[:8])))
    add("a stale shard of other weights", "few_people", lambda w: changed(w.dumps, lambda d: d.__setitem__(
        slice(12, 16), with_weights(w, lambda v: v * 0.98, folder)[12:16])))
    add("a shard read as BGR", ("few_people", "bgr"), lambda w: changed(w.dumps, lambda d: d.__setitem__(
        slice(4, 8), w.coloured(lambda v: v[:, ::-1])[4:8])))
    add("a shard of zeros at the end", ("flat", "few_people", "batch_tail"), lambda w: changed(
        w.dumps, lambda d: d.__setitem__(slice(-5, None), 0)))
    add("a shard of one value", ("flat", "few_people"), lambda w: changed(
        w.dumps, lambda d: d.__setitem__(slice(6, 10), 1e-3)))
    add("half of the people zero", "flat", lambda w: changed(w.dumps, lambda d: d.__setitem__(slice(0, 12), 0)))
    add("the last batch padded with the first people", ("batch_tail", "few_people"), lambda w: changed(
        w.dumps, lambda d: d.__setitem__(slice(-5, None), w.dumps[:5])))


def from_byte(values: np.ndarray, start: int) -> np.ndarray:
    """Each person's bytes from number `start` on; the first ones follow the last."""
    raw = np.roll(np.ascontiguousarray(values, np.float32).reshape(len(values), -1).view(np.uint8), -start, axis=1)
    return np.ascontiguousarray(raw).view(np.float32).reshape(values.shape)


def other_endian(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).byteswap()


def _add_bytes(add: Add) -> None:
    add("dumps in the other byte order", "layout", lambda w: other_endian(w.dumps),
        says="big-endian")
    add("crops in the other byte order", "layout", lambda w: w.infer(other_endian(w.crops)))
    for start in (1, 2, 12, 80, 112):
        add(f"dumps read from byte {start} on", ("layout", "offset"), lambda w, start=start: from_byte(w.dumps, start),
            says="from byte")
    for start in (4, 128):
        add(f"crops read from byte {start} on", "layout", lambda w, start=start: w.infer(from_byte(w.crops, start)))
    add("heatmaps written (w, h, K)", "layout", lambda w: w.dumps.transpose(0, 3, 2, 1).reshape(w.dumps.shape))
    add("crops written (3, W, H)", ("layout", "transposed"), lambda w: w.infer(
        w.crops.transpose(0, 1, 3, 2).reshape(w.crops.shape)))


def zoomed(values: np.ndarray, x: float, y: float, about: float = 0.0) -> np.ndarray:
    """Planes enlarged about a corner (0) or the middle (0.5)."""
    height, width = values.shape[2:]
    matrix = np.array([[x, 0, about * width * (1 - x)], [0, y, about * height * (1 - y)]])
    return np.stack([[cv2.warpAffine(plane, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE) for plane in one]
                     for one in values])


def _add_heatmaps(add: Add) -> None:
    curved = ("activation", "function")
    add("sigmoid of 4 times the heatmaps", curved, lambda w: 1 / (1 + np.exp(-4 * w.dumps)))
    add("a sigmoid stored as float16", curved, lambda w: (1 / (1 + np.exp(-w.dumps))).astype(np.float16))
    add("a leaky ReLU of 0.1", curved, lambda w: np.where(w.dumps > 0, w.dumps, w.dumps * np.float32(0.1)))
    add("logarithm of 1 + heatmaps", curved, lambda w: np.log1p(np.maximum(w.dumps, 0)))
    add("a softmax of 10 times the heatmaps", "activation", lambda w: np.exp(10 * w.dumps) / np.exp(10 * w.dumps).sum(
        axis=(2, 3), keepdims=True))
    add("each heatmap divided by its highest value", ("scaled", "activation"),
        lambda w: w.dumps / w.dumps.max(axis=(2, 3), keepdims=True))
    add("heatmaps of at least 0.1", ("saturation", *curved), lambda w: np.maximum(w.dumps, np.float32(0.1)))
    for scale in (1.1, -0.5):
        add(f"heatmaps times {scale}", "scaled", lambda w, scale=scale: w.dumps * np.float32(scale))
    add("the heatmaps of joint 3 times 3", "scaled", lambda w: changed(
        w.dumps, lambda d: d.__setitem__((slice(None), 3), d[:, 3] * 3)))
    add("noise on joint 8", NONE, lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (slice(None), 8), d[:, 8] + 0.2 * np.random.default_rng(1).standard_normal(d[:, 8].shape))))
    add("joint 5 is 0.2 throughout", "flat", lambda w: changed(w.dumps, lambda d: d.__setitem__((slice(None), 5), 0.2)))
    add("joint 16 holds joint 15", "joint_order", lambda w: changed(
        w.dumps, lambda d: d.__setitem__((slice(None), 16), d[:, 15])))
    legs = COCO17.mirrored[:]
    add("legs exchanged", "joint_order", lambda w: w.dumps[:, [*range(11), *legs[11:]]])
    add("joints in random order", "joint_order", lambda w: w.dumps[:, np.random.default_rng(5).permutation(17)])
    add("joints moved by two", "joint_order", lambda w: np.roll(w.dumps, -2, axis=1))
    for dx, dy in ((3, 0), (-0.75, 0.25), (1.5, -1.5)):
        add(f"heatmaps displaced by {dx}, {dy}", "offset", lambda w, dx=dx, dy=dy: moved(
            w.dumps, dx, dy, cv2.BORDER_REPLICATE))
    add("heatmaps resampled with corners aligned", ("resampling", "offset"), lambda w: zoomed(
        w.dumps, 48 / 47, 64 / 63))
    add("heatmaps 3 % larger", "resampling", lambda w: zoomed(w.dumps, 1.03, 1.03, 0.5))
    add("heatmaps smoothed by 11", NONE, lambda w: np.stack(
        [[cv2.GaussianBlur(plane, (11, 11), 0) for plane in one] for one in w.dumps]))
    add("heatmaps of 3 bits", "storage", lambda w: quantised(w.dumps, 3))
    add("unsigned bytes with a zero point", "storage", lambda w: (np.clip(np.rint(
        w.dumps * 200) + 37, 0, 255) - 37) / np.float32(200))
    add("3 bits of mantissa", "storage", lambda w: mantissa(w.dumps, 3))


def mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    parts, exponents = np.frexp(values)
    return np.ldexp(np.rint(parts * 2 ** (bits + 1)) / 2 ** (bits + 1), exponents).astype(np.float32)


def hsv(values: np.ndarray, saturation: float) -> np.ndarray:
    grey = values.mean(axis=1, keepdims=True)
    return np.clip(grey + (values - grey) * saturation, 0, 1)


def subsampled(values: np.ndarray) -> np.ndarray:
    """Chroma of half the size, as 4:2:0 video."""
    made = []
    for crop in np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1):
        made.append(cv2.cvtColor(cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2YUV_I420),
                                 cv2.COLOR_YUV2RGB_I420))
    return np.stack(made).transpose(0, 3, 1, 2) / np.float32(255)


def _add_colours(add: Add) -> None:
    add("channels in order [2, 0, 1]", "colour", lambda w: w.coloured(lambda v: v[:, [2, 0, 1]]))
    add("grey of the green channel", ("colour",), lambda w: w.coloured(lambda v: v[:, [1, 1, 1]]))
    add("blue is 0", "colour", lambda w: w.coloured(lambda v: v * np.array([1, 1, 0], np.float32)[:, None, None]))
    add("pale colours", NONE, lambda w: w.coloured(lambda v: hsv(v, 0.4)))
    add("gamma 1.8", ("colour",), lambda w: w.coloured(lambda v: np.clip(v, 0, 1) ** 1.8))
    add("darker by a third", NONE, lambda w: w.coloured(lambda v: v * np.float32(2 / 3)))
    add("a limited range taken for a complete one", "colour", lambda w: w.coloured(
        lambda v: np.clip((v * 255 - 16) / 219, 0, 1)))
    add("5, 6 and 5 bits of colour", NONE, lambda w: w.coloured(lambda v: np.stack(
        [np.floor(v[:, channel] * 255 / step) * step / 255 for channel, step in enumerate((8, 4, 8))], axis=1)))
    add("chroma of half the size", NONE, lambda w: w.coloured(subsampled))
    for quality in (50, 90, 95):
        add(f"JPEG at {quality}", "jpeg", lambda w, quality=quality: jpeg(w, quality))
    clip = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    add("CLIP's constants", "normalisation", lambda w: w.infer(w.normalised(w.colours, *clip)))
    add("Caffe's: B, G, R less the means of bytes", ("normalisation", "uint8"), lambda w: w.infer(
        w.colours[:, ::-1] * 255 - np.array([103.939, 116.779, 123.68], np.float32)[:, None, None]))
    add("the mean subtracted twice", "normalisation", lambda w: w.infer(w.normalised(w.colours - np.array(
        w.spec.mean, np.float32)[:, None, None])))
    add("std multiplied", "normalisation", lambda w: w.infer((w.colours - np.array(
        w.spec.mean, np.float32)[:, None, None]) * np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]))
    add("mean and std of one channel for all", "normalisation", lambda w: w.infer(w.normalised(
        w.colours, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225))))
    add("normalised values cut to whole numbers", ("normalisation", "flat"), lambda w: w.infer(np.trunc(w.crops)))
    add("bytes taken for signed ones", "uint8", lambda w: w.infer(w.normalised(
        np.rint(w.colours * 255).astype(np.uint8).view(np.int8).astype(np.float32) / 255)))


def cut_by(w: World, cut: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Dumps of crops, each by cut(photo, affine matrix, box)."""
    def one(image: np.ndarray, box: np.ndarray) -> np.ndarray:
        center, scale = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        return cut(image, get_affine(center.astype(np.float32), scale.astype(np.float32), w.spec.input_size), box)

    return w.cut_by(one)


def _add_cuts(add: Add) -> None:
    def warp(image: np.ndarray, matrix: np.ndarray, size: Any, **options: Any) -> np.ndarray:
        return cv2.warpAffine(image, matrix, size, **{"flags": cv2.INTER_LINEAR, **options})

    turns = {"turned left": lambda v: v.transpose(1, 0, 2)[::-1], "turned by 180 degrees": lambda v: v[::-1, ::-1],
             "turned right": lambda v: v.transpose(1, 0, 2)[:, ::-1], "mirrored": lambda v: v[:, ::-1]}
    for name, turn in turns.items():
        add(f"photos read {name}", "cropping", lambda w, turn=turn: cut_by(w, lambda image, matrix, box: warp(
            np.ascontiguousarray(turn(image)), matrix, w.spec.input_size[::-1])))
    add("boxes stretched to the input", "cropping", lambda w: cut_by(w, lambda image, matrix, box: cv2.resize(
        image[max(int(box[1]), 0):max(int(box[3]), 1), max(int(box[0]), 0):max(int(box[2]), 1)],
        w.spec.input_size[::-1])))
    for size in (1.05, 1.35):
        add(f"boxes {size} times the person", "cropping", lambda w, size=size: w.cut(size / 1.25))
    add("crops of half the size, enlarged", ("cropping", "resampling"), lambda w: cut_by(
        w, lambda image, matrix, box: cv2.resize(warp(image, matrix / 2, (96, 128)), (192, 256))))
    add("crops with corners aligned", ("cropping", "resampling"), lambda w: cut_by(
        w, lambda image, matrix, box: warp(image, np.diag([191 / 192, 255 / 256]) @ matrix, (192, 256))))
    for dx, dy in ((1, 0), (0.25, 0.25)):
        add(f"pixels taken {dx}, {dy} off", ("cropping", "offset"), lambda w, dx=dx, dy=dy: cut_by(
            w, lambda image, matrix, box: warp(image, matrix + np.array([[0, 0, dx], [0, 0, dy]]), (192, 256))))
    for name, options in {"of 200": {"borderValue": (200,) * 3}, "reflected": {"borderMode": cv2.BORDER_REFLECT_101},
                          "repeated": {"borderMode": cv2.BORDER_REPLICATE}}.items():
        add(f"border {name}", "cropping", lambda w, options=options: cut_by(
            w, lambda image, matrix, box: warp(image, matrix, (192, 256), **options)))
    add("crops blurred by 5", NONE, lambda w: w.coloured(lambda v: np.stack(
        [cv2.GaussianBlur(one.transpose(1, 2, 0), (5, 5), 0).transpose(2, 0, 1) for one in v])))


def with_layer(w: World, number: int, change: Callable[[np.ndarray], np.ndarray], folder: Path) -> np.ndarray:
    """Dumps of the model with the weights of one convolution changed."""
    counter = iter(range(10 ** 6))
    return with_weights(w, lambda values: change(values) if next(counter) == number else values, folder)


def half_zero(values: np.ndarray) -> np.ndarray:
    return changed(values, lambda v: v.__setitem__(slice(0, len(v) // 2), 0))


def pruned(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < np.quantile(np.abs(values), 0.3), 0, values)


def _add_models(add: Add, folder: Path) -> None:
    for number in (3, 9):
        add(f"layer {number} dead", "flat", lambda w, number=number: with_layer(w, number, np.zeros_like, folder))
    add("half of the channels of layer 5 dead", NONE, lambda w: with_layer(w, 5, half_zero, folder))
    add("layer 2 scaled by 1.2", NONE, lambda w: with_layer(w, 2, lambda v: v * 1.2, folder))
    add("the channels of layer 4 in reversed order", NONE, lambda w: with_layer(w, 4, lambda v: v[::-1], folder))
    add("kernels of layer 0 mirrored", ("mirrored", *NONE), lambda w: with_layer(w, 0, lambda v: v[..., ::-1], folder))
    for bits in (6, 7):
        add(f"weights of {bits} bits per channel", "precision", lambda w, bits=bits: with_weights(
            w, lambda v: quantised(v, bits, (1, 2, 3)), folder))
    add("weights of 8 bits, the first layer alone", "precision", lambda w: with_layer(
        w, 0, lambda v: quantised(v, 4), folder))
    add("weights of 3 bits of mantissa", "precision", lambda w: with_weights(w, lambda v: mantissa(v, 3), folder))
    add("weights pruned by 30 %", NONE, lambda w: with_weights(w, pruned, folder))
    add("crops of 8 bits", "precision", lambda w: w.infer(quantised(w.crops, 8)))
    add("crops and weights in bfloat16", "precision", lambda w: with_weights(
        w._replace(crops=to_bfloat16(w.crops)), to_bfloat16, folder))


def _add_mirrored(add: Add) -> None:
    """Faults of the dumps of the mirrored bins alone."""
    def add_mirrored(name: str, causes: Any, plant: Callable[[World], np.ndarray]) -> None:
        add(f"mirrored bins: {name}", causes, lambda w: w.dumps, plant)

    add_mirrored("BGR", "bgr", lambda w: w.infer(mirror(w.normalised(w.colours[:, ::-1]))))
    add_mirrored("shifted already", "offset", lambda w: np.roll(w.flipped, 1, axis=3))
    add_mirrored("left and right exchanged already", "left_right", lambda w: w.flipped[:, COCO17.mirrored])
    add_mirrored("files shifted", "file_order", lambda w: np.roll(w.flipped, 1, axis=0))
    add_mirrored("all zero", "flat", lambda w: np.zeros_like(w.flipped))
    add_mirrored("legs exchanged already", "joint_order",
                 lambda w: w.flipped[:, [*range(11), *COCO17.mirrored[11:]]])


def with_joints(change: Callable[[np.ndarray], Any], rows: Optional[slice] = None) -> Callable[[World], List]:
    """People whose (K, 3) keypoints are changed in place."""
    def plant(w: World) -> List:
        people = w.people()
        for person in people[rows or slice(None)]:
            joints = np.reshape(person["keypoints"], (-1, 3))
            change(joints)
            person["keypoints"] = joints.ravel().tolist()
        return people

    return plant


def with_scores(change: Callable[[int, float], float]) -> Callable[[World], List]:
    return lambda w: [{**person, "score": float(change(number, person["score"]))}
                      for number, person in enumerate(w.people())]


def _add_keypoints(add: Add) -> None:
    def swap(joints: np.ndarray, pairs: List) -> None:
        for one, other in pairs:
            joints[[one, other]] = joints[[other, one]]

    add("keypoints: x and y exchanged", "joint_order", people=with_joints(
        lambda joints: joints.__setitem__((slice(None), [0, 1]), joints[:, [1, 0]])))
    for dx, dy in ((5, -3), (0, 12)):
        add(f"keypoints: {dx}, {dy} pixels off", "offset", people=with_joints(
            lambda joints, dx=dx, dy=dy: joints.__iadd__((dx, dy, 0))))
    add("keypoints: wrists exchanged", "joint_order", people=with_joints(lambda joints: swap(joints, [(9, 10)])))
    add("keypoints: legs exchanged", "joint_order", people=with_joints(lambda joints: swap(joints, LEGS)))
    add("keypoints: of a photo of half the size", ("scaled", "resampling"), people=with_joints(
        lambda joints: joints.__imul__((0.5, 0.5, 1))))
    add("keypoints: joint scores squared", ("activation",), people=with_joints(
        lambda joints: joints.__setitem__((slice(None), 2), joints[:, 2] ** 2)))
    add("keypoints: of whole pixels", ("storage",), people=with_joints(lambda joints: np.rint(
        joints, out=joints, where=np.array([True, True, False]))))
    rng = np.random.default_rng(3)
    add("keypoints: noise of 4 pixels", NONE, people=with_joints(
        lambda joints: joints.__setitem__((slice(None), slice(0, 2)), joints[:, :2] + rng.normal(0, 4, (17, 2)))))
    add("keypoints: legs of three people exchanged", ("few_people", "joint_order"), people=with_joints(
        lambda joints: swap(joints, LEGS), slice(4, 7)))
    add("keypoints: under the next person's box", "file_order", people=lambda w: [
        {**person, "keypoints": other["keypoints"], "score": other["score"]}
        for person, other in zip(w.people(), np.roll(np.array(w.people(), object), 1))])
    add("scores of people: all 1", "person_scores", people=with_scores(lambda number, score: 1.0))
    add("scores of people: times 100", "person_scores", people=with_scores(lambda number, score: 100 * score))
    add("scores of people: in reversed order", "person_scores", people=lambda w: [
        {**person, "score": other["score"]} for person, other in zip(w.people(), w.people()[::-1])])
    add("scores of people: random", "person_scores", people=with_scores(
        lambda number, score: np.random.default_rng(number).random()))


def _add_decoding(add: Add) -> None:
    def fused(flip: Callable[[np.ndarray], np.ndarray], weight: float = 0.5) -> Callable[[World], List]:
        return lambda w: w.people((1 - weight) * w.dumps + np.float32(weight) * flip(w.flipped))

    def some_pairs(flipped: np.ndarray) -> np.ndarray:
        return shift_clean(flipped[:, [*COCO17.mirrored[:11], *range(11, 17)], :, ::-1])

    add("flip test: the legs' pairs missing", ("left_right", "flip_shift"), people=fused(some_pairs))
    add("flip test: shifted the wrong way", ("flip_shift", "offset"), people=fused(
        lambda flip: np.roll(flip_back(flip), -1, axis=3)))
    add("flip test: shifted twice", ("flip_shift", "offset"), people=fused(
        lambda flip: shift_clean(shift_clean(flip_back(flip)))))
    add("flip test: mirrored crops alone", "flip_shift", people=fused(lambda flip: shift_clean(flip_back(flip)), 1.0))
    add("flip test: the highest instead of the mean", ("flip_shift",), people=lambda w: w.people(
        np.maximum(w.dumps, shift_clean(flip_back(w.flipped)))))
    add("no quarter of a cell", ("flip_shift", "offset"), people=without_quarters)


def without_quarters(w: World) -> List:
    """Each joint at the middle of its highest cell."""
    fused = (w.dumps + shift_clean(flip_back(w.flipped))) / np.float32(2)
    rows = fused.reshape(*fused.shape[:2], -1)
    peaks = np.where(rows == rows.max(axis=2, keepdims=True), rows, 0).reshape(fused.shape)
    keypoints = heatmaps_to_keypoints(peaks, None, w.manifest["crop_xyxy"], w.spec)[0]
    people = w.people()
    for person, joints in zip(people, keypoints):
        values = np.reshape(person["keypoints"], (-1, 3))
        values[:, :2] = joints
        person["keypoints"] = values.ravel().tolist()
    return people


def _add_pairs(add: Add) -> None:
    """Two at once: both are found, or nothing."""
    def add_pair(one: str, other: str, name: str, plant: Callable[[World], np.ndarray]) -> None:
        add(f"two: {name}", (one, other), plant, pair=True)

    add_pair("bgr", "joint_order", "BGR, wrists exchanged", lambda w: w.coloured(
        lambda v: v[:, ::-1])[:, [*range(9), 10, 9, *range(11, 17)]])
    add_pair("colour", "file_order", "G, B, R, files shifted", lambda w: np.roll(
        w.coloured(lambda v: v[:, [1, 2, 0]]), -1, axis=0))
    add_pair("normalisation", "scaled", "mean left out, half as high", lambda w: 0.5 * w.infer(
        w.normalised(w.colours, mean=(0, 0, 0))))
    add_pair("activation", "file_order", "a sigmoid, files shifted", lambda w: np.roll(
        1 / (1 + np.exp(-w.dumps)), 1, axis=0))
    add_pair("mirrored", "left_right", "mirrored heatmaps, left and right exchanged", lambda w: flip_back(w.dumps))
    add_pair("offset", "scaled", "one row off, 0.7 times as high", lambda w: 0.7 * moved(
        w.dumps, 0, 1, cv2.BORDER_REPLICATE))
    add_pair("bgr", "normalisation", "BGR, not normalised", lambda w: w.infer(w.colours[:, ::-1]))
    add_pair("layout", "left_right", "heatmaps (h, w, K), left and right exchanged", lambda w: w.dumps[
        :, COCO17.mirrored].transpose(0, 2, 3, 1).reshape(w.dumps.shape))
