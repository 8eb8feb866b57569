"""Two causes at once: heatmaps as one of them would leave them, changed as the other one does."""
from __future__ import annotations

from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from comparison.causes.activation import sigmoid, softmax
from comparison.causes.bgr import read_as_bgr
from comparison.causes.case import RUN, Case, neighbours
from comparison.causes.file_order import MOST, describe_order, people_elsewhere
from comparison.causes.joint_order import nearest_joints
from comparison.causes.mirrored import TURNS
from comparison.causes.normalisation import normalisations
from comparison.causes.offset import move_planes
from comparison.causes.storage import find_grids, to_grid
from comparison.decoded import read_people
from comparison.finding import FOUND, REPRODUCED, Finding, Gap
from comparison.readings import reread

BETTER = 1 / 3  # of what either cause leaves alone is left by both, at most, or one of them only trims the other
PROMISING = 0.1  # of one person's difference; where more is left the others are not looked at

Name = Tuple[str, str]  # cause, and what it did
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]  # heatmaps, those that they should become -> changed


class Target:
    """What pairs of causes are to make of the right side: (n, K, h, w) each."""

    def __init__(self, right: np.ndarray, wrong: np.ndarray):
        self.right, self.wrong = right, wrong
        self.one, self.all = Gap(right[:1], wrong[:1]), Gap(right, wrong)

    def left_by(self, step: Step, heatmaps: np.ndarray) -> float:
        """What of the difference is left; of the first person alone where that is much."""
        left = self.one.left(step(heatmaps[:1], self.wrong[:1]))
        return left if left > PROMISING else self.all.left(step(heatmaps, self.wrong))


class Pair(NamedTuple):
    """`heatmaps` as the first cause leaves them, and `step`, which does what the second one does."""

    first: Name
    second: Name
    heatmaps: np.ndarray
    step: Step
    target: Target

    @property
    def left(self) -> float:
        return self.target.left_by(self.step, self.heatmaps)

    @property
    def left_by_one(self) -> float:
        """What is left by the better of both alone."""
        target = self.target
        return min(target.all.left(self.heatmaps), target.all.left(self.step(target.right, target.wrong)))


def find_pair(case: Case) -> List[Finding]:
    """The two causes that together reproduce the difference best, both found; or none."""
    if case.heatmaps is None or case.few:
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        least, best = min(((pair.left, pair) for pair in pairs(case)), key=lambda one: one[0])
    if least >= REPRODUCED or not case.is_rest_inside(least) or (
            best.step is not unchanged and least > BETTER * best.left_by_one):
        return []
    text = f"{best.first[1]}, and {best.second[1]}, together leave {100 * least:.3g} % of the difference"
    return [Finding(cause, FOUND, text, least) for cause, _ in (best.first, best.second)]


def pairs(case: Case) -> Iterator[Pair]:
    few, run = neighbours(len(case.sample), RUN), case.model if case.model and not case.model.neither else None
    rows, (a, b) = case.sample[few], (heatmaps[few] for heatmaps in case.heatmaps)
    for side, right, wrong in (("b", a, b), ("a", b, a)):
        if run and side != run.name:
            continue
        steps = {(cause, f"{words} in {side}"): step for (cause, words), step in steps_of(case, wrong).items()}
        made = {name: step(right, wrong) for name, step in steps.items()}
        made.update(run.rerun.made if run else {})
        target = Target(right, wrong)
        for first, heatmaps in made.items():
            for second, step in steps.items():
                if first[0] != second[0]:
                    yield Pair(first, second, heatmaps, step, target)
        yield from displaced(case, side, steps)
        for words, source, place in shifts(rows):
            shifted, moved = ("file_order", f"{words} in {side}"), Target(right[place], wrong[place])
            for first, heatmaps in made.items():
                if first not in steps:
                    yield Pair(first, shifted, heatmaps[source], unchanged, moved)
            for second, step in steps.items():
                yield Pair(shifted, second, right[source], step, moved)
        if run:
            for words, change in normalisations(case.options.spec).items():
                if words not in run.rerun.made_bgr:
                    run.rerun.made_bgr[words] = run.rerun.infer(change(read_as_bgr(run.crops, case.options.spec)))
                yield Pair(("bgr", "B, G, R"), ("normalisation", words), run.rerun.made_bgr[words], unchanged, target)


def displaced(case: Case, side: str, steps: Dict[Name, Step]) -> Iterator[Pair]:
    """b's files in whichever order their peaks tell, each changed by one further cause."""
    rows, source, share = people_elsewhere(case)
    if side == "b" and share >= MOST:
        some = neighbours(len(rows), RUN)
        right, wrong = (read_people(result.readers[case.folder], at[some])
                        for result, at in ((case.a, source), (case.b, rows)))
        for second, step in steps.items():
            yield Pair(("file_order", describe_order(rows, source, case.total)), second, right, step,
                       Target(right, wrong))


def unchanged(heatmaps: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    return heatmaps


def shifts(rows: np.ndarray) -> Iterator[Tuple[str, np.ndarray, np.ndarray]]:
    """Which of `rows` hold what others of them should, where files are shifted by one."""
    first = np.nonzero(np.diff(rows) == 1)[0]
    if len(first):
        yield "files shifted by one", first + 1, first
        yield "files shifted back by one", first, first + 1


def steps_of(case: Case, wrong: np.ndarray) -> Dict[Name, Step]:
    """What is tried after another cause, of which heatmaps like `wrong` come: common, and told by few people."""
    changes: Dict[Name, Callable[[np.ndarray], np.ndarray]] = {
        ("left_right", "left and right joints swapped"):
            lambda heatmaps: heatmaps[:, case.options.spec.skeleton.mirrored],
        ("transposed", "(K, w, h) for (K, h, w)"): lambda heatmaps: reread(heatmaps, (0, 1, 3, 2)),
        ("layout", "(h, w, K) for (K, h, w)"): lambda heatmaps: reread(heatmaps, (0, 2, 3, 1)),
        ("activation", "a sigmoid"): sigmoid, ("activation", "a softmax"): softmax,
        ("activation", "ReLU"): lambda heatmaps: np.maximum(heatmaps, 0), ("activation", "tanh"): np.tanh}
    changes.update({("mirrored", f"{words} the heatmaps"): turn for words, turn in TURNS.items()})
    changes.update({("offset", f"heatmaps moved by {x:+g}, {y:+g} cells"): lambda heatmaps, x=x, y=y: move_planes(
        heatmaps, x, y) for x in (-1.0, -0.5, 0.0, 0.5, 1.0) for y in (-1.0, -0.5, 0.0, 0.5, 1.0)
        if (x or y) and (x - y) % 1 == 0})
    steps: Dict[Name, Step] = {name: lambda heatmaps, wrong, change=change: change(heatmaps)
                               for name, change in changes.items()}
    steps["scaled", "heights times a constant"] = lambda heatmaps, wrong: heatmaps * np.float32(
        (heatmaps * wrong).sum() / max(float((heatmaps * heatmaps).sum()), 1e-30))
    steps["joint_order", "joints in another order"] = lambda heatmaps, wrong: heatmaps[
        :, list(nearest_joints(heatmaps, wrong))]
    if find_grids(wrong):
        steps["storage", "heatmaps of few values"] = to_grid
    return steps
