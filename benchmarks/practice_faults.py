"""Faults as they are made in practice: what goes wrong on the way from photos to keypoints, other calls of a library,
parts of a folder, two runs mixed, and two mistakes at once. Written from that side, without the causes being read."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, List, Sequence, Tuple

import cv2
import numpy as np
from faults import HALF, IMAGENET, NONE, Add, Faults, World, changed, grey, jpeg, moved, quantised, swap, to_bfloat16
from fresh_faults import cut_by, from_byte, with_joints, with_layer, with_scores
from held_out_faults import encoded, of_crops, quarters, refined, some

from pose.crops import mirror
from pose.heatmaps import flip_back, shift_clean
from pose.skeleton import COCO17

SIZE = (192, 256)  # of a crop, as OpenCV has it
Plant = Callable[[World], np.ndarray]


def practice_faults(folder: Path) -> Faults:
    """`folder` is for changed models."""
    made = Faults()
    _add_folders(made.add)
    _add_stored(made.add)
    _add_heatmaps(made.add)
    _add_noise(made.add)
    _add_colours(made.add)
    _add_normalisations(made.add)
    _add_interpolations(made.add)
    _add_boxes(made.add)
    _add_turned(made.add)
    _add_models(made.add, folder)
    _add_mirrored(made.add)
    _add_keypoints(made.add)
    _add_decoding(made.add)
    _add_pairs(made.add)
    _add_mixed(made.add)
    return made


def bgr(w: World) -> np.ndarray:
    return w.coloured(lambda values: values[:, ::-1])


def per_person(change: Callable[[np.ndarray], np.ndarray]) -> Plant:
    """Dumps whose planes (h, w) are changed one by one."""
    return lambda w: np.stack([[change(plane) for plane in one] for one in w.dumps])


def _add_folders(add: Add) -> None:
    def photos_turned_around(w: World) -> np.ndarray:
        """The people of each photo in reversed order."""
        images = w.manifest["image_id"]
        return w.dumps[[row for image in dict.fromkeys(images.tolist())
                        for row in np.flatnonzero(images == image)[::-1]]]

    add("people of each photo in reversed order", "file_order", photos_turned_around)
    add("people by the score of their box", "file_order", lambda w: w.dumps[np.argsort(-w.manifest["score"])])
    add("the first file was lost, the last is there twice", "file_order", lambda w: w.dumps[
        [*range(1, len(w.dumps)), -1]])
    add("the second shard begins one file late", "file_order", lambda w: w.dumps[[*range(12), 11, *range(12, 23)]])
    add("the last eight files moved by three", ("file_order",), lambda w: w.dumps[
        [*range(16), *np.roll(np.arange(16, 24), 3)]])
    add("every fourth person zero", ("flat", "few_people"), lambda w: changed(w.dumps, lambda d: d.__setitem__(
        slice(3, None, 4), 0)))
    add("a shard of zeros at the front", ("flat",), lambda w: changed(w.dumps, lambda d: d.__setitem__(slice(0, 7), 0)))
    add("one person zero", ("flat", "few_people"), lambda w: changed(w.dumps, lambda d: d.__setitem__(19, 0)))
    add("the last rows of each file zero", NONE, lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (slice(None), slice(None), slice(52, None)), 0)))
    add("the second half of each file zero", ("flat",), lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (slice(None), slice(9, None)), 0)))
    add("one joint zero for one person", ("flat", "few_people"), lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (6, 11), 0)))
    add("both ankles zero", "flat", lambda w: changed(w.dumps, lambda d: d.__setitem__((slice(None), [15, 16]), 0)))
    add("memory that nobody wrote for three people", ("few_people",), lambda w: changed(
        w.dumps, lambda d: d.__setitem__(slice(5, 8), np.random.default_rng(4).normal(0, 1e3, d[5:8].shape))))
    add("an offset of 64 bytes in half of the files", ("layout", "offset"), some(slice(12, None), lambda w: from_byte(
        w.dumps, 64)))


def _add_stored(add: Add) -> None:
    add("bytes of heatmaps times 255", ("storage", "scaled"), lambda w: np.clip(np.rint(w.dumps * 255), 0, 255),
        pair=True)
    add("signed bytes of a range of 0.5", ("storage", "saturation"), lambda w: np.clip(
        np.rint(w.dumps / 0.5 * 127), -128, 127) * np.float32(0.5 / 127))
    add("two decimals", "storage", lambda w: np.round(w.dumps, 2))
    add("three digits as text", "storage", lambda w: np.vectorize(lambda value: float(f"{value:.2e}"))(w.dumps))
    add("heatmaps of 4 bits per joint", "storage", lambda w: quantised(w.dumps, 4, (0, 2, 3)))
    add("heatmaps of 6 bits with a zero point", "storage", lambda w: (np.clip(np.rint(w.dumps * 50) + 12, 0, 63) - 12)
        / np.float32(50))
    add("heatmaps of 7 bits, cut off and not rounded", "storage", lambda w: np.floor(w.dumps * 64) / np.float32(64))
    add("half of the people of 4 bits", ("storage",), some(slice(0, 12), lambda w: quantised(w.dumps, 4)))
    add("float16 of heatmaps times 100000", ("saturation", "scaled", "function"), lambda w: np.minimum(
        w.dumps * 1e5, 65504).astype(np.float16))
    add("dumps of float16 in the wrong order", "file_order", lambda w: np.roll(w.dumps.astype(np.float16), 4, axis=0))


def _add_heatmaps(add: Add) -> None:
    curve = ("activation", "function")
    left = [joint for joint in range(17) if COCO17.mirrored[joint] > joint]
    add("a hard sigmoid", ("scaled",), lambda w: np.clip(w.dumps / 6 + 0.5, 0, 1))
    add("SiLU", curve, lambda w: w.dumps / (1 + np.exp(-w.dumps)))
    add("half a tanh", (*curve, "scaled"), lambda w: 0.5 * np.tanh(w.dumps))
    add("heatmaps to the power of 0.7", curve, lambda w: np.maximum(w.dumps, 0) ** 0.7)
    add("values below 0.2 are 0", curve, lambda w: np.where(w.dumps < 0.2, 0, w.dumps))
    add("each heatmap over its sum", ("scaled", "activation"), lambda w: w.dumps / np.abs(w.dumps).sum(
        axis=(2, 3), keepdims=True))
    add("each heatmap from 0 to 1", ("scaled",), lambda w: (w.dumps - w.dumps.min(axis=(2, 3), keepdims=True)) / (
        np.ptp(w.dumps, axis=(2, 3), keepdims=True)))
    add("left joints 0.7 times as high", "scaled", lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (slice(None), left), d[:, left] * 0.7)))
    add("people of every other scale", ("scaled",), lambda w: w.dumps * np.random.default_rng(8).uniform(
        0.5, 1.5, (24, 1, 1, 1)))
    add("heatmaps 3 times as high, less 0.2", "scaled", lambda w: w.dumps * 3 - np.float32(0.2))
    add("left eye where the right one is", ("joint_order",), lambda w: w.dumps[:, [0, 2, 2, *range(3, 17)]])
    add("shoulders and hips exchanged", "joint_order", lambda w: w.dumps[:, swap([(5, 11), (6, 12)])])
    add("joints of OpenPose's order", "joint_order", lambda w: w.dumps[
        :, [0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]])
    add("faces' left and right exchanged", ("joint_order", "left_right"), lambda w: w.dumps[:, swap([(1, 2), (3, 4)])])
    add("one joint mirrored", ("mirrored",), lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (slice(None), 10), d[:, 10, :, ::-1])))
    add("heatmaps turned by a quarter", NONE, lambda w: np.stack([[cv2.resize(np.rot90(plane).copy(), (48, 64))
                                                                  for plane in one] for one in w.dumps]))
    add("heatmaps one cell down for three people", ("offset", "few_people"), some(slice(8, 11), lambda w: moved(
        w.dumps, 0, 1, cv2.BORDER_REPLICATE)))


def _add_noise(add: Add) -> None:
    def noisy(name: str, change: Callable[[np.random.Generator, np.ndarray], np.ndarray]) -> None:
        add(f"noise: {name}", NONE, lambda w: change(np.random.default_rng(6), w.dumps))

    noisy("of 0.05", lambda rng, d: d + rng.normal(0, 0.05, d.shape))
    noisy("of a fifth of each value", lambda rng, d: d * (1 + rng.normal(0, 0.2, d.shape)))
    noisy("one cell of a hundred is 1", lambda rng, d: np.where(rng.random(d.shape) < 0.01, 1, d))
    noisy("in every second person", lambda rng, d: changed(d, lambda c: c.__setitem__(
        slice(None, None, 2), c[::2] + rng.normal(0, 0.1, c[::2].shape))))
    noisy("one map for everybody", lambda rng, d: d + rng.normal(0, 0.1, d[:1].shape))
    for name, change in {"a Gaussian of 1": lambda plane: cv2.GaussianBlur(plane, (0, 0), 1),
                         "a mean of 5 columns": lambda plane: cv2.blur(plane, (5, 1)),
                         "sharpened": lambda plane: 2 * plane - cv2.GaussianBlur(plane, (0, 0), 1.5)}.items():
        add(f"blur: {name}", NONE, per_person(change))
    add("blur: of two joints", NONE, lambda w: changed(w.dumps, lambda d: d.__setitem__(
        (slice(None), slice(9, 11)), np.stack([[cv2.blur(plane, (7, 7)) for plane in one[9:11]] for one in d]))))


def _add_colours(add: Add) -> None:
    weights = {"of BT.709": (0.2126, 0.7152, 0.0722), "as the mean of three": (1 / 3,) * 3, "of red": (1, 0, 0)}
    for name, parts in weights.items():
        add(f"greyscale {name}", ("colour",), lambda w, parts=parts: w.coloured(lambda v: np.repeat(np.einsum(
            "nchw,c->nhw", v, np.array(parts, np.float32))[:, None], 3, axis=1)))
    add("photos read as greyscale", "colour", lambda w: cut_by(w, lambda image, matrix, box: warp(cv2.cvtColor(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), matrix)))
    add("R and G exchanged after the normalisation", ("colour",), lambda w: w.infer(w.crops[:, [1, 0, 2]]))
    add("G and B exchanged in half of the people", ("colour",), some(slice(12, None), lambda w: w.coloured(
        lambda v: v[:, [0, 2, 1]])))
    add("BGR in the second batch alone", ("bgr",), some(slice(16, None), bgr))
    add("one person read as BGR", ("bgr", "few_people"), some(slice(2, 3), bgr))
    add("linear light", ("colour",), lambda w: w.coloured(lambda v: np.where(
        v < 0.04045, v / 12.92, ((np.maximum(v, 0) + 0.055) / 1.055) ** 2.4)))
    add("BT.709 taken for BT.601", ("colour",), of_crops(lambda image: cv2.cvtColor(cv2.cvtColor(
        image, cv2.COLOR_RGB2YCrCb), cv2.COLOR_YCrCb2RGB) // 2 + image[..., [1, 0, 2]] // 2))
    add("30 brighter, at most 255", NONE, of_crops(lambda image: cv2.add(image, (30, 30, 30, 0))))
    add("half as bright", NONE, lambda w: w.coloured(lambda v: v / 2))
    add("hues turned by 20 degrees", NONE, of_crops(hues_turned))
    add("colours of a palette of 32", NONE, of_crops(lambda image: np.stack(
        [image[..., 0] & 0xE0, image[..., 1] & 0xE0, image[..., 2] & 0xC0], axis=2)))
    for quality in (10, 60):
        add(f"crops as JPEG of {quality}", ("jpeg",), of_crops(encoded(".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)))


def hues_turned(image: np.ndarray) -> np.ndarray:
    parts = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    parts[..., 0] = (parts[..., 0].astype(int) + 10) % 180
    return cv2.cvtColor(parts, cv2.COLOR_HSV2RGB)


def _add_normalisations(add: Add) -> None:
    def columns(values: Sequence[float]) -> np.ndarray:
        return np.array(values, np.float32)[:, None, None]

    def with_constants(name: str, mean: Callable, std: Callable) -> None:
        add(name, ("normalisation",), lambda w: w.infer(w.normalised(w.colours, mean(w.spec.mean), std(w.spec.std))))

    with_constants("mean reversed, BGR's left", lambda mean: mean[::-1], lambda std: (0.229, 0.224, 0.225))
    with_constants("std of 1 beside ImageNet's mean", lambda mean: IMAGENET[0], lambda std: (1, 1, 1))
    with_constants("std reversed and squared", lambda mean: mean, lambda std: tuple(one ** 2 for one in std[::-1]))
    with_constants("the mean of 0.5 alone", lambda mean: HALF[0], lambda std: std)
    with_constants("the mean of bytes from colours of 0..1", lambda mean: tuple(255 * one for one in mean),
                   lambda std: std)
    add("BGR with mean and std reversed", "bgr", lambda w: w.infer(w.crops[:, ::-1].copy()))
    add("-1..1, then normalised", ("normalisation",), lambda w: w.infer(w.normalised(w.colours * 2 - 1)))
    add("bytes less the mean, as bytes", ("normalisation", "uint8"), lambda w: w.infer(w.normalised(
        np.rint(w.colours * 255 - 255 * columns(w.spec.mean)).astype(np.int64).astype(np.uint8) / np.float32(255),
        (0, 0, 0))))
    add("cast to bytes after dividing by 255", ("flat", "uint8", "normalisation"), lambda w: w.infer(w.normalised(
        np.floor(w.colours + 1e-4))))
    add("crops of 8 bits, per channel", "precision", lambda w: w.infer(quantised(w.crops, 8, (0, 2, 3))))
    add("crops of 5 bits", ("precision",), lambda w: w.infer(quantised(w.crops, 5)))
    add("bytes of an AIPP that takes no mean", ("normalisation", "uint8"), lambda w: w.infer(w.normalised(
        w.colours * 255, (0, 0, 0))))


def warp(image: np.ndarray, matrix: np.ndarray, **options: Any) -> np.ndarray:
    return cv2.warpAffine(image, matrix, SIZE, **{"flags": cv2.INTER_LINEAR, **options})


def by_pillow(resample: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """The box resized by Pillow, which looks at all pixels of a larger photo, with black around the photo."""
    def cut(image: np.ndarray, matrix: np.ndarray, box: np.ndarray) -> np.ndarray:
        from PIL import Image

        x0, y0, x1, y1 = np.rint(box).astype(int)
        part = Image.fromarray(image).crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))
        return np.asarray(part.resize(SIZE, getattr(Image.Resampling, resample)))

    return cut


def _add_interpolations(add: Add) -> None:
    def add_cut(name: str, cut: Callable, causes: Any = ("cropping",)) -> None:
        add(f"crops by {name}", causes, lambda w: cut_by(w, cut))

    for resample in ("NEAREST", "BILINEAR", "BICUBIC", "BOX"):
        add_cut(f"Pillow, {resample.lower()}", by_pillow(resample))
    add_cut("cv2.resize of a part, area", lambda image, matrix, box: resized(image, box, cv2.INTER_AREA))
    add_cut("cv2.resize of a part, nearest", lambda image, matrix, box: resized(image, box, cv2.INTER_NEAREST))
    add_cut("cubic interpolation and a border of 114", lambda image, matrix, box: warp(
        image, matrix, flags=cv2.INTER_CUBIC, borderValue=(114,) * 3))
    add_cut("nearest, from the middle of a pixel", lambda image, matrix, box: warp(
        image, matrix @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]), flags=cv2.INTER_NEAREST),
        ("cropping", "offset"))
    add_cut("a float warp without rounding to bytes", lambda image, matrix, box: np.clip(np.floor(warp(
        image.astype(np.float32), matrix)), 0, 255).astype(np.uint8))
    add_cut("a JPEG read at half its size", lambda image, matrix, box: warp(cv2.resize(
        image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.hstack([2 * matrix[:, :2], matrix[:, 2:]])),
        ("cropping", "resampling"))
    add_cut("photos of twice the size", lambda image, matrix, box: warp(cv2.resize(
        image, None, fx=2, fy=2), np.hstack([matrix[:, :2] / 2, matrix[:, 2:]])), ("cropping", "resampling"))
    for border in (100, 127):
        add_cut(f"a grey border of {border}", lambda image, matrix, box, border=border: warp(
            image, matrix, borderValue=(border,) * 3))
    add_cut("a border of 0 after the normalisation", lambda image, matrix, box: warp(image, matrix, borderValue=(
        104, 117, 122)))


def resized(image: np.ndarray, box: np.ndarray, interpolation: int) -> np.ndarray:
    """The box's part of the photo with black around it, by cv2.resize."""
    x0, y0, x1, y1 = np.rint(box).astype(int)
    height, width = image.shape[:2]
    around = [max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0)]
    padded = cv2.copyMakeBorder(image, *around, cv2.BORDER_CONSTANT)
    return cv2.resize(padded[y0 + around[0]:y1 + around[0], x0 + around[2]:x1 + around[2]], SIZE,
                      interpolation=interpolation)


def _add_boxes(add: Add) -> None:
    def add_box(name: str, change: Callable[[np.ndarray, np.ndarray], np.ndarray], causes: Any = ("cropping",)) -> None:
        """`change` makes the box (4,) xyxy that is cut, of the crop's own and the photo."""
        def cut(image: np.ndarray, matrix: np.ndarray, box: np.ndarray) -> np.ndarray:
            x0, y0, x1, y1 = change(box, image)
            width, height = SIZE
            return warp(image, np.array([[width / (x1 - x0), 0, -x0 * width / (x1 - x0)],
                                         [0, height / (y1 - y0), -y0 * height / (y1 - y0)]]))

        add(f"boxes: {name}", causes, lambda w: cut_by(w, cut))

    def grown(box: np.ndarray, x: float, y: float) -> np.ndarray:
        center, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * (x, y)
        return np.concatenate([center - half, center + half])

    add_box("padding 1.0 where 1.25 was", lambda box, image: grown(box, 0.8, 0.8))
    add_box("padding 1.2", lambda box, image: grown(box, 0.96, 0.96))
    add_box("padding 1.4", lambda box, image: grown(box, 1.12, 1.12))
    add_box("square instead of 3 to 4", lambda box, image: grown(box, 4 / 3, 1))
    add_box("of whole pixels", lambda box, image: np.rint(box))
    add_box("cut to the photo", lambda box, image: np.clip(box, 0, [*image.shape[1::-1]] * 2))
    add_box("a tenth higher up", lambda box, image: box - np.array([0, 1, 0, 1]) * (box[3] - box[1]) / 10,
            ("cropping", "offset"))
    add_box("width and height one smaller", lambda box, image: box - (0, 0, 1, 1))


def _add_turned(add: Add) -> None:
    add("every third crop mirrored", ("mirrored",), some(slice(None, None, 3), lambda w: w.infer(mirror(w.crops))))
    add("half of the crops upside down", ("mirrored",), some(slice(12, None), lambda w: w.infer(w.crops[:, :, ::-1])))
    add("crops mirrored, left and right exchanged", ("mirrored", "left_right"), lambda w: w.infer(
        mirror(w.crops))[:, COCO17.mirrored], pair=True)
    add("crops lying on their side", NONE, of_crops(lambda image: cv2.resize(np.rot90(image).copy(), SIZE)))
    add("crops upside down and BGR", ("mirrored", "bgr"), lambda w: w.coloured(lambda v: v[:, ::-1, ::-1]), pair=True)
    add("crops three pixels to the right", ("offset", "cropping"), lambda w: w.infer(np.roll(w.crops, 3, axis=3)))
    for name, change in {"blurred by 3": lambda image: cv2.GaussianBlur(image, (3, 3), 0),
                         "the median of 5": lambda image: cv2.medianBlur(image, 5),
                         "smeared by motion": lambda image: cv2.blur(image, (9, 1)),
                         "with noise of 25": lambda image: np.clip(image + np.random.default_rng(
                             int(image.sum())).normal(0, 25, image.shape), 0, 255)}.items():
        add(f"crops {name}", NONE, of_crops(change))
    add("crops three quarters as sharp", ("resampling", "cropping"), of_crops(lambda image: cv2.resize(
        cv2.resize(image, (144, 192)), SIZE)))


def with_graph(w: World, folder: Path, change: Callable[[Any], Any]) -> np.ndarray:
    """Dumps of the model whose ONNX graph is changed in place."""
    import onnx

    model = onnx.load(w.model)
    change(model.graph)
    onnx.save(model, folder / "graph.onnx")
    return w.infer(w.crops, folder / "graph.onnx")


def _add_models(add: Add, folder: Path) -> None:
    def padded_below(graph: Any) -> None:
        """The padding of TensorFlow's SAME: strided convolutions of 3 by 3 are padded below and to the right alone."""
        for node in graph.node:
            given = {one.name: one for one in node.attribute}
            if node.op_type == "Conv" and list(given["strides"].ints) == [2, 2] and sum(given["pads"].ints):
                most = max(given["pads"].ints)
                given["pads"].ints[:] = [most - 1, most - 1, most, most] if most > 1 else [0, 0, 1, 1]

    add("strided convolutions padded as TensorFlow does", ("offset",), lambda w: with_graph(w, folder, padded_below))
    add("layer 1 with 3 % other weights", NONE, lambda w: with_layer(w, 1, lambda v: v * (
        1 + 0.03 * np.random.default_rng(2).standard_normal(v.shape)), folder))
    add("kernels of the first layer transposed", NONE, lambda w: with_layer(w, 0, lambda v: v.swapaxes(2, 3), folder))
    add("layer 20 in 3 bits", ("precision",), lambda w: with_layer(w, 20, lambda v: quantised(v, 3), folder))
    add("layer 10 clipped", NONE, lambda w: with_layer(
        w, 10, lambda v: np.clip(v, *np.quantile(v, (0.1, 0.9))), folder))
    add("weights and crops of bfloat16, stored as float16", ("precision",), lambda w: with_layer(w._replace(
        crops=to_bfloat16(w.crops)), 0, to_bfloat16, folder).astype(np.float16))


def _add_mirrored(add: Add) -> None:
    def add_mirrored(name: str, causes: Any, plant: Plant) -> None:
        add(f"the mirrored side: {name}", causes, lambda w: w.dumps, plant)

    add_mirrored("crops upside down instead", "mirrored", lambda w: w.infer(w.crops[:, :, ::-1]))
    add_mirrored("half of the people zero", ("flat",), lambda w: changed(w.flipped, lambda d: d.__setitem__(
        slice(12, None), 0)))
    add_mirrored("every second person not mirrored", ("mirrored",), lambda w: changed(
        w.flipped, lambda d: d.__setitem__(slice(None, None, 2), w.dumps[::2])))
    add_mirrored("noise", NONE, lambda w: (w.flipped + np.random.default_rng(3).normal(
        0, 0.1, w.flipped.shape)).astype(np.float32))
    add_mirrored("6 bits", "storage", lambda w: quantised(w.flipped, 6))
    add_mirrored("the arms' pairs exchanged", "joint_order", lambda w: w.flipped[:, swap([(5, 6), (7, 8), (9, 10)])])
    add_mirrored("one row down", "offset", lambda w: moved(w.flipped, 0, 1, cv2.BORDER_REPLICATE))
    add_mirrored("joint 4 zero", "flat", lambda w: changed(w.flipped, lambda d: d.__setitem__((slice(None), 4), 0)))


def _add_keypoints(add: Add) -> None:
    def joints(name: str, causes: Any, change: Callable[[np.ndarray], Any], *rows: slice) -> None:
        add(f"in a keypoints file: {name}", causes, people=with_joints(change, *rows))

    def exchange(one: np.ndarray, pairs: List[Tuple[int, int]]) -> None:
        one[:] = one[swap(pairs)]

    joints("x and y exchanged in half of the people", ("joint_order",), lambda one: one.__setitem__(
        (slice(None), [0, 1]), one[:, [1, 0]]), slice(12, None))
    joints("30 pixels to the right for three people", ("offset", "few_people"), lambda one: one.__iadd__((30, 0, 0)),
           slice(3, 6))
    joints("one pixel off, as MATLAB counts", ("offset",), lambda one: one.__iadd__((1, 1, 0)))
    joints("cut to whole pixels", ("storage", "offset"), lambda one: one.__setitem__(
        (slice(None), slice(0, 2)), np.floor(one[:, :2])))
    joints("elbows and wrists exchanged", "joint_order", lambda one: exchange(one, [(7, 9), (8, 10)]))
    joints("eyes and ears exchanged for one person", ("joint_order", "few_people"), lambda one: exchange(
        one, [(1, 3), (2, 4)]), slice(7, 8))
    joints("left joints where the right ones are", ("joint_order",), lambda one: one.__setitem__(
        [5, 7, 9, 11, 13, 15], one[[6, 8, 10, 12, 14, 16]]))
    joints("a photo of 1.5 times the size", ("resampling", "scaled"), lambda one: one.__imul__((1.5, 1.5, 1)))
    joints("joint scores are 1", ("scaled", "flat", "saturation", "activation"), lambda one: one.__setitem__(
        (slice(None), 2), 1))
    joints("joint scores are a sigmoid's", ("activation",), lambda one: one.__setitem__(
        (slice(None), 2), 1 / (1 + np.exp(-one[:, 2]))))
    joints("joints of low score at 0, 0", NONE, lambda one: one.__setitem__(one[:, 2] < 0.4, 0))
    joints("noise of 15 pixels on the wrists", NONE, lambda one: one.__setitem__(
        ([9, 10], slice(0, 2)), one[9:11, :2] + np.random.default_rng(int(abs(one[0, 0]) * 10)).normal(0, 15, (2, 2))))
    add("in a keypoints file: less the corner of the box", ("offset", "resampling"), people=less_the_corner)
    add("scores of people: 0 for half of them", ("person_scores",), people=with_scores(
        lambda number, score: score * (number % 2)))
    add("scores of people: negative", ("person_scores",), people=with_scores(lambda number, score: -score))
    add("scores of people: one for three of them", ("person_scores", "few_people"), people=with_scores(
        lambda number, score: 1.0 if number in (4, 5, 6) else score))
    add("scores of people: of the box instead", ("person_scores",), people=lambda w: [
        {**person, "score": float(score)} for person, score in zip(w.people(), w.manifest["score"])])


def less_the_corner(w: World) -> List:
    people = w.people()
    for person, box in zip(people, w.manifest["crop_xyxy"]):
        values = np.reshape(person["keypoints"], (-1, 3))
        values[:, :2] -= box[:2]
        person["keypoints"] = values.ravel().tolist()
    return people


def _add_decoding(add: Add) -> None:
    def fused(make: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[World], List]:
        return lambda w: w.people(make(w.dumps, w.flipped).astype(np.float32))

    decoded = ("flip_shift", "offset")
    add("decoded: the sum of both crops", ("scaled",), people=fused(lambda one, flip: one + shift_clean(
        flip_back(flip))))
    add("decoded: the smaller of both", ("flip_shift",), people=fused(lambda one, flip: np.minimum(
        one, shift_clean(flip_back(flip)))))
    add("decoded: the face's pairs missing", ("left_right", "flip_shift"), people=fused(lambda one, flip: (
        one + shift_clean(flip[:, [*range(5), *COCO17.mirrored[5:]], :, ::-1])) / 2))
    add("decoded: the mirrored crop not turned back", ("flip_shift", "mirrored"), people=fused(lambda one, flip: (
        one + shift_clean(flip[:, COCO17.mirrored])) / 2))
    add("decoded: a quarter the wrong way", decoded, people=refined(lambda heatmaps: -quarters(heatmaps)))
    add("decoded: half a cell to the right and down", ("offset",), people=refined(
        lambda heatmaps: quarters(heatmaps) + 0.5))
    add("decoded: a quarter in x alone", decoded, people=refined(lambda heatmaps: quarters(heatmaps) * (1, 0)))


def _add_pairs(add: Add) -> None:
    """Two at once: both are found, or nothing."""
    def add_pair(one: str, other: str, name: str, plant: Plant) -> None:
        add(f"at once: {name}", (one, other), plant, pair=True)

    turned, next_file = COCO17.mirrored, np.roll(np.arange(24), 1)
    add_pair("storage", "left_right", "6 bits, left and right exchanged", lambda w: quantised(w.dumps, 6)[:, turned])
    add_pair("storage", "offset", "5 bits, one column off", lambda w: quantised(moved(
        w.dumps, 1, 0, cv2.BORDER_REPLICATE), 5))
    add_pair("storage", "bgr", "BGR, 4 bits", lambda w: quantised(bgr(w), 4))
    add_pair("colour", "file_order", "grey, files moved by two", lambda w: np.roll(w.coloured(grey), 2, axis=0))
    add_pair("cropping", "bgr", "cubic, BGR", lambda w: w.cut_by(lambda image, box: by_matrix(
        image[..., ::-1], box, flags=cv2.INTER_CUBIC)))
    add_pair("cropping", "file_order", "nearest, files shifted", lambda w: w.cut(flags=cv2.INTER_NEAREST)[next_file])
    add_pair("cropping", "colour", "a border of 114, grey", lambda w: w.cut_by(lambda image, box: by_matrix(
        cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), box, borderValue=(114,) * 3)))
    add_pair("normalisation", "left_right", "mean left out, left and right exchanged", lambda w: w.infer(w.normalised(
        w.colours, (0, 0, 0)))[:, turned])
    add_pair("colour", "normalisation", "R and G exchanged, 0.5 and 0.5", lambda w: w.infer(w.normalised(
        w.colours[:, [1, 0, 2]], *HALF)))
    add_pair("jpeg", "bgr", "JPEG of 30, BGR", lambda w: w._replace(crops=w.normalised(
        w.colours[:, ::-1])).infer(w.normalised(jpegged(w.colours, 30)[:, ::-1])))
    add_pair("flat", "bgr", "one joint zero, BGR", lambda w: changed(bgr(w), lambda d: d.__setitem__(
        (slice(None), 9), 0)))
    add_pair("flat", "file_order", "a shard of zeros, files shifted", lambda w: changed(
        w.dumps[next_file], lambda d: d.__setitem__(slice(0, 6), 0)))
    add_pair("scaled", "offset", "half as high, half a cell off", lambda w: 0.5 * moved(
        w.dumps, 0.5, 0.5, cv2.BORDER_REPLICATE))
    add_pair("mirrored", "file_order", "crops mirrored, files shifted", lambda w: w.infer(mirror(w.crops))[next_file])
    add_pair("activation", "offset", "a sigmoid, one row off", lambda w: 1 / (1 + np.exp(-moved(
        w.dumps, 0, 1, cv2.BORDER_REPLICATE))))
    add_pair("saturation", "file_order", "clipped at 0.5, files shifted", lambda w: np.minimum(w.dumps, 0.5)[next_file])
    add_pair("joint_order", "scaled", "wrists exchanged, 1.2 times as high", lambda w: 1.2 * w.dumps[
        :, swap([(9, 10)])])
    add_pair("transposed", "left_right", "transposed, left and right exchanged", lambda w: w.dumps[
        :, turned].swapaxes(2, 3).reshape(w.dumps.shape))


def jpegged(values: np.ndarray, quality: int) -> np.ndarray:
    """Colours (N, 3, H, W) in 0..1 after JPEG."""
    again = encoded(".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)
    pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.stack([again(np.ascontiguousarray(crop)) for crop in pixels]).transpose(0, 3, 1, 2) / np.float32(255)


def by_matrix(image: np.ndarray, box: np.ndarray, **options: Any) -> np.ndarray:
    from pose.crops import get_affine

    center, scale = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    return warp(np.ascontiguousarray(image), get_affine(
        center.astype(np.float32), scale.astype(np.float32), SIZE[::-1]), **options)


def _add_mixed(add: Add) -> None:
    """One mistake in one part of the people and another in the other, or three at once: no one cause explains them."""
    first, second = slice(0, 12), slice(12, None)

    def both(one: Plant, other: Plant) -> Plant:
        return lambda w: np.concatenate([one(w)[first], other(w)[second]])

    add("mixed: BGR and files shifted", NONE, both(bgr, lambda w: np.roll(w.dumps, 1, axis=0)))
    add("mixed: half as high and one column off", NONE, both(lambda w: 0.5 * w.dumps, lambda w: moved(
        w.dumps, 1, 0, cv2.BORDER_REPLICATE)))
    add("mixed: a sigmoid and left and right exchanged", NONE, both(
        lambda w: 1 / (1 + np.exp(-w.dumps)), lambda w: w.dumps[:, COCO17.mirrored]))
    add("mixed: grey and JPEG", NONE, both(lambda w: w.coloured(grey), lambda w: jpeg(w, 30)))
    add("mixed: noise and not normalised", NONE, both(lambda w: w.dumps + np.random.default_rng(1).normal(
        0, 0.1, w.dumps.shape), lambda w: w.infer(w.colours)))
    add("three at once: grey, cubic, 6 bits", NONE, lambda w: quantised(w.cut_by(lambda image, box: by_matrix(
        cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), box, flags=cv2.INTER_CUBIC)), 6))
    add("three at once: left and right exchanged, shifted, noise", NONE, lambda w: np.roll(
        w.dumps[:, COCO17.mirrored], 1, axis=0) + np.random.default_rng(1).normal(0, 0.05, w.dumps.shape))
