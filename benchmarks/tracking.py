"""Trackers on rendered films of people who cross, hide behind each other and a post, leave and come back.

    python3 -m pip install -r requirements-video.txt trackeval tabulate
    python3 benchmarks/tracking.py
    python3 benchmarks/tracking.py --reid demo/reid_small.pth --reid_cfg configs/demo_reid.yaml --networks

Who is who is known, so HOTA, IDF1 and identity switches can be counted; TrackEval does it. Boxes and joints are the
drawn ones, shaken, missed behind things and with false ones between; with --networks those that the project's two
small networks find. "iou" is plain matching of boxes with those of the frame before. "truth" gives each box the id of
who is drawn there: the best that any tracker can do with these boxes.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contract.script import exit_code  # noqa: E402

from contract.arguments import HelpFormatter  # noqa: E402
from contract.tables import format_table  # noqa: E402
from demo.walks import Film, Frame  # noqa: E402
from pose.pose_nms import pose_nms  # noqa: E402
from pose.poses import People  # noqa: E402
from prediction.looks import Looks  # noqa: E402
from tracking.assignment import best_pairs  # noqa: E402
from tracking.poseflow import PoseFlow  # noqa: E402
from tracking.tracker import SURE, Tracker, ious  # noqa: E402

SEEN = 0.3  # least visible share of somebody who is to be found
NARROWEST = 15  # pixels of somebody who is to be found
SAME_BOX = 0.4  # IoU of a found box with a drawn one


class PlainIou:
    """Ids by the best IoU with the boxes of the frame before, at least 0.3."""

    def __init__(self) -> None:
        self.before: List[Tuple[int, np.ndarray]] = []
        self.newest = 0

    def update(self, image: np.ndarray, people: People) -> np.ndarray:
        ids, rows = np.zeros(len(people), np.int64), np.flatnonzero(people.box_scores >= SURE)
        if self.before and len(rows):
            grades = np.stack([ious(box, people.boxes_xywh[rows]) for _, box in self.before])
            for number, column in best_pairs(np.where(grades > 0.3, grades, -1)):
                if grades[number, column] > 0.3:
                    ids[rows[column]] = self.before[number][0]
        for row in rows[ids[rows] == 0]:
            self.newest += 1
            ids[row] = self.newest
        self.before = [(int(ids[row]), people.boxes_xywh[row]) for row in rows]
        return ids


def true_ids(frame: Frame, people: People, wanted: np.ndarray) -> np.ndarray:
    """(N,) ids of the `wanted` drawn people at the boxes; 0 is nobody."""
    ids, drawn = np.zeros(len(people), np.int64), np.flatnonzero(wanted)
    if len(drawn) and len(people):
        grades = np.stack([ious(frame.boxes_xywh[number], people.boxes_xywh) for number in drawn])
        for row, column in best_pairs(np.where(grades > SAME_BOX, grades, -1)):
            if grades[row, column] > SAME_BOX:
                ids[column] = frame.ids[drawn[row]]
    return ids


def shaken(frame: Frame, rng: np.random.Generator) -> People:
    """What a good detector and pose network might say of a frame: nobody is seen who is nearly hidden, those half
    hidden often not and with low scores; 1 frame in 20 has a false box."""
    boxes, scores, joints, joint_scores = [], [], [], []
    for box, visible, drawn in zip(frame.boxes_xywh, frame.visible, frame.keypoints):
        chance = 0.98 if visible > 0.5 else 0.6 if visible > 0.2 else 0
        if box[2] < NARROWEST or rng.random() > chance:
            continue
        hidden = drawn[:, 2] == 0
        points = drawn[:, :2] + rng.normal(0, 0.012 * box[3], (17, 2))
        points[hidden] = box[:2] + box[2:] / 2 + rng.normal(0, 0.2, (int(hidden.sum()), 2)) * box[2:]
        boxes.append(box + rng.normal(0, 0.025, 4) * np.tile(box[2:], 2))
        scores.append(rng.uniform(0.75, 1) if visible > 0.5 else rng.uniform(0.2, 0.7))
        joints.append(points)
        joint_scores.append(np.where(hidden, 0.1, 0.9))
    if rng.random() < 0.05:
        boxes.append(np.array([rng.uniform(0, 500), rng.uniform(0, 200), 60, 150]))
        scores.append(rng.uniform(0.1, 0.5))
        joints.append(boxes[-1][:2] + rng.uniform(0, 1, (17, 2)) * boxes[-1][2:])
        joint_scores.append(np.full(17, 0.15))
    count = len(boxes)
    return People(np.array(boxes, np.float32).reshape(count, 4), np.array(scores, np.float32),
                  np.array(joints, np.float32).reshape(count, 17, 2),
                  np.array(joint_scores, np.float32).reshape(count, 17))


def networks() -> Callable[[np.ndarray], People]:
    """The people that the two networks of the project find on an image."""
    from detection.decoding import Thresholds
    from detection.detector import Detector
    from pose.spec import load_spec
    from prediction.arguments import SAMPLE_CONFIG, SAMPLE_MODEL, SAMPLE_WEIGHTS, SAMPLE_YOLO_CFG
    from prediction.networks import Finder, Poser

    finder = Finder(Detector(weights=SAMPLE_WEIGHTS, cfg=SAMPLE_YOLO_CFG), Thresholds())
    poser = Poser("pytorch", SAMPLE_MODEL, load_spec(SAMPLE_CONFIG), None, {}, None, 8, False)
    finder.open()
    poser.open()

    def find(image: np.ndarray) -> People:
        corners, scores = finder.boxes(finder.infer([finder.prepare(image)])[0], image)
        if not len(corners):
            return People(corners, scores, np.zeros((0, 17, 2), np.float32), np.zeros((0, 17), np.float32))
        crops, crop_xyxy = poser.crops(image, corners)
        return pose_nms(poser.people(poser.infer(crops), crop_xyxy, corners, scores))

    return find


def follow(film: Film, trackers: Dict[str, Any], find: Any,
           seed: int) -> Iterator[Tuple[Frame, People, Dict[str, np.ndarray]]]:
    """Each frame, the people found on it, and their ids by tracker."""
    rng = np.random.default_rng(seed)
    for number in tqdm(range(film.frames), unit="frame", desc=f"film {seed}", leave=False):
        frame = film.frame(number)
        people = find(frame.image) if find else shaken(frame, rng)
        yield frame, people, {name: tracker.update(frame.image, people) for name, tracker in trackers.items()}


def score(truth: List[np.ndarray], ids: List[np.ndarray], similar: List[np.ndarray]) -> Dict[str, float]:
    """TrackEval's numbers of one film: ids that are there, ids that were given, and IoUs between them, by frame."""
    import trackeval

    def numbered(lists: List[np.ndarray]) -> Tuple[List[np.ndarray], int]:
        names = np.unique(np.concatenate(lists))
        return [np.searchsorted(names, each) for each in lists], len(names)

    (truth, people), (ids, given) = numbered(truth), numbered(ids)
    data = {"num_timesteps": len(truth), "num_gt_dets": sum(map(len, truth)), "num_tracker_dets": sum(map(len, ids)),
            "num_gt_ids": people, "num_tracker_ids": given, "gt_ids": truth, "tracker_ids": ids,
            "similarity_scores": similar}
    limits = {"THRESHOLD": SAME_BOX, "PRINT_CONFIG": False}
    clear = trackeval.metrics.CLEAR(limits).eval_sequence(data)
    return {"HOTA": float(trackeval.metrics.HOTA().eval_sequence(data)["HOTA"].mean()),
            "IDF1": float(trackeval.metrics.Identity(limits).eval_sequence(data)["IDF1"]),
            "MOTA": float(clear["MOTA"]), "switches": float(clear["IDSW"]), "ids": float(given)}


def measure(seed: int, frames: int, people: int, find: Any, looks: Any) -> Dict[str, Dict[str, float]]:
    trackers = {"iou": PlainIou(), "motion": Tracker(), "poseflow": PoseFlow()}
    if looks:
        trackers["motion and looks"] = Tracker(looks)
    truth: List[np.ndarray] = []
    ids: Dict[str, List[np.ndarray]] = {name: [] for name in (*trackers, "truth")}
    similar: Dict[str, List[np.ndarray]] = {name: [] for name in ids}
    for frame, found, given in follow(Film(seed, frames, people), trackers, find, seed):
        wanted = (frame.visible > SEEN) & (frame.boxes_xywh[:, 2] > NARROWEST)
        truth.append(frame.ids[wanted])
        for name, names in {**given, "truth": true_ids(frame, found, wanted)}.items():
            boxes = found.boxes_xywh[names > 0].astype(np.float64)
            ids[name].append(names[names > 0])
            similar[name].append(np.array([ious(box, boxes) for box in frame.boxes_xywh[wanted]]
                                          ).reshape(int(wanted.sum()), len(boxes)))
    return {name: score(truth, ids[name], similar[name]) for name in ids}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--films", type=int, default=6, help="their seeds are 13, 14, ...")
    parser.add_argument("--frames", type=int, default=450, help="of each, 30 a second")
    parser.add_argument("--people", type=int, default=4, help="in each")
    parser.add_argument("--networks", action="store_true", help="find people with the project's networks")
    parser.add_argument("--reid", help="model for re-identification, for a tracker that uses looks too")
    parser.add_argument("--reid_cfg", help="its config")
    args = parser.parse_args()
    if bool(args.reid) != bool(args.reid_cfg):
        parser.error("--reid and --reid_cfg go together")
    find, looks = networks() if args.networks else None, Looks(args.reid_cfg, args.reid) if args.reid else None
    films = [measure(13 + number, args.frames, args.people, find, looks) for number in range(args.films)]
    rows = []
    for name in films[0]:
        mean = {key: float(np.mean([film[name][key] for film in films])) for key in films[0][name]}
        switches = sum(film[name]["switches"] for film in films)
        fewer = 1 - switches / max(sum(film["iou"]["switches"] for film in films), 1)
        rows.append([name, *(f"{mean[key]:.3f}" for key in ("HOTA", "IDF1", "MOTA")), f"{switches:.0f}", f"{fewer:.1%}",
                     f"{mean['ids']:.1f}"])
    print(format_table(["tracker", "HOTA", "IDF1", "MOTA", "id switches", "fewer than iou", "ids a film"], rows))


if __name__ == "__main__":
    sys.exit(exit_code(main))
