"""What is drawn of people: colours by side, opacity by confidence, thickness by size, labels beside each other."""
from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pose.drawing import Palette, _overlap, draw_people, draw_person, id_color, place_label
from pose.poses import People, nobody

# A person who faces the camera, in shares of the box: left joints are on the picture's right.
STANDING = np.array([[.5, .07], [.53, .05], [.47, .05], [.57, .06], [.43, .06], [.68, .2], [.32, .2], [.78, .36],
                     [.22, .36], [.82, .5], [.18, .5], [.6, .52], [.4, .52], [.62, .75], [.38, .75], [.63, .97],
                     [.37, .97]])


def standing(boxes_xywh, scores=0.9, **fields) -> People:
    boxes = np.array(boxes_xywh, np.float32).reshape(-1, 4)
    keypoints = boxes[:, None, :2] + STANDING[None] * boxes[:, None, 2:]
    return People(boxes, np.full(len(boxes), 0.9, np.float32), keypoints.astype(np.float32),
                  np.full((len(boxes), 17), scores, np.float32), **fields)


def plain(shade: int, height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), shade, np.uint8)


def shin(image: np.ndarray, people: People, knee: int, ankle: int) -> np.ndarray:
    x, y = np.round(people.keypoints[0, [knee, ankle]].mean(axis=0)).astype(int)
    return image[y, x].astype(int)


def test_left_is_orange_and_right_is_blue_on_any_background():
    people = standing([60, 20, 90, 200])
    for shade in (0, 128, 255):
        image = draw_people(plain(shade), people)
        assert np.abs(shin(image, people, 13, 15) - Palette().left).max() < 12
        assert np.abs(shin(image, people, 14, 16) - Palette().right).max() < 12


@pytest.mark.parametrize("shade", [0, 255])
def test_every_limb_stands_out(shade):
    """White limbs on white have a dark rim: somewhere across each limb the brightness differs much."""
    people = standing([60, 20, 90, 200])
    image = draw_people(plain(shade), people).astype(int)
    for one, other in ((5, 6), (11, 12), (5, 11), (13, 15), (8, 10)):
        x, y = np.round(people.keypoints[0, [one, other]].mean(axis=0)).astype(int)
        assert np.abs(image[y - 4:y + 5, x - 4:x + 5].mean(axis=2) - shade).max() > 80


def test_confidence_is_opacity():
    drawn = [np.abs(draw_people(plain(0), standing([60, 20, 90, 200], score)).astype(int)).sum()
             for score in (0.1, 0.25, 0.4, 0.7)]
    assert drawn[0] == 0 and drawn[0] < drawn[1] < drawn[2] < drawn[3]


def test_thicker_for_the_larger():
    """Colour of a shin over its length: 4 times the size gives about 4 times the thickness."""
    drawn = [draw_people(plain(0, 900, 900), standing([20, 20, 80 * size, 200 * size])) for size in (1, 4)]
    small, large = (np.count_nonzero(image[..., 0] > 60) for image in drawn)
    assert 8 < large / small < 20  # an area grows by 16, had the small one not a least thickness


def test_only_near_the_person_is_anything_drawn_and_the_given_image_stays():
    image = plain(77)
    drawn = draw_people(image, standing([100, 60, 60, 120]))
    assert (image == 77).all()
    changed = np.argwhere((drawn != 77).any(axis=2))
    assert (changed.min(axis=0) >= (55, 95)).all() and (changed.max(axis=0) <= (185, 165)).all()
    assert np.array_equal(draw_people(image, nobody(17)), image)


def test_joints_outside_and_joints_that_are_no_numbers():
    for x in (-500, 319, 1e9, np.nan):
        people = standing([60, 20, 90, 200])
        people.keypoints[0, :9, 0] = x
        draw_people(plain(0), people)
    draw_person(np.zeros((1, 1, 3), np.uint8), people.keypoints[0], people.scores[0])


def test_ids_colour_the_middle_the_box_and_the_label():
    people = standing([100, 60, 60, 120], ids=np.array([7]))
    image = draw_people(plain(255), people, boxes=True)
    assert np.abs(image[120, 100].astype(int) - id_color(7)).max() < 40  # the left side of the box
    assert np.abs(shin(image, people, 5, 6) - id_color(7)).max() < 12  # between the shoulders
    assert (np.abs(image[45:60, 100:115].astype(int) - id_color(7)).max(axis=2) < 3).any()  # the plate above it
    without = draw_people(plain(255), dataclasses.replace(people, ids=None))
    assert (without[30:58] == 255).all()


def test_labels_do_not_overlap_and_stay_inside():
    rng, taken = np.random.default_rng(5), []
    for _ in range(40):
        left, top = int(rng.integers(-20, 300)), int(rng.integers(-20, 220))
        place = place_label((18, 14), (left, top, left + 40, top + 90), (240, 320), taken)
        assert not any(_overlap(place, other) for other in taken)
        assert 0 <= place[0] and place[2] <= 320 and 0 <= place[1] and place[3] <= 240
        taken.append(place)


def test_colours_of_ids_can_be_told_apart():
    colors = np.array([id_color(name) for name in range(1, 9)], int)
    apart = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 999 * np.eye(8, dtype=int)
    assert apart.min() > 60
