"""Painting with soft shading: everything in a picture is the convex hull of a few circles.

Colours are RGB in 0..255, positions are pixels with x right, y down and z towards the viewer.
"""
from __future__ import annotations

import dataclasses
import math
from typing import Tuple

import cv2
import numpy as np
from numpy.random import Generator

Color = Tuple[float, float, float]

OUTLINE = np.stack([np.cos(np.arange(20) * math.tau / 20), np.sin(np.arange(20) * math.tau / 20)], axis=1)
SHADES = (0.66, 0.80, 0.92, 1.02, 1.10)  # from the rim of a part to its lit middle
LIGHT = np.array([-0.34, -0.42])  # where the light comes from in the picture
SUBPIXEL_BITS = 4  # fixed-point fraction of cv2.fillConvexPoly


@dataclasses.dataclass
class Part:
    """The convex hull of circles: a limb is two, a head is two, a torso six."""

    centers: np.ndarray  # (n, 3)
    radii: np.ndarray  # (n,)
    color: Color
    joints: Tuple[str, ...] = ()  # those it never hides
    flat: bool = False  # a detail without shading of its own
    bias: float = 0.0  # added to its depth


def vary(rng: Generator, color: Color, amount: float) -> Color:
    """A colour near `color`: mostly lighter or darker, a little in hue."""
    red, green, blue = np.clip(np.array(color) + rng.normal(0, amount) + rng.normal(0, amount / 3, 3), 12, 250)
    return red, green, blue


def shade(color: Color, factor: float) -> Color:
    red, green, blue = (min(255.0, channel * factor) for channel in color)
    return red, green, blue


def paint(image: np.ndarray, part: Part) -> np.ndarray:
    """Draw a part onto an RGB image with soft shading; returns its outline (n, 1, 2) in fixed point."""
    centers = part.centers[:, :2]
    middle = centers.mean(axis=0)
    for step, factor in enumerate((1.0,) if part.flat else SHADES):
        shrink = 1 - 0.17 * step
        circles = middle + (centers - middle) * (1 - 0.05 * step) + (LIGHT * 0.17 * step) * part.radii[:, None]
        points = (circles[:, None] + OUTLINE * (part.radii * shrink)[:, None, None]).reshape(-1, 2)
        hull = cv2.convexHull(np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32))
        cv2.fillConvexPoly(image, hull, shade(part.color, factor), cv2.LINE_AA, SUBPIXEL_BITS)
        if step == 0:
            outline = hull
    return outline
