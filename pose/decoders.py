"""From a network's output to people's keypoints, for each kind of network.

Axes: N people, K joints, h w of a heatmap. Heatmaps are (N, K, h, w) float32; positions are (x, y).
"""
from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from contract.spec import KEYPOINTS
from pose.dark import find_refined_peaks
from pose.geometry import GEOMETRIES, Size
from pose.heatmaps import expected_positions, find_peaks, turned_back
from pose.mmpose import find_peaks_0x, find_peaks_1x

if TYPE_CHECKING:
    from pose.spec import PoseSpec

def decode_peak(both: Sequence[np.ndarray], find: Callable = find_peaks) -> Tuple[np.ndarray, np.ndarray]:
    """One or two (N, K, h, w) float32 heatmaps, of crops and of mirrored crops -> the peaks of their mean: (N, K, 2)
    float32 positions, (N, K) float32 scores."""
    return find(_mean(both))


def decode_regression(both: Sequence[np.ndarray], norm: str) -> Tuple[np.ndarray, np.ndarray]:
    """One or two (N, K, h, w) float32 heatmaps -> (N, K, 2) float32 positions and (N, K) float32 scores: the means of
    what each of them gives."""
    positions, scores = (_mean(values) for values in zip(*(expected_positions(one, norm) for one in both)))
    return positions, scores


def decode_keypoints(both: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """[(N, K, 3) x, y and score from a one-pass model] -> (N, K, 2) float32 positions, (N, K) float32 scores."""
    return both[0][..., :2], both[0][..., 2]


def keypoint_outputs(spec: PoseSpec) -> Dict[str, Tuple[int, ...]]:
    return {KEYPOINTS: (len(spec.skeleton), 3)}


def heatmap_outputs(spec: PoseSpec) -> Dict[str, Tuple[int, ...]]:
    return {"output": (len(spec.skeleton), *spec.heatmap_size)}


class Decoder(NamedTuple):
    """How a network's output becomes positions.

    decode([(N, K, h, w) heatmaps of crops, and those of mirrored crops, turned back]) -> (N, K, 2) float32 positions in
    pixels of raster(spec), (height, width), and (N, K) float32 scores. outputs(spec) -> name -> shape of the network's
    outputs, without the batch. `of_the_mean`: whether it looks at the mean of both heatmaps.
    """

    decode: Callable[[Sequence[np.ndarray]], Tuple[np.ndarray, np.ndarray]]
    outputs: Callable[[PoseSpec], Dict[str, Tuple[int, ...]]] = heatmap_outputs
    levels: Tuple[str, ...] = ("tensors", "heatmaps", "keypoints", "score")
    raster: Callable[[PoseSpec], Size] = attrgetter("heatmap_size")
    of_the_mean: bool = True


DECODERS: Dict[str, Decoder] = {
    "peak": Decoder(decode_peak),
    "dark": Decoder(partial(decode_peak, find=find_refined_peaks)),
    "mmpose-0.x": Decoder(partial(decode_peak, find=find_peaks_0x)),
    "mmpose-1.x": Decoder(partial(decode_peak, find=find_peaks_1x)),
    "regression_sigmoid": Decoder(partial(decode_regression, norm="sigmoid"), of_the_mean=False),
    "regression_softmax": Decoder(partial(decode_regression, norm="softmax"), of_the_mean=False),
    KEYPOINTS: Decoder(decode_keypoints, keypoint_outputs, ("keypoints", "score"), attrgetter("input_size")),
}


def heatmaps_to_keypoints(heatmaps: np.ndarray, heatmaps_flip: Optional[np.ndarray], crop_xyxy: np.ndarray,
                          spec: PoseSpec, flip_shift: str = "clean") -> Tuple[np.ndarray, np.ndarray]:
    """(N, K, h, w) heatmaps of crops, and of the mirrored crops or None -> (N, K, 2) keypoints in photo pixels
    and (N, K) scores, both float32. Of a one-pass model `heatmaps` are its (N, K, 3) keypoints."""
    both: List[np.ndarray] = [heatmaps]
    if heatmaps_flip is not None:
        both.append(turned_back(heatmaps_flip, spec.skeleton, flip_shift))
    decoder = DECODERS[spec.decode]
    positions, scores = decoder.decode(both)
    return GEOMETRIES[spec.geometry].to_image(positions, crop_xyxy, decoder.raster(spec)), scores


def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of one or two float32 arrays, in float32."""
    if len(values) == 1:
        return values[0]
    mean = values[0] + values[1]
    mean /= np.float32(2)
    return mean
