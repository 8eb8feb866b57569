"""People drawn on an image: limbs by side, confidence as opacity, lines as thick as a person is large.

Limbs of the left side are orange, of the right side blue; those between the sides are white, or have the colour of the
person's id. A dark rim keeps all of them readable on bright images. Images are (H, W, 3) uint8 RGB.
"""
from __future__ import annotations

import colorsys
import math
from typing import List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from pose.oks import SCORED_JOINT
from pose.poses import People
from pose.skeleton import COCO17, Skeleton

Color = Tuple[int, int, int]
Rectangle = Tuple[int, int, int, int]  # left, top, right, bottom

FULLY_SHOWN = 0.6  # joints that score this are opaque; the faintest, at SCORED_JOINT, have
FAINTEST = 0.25  # of the opacity
RIM, RIM_COLOR = 0.55, (16, 16, 16)  # share of the limb's opacity
LINES_IN_PERSON = 75  # a person is as high as this many lines are thick
THINNEST = 1.2  # pixels
THICK_ENOUGH = 4  # pixels; thinner lines are drawn larger and then shrunk, because OpenCV's are whole pixels thick
SUBPIXEL_BITS = 4
FAR = 4096  # pixels beyond the image from which a joint is moved nearer: OpenCV counts in 16 bits
FONT = cv2.FONT_HERSHEY_DUPLEX


class Palette(NamedTuple):
    left: Color = (255, 138, 20)
    right: Color = (40, 150, 255)
    middle: Color = (255, 255, 255)


def draw_people(image: np.ndarray, people: People, boxes: bool = False, skeleton: Skeleton = COCO17) -> np.ndarray:
    """A copy of the (H, W, 3) uint8 RGB image with its people drawn, the largest in front. Ids are drawn where people
    have them, and boxes on request."""
    image = image.copy()
    for row in np.argsort(people.boxes_xywh[:, 3], kind="stable"):
        palette = Palette() if people.ids is None else Palette(middle=id_color(int(people.ids[row])))
        draw_person(image, people.keypoints[row], people.scores[row], palette, skeleton)
    if boxes:
        draw_boxes(image, people)
    if people.ids is not None:
        draw_labels(image, people, people.ids.tolist())
    return image


def draw_person(image: np.ndarray, joints: np.ndarray, scores: np.ndarray, palette: Palette = Palette(),
                skeleton: Skeleton = COCO17) -> None:
    """Draw (K, 2) joints in pixels with their (K,) scores on the (H, W, 3) uint8 RGB image, in place."""
    height, width = image.shape[:2]
    joints = np.clip(np.nan_to_num(joints), -FAR, (width + FAR, height + FAR))
    opacities = joint_opacities(scores)
    if not opacities.any():
        return
    seen = joints[opacities > 0]
    thick = max(THINNEST, float(np.ptp(seen, axis=0).max()) / LINES_IN_PERSON)
    margin = 2 * thick + 2
    left, top = np.maximum(np.floor(seen.min(axis=0) - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(seen.max(axis=0) + margin), (width, height)).astype(int)
    if left < right and top < bottom:
        under = image[top:bottom, left:right]
        colors, layer = draw_layer(under.shape[:2], joints - (left, top), opacities, thick, palette, skeleton)
        weights = layer.astype(np.float32) / np.float32(255)
        under[:] = cv2.blendLinear(colors, under, weights, 1 - weights)


def draw_layer(size: Tuple[int, int], joints: np.ndarray, opacities: np.ndarray, thick: float,
               palette: Palette, skeleton: Skeleton) -> Tuple[np.ndarray, np.ndarray]:
    """(h, w, 3) colours and (h, w) uint8 opacities of a person's limbs; where no limb is, the colour is the rim's."""
    zoom = math.ceil(THICK_ENOUGH / thick)
    width = round(thick * zoom)
    colors: np.ndarray = np.full((size[0] * zoom, size[1] * zoom, 3), RIM_COLOR, np.uint8)
    layer: np.ndarray = np.zeros(colors.shape[:2], np.uint8)
    points = np.round(joints * (zoom << SUBPIXEL_BITS)).astype(int).tolist()
    pairs = [*skeleton.bones, *((joint, joint) for joint in range(len(points)))]  # a dot is a limb of no length
    limbs = [(a, b, min(opacities[a], opacities[b])) for a, b in pairs if min(opacities[a], opacities[b]) > 0]
    rim = 2 + 2 * max(zoom, width // 6)  # on both sides together
    for a, b, opacity in limbs:
        cv2.line(layer, points[a], points[b], round(255 * RIM * opacity), width + rim, cv2.LINE_AA, SUBPIXEL_BITS)
    for a, b, opacity in limbs:
        color = side_color(palette, skeleton, a, b)
        cv2.line(colors, points[a], points[b], color, width + 2, cv2.LINE_8, SUBPIXEL_BITS)
        cv2.line(layer, points[a], points[b], round(255 * opacity), width, cv2.LINE_AA, SUBPIXEL_BITS)
    if zoom > 1:
        colors, layer = (cv2.resize(each, size[::-1], interpolation=cv2.INTER_AREA) for each in (colors, layer))
    return colors, layer


def joint_opacities(scores: np.ndarray) -> np.ndarray:
    """(K,) scores -> (K,) from FAINTEST to 1; 0 for joints that do not count in a person's score."""
    share = np.clip((scores - SCORED_JOINT) / (FULLY_SHOWN - SCORED_JOINT), 0, 1)
    return np.where(scores > SCORED_JOINT, FAINTEST + (1 - FAINTEST) * share, 0)


def side_color(palette: Palette, skeleton: Skeleton, *joints: int) -> Color:
    """Of a limb, or of one joint: its side's, or the middle's between the sides. The nose belongs to either side."""
    left, right = (set(side) & set(joints) for side in zip(*skeleton.pairs))
    return palette.middle if bool(left) == bool(right) else palette.left if left else palette.right


def id_color(name: int) -> Color:
    """A colour for an id; those of neighbouring ids are far apart (the hue turns by the golden angle)."""
    red, green, blue = colorsys.hls_to_rgb(name * 0.381966 % 1, 0.62, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(image: np.ndarray, people: People) -> None:
    """Draw thin boxes on the (H, W, 3) uint8 RGB image, in place, in the colours of the ids where there are ids."""
    names = [None] * len(people) if people.ids is None else people.ids.tolist()
    for name, (left, top, right, bottom) in zip(names, _corners(people)):
        color = Palette().middle if name is None else id_color(name)
        for shade, grown in ((RIM_COLOR, 1), (color, 0)):
            cv2.rectangle(image, (left - grown, top - grown), (right + grown, bottom + grown), shade, 1, cv2.LINE_AA)


def draw_labels(image: np.ndarray, people: People, names: Sequence[int]) -> None:
    """Draw the id of each person on the (H, W, 3) uint8 RGB image, in place: above the box, or where there is room."""
    height, width = image.shape[:2]
    scale = float(np.clip(min(height, width) / 900, 0.4, 2.0))
    taken: List[Rectangle] = []
    for row in np.argsort(-people.boxes_xywh[:, 3], kind="stable"):  # the nearest people have the first choice
        text = str(names[row])
        plate = _plate_size(text, scale)
        place = place_label(plate, _corners(people)[row], (height, width), taken)
        taken.append(place)
        cv2.rectangle(image, place[:2], (place[2] - 1, place[3] - 1), id_color(names[row]), -1)
        margin = round(6 * scale)
        cv2.putText(image, text, (place[0] + margin, place[3] - margin), FONT, scale, RIM_COLOR, _stroke(scale),
                    cv2.LINE_AA)


def _corners(people: People) -> List[Rectangle]:
    return [tuple(corners) for corners in np.round(np.clip(people.boxes_xyxy, -FAR, 1 << 15)).astype(int).tolist()]


def _stroke(scale: float) -> int:
    return max(1, round(1.4 * scale))


def _plate_size(text: str, scale: float) -> Tuple[int, int]:
    (wide, tall), _ = cv2.getTextSize(text, FONT, scale, _stroke(scale))
    return wide + 2 * round(6 * scale), tall + 2 * round(6 * scale)


def place_label(plate: Tuple[int, int], box: Rectangle, size: Tuple[int, int], taken: Sequence[Rectangle]) -> Rectangle:
    """Where a (width, height) plate covers no earlier one: above the box, in its upper corners, below it, and then
    lower and lower along its left side. Within the image of (height, width), as far as it fits."""
    (wide, tall), (left, top, right, bottom) = plate, box
    spots = [(left, top - tall), (right - wide, top - tall), (left, top), (right - wide, top), (left, bottom),
             *((left, top + step * tall) for step in range(1, 1 + size[0] // tall))]
    places = []
    for x, y in spots:
        x, y = max(min(x, size[1] - wide), 0), max(min(y, size[0] - tall), 0)
        places.append((x, y, x + wide, y + tall))
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
