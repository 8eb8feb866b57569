"""Synthetic films: people who walk past each other, behind posts, out of the picture and back, with who is who.

A film is a function of its seed, and every frame of it can be rendered by itself. Images are RGB (H, W, 3) uint8.
"""
from __future__ import annotations

import dataclasses
from typing import List, Tuple

import cv2
import numpy as np
from numpy.random import Generator

from demo.figures import TROUSERS, Person, turn
from demo.painting import Part, vary
from demo.scenes import Canvas, expose, paint_background, paint_ground_shadow, visible_keypoints

SIZE = (480, 640)  # height, width
FPS = 30
STEP = 0.32  # of a person's height, between two steps
OUTSIDE = 60  # pixels beyond the border where nothing of a person is seen


@dataclasses.dataclass
class Frame:
    """One picture and who is in it: ids (N,), keypoints (N, 17, 3) as COCO's, boxes_xywh (N, 4) of the silhouettes,
    and the share of each silhouette that is seen, visible (N,). People outside the picture are not among the N."""

    image: np.ndarray
    ids: np.ndarray
    keypoints: np.ndarray
    boxes_xywh: np.ndarray
    visible: np.ndarray


class Walker:
    """Somebody who goes from one place to the next, stands, leaves and comes back. Lengths are pixels, times frames."""

    def __init__(self, rng: Generator, frames: int, start_inside: bool):
        self.seed = int(rng.integers(1 << 31))
        self.height = rng.uniform(0.3, 0.6) * SIZE[0]
        self.feet = SIZE[0] * (0.55 + 0.65 * self.height / SIZE[0])
        self.tilt = rng.uniform(2, 8)
        self.x = self._path(rng, frames, start_inside)
        self.walked = np.concatenate([[0.0], np.abs(np.diff(self.x)).cumsum()])
        speed = np.gradient(self.x) if frames > 1 else np.zeros(1)
        turned = np.convolve(np.sign(speed) * (np.abs(speed) > 0.2), np.ones(15) / 15, mode="same")
        self.yaw = 68 * turned  # degrees; people who stand look at the camera

    def _path(self, rng: Generator, frames: int, start_inside: bool) -> np.ndarray:
        """(frames,) x of the hips."""
        width = SIZE[1]
        x = rng.uniform(0.1, 0.9) * width if start_inside else rng.choice([-OUTSIDE, width + OUTSIDE])
        knots = [(0.0, float(x))]
        while knots[-1][0] < frames:
            time, x = knots[-1]
            inside = 0 < x < width
            wait = rng.uniform(10, 40) if rng.random() < (0.4 if inside else 1) else 0
            goal = rng.choice([-OUTSIDE, width + OUTSIDE]) if inside and rng.random() < 0.3 \
                else rng.uniform(0.08, 0.92) * width
            walk = abs(goal - x) / (self.height * rng.uniform(0.009, 0.016))
            knots += [(time + wait, x), (time + wait + walk, float(goal))]
        times, places = zip(*knots)
        return np.interp(np.arange(frames), times, places)

    def at(self, frame: int) -> Person:
        """The person as it is seen in a frame."""
        standing = bool(np.ptp(self.x[max(frame - 3, 0):frame + 4]) < 0.5)
        phase = np.pi * self.walked[frame] / (STEP * self.height)
        person = Person(np.random.default_rng(self.seed), gait=0.0 if standing else phase)
        bob = 0.01 * self.height * abs(np.sin(phase))
        person.project(turn(self.yaw[frame], self.tilt, 0), self.height,
                       (self.x[frame], self.feet - 0.49 * self.height - bob))
        return person


class Film:
    """`frames` pictures of `people` walkers, whom `posts` hide for moments."""

    def __init__(self, seed: int, frames: int, people: int = 4, posts: int = 1):
        rng = np.random.default_rng([seed, people])
        self.seed, self.frames = seed, frames
        walkers = [Walker(rng, frames, start_inside=number < 2) for number in range(people)]
        self.walkers = sorted(walkers, key=lambda walker: walker.height)  # the nearest is painted last
        self.background = paint_background(rng, *SIZE)
        self.posts = [_post(rng) for _ in range(posts)]

    def frame(self, number: int) -> Frame:
        canvas = Canvas(self.background.copy())
        here: List[Tuple[int, Person, int]] = []  # id, person, first part
        boxes, sizes = [], []
        for name, walker in enumerate(self.walkers, 1):
            if not -OUTSIDE < walker.x[number] < SIZE[1] + OUTSIDE:
                continue
            person, first = walker.at(number), len(canvas.parts)
            paint_ground_shadow(canvas.image, person)
            for part in person.parts:
                canvas.paint(part)
            silhouette = (canvas.owners >= first).astype(np.uint8)
            if silhouette.any():
                here.append((name, person, first))
                boxes.append(cv2.boundingRect(silhouette))
                sizes.append(cv2.countNonZero(silhouette))
        for post in self.posts:
            canvas.paint(post)
        seen = [np.count_nonzero((canvas.owners >= first) & (canvas.owners < first + len(person.parts)))
                for _, person, first in here]
        keypoints = [visible_keypoints(person, first, canvas) for _, person, first in here]
        image = expose(np.random.default_rng([self.seed, number + 1]), canvas.image)
        return Frame(image, np.array([name for name, _, _ in here], np.int64), np.array(keypoints).reshape(-1, 17, 3),
                     np.array(boxes, float).reshape(-1, 4), np.array(seen) / np.maximum(np.array(sizes), 1))


def _post(rng: Generator) -> Part:
    """A pillar before everybody, wider than a person is."""
    x, half = rng.uniform(0.25, 0.75) * SIZE[1], rng.uniform(16, 30)
    corners = np.array([[x + sign * half, y, 0] for sign in (-1, 1) for y in (-20, SIZE[0] + 20)])
    return Part(corners, np.full(4, 3.0), vary(rng, TROUSERS[rng.integers(len(TROUSERS))], 12))
