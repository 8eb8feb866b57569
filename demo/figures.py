"""Synthetic people: a jointed body in 3-D, dressed, turned before a camera and painted from back to front.

Left and right can be told apart only as in life: by where the face, chest and toes point, and by what lies in front.
Body axes: x to the person's left, y down, z forward; the body's height is 1. After `Person.project`: x right and y
down in pixels, z towards the viewer in pixels. Colours are RGB in 0..255.
"""
from __future__ import annotations

import math
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from numpy.random import Generator

from demo.painting import Color, Part, shade, vary
from pose.skeleton import COCO17

SIDES = (("left_", 1), ("right_", -1))
SKIN = ((246, 205, 170), (232, 182, 142), (214, 158, 112), (176, 118, 76), (132, 84, 52), (96, 60, 40))
HAIR = ((34, 26, 22), (62, 42, 30), (104, 68, 38), (150, 104, 56), (206, 164, 98), (148, 64, 34), (158, 150, 142))
SHIRTS = ((196, 54, 48), (226, 120, 44), (236, 190, 70), (222, 216, 202), (122, 142, 60), (52, 110, 78), (88, 60, 44),
          (168, 62, 96), (64, 72, 92), (214, 150, 130), (44, 44, 48), (120, 40, 44))
TROUSERS = ((52, 66, 104), (74, 92, 132), (60, 56, 54), (150, 124, 88), (92, 84, 58), (38, 38, 44), (112, 74, 50))
SHOES = ((48, 40, 38), (236, 232, 226), (150, 46, 40), (104, 70, 44), (60, 60, 66))

UPPER_ARM, FOREARM, THIGH, SHIN, FOOT = 0.16, 0.15, 0.235, 0.225, 0.085
HEAD_RADIUS = 0.078  # larger than life: a face must survive the 256x192 crop
TORSO_BIAS = 0.02  # the shirt hangs over the trousers
STRIDE = 26  # degrees that legs and arms of a walk swing to either side
IN_FRONT = 0.035  # a part nearer than a joint by this share of the height hides it: more than a limb is thick


class Person:
    """One dressed body in some pose. `parts` and `joints` are in body axes until `project` places them.

    `gait` is the phase of a walk in radians: the same random numbers and another gait make the same person a moment
    later. None is a pose of its own.
    """

    def __init__(self, rng: Generator, gait: Optional[float] = None):
        self.gait = gait
        self.joints: Dict[str, np.ndarray] = {}
        self.parts: List[Part] = []
        self.build = rng.uniform(0.9, 1.2)  # slim to stout
        self.skin = vary(rng, SKIN[rng.integers(len(SKIN))], 6)
        self.shirt = vary(rng, SHIRTS[rng.integers(len(SHIRTS))], 14)
        self.trousers = vary(rng, TROUSERS[rng.integers(len(TROUSERS))], 12)
        self._legs(rng)
        self._arms(rng)
        self._trunk(rng)
        self._head(rng)
        upper = turn(0, rng.normal(4, 6), rng.normal(0, 6))  # the body above the hips leans
        for name in COCO17.joints[:11]:
            self.joints[name] = self.joints[name] @ upper.T
        for part in self.parts[self.first_upper_part:]:
            part.centers = part.centers @ upper.T

    def project(self, rotation: np.ndarray, height: float, origin: Sequence[float]) -> None:
        """Place the body: pixels for `height`, the middle of the hips at `origin`. Parts are sorted, farthest first."""
        self.height = height
        shift = np.array([*origin, 0.0])
        self.joints = {name: point @ rotation.T * height + shift for name, point in self.joints.items()}
        for part in self.parts:
            part.centers, part.radii = part.centers @ rotation.T * height + shift, part.radii * height
        self.parts.sort(key=self.depth)

    def depth(self, part: Part) -> float:
        return float(part.centers[:, 2].mean()) + part.bias * self.height

    def keypoints(self) -> np.ndarray:
        """(17, 3) in COCO's order."""
        return np.stack([self.joints[name] for name in COCO17.joints])

    def _add(self, centers: Sequence, radii: Sequence[float], color: Color, **options) -> None:
        self.parts.append(Part(np.array(centers, float), np.array(radii, float), color, **options))

    def _legs(self, rng: Generator) -> None:
        stride = rng.normal(0, 18)
        if self.gait is not None:
            stride = STRIDE * math.sin(self.gait)
        shin_color = self.trousers if rng.random() < 0.72 else self.skin  # or shorts
        shoes, thick = vary(rng, SHOES[rng.integers(len(SHOES))], 8), self.build
        for side, sign in SIDES:
            swing = sign * stride + rng.normal(4, 8)
            bend = abs(rng.normal(0, 22)) + max(0.0, -swing) * 0.5
            spread = rng.uniform(2, 14)
            hip = np.array([sign * 0.072, 0, 0])
            knee = hip + THIGH * swung(sign, spread, swing)
            ankle = knee + SHIN * swung(sign, spread * 0.4, swing - bend)
            forward = swung(sign, spread * 0.4, swing - bend + 82)
            toe = ankle + FOOT * (forward + np.array([sign * 0.2, 0.25, 0]))
            knee_name, ankle_name = side + "knee", side + "ankle"
            self.joints.update({side + "hip": hip, knee_name: knee, ankle_name: ankle})
            self._add([ankle, ankle + (ankle - knee) * 0.1, toe], [0.026, 0.030, 0.022], shoes, joints=(ankle_name,),
                      bias=0.004)
            self._add([knee, ankle], [0.040 * thick, 0.025 * thick], shin_color, joints=(knee_name, ankle_name))
            self._add([hip * [0.85, 1, 1], knee], [0.064 * thick, 0.044 * thick], self.trousers,
                      joints=(side + "hip", knee_name), bias=-0.03)
        hips = [[sign * 0.055, y, 0] for sign in (1, -1) for y in (-0.07, 0.0)]
        self._add(hips, [0.056 * thick, 0.064 * thick] * 2, self.trousers, joints=("left_hip", "right_hip"),
                  bias=-0.01)
        self._pelvis_details()
        self.first_upper_part = len(self.parts)

    def _pelvis_details(self) -> None:
        dark, thick = shade(self.trousers, 0.62), self.build
        for _, sign in SIDES:  # back pockets
            self._add([[sign * x * thick, y, -0.056] for x in (0.035, 0.07) for y in (-0.03, 0.02)], [0.006] * 4, dark,
                      flat=True, bias=-0.014)
        self._add([[0, -0.055, 0.056], [0, 0.035, 0.056]], [0.004] * 2, dark, flat=True, bias=-0.014)  # the fly

    def _arms(self, rng: Generator) -> None:
        sleeve = rng.choice(["long", "short", "none"], p=[0.45, 0.4, 0.15])
        together = rng.random() < 0.3
        gesture = rng.integers(5)
        watch = rng.random() < 0.35
        for side, sign in SIDES:
            gesture = gesture if together or sign == 1 else rng.integers(5)
            spread, swing, bend = arm_angles(rng, int(gesture))
            if self.gait is not None:  # arms hang, and swing against the legs
                spread, swing, bend = 8, -sign * STRIDE * math.sin(self.gait), 20
            shoulder = np.array([sign * 0.122 * self.build ** 0.5, -0.295, 0])
            upper = swung(sign, spread, swing)
            elbow = shoulder + UPPER_ARM * upper
            lower = bent(upper, np.array([-0.55 * sign, -0.5, 0.85]) + rng.normal(0, 0.25, 3), bend)
            wrist = elbow + FOREARM * lower
            names = tuple(side + joint for joint in ("shoulder", "elbow", "wrist"))
            self.joints.update(zip(names, (shoulder, elbow, wrist)))
            thick = self.build
            upper_color = self.skin if sleeve == "none" else self.shirt
            lower_color = self.shirt if sleeve == "long" else self.skin
            self._add([wrist + lower * 0.022, wrist + lower * 0.04], [0.026, 0.022], self.skin, joints=names[2:],
                      bias=0.034)
            self._add([elbow, wrist], [0.029 * thick, 0.021 * thick], lower_color, joints=names[1:], bias=0.032)
            if sleeve == "short":
                self._add([elbow + (shoulder - elbow) * 0.4, elbow], [0.031 * thick, 0.028 * thick], self.skin,
                          joints=names[:2], bias=0.028)
            end = shoulder + (elbow - shoulder) * (0.62 if sleeve == "short" else 1)
            self._add([shoulder, end], [0.042 * thick, 0.032 * thick], upper_color, joints=names[:2], bias=0.030)
            if watch and sign == 1:  # worn on the left, as most do
                self._add([wrist - lower * 0.012, wrist - lower * 0.002], [0.024 * thick] * 2, (40, 38, 40),
                          joints=names[2:], bias=0.036)

    def _trunk(self, rng: Generator) -> None:
        wide, thick = self.build ** 0.5, self.build
        spots = [(0.088 * wide, -0.285, 0.047), (0.068 * wide, -0.16, 0.06 * thick), (0.056, -0.04, 0.062 * thick)]
        self._add([[sign * x, y, 0] for x, y, _ in spots for sign in (1, -1)], [r for *_, r in spots for _ in SIDES],
                  self.shirt, bias=TORSO_BIAS)
        self._add([[0, -0.31, -0.005], [0, -0.37, 0.0]], [0.036, 0.034], self.skin, bias=-0.01)
        self._chest_details(rng, shade(self.shirt, 0.62))
        self._back_details(rng, shade(self.shirt, 0.62))

    def _chest_details(self, rng: Generator, dark: Color) -> None:
        """A neckline, and a placket with a breast pocket on the left, or a print."""
        front, options = 0.052 * self.build, {"flat": True, "bias": TORSO_BIAS - 0.012}
        depth = rng.uniform(0.02, 0.06)
        self._add([[0.034, -0.322, front], [-0.034, -0.322, front], [0, -0.315 + depth, front]], [0.007] * 3, self.skin,
                  **options)
        if rng.random() < 0.55:
            self._add([[0, -0.30 + depth, front], [0, -0.03, front]], [0.005] * 2, dark, **options)
            self._add([[x, y, front] for x in (0.035, 0.068) for y in (-0.22, -0.185)], [0.006] * 4, dark, **options)
        else:
            print_color = vary(rng, SHIRTS[rng.integers(len(SHIRTS))], 20)
            self._add([[x, y, front] for x in (-0.04, 0.04) for y in (-0.2, -0.15)], [0.014] * 4, print_color,
                      **options)

    def _back_details(self, rng: Generator, dark: Color) -> None:
        """A yoke seam and the middle seam, or a rucksack, whose straps show in front."""
        options = {"flat": True, "bias": TORSO_BIAS - 0.012}
        if rng.random() < 0.2:
            bag = vary(rng, TROUSERS[rng.integers(len(TROUSERS))], 20)
            self._add([[x, y, -0.10] for x in (-0.05, 0.05) for y in (-0.26, -0.1)], [0.034] * 4, bag)
            for _, sign in SIDES:
                self._add([[sign * 0.07, -0.315, 0.045], [sign * 0.075, -0.17, 0.055]], [0.010] * 2, bag, **options)
            return
        self._add([[0.1, -0.255, -0.052], [-0.1, -0.255, -0.052]], [0.005] * 2, dark, **options)
        self._add([[0, -0.255, -0.052], [0, -0.05, -0.052]], [0.004] * 2, dark, **options)

    def _head(self, rng: Generator) -> None:
        """In units of the head's radius about its middle, turned by itself, then moved onto the neck."""
        first, hair = len(self.parts), vary(rng, HAIR[rng.integers(len(HAIR))], 8)
        self._add([[0, -0.12, 0], [0, 0.42, 0.08]], [0.94, 0.64], self.skin, bias=0.002)
        spots = {"nose": (0, 0.16, 0.98), "left_eye": (0.36, -0.10, 0.78), "right_eye": (-0.36, -0.10, 0.78),
                 "left_ear": (0.97, 0.06, 0.0), "right_ear": (-0.97, 0.06, 0.0)}
        face = {"flat": True, "bias": -0.018}  # hidden once it is turned past the outline
        for side, _ in SIDES:
            ear, eye = np.array(spots[side + "ear"]), np.array(spots[side + "eye"])
            self._add([ear, ear + [0, 0.16, 0]], [0.19, 0.14], shade(self.skin, 0.93), joints=(side + "ear",),
                      bias=0.001)
            self._add([eye - [0.07, 0, 0], eye + [0.07, 0, 0]], [0.12] * 2, (250, 248, 244), joints=(side + "eye",),
                      **face)
            self._add([eye + [0, 0.01, 0.03]], [0.105], (52, 36, 28), joints=(side + "eye",), **face)
            self._add([eye + [-0.14, -0.25, 0], eye + [0.14, -0.27, 0]], [0.045] * 2, shade(hair, 0.8), **face)
        nose = np.array(spots["nose"])
        self._add([nose - [0, 0.2, 0.08], nose], [0.06, 0.13], shade(self.skin, 0.82), joints=("nose",), **face)
        self._add([[-0.2, 0.55, 0.78], [0, 0.6, 0.82], [0.2, 0.55, 0.78]], [0.055] * 3, (160, 62, 58), **face)
        self._hair(rng, hair)
        rotation = turn(rng.normal(0, 20), rng.normal(0, 8), rng.normal(0, 6))
        middle = np.array([0, -0.425, 0.012])
        for part in self.parts[first:]:
            part.centers = part.centers @ rotation.T * HEAD_RADIUS + middle
            part.radii = part.radii * HEAD_RADIUS
        self.joints.update({name: np.array(spot) @ rotation.T * HEAD_RADIUS + middle for name, spot in spots.items()})

    def _hair(self, rng: Generator, hair: Color) -> None:
        """A cap towards the back of the head, a fringe parted on one side, and perhaps long hair."""
        style = rng.choice(["short", "long", "hat", "bald"], p=[0.5, 0.3, 0.12, 0.08])
        if style == "bald":
            return
        if style == "hat":
            hair = vary(rng, SHIRTS[rng.integers(len(SHIRTS))], 14)
            self._add([[x, -0.55, 0.95] for x in (-0.5, 0.5)], [0.2] * 2, shade(hair, 0.8), bias=-0.02)  # the peak
        self._add([[0, -0.22, -0.22], [0, 0.1, -0.34]], [1.04, 0.86], hair)
        self._add([[0.66, -0.52, 0.3], [-0.66, -0.52, 0.3], [0, -0.72, 0.34], [0, -0.56, -0.42]],
                  [0.32, 0.32, 0.38, 0.64], hair, bias=0.003)
        if style != "hat":
            part = rng.choice([-0.35, 0.35])
            self._add([[part, -0.74, 0.62], [-0.7 * np.sign(part), -0.42, 0.55]], [0.2, 0.24], hair, bias=-0.012)
        if style == "long":
            self._add([[x, y, -0.45] for x in (-0.5, 0.5) for y in (0.1, 1.5)], [0.5, 0.34] * 2, hair)


def arm_angles(rng: Generator, gesture: int) -> Tuple[float, float, float]:
    """Degrees of (spread from the body, swing forward, bend of the elbow): hanging, akimbo, raised, sideways, ahead."""
    low, high = (((4, -22, 5), (18, 22, 45)), ((30, -25, 75), (48, 10, 110)), ((120, -15, 5), (165, 15, 80)),
                 ((55, -15, 5), (105, 25, 90)), ((0, 25, 20), (25, 80, 110)))[gesture]
    return tuple(rng.uniform(low, high))


def swung(sign: int, spread: float, swing: float) -> np.ndarray:
    """The direction of a limb that hung straight down, spread sideways and swung forward by degrees."""
    spread, swing = math.radians(spread), math.radians(swing)
    return np.array([sign * math.sin(spread), math.cos(spread) * math.cos(swing), math.cos(spread) * math.sin(swing)])


def bent(direction: np.ndarray, towards: np.ndarray, degrees: float) -> np.ndarray:
    """`direction` turned by some degrees in the plane that it makes with `towards`."""
    across = towards - direction * (towards @ direction)
    across /= max(1e-6, np.linalg.norm(across))
    return direction * math.cos(math.radians(degrees)) + across * math.sin(math.radians(degrees))


def turn(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) from degrees: about the vertical (90 looks to the right), a nod forward, then in the picture's plane."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(math.radians(a)), math.sin(math.radians(a))) for a in (yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y
