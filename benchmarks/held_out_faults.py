"""Faults that were written after those of fresh_faults.py had been answered for, with the causes read and in search of
what they would mistake: variants between the steps that are tried, near relatives, parts, and combinations."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List

import cv2
import numpy as np
from faults import HALF, NONE, Add, Faults, World, changed, grey, jpeg, moved, quantised, with_weights
from fresh_faults import cut_by, from_byte, other_endian, with_joints, with_layer, with_scores, zoomed

from pose.crops import mirror
from pose.heatmaps import expected_positions, flip_back, shift_clean
from pose.skeleton import COCO17

ARMS = [5, 6, 7, 8, 9, 10]
SIZE = (192, 256)  # of a crop, as OpenCV has it


def held_out_faults(folder: Path) -> Faults:
    """`folder` is for changed models."""
    made = Faults()
    _add_files(made.add)
    _add_places(made.add)
    _add_values(made.add)
    _add_colours(made.add)
    _add_normalisations(made.add)
    _add_cuts(made.add)
    _add_models(made.add, folder)
    _add_mirrored(made.add)
    _add_keypoints(made.add)
    _add_decoding(made.add)
    _add_pairs(made.add)
    return made


def of_crops(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[World], np.ndarray]:
    """Dumps of crops (H, W, 3) uint8 RGB that are changed one by one before the normalisation."""
    def plant(w: World) -> np.ndarray:
        def change_all(values: np.ndarray) -> np.ndarray:
            pixels = np.rint(np.clip(values, 0, 1).transpose(0, 2, 3, 1) * 255).astype(np.uint8)
            return np.stack([change(np.ascontiguousarray(crop)) for crop in pixels]).transpose(
                0, 3, 1, 2).astype(np.float32) / 255

        return w.coloured(change_all)

    return plant


def encoded(suffix: str, *options: int) -> Callable[[np.ndarray], np.ndarray]:
    """An image (H, W, 3) RGB written by OpenCV and read again."""
    def again(image: np.ndarray) -> np.ndarray:
        data = cv2.imencode(suffix, np.ascontiguousarray(image[..., ::-1]), list(options))[1]
        return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])

    return again


def some(rows: slice, plant: Callable[[World], np.ndarray]) -> Callable[[World], np.ndarray]:
    """Dumps in which those `rows` alone are planted."""
    return lambda w: changed(w.dumps, lambda dumps: dumps.__setitem__(rows, plant(w)[rows]))


def _add_files(add: Add) -> None:
    half = slice(12, None)
    add("the first shard written twice", ("file_order", "batch_tail"), lambda w: w.dumps[[*range(12), *range(12)]])
    add("every file from 14 on is file 14", ("file_order", "batch_tail"), lambda w: w.dumps[np.minimum(
        np.arange(len(w.dumps)), 14)])
    add("shards of three devices in turn", "file_order", lambda w: np.concatenate([w.dumps[start::3]
                                                                                 for start in range(3)]))
    add("pairs of files exchanged", "file_order", lambda w: w.dumps[np.arange(len(w.dumps)) ^ 1])
    add("half of the people read as BGR", ("bgr",), some(half, lambda w: w.coloured(lambda v: v[:, ::-1])))
    add("half of the people left and right exchanged", ("left_right",), some(half, lambda w: w.dumps[
        :, COCO17.mirrored]))
    add("every other person mirrored", ("mirrored",), some(slice(None, None, 2), lambda w: w.infer(mirror(w.crops))))
    add("half of the people in the other byte order", ("layout",), some(half, lambda w: other_endian(w.dumps)),
        says="big-endian")
    add("four joints in the other byte order", ("layout",), lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (slice(None), slice(13, 17)), other_endian(np.where(np.abs(d[:, 13:]) < 1e-3, 0, d[:, 13:])))),
        says="big-endian")
    add("half of the people one row off", ("offset",), some(half, lambda w: moved(w.dumps, 0, 1,
                                                                                  cv2.BORDER_REPLICATE)))
    add("half of the people scaled by 0.8", ("scaled",), some(half, lambda w: w.dumps * np.float32(0.8)))
    add("three people of another photo, read as BGR", ("few_people", "bgr"), some(slice(9, 12), lambda w: np.roll(
        w.coloured(lambda v: v[:, ::-1]), 5, axis=0)))


def _add_places(add: Add) -> None:
    for dx, dy in ((0, 3), (0, -5), (0.3, -0.6), (4, 4)):
        add(f"heatmaps cut {dx}, {dy} cells off", "offset", lambda w, dx=dx, dy=dy: moved(
            w.dumps, dx, dy, cv2.BORDER_REPLICATE))
    add("heatmaps two rows off, zeros above", "offset", lambda w: moved(w.dumps, 0, 2))
    add("legs' heatmaps one row off", ("offset",), lambda w: np.concatenate(
        [w.dumps[:, :11], moved(w.dumps[:, 11:], 0, 1, cv2.BORDER_REPLICATE)], axis=1))
    add("each person's heatmaps moved by another amount", ("offset",), lambda w: np.concatenate(
        [moved(one[None], number % 3 - 1, number % 5 - 2, cv2.BORDER_REPLICATE) for number, one in enumerate(w.dumps)]))
    add("heatmaps 2 % larger in x alone", ("resampling",), lambda w: zoomed(w.dumps, 1.02, 1.0, 0.5))
    add("heatmaps resized by 64/63 in y alone, corner fixed", ("resampling", "offset"), lambda w: zoomed(
        w.dumps, 1.0, 64 / 63))
    add("odd and even rows exchanged", ("layout",), lambda w: w.dumps[:, :, np.arange(64) ^ 1])
    add("rows read at a stride of 64", ("layout",), lambda w: np.stack([np.resize(np.pad(
        one, ((0, 0), (0, 0), (0, 16))).ravel(), one.size).reshape(one.shape) for one in w.dumps]))
    add("channels in blocks of 16", ("layout",), lambda w: np.stack([np.concatenate(
        [one[:16].transpose(1, 2, 0).ravel(), one[16].ravel()]).reshape(one.shape) for one in w.dumps]))
    add("dumps read from byte 6 on", ("layout",), lambda w: from_byte(w.dumps, 6), says="from byte")
    add("a header of 100 values", "layout", lambda w: from_byte(w.dumps, 400))
    add("arms exchanged", "joint_order", lambda w: w.dumps[:, [*range(5), *(COCO17.mirrored[joint] for joint in ARMS),
                                                             *range(11, 17)]])
    add("ankles hold knees", "joint_order", lambda w: w.dumps[:, [*range(15), 13, 14]])
    add("joints of Human3.6M's order", "joint_order", lambda w: w.dumps[:, [
        0, 12, 14, 16, 11, 13, 15, 1, 2, 3, 4, 5, 7, 9, 6, 8, 10]])
    add("heatmaps turned by 180 degrees, halves exchanged", NONE, lambda w: np.roll(w.dumps[..., ::-1, ::-1], 24,
                                                                                  axis=3))


def truncated(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 without the last bits of its mantissa, cut off and not rounded."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) & np.uint32(
        0xFFFFFFFF << (23 - bits) & 0xFFFFFFFF)).view(np.float32)


def float8(values: np.ndarray) -> np.ndarray:
    """E4M3: rounded to 3 bits of mantissa, subnormal below 2 ** -6, and not beyond 448."""
    exponents = np.maximum(np.frexp(values)[1] - 1, -6)
    step = np.ldexp(np.float32(1), exponents - 3)
    return np.clip(np.rint(values / step) * step, -448, 448).astype(np.float32)


def _add_values(add: Add) -> None:
    curve = ("activation", "function")
    add("stored as float8 E4M3", "storage", lambda w: float8(w.dumps))
    add("bfloat16 cut off, not rounded", "storage", lambda w: truncated(w.dumps, 7))
    add("float8 E5M2 cut off, not rounded", "storage", lambda w: truncated(w.dumps, 2))
    add("heatmaps of 9 bits", ("storage",), lambda w: quantised(w.dumps, 9))
    add("heatmaps of 2 bits", ("storage",), lambda w: quantised(w.dumps, 2))
    add("unsigned bytes per joint, negative values lost", ("storage", "activation"), lambda w: quantised(np.maximum(
        w.dumps, 0), 9, (0, 2, 3)))
    add("square roots of heatmaps", curve, lambda w: np.sqrt(np.maximum(w.dumps, 0)))
    add("a sigmoid of half the heatmaps", curve, lambda w: 1 / (1 + np.exp(-0.5 * w.dumps)))
    add("a logarithm of a softmax", ("activation",), lambda w: w.dumps - np.log(np.exp(w.dumps).sum(
        axis=(2, 3), keepdims=True)))
    add("a softmax over joints", ("activation",), lambda w: np.exp(w.dumps) / np.exp(w.dumps).sum(axis=1,
                                                                                                keepdims=True))
    add("a leaky ReLU of 0.3", curve, lambda w: np.where(w.dumps > 0, w.dumps, w.dumps * np.float32(0.3)))
    add("ReLU and a ceiling of 0.6", ("activation", "saturation", "function"), lambda w: np.clip(w.dumps, 0, 0.6))
    add("each person divided by the highest value", "scaled", lambda w: w.dumps / w.dumps.max(axis=(1, 2, 3),
                                                                                           keepdims=True))
    add("higher to the right", NONE, lambda w: w.dumps * np.linspace(0.7, 1.3, 48, dtype=np.float32))
    add("a constant of its own added to each joint", ("scaled",), lambda w: w.dumps + np.linspace(
        -0.1, 0.1, 17, dtype=np.float32)[:, None, None])
    add("the mean of each heatmap subtracted", ("scaled",), lambda w: w.dumps - w.dumps.mean(axis=(2, 3),
                                                                                         keepdims=True))
    add("heatmaps dilated by 3", NONE, lambda w: np.stack([[cv2.dilate(plane, np.ones((3, 3))) for plane in one]
                                                          for one in w.dumps]))
    add("heatmaps, the median of 3 by 3", NONE, lambda w: np.stack([[cv2.medianBlur(plane, 3) for plane in one]
                                                                   for one in w.dumps]))
    add("all but the peaks 0", NONE, lambda w: np.where(w.dumps == w.dumps.max(axis=(2, 3), keepdims=True), w.dumps,
                                                        0))
    add("a third of the cells dropped", NONE, lambda w: w.dumps * (np.random.default_rng(2).random(
        w.dumps.shape) > 0.33))
    add("a joint flat for half of the people", ("flat",), lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (slice(0, 12), 9), 0)))


def _add_colours(add: Add) -> None:
    for quality in (35, 82, 98):
        add(f"JPEG, quality {quality}", ("jpeg",), lambda w, quality=quality: jpeg(w, quality))
    add("JPEG of quality 75 without subsampling", ("jpeg",), of_crops(encoded(
        ".jpg", cv2.IMWRITE_JPEG_QUALITY, 75, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)))
    add("WebP of quality 60", NONE, of_crops(encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 60)))
    add("JPEG twice, of quality 75 and 50", ("jpeg",), of_crops(lambda image: encoded(
        ".jpg", cv2.IMWRITE_JPEG_QUALITY, 50)(encoded(".jpg", cv2.IMWRITE_JPEG_QUALITY, 75)(image))))
    for gamma in (1 / 1.8, 2.4, 1.2):
        add(f"colours to the power of {gamma:.2g}", ("colour",), lambda w, gamma=gamma: w.coloured(
            lambda v: np.clip(v, 0, 1) ** gamma))
    for name, code in (("Y, Cr, Cb", cv2.COLOR_RGB2YCrCb), ("hue, saturation, value", cv2.COLOR_RGB2HSV),
                       ("L, a, b", cv2.COLOR_RGB2LAB)):
        add(f"colours as {name}", ("colour",), of_crops(lambda image, code=code: cv2.cvtColor(image, code)))
    add("grey of the highest channel", ("colour",), lambda w: w.coloured(lambda v: np.repeat(
        v.max(axis=1, keepdims=True), 3, axis=1)))
    add("half grey", NONE, lambda w: w.coloured(lambda v: (v + grey(v)) / 2))
    add("red one pixel to the right", NONE, lambda w: w.coloured(lambda v: np.concatenate(
        [np.roll(v[:, :1], 1, axis=3), v[:, 1:]], axis=1)))
    add("contrast of 0.7", NONE, lambda w: w.coloured(lambda v: (v - 0.5) * 0.7 + 0.5))
    add("histogram equalised", NONE, of_crops(lambda image: np.stack(
        [cv2.equalizeHist(channel) for channel in image.transpose(2, 0, 1)], axis=2)))
    add("crops sharpened", NONE, of_crops(lambda image: cv2.addWeighted(
        image, 1.8, cv2.GaussianBlur(image, (0, 0), 2), -0.8, 0)))
    add("noise of 10 on the pixels", NONE, of_crops(lambda image: np.clip(image + np.random.default_rng(
        int(image.sum())).normal(0, 10, image.shape), 0, 255)))
    add("pixels of 4 bits", NONE, of_crops(lambda image: image & 0xF0))
    add("bytes 20 higher, beyond 255 from 0 again", NONE, of_crops(lambda image: image + np.uint8(20)))


def _add_normalisations(add: Add) -> None:
    def with_constants(name: str, mean: Callable, std: Callable, causes: Any = ("normalisation",)) -> None:
        add(name, causes, lambda w: w.infer(w.normalised(w.colours, mean(w.spec.mean), std(w.spec.std))))

    with_constants("means of R and G exchanged", lambda mean: (mean[1], mean[0], mean[2]), lambda std: std)
    with_constants("the mean of green for all", lambda mean: (mean[1],) * 3, lambda std: std)
    with_constants("std of 0.2 for all", lambda mean: mean, lambda std: (0.2,) * 3)
    with_constants("std of 58, 57, 57 bytes over 256", lambda mean: mean, lambda std: (58 / 256, 57 / 256, 57 / 256))
    with_constants("the negative mean", lambda mean: tuple(-one for one in mean), lambda std: std)
    add("divided by the std, then less the mean", ("normalisation",), lambda w: w.infer(
        w.normalised(w.colours, (0, 0, 0)) - np.array(w.spec.mean, np.float32)[:, None, None]))
    add("each crop by its own mean and std", ("normalisation",), lambda w: w.infer(
        (w.crops - w.crops.mean(axis=(2, 3), keepdims=True)) / w.crops.std(axis=(2, 3), keepdims=True)))
    add("normalised values cut to 0..1", ("normalisation", "activation"), lambda w: w.infer(np.clip(w.crops, 0, 1)))
    add("divided by 128 less 1", ("normalisation",), lambda w: w.infer(w.colours * 255 / 128 - 1))
    add("crops stored as float8", ("precision",), lambda w: w.infer(float8(w.crops)))
    add("normalised bytes, the first channel alone", NONE, lambda w: w.infer(changed(
        w.crops, lambda crops: crops.__setitem__((slice(None), 0), w.colours[:, 0]))))


def _add_cuts(add: Add) -> None:
    def add_cut(name: str, cut: Callable, causes: Any = ("cropping",)) -> None:
        add(f"crops: {name}", causes, lambda w: cut_by(w, cut))

    def warp(image: np.ndarray, matrix: np.ndarray, **options: Any) -> np.ndarray:
        return cv2.warpAffine(image, matrix, SIZE, **{"flags": cv2.INTER_LINEAR, **options})

    def around(x: float, y: float) -> np.ndarray:
        """(3, 3) that enlarges about the middle of the crop."""
        return np.array([[x, 0, 96 * (1 - x)], [0, y, 128 * (1 - y)], [0, 0, 1]])

    def on(matrix: np.ndarray, step: np.ndarray) -> np.ndarray:
        return (step @ np.vstack([matrix, (0, 0, 1)]))[:2]

    add_cut("10 % higher alone", lambda image, matrix, box: warp(image, on(matrix, around(1, 1.1))))
    add_cut("0.92 times as large", lambda image, matrix, box: warp(image, on(matrix, around(0.92, 0.92))))
    add_cut("1.45 times the person", lambda image, matrix, box: warp(image, on(matrix, around(1.25 / 1.45,
                                                                                            1.25 / 1.45))))
    add_cut("every second column twice", lambda image, matrix, box: np.repeat(
        warp(image, matrix)[:, ::2], 2, axis=1), ("cropping", "resampling"))
    add_cut("taken 0, -0.25 pixels off", lambda image, matrix, box: warp(image, matrix + np.array(
        [[0, 0, 0], [0, 0, -0.25]])), ("cropping", "offset"))
    add_cut("turned by 5 degrees", lambda image, matrix, box: warp(image, on(matrix, np.vstack(
        [cv2.getRotationMatrix2D((96, 128), 5, 1), (0, 0, 1)]))))
    add_cut("a border of ImageNet's mean", lambda image, matrix, box: warp(image, matrix, borderValue=(124, 117, 104)))
    add_cut("a border of 10", lambda image, matrix, box: warp(image, matrix, borderValue=(10, 10, 10)))
    add_cut("a border that wraps", lambda image, matrix, box: warp(image, matrix, borderMode=cv2.BORDER_WRAP))
    add_cut("of a photo of half the size", lambda image, matrix, box: warp(
        cv2.resize(image, None, fx=0.5, fy=0.5), matrix @ np.diag([2, 2, 1])), ("cropping", "resampling"))
    add_cut("smoothed before they are made smaller", lambda image, matrix, box: warp(cv2.GaussianBlur(
        image, (0, 0), 1.2), matrix))
    add_cut("of photos without their first row and column", lambda image, matrix, box: warp(image[1:, 1:], matrix),
            ("cropping", "offset"))
    add_cut("of photos transposed", lambda image, matrix, box: warp(
        np.ascontiguousarray(image.transpose(1, 0, 2)), matrix))
    add_cut("width and height taken for the far corner", lambda image, matrix, box: warp(
        image, matrix + np.array([[0, 0, 40], [0, 0, 60]])), ("cropping", "offset"))
    add_cut("of photos of quality 65", lambda image, matrix, box: warp(encoded(
        ".jpg", cv2.IMWRITE_JPEG_QUALITY, 65)(image), matrix), ("jpeg",))


def _add_models(add: Add, folder: Path) -> None:
    def half_negative(values: np.ndarray) -> np.ndarray:
        return values * np.where(np.random.default_rng(7).random(values.shape) < 0.1, -1, 1)

    add("the first layer's channels in reversed order", NONE, lambda w: with_layer(
        w, 0, lambda v: v[:, ::-1], folder), equal="bgr")
    add("the last layer's joints in reversed order", ("joint_order",), lambda w: with_weights(
        w, lambda v: v[::-1], folder, last=True))
    add("a tenth of layer 7 with the other sign", NONE, lambda w: with_layer(w, 7, half_negative, folder))
    add("kernels of layer 4 turned by 180 degrees", NONE, lambda w: with_layer(w, 4, lambda v: v[..., ::-1, ::-1],
                                                                              folder))
    add("weights in float8", ("precision",), lambda w: with_weights(w, float8, folder))
    add("weights of 7 bits per tensor", ("precision",), lambda w: with_weights(w, lambda v: quantised(v, 7), folder))
    add("two of four weights 0", NONE, lambda w: with_weights(w, lambda v: np.where(
        np.arange(v.size).reshape(v.shape) % 2 == 0, v, 0), folder))
    add("weights 1 % too large", ("scaled",), lambda w: with_weights(w, lambda v: v * 1.01, folder))
    add("the last layer's weights in 4 bits", ("precision",), lambda w: with_weights(
        w, lambda v: quantised(v, 4), folder, last=True))


def _add_mirrored(add: Add) -> None:
    def add_mirrored(name: str, causes: Any, plant: Callable[[World], np.ndarray]) -> None:
        add(f"mirrored bins, {name}", causes, lambda w: w.dumps, plant)

    add_mirrored("0.9 times as high", "scaled", lambda w: w.flipped * np.float32(0.9))
    add_mirrored("G, R, B", "colour", lambda w: w.infer(mirror(w.normalised(w.colours[:, [1, 0, 2]]))))
    add_mirrored("not normalised", "normalisation", lambda w: w.infer(mirror(w.colours)))
    add_mirrored("upside down too", "mirrored", lambda w: w.infer(mirror(w.crops)[:, :, ::-1]))
    add_mirrored("one column to the left", "offset", lambda w: moved(w.flipped, -1, 0, cv2.BORDER_REPLICATE))
    add_mirrored("a sigmoid", "activation", lambda w: 1 / (1 + np.exp(-w.flipped)))


def _add_keypoints(add: Add) -> None:
    def joints(name: str, causes: Any, change: Callable[[np.ndarray], Any]) -> None:
        add(f"keypoints, {name}", causes, people=with_joints(change))

    joints("of half pixels", ("storage",), lambda one: one.__setitem__((slice(None), slice(0, 2)), np.rint(
        2 * one[:, :2]) / 2))
    joints("in 0..1 of a photo of 640 by 480", ("resampling", "scaled"), lambda one: one.__itruediv__((640, 480, 1)))
    joints("y from below, of 480", ("mirrored", "resampling"), lambda one: one.__setitem__(
        (slice(None), 1), 480 - one[:, 1]))
    joints("knees and ankles exchanged", "joint_order", lambda one: one.__setitem__(
        [13, 14, 15, 16], one[[15, 16, 13, 14]]))
    joints("the nose at 0, 0", NONE, lambda one: one.__setitem__((0, slice(0, 2)), 0))
    joints("scores of at most 0.5", ("saturation", "activation"), lambda one: one.__setitem__(
        (slice(None), 2), np.minimum(one[:, 2], 0.5)))
    joints("square roots of scores", ("activation",), lambda one: one.__setitem__((slice(None), 2), np.sqrt(
        np.maximum(one[:, 2], 0))))
    joints("scores 0.1 higher", ("scaled",), lambda one: one.__setitem__((slice(None), 2), one[:, 2] + 0.1))
    joints("1 % larger", ("resampling", "scaled"), lambda one: one.__imul__((1.01, 1.01, 1)))
    add("scores of people, squared", "person_scores", people=with_scores(lambda number, score: score ** 2))
    add("scores of people, of two digits", ("person_scores",), people=with_scores(
        lambda number, score: round(score, 1)))
    add("scores of people, of the person before", ("person_scores", "file_order"), people=lambda w: [
        {**person, "score": other["score"]} for person, other in zip(w.people(), w.people()[-1:] + w.people()[:-1])])


def _add_decoding(add: Add) -> None:
    def fused(flip: Callable[[np.ndarray], np.ndarray], weight: float = 0.5) -> Callable[[World], List]:
        return lambda w: w.people((1 - weight) * w.dumps + np.float32(weight) * flip(w.flipped))

    def smeared_left(flip: np.ndarray) -> np.ndarray:
        turned = flip_back(flip)
        return changed(turned, lambda t: t.__setitem__((..., slice(0, -1)), turned[..., 1:]))

    decoded = ("flip_shift", "offset")
    add("decoding: 0.8 and 0.2 of the two crops", ("flip_shift",), people=fused(lambda f: shift_clean(flip_back(f)),
                                                                              0.2))
    add("decoding: smeared to the left", decoded, people=fused(smeared_left))
    add("decoding: shifted by half a column", decoded, people=fused(lambda f: (
        flip_back(f) + shift_clean(flip_back(f))) / 2))
    add("decoding: DARK", decoded, people=refined(dark))
    add("decoding: half a cell for a quarter", decoded, people=refined(lambda heatmaps: 2 * quarters(heatmaps)))
    add("decoding: the mean position", NONE, people=refined(lambda heatmaps: expected_positions(
        20 * heatmaps, "softmax")[0] - peaks(heatmaps)))
    add("decoding: the arms' pairs missing", ("left_right", "flip_shift"), people=fused(lambda f: shift_clean(
        f[:, [*COCO17.mirrored[:5], *ARMS, *COCO17.mirrored[11:]], :, ::-1])))
    add("decoding: heatmaps blurred first", decoded, people=lambda w: w.people(np.stack(
        [[cv2.GaussianBlur(plane, (11, 11), 0) for plane in one] for one in (
            w.dumps + shift_clean(flip_back(w.flipped))) / 2]).astype(np.float32)))


def peaks(heatmaps: np.ndarray) -> np.ndarray:
    """(N, K, 2) cells x, y."""
    cells = heatmaps.reshape(*heatmaps.shape[:2], -1).argmax(axis=2)
    return np.stack([cells % heatmaps.shape[3], cells // heatmaps.shape[3]], axis=2).astype(float)


def slopes(heatmaps: np.ndarray) -> np.ndarray:
    """(N, K, 2) differences of the neighbours of the peaks, right less left and below less above."""
    padded = np.pad(heatmaps, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    n, k = np.indices(heatmaps.shape[:2])
    x, y = (peaks(heatmaps) + 1).astype(int).transpose(2, 0, 1)
    return np.stack([padded[n, k, y, x + 1] - padded[n, k, y, x - 1], padded[n, k, y + 1, x] - padded[n, k, y - 1, x]],
                    axis=2)


def quarters(heatmaps: np.ndarray) -> np.ndarray:
    return np.sign(slopes(heatmaps)) / 4


def dark(heatmaps: np.ndarray) -> np.ndarray:
    """The step of Newton on the logarithm, axis by axis, at most one cell."""
    logs = np.log(np.maximum(heatmaps, 1e-6))
    padded = np.pad(logs, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    n, k = np.indices(heatmaps.shape[:2])
    x, y = (peaks(heatmaps) + 1).astype(int).transpose(2, 0, 1)
    here = padded[n, k, y, x]
    curves = np.stack([padded[n, k, y, x + 1] + padded[n, k, y, x - 1] - 2 * here,
                       padded[n, k, y + 1, x] + padded[n, k, y - 1, x] - 2 * here], axis=2)
    first = slopes(logs)
    return np.clip(-first / 2 / np.where(curves < -1e-9, curves, -np.inf), -1, 1)


def refined(refine: Callable[[np.ndarray], np.ndarray]) -> Callable[[World], List]:
    """People whose joints lie `refine` cells beside the peak of the fused heatmaps, in place of a quarter."""
    def plant(w: World) -> List:
        heatmaps = (w.dumps + shift_clean(flip_back(w.flipped))) / np.float32(2)
        steps = refine(heatmaps) - quarters(heatmaps)
        boxes = w.manifest["crop_xyxy"]
        made = w.people()
        for person, step, box in zip(made, steps, boxes):
            values = np.reshape(person["keypoints"], (-1, 3))
            values[:, :2] += step * (box[2] - box[0]) / heatmaps.shape[3]
            person["keypoints"] = values.ravel().tolist()
        return made

    return plant


def _add_pairs(add: Add) -> None:
    """Two at once: both are found, or nothing; three at once have no name."""
    def add_pair(one: str, other: str, name: str, plant: Callable[[World], np.ndarray]) -> None:
        add(f"both: {name}", (one, other), plant, pair=True)

    def bgr(w: World) -> np.ndarray:
        return w.coloured(lambda v: v[:, ::-1])

    add_pair("jpeg", "file_order", "JPEG of 50, files shifted", lambda w: np.roll(jpeg(w, 50), 1, axis=0))
    add_pair("cropping", "left_right", "cubic, left and right exchanged", lambda w: w.cut(flags=cv2.INTER_CUBIC)[
        :, COCO17.mirrored])
    add_pair("bgr", "normalisation", "BGR, 0.5 and 0.5", lambda w: w.infer(w.normalised(w.colours[:, ::-1], *HALF)))
    add_pair("colour", "offset", "grey, one row off", lambda w: moved(w.coloured(grey), 0, 1, cv2.BORDER_REPLICATE))
    add_pair("storage", "file_order", "8 bits, files shifted", lambda w: np.roll(quantised(w.dumps, 8), 1, axis=0))
    add_pair("activation", "left_right", "a sigmoid, left and right exchanged", lambda w: 1 / (1 + np.exp(
        -w.dumps[:, COCO17.mirrored])))
    add_pair("mirrored", "offset", "crops mirrored, heatmaps one column off", lambda w: moved(w.infer(mirror(w.crops)),
                                                                                           1, 0, cv2.BORDER_REPLICATE))
    add_pair("cropping", "bgr", "boxes 1.1 times the person, BGR", lambda w: w.cut_by(lambda image, box: cut_small(
        image[..., ::-1], box)))
    add("three: BGR, files shifted, half as high", NONE, lambda w: np.roll(bgr(w), 1, axis=0) * np.float32(0.5))
    add("three: mirrored, transposed, scaled", NONE, lambda w: 0.7 * w.dumps[..., ::-1].transpose(0, 1, 3, 2).reshape(
        w.dumps.shape))


def cut_small(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    from pose.crops import get_affine

    center, scale = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * 1.1 / 1.25
    return cv2.warpAffine(np.ascontiguousarray(image), get_affine(center.astype(np.float32), scale.astype(np.float32),
                                                                 SIZE[::-1]), SIZE, flags=cv2.INTER_LINEAR)
