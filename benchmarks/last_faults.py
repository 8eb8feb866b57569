"""Faults that were written last, after everything that those of practice_faults.py showed had been corrected, and that
were run once: nothing was changed for them."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
from faults import IMAGENET, NONE, Add, Faults, World, changed, grey, moved, quantised, swap
from fresh_faults import cut_by, with_joints, with_layer, with_scores
from held_out_faults import encoded, of_crops, quarters, refined, some
from practice_faults import bgr, by_matrix, by_pillow, per_person, warp

from pose.crops import mirror
from pose.skeleton import COCO17

PERSON = 1.25  # the crop, over the person's box


def last_faults(folder: Path) -> Faults:
    """`folder` is for changed models."""
    made = Faults()
    _add_crops(made.add)
    _add_colours(made.add)
    _add_heatmaps(made.add)
    _add_folders(made.add, folder)
    _add_keypoints(made.add)
    _add_pairs(made.add)
    return made


def _add_crops(add: Add) -> None:
    def add_cut(name: str, cut: Callable[..., np.ndarray], causes: Any = ("cropping",)) -> None:
        add(f"last: {name}", causes, lambda w: cut_by(w, cut))

    def around(scale: float) -> np.ndarray:
        return np.array([[scale, 0, 96 * (1 - scale)], [0, scale, 128 * (1 - scale)], [0, 0, 1]])

    def boxed(matrix: np.ndarray, scale: float) -> np.ndarray:
        return (around(scale) @ np.vstack([matrix, (0, 0, 1)]))[:2]

    add_cut("cubic, and an edge that is repeated", lambda image, matrix, box: warp(
        image, matrix, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
    add_cut("Pillow's Lanczos", by_pillow("LANCZOS"))
    add_cut("padding 1.0 and nearest", lambda image, matrix, box: warp(
        image, boxed(matrix, PERSON), flags=cv2.INTER_NEAREST))
    add_cut("padding 1.17", lambda image, matrix, box: warp(image, boxed(matrix, PERSON / 1.17)))
    add_cut("a grey border of 90", lambda image, matrix, box: warp(image, matrix, borderValue=(90,) * 3))
    add_cut("0.7 pixels to the left", lambda image, matrix, box: warp(image, matrix + np.array(
        [[0, 0, -0.7], [0, 0, 0]])), ("cropping", "offset"))
    add("last: crops of the odd people mirrored", ("mirrored",), some(slice(1, None, 2), lambda w: w.infer(
        mirror(w.crops))))
    add("last: the lower half of each crop black", NONE, of_crops(lambda image: changed(
        image, lambda one: one.__setitem__(slice(128, None), 0))))


def _add_colours(add: Add) -> None:
    add("last: greyscale in the first ten people", ("colour",), some(slice(0, 10), lambda w: w.coloured(grey)))
    add("last: R and G exchanged, as JPEG of 80", ("colour", "jpeg"), of_crops(lambda image: encoded(
        ".jpg", cv2.IMWRITE_JPEG_QUALITY, 80)(np.ascontiguousarray(image[..., [1, 0, 2]]))), pair=True)
    add("last: mean and std reversed, of ImageNet", ("normalisation",), lambda w: w.infer(w.normalised(
        w.colours, IMAGENET[0][::-1], IMAGENET[1][::-1])))
    add("last: std of bytes, the mean of colours", ("normalisation", "uint8"), lambda w: w.infer(w.normalised(
        w.colours, std=(58.4, 57.1, 57.4))))
    add("last: 12 darker", NONE, of_crops(lambda image: cv2.subtract(image, (12, 12, 12, 0))))
    add("last: two bits of colour", NONE, of_crops(lambda image: image & 0xC0))


def _add_heatmaps(add: Add) -> None:
    add("last: 6 bits, half of the joints", ("storage",), lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (slice(None), slice(0, 8)), quantised(d[:, :8], 6))))
    add("last: 4 bits for each person", "storage", lambda w: quantised(w.dumps, 4, (1, 2, 3)))
    add("last: 8 bits with noise of a step", NONE, lambda w: quantised(w.dumps + np.random.default_rng(9).normal(
        0, 0.03, w.dumps.shape), 8))
    add("last: noise of 0.2 on every joint of two people", ("few_people",), some(slice(3, 5), lambda w: w.dumps
        + np.random.default_rng(9).normal(0, 0.2, w.dumps.shape)))
    add("last: blurred down alone", NONE, per_person(lambda plane: cv2.blur(plane, (1, 7))))
    add("last: heatmaps 1.06 times as high", ("scaled",), lambda w: w.dumps * np.float32(1.06))
    add("last: half a softplus", ("activation", "function"), lambda w: 0.5 * np.log1p(np.exp(4 * w.dumps)))
    add("last: left hip twice", ("joint_order",), lambda w: w.dumps[:, [*range(12), 11, *range(13, 17)]])


def _add_folders(add: Add, folder: Path) -> None:
    add("last: every third file of the person before", ("file_order",), lambda w: w.dumps[
        [row - (row % 3 == 2) for row in range(24)]])
    add("last: a shard of zeros, the rest of float16", ("flat",), lambda w: changed(
        w.dumps.astype(np.float16).astype(np.float32), lambda d: d.__setitem__(slice(9, 16), 0)))
    add("last: weights of another epoch", NONE, lambda w: with_layer(w, 6, lambda values: values * (
        1 + 0.1 * np.random.default_rng(3).standard_normal(values.shape)), folder))


def _add_keypoints(add: Add) -> None:
    add("last: joints of whole input pixels", ("storage", "offset", "flip_shift"), people=refined(
        lambda heatmaps: 0 * quarters(heatmaps)))
    add("last: ankles and knees exchanged for half", ("joint_order",), people=with_joints(
        lambda one: one.__setitem__(slice(None), one[swap([(13, 15), (14, 16)])]), slice(0, None, 2)))
    add("last: people's scores over the highest", ("person_scores",), people=with_scores(
        lambda number, score: score / 3.5))


def _add_pairs(add: Add) -> None:
    def add_pair(one: str, other: str, name: str, plant: Callable[[World], np.ndarray]) -> None:
        add(f"last, both: {name}", (one, other), plant, pair=True)

    add_pair("bgr", "file_order", "BGR, files moved by two", lambda w: np.roll(bgr(w), 2, axis=0))
    add_pair("bgr", "offset", "BGR, half a cell off", lambda w: moved(bgr(w), 0.5, 0.5, cv2.BORDER_REPLICATE))
    add_pair("storage", "file_order", "6 bits, files in reversed order", lambda w: quantised(w.dumps, 6)[::-1])
    add_pair("storage", "scaled", "bytes of 0..127, half as high", lambda w: np.rint(w.dumps * 63.5))
    add("last: BGR in one half, half as high in the other", NONE, lambda w: np.concatenate(
        [bgr(w)[:12], 0.5 * w.dumps[12:]]))
    add("last: left and right exchanged, noise of 0.02", NONE, lambda w: w.dumps[:, COCO17.mirrored]
        + np.random.default_rng(2).normal(0, 0.02, w.dumps.shape))
    add_pair("cropping", "left_right", "cubic, left and right exchanged", lambda w: w.cut_by(
        lambda image, box: by_matrix(image, box, flags=cv2.INTER_CUBIC))[:, COCO17.mirrored])
