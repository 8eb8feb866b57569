"""Make poseflow.npz: AlphaPose's own PoseFlow on a generated video.

    cd tests && python3 -m golden.poseflow ../../AlphaPose

`../../AlphaPose` is a clone of github.com/MVIG-SJTU/AlphaPose at commit ddaf4b99; munkres must be installed. Only
results are kept: the tests make the same video.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
from typing import Any, Dict, List, NamedTuple

import cv2
import numpy as np

from .functions import HERE, JOINTS

HEIGHT, WIDTH, FRAMES = 180, 240, 14
TALL, WIDE = 84, 36  # of a person
PLAIN = 12  # from this frame on nothing is drawn: without points every pixel is taken as unmoved
# left and top in the first frame, and steps per frame. The first two cross.
PATHS = np.array([[10, 30, 15, 1], [190, 50, -14, 0], [100, 80, 3, -2], [60, 5, -9, 0], [215, 70, -6, 2]])
ABSENT = {2: (4, 5), 3: (8, 9, 10, 11), 4: (0, 1, 2, 3, 4)}  # who is hidden, has left, or has not come yet
STRANGERS = (3, 7)  # frames with one detection of nobody


class Frame(NamedTuple):
    """(H, W, 3) uint8 RGB, and its N people: (N, 17, 2) and (N, 17) float32."""

    image: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8 with corners to match."""
    cells = rng.integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)


def video() -> List[Frame]:
    rng = np.random.default_rng(5)
    ground, looks = texture(rng, HEIGHT, WIDTH) // 4, [texture(rng, TALL, WIDE) for _ in PATHS]
    poses = rng.uniform(0, 1, (len(PATHS), JOINTS, 2)) * [WIDE, TALL]
    frames = []
    for number in range(FRAMES):
        image, corners = ground.copy(), (PATHS[:, :2] + number * PATHS[:, 2:]).clip(0, [WIDTH - WIDE, HEIGHT - TALL])
        present = rng.permutation([who for who in range(len(PATHS)) if number not in ABSENT.get(who, ())])
        for who in present:
            left, top = corners[who]
            image[top:top + TALL, left:left + WIDE] = looks[who]
        keypoints = list(corners[present, None] + poses[present] + rng.normal(0, 1.5, (len(present), JOINTS, 2)))
        if number in STRANGERS:
            keypoints.insert(1, rng.uniform(0, 1, (JOINTS, 2)) * [WIDTH, HEIGHT])
        frames.append(Frame(np.full_like(image, 90) if number >= PLAIN else image, np.array(keypoints, np.float32),
                            rng.uniform(0.1, 1, (len(keypoints), JOINTS)).astype(np.float32)))
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clone", help="a clone of AlphaPose")
    sys.path.insert(0, f"{parser.parse_args().clone}/trackers")
    from PoseFlow import poseflow_infer

    arrays: Dict[str, Any] = {}

    def best_matching(points: np.ndarray, known: List[Dict[str, Any]], *rest: Any, **options: Any) -> Any:
        pairs, grades = match(points, known, *rest, **options)
        arrays.update({f"known_{number}": [person["new_pid"] for person in known], f"grades_{number}": grades})
        if number < PLAIN:
            arrays[f"points_{number}"] = points[:, :4].astype(np.int16)
        return pairs, grades

    match, poseflow_infer.best_matching_hungarian = poseflow_infer.best_matching_hungarian, best_matching
    with tempfile.TemporaryDirectory() as folder:
        tracker = poseflow_infer.PoseFlowWrapper(save_path=folder, pool_size=1)
        for number, frame in enumerate(video()):
            people = [{"keypoints": joints, "kp_score": scores, "proposal_score": 1.0}  # which has the weight 0
                      for joints, scores in zip(frame.keypoints, frame.scores)]
            found = tracker.step(frame.image[..., ::-1], {"imgname": f"{number}.jpg", "result": people})
            arrays[f"ids_{number}"] = [person["idx"] for person in found]
    np.savez_compressed(HERE / "poseflow.npz", **arrays)


if __name__ == "__main__":
    main()
