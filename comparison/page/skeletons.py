"""The people who differ most, drawn on their photos with both skeletons."""
from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np

from comparison.people import People
from pose.drawing import Palette
from pose.drawing import draw_person as draw_skeleton
from pose.oks import SCORED_JOINT
from pose.photos import Photos, open_photos

PICTURE, DETAIL = 300, 2  # units across, and pixels of a unit
COLORS = (Palette(*3 * [(44, 123, 229)]), Palette(*3 * [(255, 140, 26)]))  # of a and b; page.css has them as well
VEIL = 0.4  # score by which b's joints are drawn at most, so that a can be seen below them
QUALITY = 80  # of the JPEG
MARGIN = 1.1  # the window is this much wider than the crop


def draw_person(photos: Photos, a: People, b: People, person: Dict[str, Any], aspect: float) -> str:
    """One entry of the keypoints' `worst` as SVG: the photo about the person, a below b."""
    row_a, row_b = person["row_a"], person["row_b"]
    image = photos.read(person["image_id"])
    size = np.maximum(MARGIN * a.widths[row_a], 16) * np.array([1, 1 / aspect])
    low = a.centers[row_a] - size / 2
    scale = DETAIL * PICTURE / size[0]
    matrix = np.array([[scale, 0, -scale * low[0]], [0, scale, -scale * low[1]]])
    height = int(round(PICTURE / aspect))
    picture = cv2.warpAffine(image, matrix, (DETAIL * PICTURE, DETAIL * height), flags=cv2.INTER_LINEAR)
    for people, row, palette, most in ((a, row_a, COLORS[0], 1), (b, row_b, COLORS[1], VEIL)):
        scores = np.minimum(shown(people.scores[row]), most)
        draw_skeleton(picture, (people.keypoints[row] - low) * scale, scores, palette)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    data = base64.b64encode(encoded.tobytes()).decode()
    return (f'<svg viewBox="0 0 {PICTURE} {height}" role="img" aria-label="photo {person["image_id"]} with both '
            f'skeletons"><image width="{PICTURE}" height="{height}" href="data:image/jpeg;base64,{data}"/></svg>')


def shown(scores: np.ndarray) -> np.ndarray:
    """(K,) scores, or where no joint counts in a person's score, scores by which all are drawn."""
    return scores if (scores > SCORED_JOINT).any() else np.ones(len(scores))


def draw_people(dataroot: Optional[Path], a: People, b: People, chosen: List[Dict[str, Any]], aspect: float) -> str:
    """Cards of chosen people; without photos only their numbers."""
    photos, cards = dataroot and open_photos(dataroot), []
    for person in chosen:
        picture = draw_person(photos, a, b, person, aspect) if photos else ""
        cards.append(f'<figure class="card">{picture}<figcaption>row {person["row_a"]}, photo {person["image_id"]}<br>'
                     f'OKS {person["oks"]:.4f}, at most {person["input_pixels_max"]:.1f} input pixels</figcaption>'
                     "</figure>")
    return '<div class="cards">' + "".join(cards) + "</div>"
