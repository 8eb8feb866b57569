"""Synthetic photos: people on a ground before a background, each picture a function of its seed.

Images are RGB (H, W, 3) uint8.
"""
from __future__ import annotations

import dataclasses
from typing import List, Optional, Sequence

import cv2
import numpy as np
from numpy.random import Generator

from demo.figures import IN_FRONT, SKIN, TROUSERS, Person, turn
from demo.painting import SUBPIXEL_BITS, Part, paint, vary
from pose.skeleton import COCO17

IMAGE_SIZES = ((480, 640), (427, 640), (640, 480))  # height, width
WALLS = ((206, 214, 218), (150, 182, 214), (226, 206, 176), (178, 190, 160), (196, 176, 168), (120, 138, 152))
GROUNDS = ((128, 140, 92), (168, 148, 118), (150, 146, 140), (110, 98, 84), (190, 172, 140), (98, 112, 124))
MAX_PEOPLE = 5
MAX_OVERLAP = 0.35  # of two people's boxes (intersection over the smaller)
MIN_JOINTS_INSIDE = 7  # a person with fewer in the picture is left out
PLACED_UNSEEN = ("shoulder", "hip", "knee", "ankle")  # the rest of the body shows where these must be


@dataclasses.dataclass
class Scene:
    """One picture and what is in it. keypoints (N, 17, 3): x, y and COCO's visibility; bbox_xywh (N, 4); areas (N,)."""

    image: np.ndarray
    keypoints: np.ndarray
    bbox_xywh: np.ndarray
    areas: np.ndarray


class Canvas:
    """An image and, for each of its pixels, the number of the part that was painted last (0 is none)."""

    def __init__(self, image: np.ndarray):
        self.image = image
        self.owners: np.ndarray = np.zeros(image.shape[:2], np.uint16)
        self.parts: List[Optional[Part]] = [None]

    def paint(self, part: Part) -> None:
        outline = paint(self.image, part)
        cv2.fillConvexPoly(self.owners, outline, len(self.parts), cv2.LINE_8, SUBPIXEL_BITS)
        self.parts.append(part)


def render_scene(seed: Sequence[int]) -> Scene:
    """A picture as a function of its seed."""
    rng = np.random.default_rng(seed)
    height, width = IMAGE_SIZES[rng.integers(len(IMAGE_SIZES))]
    canvas = Canvas(paint_background(rng, height, width))
    people = place_people(rng, height, width)
    boxes, areas, first_parts = [], [], []
    for person in people:
        first_parts.append(len(canvas.parts))
        paint_ground_shadow(canvas.image, person)
        for part in person.parts:
            canvas.paint(part)
        silhouette = (canvas.owners >= first_parts[-1]).astype(np.uint8)
        boxes.append(cv2.boundingRect(silhouette))
        areas.append(float(cv2.countNonZero(silhouette)))
    for _ in range(rng.integers(0, 2)):
        canvas.paint(random_post(rng, height, width))
    keypoints = [visible_keypoints(person, first, canvas) for person, first in zip(people, first_parts)]
    return Scene(expose(rng, canvas.image), np.array(keypoints).reshape(-1, 17, 3),
                 np.array(boxes, float).reshape(-1, 4), np.array(areas))


def place_people(rng: Generator, height: int, width: int) -> List[Person]:
    """One to MAX_PEOPLE people on the ground, farthest and smallest first; some reach over the picture's border."""
    count = rng.integers(1, MAX_PEOPLE + 1)
    sizes = np.sort(rng.uniform(0.28, 1.0, count) ** rng.uniform(0.7, 1.6)) * height * 0.95
    placed: List[Person] = []
    for size in sizes:
        person, rotation = Person(rng), turn(random_yaw(rng), rng.uniform(2, 14), rng.normal(0, 3))
        feet = height * rng.uniform(0.62, 1.0) if size < 0.6 * height else height * rng.uniform(0.9, 1.12)
        person.project(rotation, size, (rng.uniform(0.02, 0.98) * width, feet - 0.49 * size))
        inside = is_inside(person.keypoints(), height, width).sum()
        if inside >= MIN_JOINTS_INSIDE and all(overlap(person, other) < MAX_OVERLAP for other in placed):
            placed.append(person)
    return placed


def random_yaw(rng: Generator) -> float:
    """Degrees: mostly towards the camera, often away from it, else to any side."""
    return float([rng.normal(0, 30), rng.normal(180, 30), rng.uniform(0, 360)][rng.choice(3, p=[0.45, 0.25, 0.3])])


def overlap(person: Person, other: Person) -> float:
    """Intersection of the boxes around two people's joints over the smaller box."""
    (a, b), (c, d) = ((p.keypoints()[:, :2].min(axis=0), p.keypoints()[:, :2].max(axis=0)) for p in (person, other))
    sides = np.maximum(np.minimum(b, d) - np.maximum(a, c), 0)
    return float(sides.prod() / min((b - a).prod(), (d - c).prod()))


def is_inside(points: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.all((points[:, :2] >= 0) & (points[:, :2] < [width - 0.5, height - 0.5]), axis=1)


def visible_keypoints(person: Person, first_part: int, canvas: Canvas) -> np.ndarray:
    """(17, 3): x, y, and 2 where seen, 1 where something is in front, 0 (with x = y = 0) where not labelled.

    A part hides a joint when it belongs to something painted later, or to the person's own body and is nearer. As in
    COCO, joints outside the picture are not labelled, nor hidden ones that nobody could place.
    """
    keypoints = person.keypoints()
    height, width = canvas.owners.shape
    inside = is_inside(keypoints, height, width)
    rows = np.zeros((17, 3))
    for row, name, (x, y, z), is_in in zip(rows, COCO17.joints, keypoints, inside):
        if not is_in:
            continue
        number = int(canvas.owners[round(y), round(x)]) - first_part
        part = person.parts[number] if 0 <= number < len(person.parts) else None  # of the person's own body
        is_seen = part is not None and (name in part.joints or person.depth(part) < z + IN_FRONT * person.height)
        if is_seen or name.endswith(PLACED_UNSEEN):
            row[:] = round(x, 2), round(y, 2), 2 if is_seen else 1
    return rows


def paint_background(rng: Generator, height: int, width: int) -> np.ndarray:
    """Sky or wall over ground or floor, each a gradient with a coarse texture, and clutter that is out of focus."""
    upper, lower = (np.array(vary(rng, colors[rng.integers(len(colors))], 14)) for colors in (WALLS, GROUNDS))
    horizon = int(height * rng.uniform(0.35, 0.7))
    ramp = np.linspace(0.85, 1.12, height)[:, None, None]
    image = np.where(np.arange(height)[:, None, None] < horizon, upper * ramp, lower * (ramp - 0.12))
    image = image + texture(rng, height, width, cells=int(rng.integers(3, 9))) * rng.uniform(4, 16)
    image = image + texture(rng, height, width, cells=int(rng.integers(24, 60))) * rng.uniform(2, 9)
    image = np.ascontiguousarray(np.clip(np.broadcast_to(image, (height, width, 3)), 0, 255).astype(np.uint8))
    paint_clutter(rng, image, horizon)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.4))


def texture(rng: Generator, height: int, width: int, cells: int) -> np.ndarray:
    """(H, W, 1) smooth noise with about `cells` bumps across."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[:, :, None]


def paint_clutter(rng: Generator, image: np.ndarray, horizon: int) -> None:
    """Boxes, treetops, and posts, some as thick as limbs and skin-coloured but for the hue."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(2, 6)):  # houses, boxes, windows
        x, wide, tall = rng.uniform(0, width), rng.uniform(20, 90), rng.uniform(20, 140)
        corners = [[x + i * wide, horizon - j * tall, 0] for i in (0, 1) for j in (-0.2, 1)]
        paint(image, Part(np.array(corners), np.full(4, 4.0), vary(rng, (150, 140, 134), 34), flat=rng.random() < 0.5))
    for _ in range(rng.integers(0, 4)):  # trees
        x, size = rng.uniform(0, width), rng.uniform(18, 60)
        trunk = np.array([[x, horizon + size * 0.4, 0], [x, horizon - size, 0]])
        paint(image, Part(trunk, np.full(2, size * 0.14), vary(rng, (104, 78, 54), 10)))
        for _ in range(4):
            middle = np.array([[x, horizon - size * 1.4, 0]]) + rng.normal(0, size * 0.35, 3)
            paint(image, Part(middle, np.array([size * rng.uniform(0.5, 0.8)]), vary(rng, (92, 122, 66), 14)))
    for _ in range(rng.integers(2, 7)):
        paint(image, random_post(rng, height, width))


def random_post(rng: Generator, height: int, width: int) -> Part:
    """A limb-like thing, upright or leaning. Most have the lightness of skin with red and blue exchanged."""
    start = np.array([rng.uniform(0, width), rng.uniform(0.55, 1) * height])
    angle, length = rng.normal(np.pi / 2, 0.05 if rng.random() < 0.6 else 0.6), rng.uniform(0.08, 0.4) * height
    end = start - length * np.array([np.cos(angle), np.sin(angle)])
    colors = [color[::-1] for color in SKIN] if rng.random() < 0.7 else TROUSERS
    thick = length * rng.uniform(0.05, 0.12)
    return Part(np.array([[*start, 0], [*end, 0]]), np.array([thick, thick * rng.uniform(0.6, 1)]),
                vary(rng, colors[rng.integers(len(colors))], 10))


def paint_ground_shadow(image: np.ndarray, person: Person) -> None:
    """Darken a soft ellipse under the feet."""
    feet = np.array([person.joints[side + "ankle"] for side in ("left_", "right_")])
    x, y = feet[:, 0].mean(), feet[:, 1].max() + 0.03 * person.height
    wide, tall = 0.2 * person.height + np.ptp(feet[:, 0]) / 2, 0.06 * person.height
    left, top = max(0, int(x - wide)), max(0, int(y - tall))
    patch = image[top:max(top, int(y + tall)), left:max(left, int(x + wide))]
    if patch.size:
        rows, columns = np.mgrid[top:top + patch.shape[0], left:left + patch.shape[1]]
        distance = ((columns - x) / wide) ** 2 + ((rows - y) / tall) ** 2
        patch[:] = patch * (1 - 0.45 * np.clip(1 - distance, 0, 1))[:, :, None]


def expose(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Light from one side, another brightness, and a sensor's noise."""
    height, width = image.shape[:2]
    light = rng.uniform(0.92, 1.15) + rng.normal(0, 0.08) * np.linspace(-1, 1, width, dtype=np.float32)
    noise = rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(1, 5))
    return np.clip(image * light.astype(np.float32)[None, :, None] + noise[:, :, None], 0, 255).astype(np.uint8)
