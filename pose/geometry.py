"""How a person's box becomes a crop, and how positions in the crop's raster become pixels of the image."""
from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Tuple

import numpy as np

from pose import mmpose
from pose.boxes import box_to_center_scale, center_scale_to_xyxy, positions_to_image, three_points_above

Size = Tuple[int, int]  # height, width


class Geometry(NamedTuple):
    """The way of one code base. N people, K joints.

    place(bbox_xyxy (N, 4) float64, width / height of the crop) -> centres (N, 2) and widths and heights (N, 2)
    corners(centres, sizes) -> (N, 4) crop_xyxy, which is what later stages know of the crop
    three_points(centre (2,), width) -> (3, 2) float32, of the photo and of the crop, which pose.crops lays onto each
    other
    to_image(positions (N, K, 2), crop_xyxy (N, 4), heatmap size) -> (N, K, 2) float32 pixels of the image
    """

    place: Callable[[np.ndarray, float], Tuple[np.ndarray, np.ndarray]]
    corners: Callable[[np.ndarray, np.ndarray], np.ndarray]
    three_points: Callable[[np.ndarray, np.float32], np.ndarray]
    to_image: Callable[[np.ndarray, np.ndarray, Size], np.ndarray]


GEOMETRIES: Dict[str, Geometry] = {
    "alphapose": Geometry(box_to_center_scale, center_scale_to_xyxy, three_points_above, positions_to_image),
    "mmpose-0.x": Geometry(mmpose.box_to_center_scale_0x, center_scale_to_xyxy, three_points_above, positions_to_image),
    "mmpose-1.x": Geometry(mmpose.box_to_center_scale_1x, center_scale_to_xyxy, mmpose.three_points_beside,
                           positions_to_image)}
