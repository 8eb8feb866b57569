"""Crops or heatmaps seen in a mirror or upside down, or dumps of the wrong one of normal and mirrored bins."""
from __future__ import annotations

from typing import List

import numpy as np

from comparison.causes.case import Case
from comparison.decoded import read_people
from comparison.finding import FOUND, Finding, best_of, judge_trial, remainder
from pose.heatmaps import flip_back, shift_clean

TITLE = "mirrored or upside down, or dumps of normal and mirrored bins mistaken"
TURNS = {"mirroring": lambda values: values[..., ::-1], "turning upside down": lambda values: values[..., ::-1, :],
         "turning by 180 degrees": lambda values: values[..., ::-1, ::-1]}


def test(case: Case) -> Finding:
    heatmaps = {f"{words} the heatmaps": turn for words, turn in TURNS.items()}
    crops = {f"{words} the crops": turn for words, turn in TURNS.items()}
    by_heatmaps = best_of([*case.heatmap_trials("mirrored", heatmaps), *mistaken_folders(case)])
    return by_heatmaps if by_heatmaps.status == FOUND else best_of([by_heatmaps, *case.crop_trials("mirrored", crops)])


def mistaken_folders(case: Case) -> List[Finding]:
    """Whether a folder holds what the other one of the other result does, or is turned back already."""
    if case.heatmaps is None or case.sample is None or len(case.a.readers) < 2 or len(case.b.readers) < 2:
        return []
    trials = []
    for side, right, (mine, wrong) in (("b", case.a, case.heatmaps), ("a", case.b, case.heatmaps[::-1])):
        other = read_people(right.readers[1 - case.folder], case.sample)
        given = {"what the dumps of the other bins should be": other}
        if case.folder == 1:
            given["heatmaps that are turned back already"] = flip_back(mine)
            given["heatmaps that are shifted already"] = shift_clean(mine)
            given["heatmaps that are turned back and shifted already"] = shift_clean(flip_back(mine))
        trials += [judge_trial("mirrored", f"{words}, in {side},", remainder(np.ascontiguousarray(values), mine, wrong))
                   for words, values in given.items()]
    return trials
