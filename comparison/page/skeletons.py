"""The people who differ most, drawn on their photographs with both skeletons."""
from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np

from comparison.people import People
from pose.annotations import open_photos
from pose.oks import SCORED_JOINT
from pose.photos import Photos
from pose.skeleton import COCO17

PICTURE = 300  # pixels across
QUALITY = 80  # of the JPEG
MARGIN = 1.1  # the window is this much wider than the crop


def draw_person(photos: Photos, a: People, b: People, person: Dict[str, Any], aspect: float) -> str:
    """One entry of the keypoints' `worst` as SVG: the photograph about the person, a below b."""
    row_a, row_b = person["row_a"], person["row_b"]
    image = photos.read(person["image_id"])
    size = np.maximum(MARGIN * a.widths[row_a], 16) * np.array([1, 1 / aspect])
    low = a.centers[row_a] - size / 2
    scale = PICTURE / size[0]
    matrix = np.array([[scale, 0, -scale * low[0]], [0, scale, -scale * low[1]]])
    height = int(round(PICTURE / aspect))
    picture = cv2.warpAffine(image, matrix, (PICTURE, height), flags=cv2.INTER_LINEAR)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    data = base64.b64encode(encoded).decode()
    skeletons = [skeleton((people.keypoints[row] - low) * scale, people.scores[row], kind)
                 for people, row, kind in ((a, row_a, "a"), (b, row_b, "b"))]
    return (f'<svg viewBox="0 0 {PICTURE} {height}" role="img" aria-label="photograph {person["image_id"]} with both '
            f'skeletons"><image width="{PICTURE}" height="{height}" href="data:image/jpeg;base64,{data}"/>'
            + "".join(skeletons) + "</svg>")


def skeleton(joints: np.ndarray, scores: np.ndarray, kind: str) -> str:
    """(K, 2) joints in the picture, (K,) scores: bones and dots of the joints that count in a person's score, or of
    all when none does."""
    shown = scores > SCORED_JOINT
    shown = shown if shown.any() else np.ones(len(scores), bool)
    joints = np.clip(joints, -10 * PICTURE, 10 * PICTURE)
    path = "".join(f"M{joints[one][0]:.1f} {joints[one][1]:.1f}L{joints[other][0]:.1f} {joints[other][1]:.1f}"
                   for one, other in COCO17.bones if shown[one] and shown[other])
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{COCO17.joints[number]}</title></circle>'
                   for number, (x, y) in enumerate(joints) if shown[number])
    return f'<g class="skeleton {kind}"><path class="halo" d="{path}"/><path d="{path}"/>{dots}</g>'


def draw_people(dataroot: Optional[Path], a: People, b: People, chosen: List[Dict[str, Any]], aspect: float) -> str:
    """Cards of chosen people; without photographs only their numbers."""
    photos, cards = dataroot and open_photos(dataroot), []
    for person in chosen:
        picture = draw_person(photos, a, b, person, aspect) if photos else ""
        cards.append(f'<figure class="card">{picture}<figcaption>row {person["row_a"]}, photograph '
                     f'{person["image_id"]}<br>OKS {person["oks"]:.4f}, at most {person["input_pixels_max"]:.1f} input '
                     "pixels</figcaption></figure>")
    return '<div class="cards">' + "".join(cards) + "</div>"
