"""Every result against the first: measured, judged, and explained where they differ."""
from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from comparison.causes import Finding
from comparison.diagnosis import Rerun, diagnose
from comparison.gates import HEATMAPS, KEYPOINTS, SCORE, first_difference, judge
from comparison.levels import dump_levels, keypoint_level, score_level
from comparison.matching import Matches, load_truth, match_results
from comparison.measure import Decoded, measure_dumps, require_finite
from comparison.sides import People, Side, people_of_manifest, people_of_results
from contract.manifest import Manifest
from pose.annotations import Annotations, load_annotations
from pose.results import results_of
from pose.spec import PoseSpec


@dataclasses.dataclass
class Pair:
    """Side number `b` held against side 0."""

    b: int
    levels: Dict[str, Any]
    verdicts: List[Dict[str, Any]]
    findings: List[Finding] = dataclasses.field(default_factory=list)

    @property
    def agree(self) -> bool:
        return first_difference(self.verdicts) is None


@dataclasses.dataclass
class Comparison:
    """All that was measured. `decoded` has None for a side without dumps."""

    sides: List[Side]
    manifest: Optional[Manifest]
    input_size: tuple
    decoded: List[Optional[Decoded]]
    people: List[People]
    pairs: List[Pair]

    @property
    def agree(self) -> bool:
        return all(pair.agree for pair in self.pairs)


@dataclasses.dataclass(frozen=True)
class Options:
    limits: Dict[str, float]
    flip_shift: str
    replicates: int
    seed: int
    workers: int
    explain: bool


def compare(sides: List[Side], manifest: Optional[Manifest], config: PoseSpec, dataroot: Optional[Path],
            options: Options, rerun: Optional[Rerun] = None) -> Comparison:
    """Measure what all sides have, level by level. `manifest` is needed for dumps, `dataroot` for the score."""
    annotations = load_annotations(dataroot) if dataroot else None  # refused before hours of decoding
    if options.explain:
        require_finite(sides, options.workers)
    decoded = decode_sides(sides, manifest, options)
    people = [people_of_results(side.results, config.input_size) if side.results is not None else
              people_of_manifest(manifest, mine.keypoints, mine.scores) for side, mine in zip(sides, decoded)]
    matches = match_sides(sides, manifest, decoded, annotations) if annotations else None
    pairs = []
    for number in range(1, len(sides)):
        levels = {}
        if decoded[0] and decoded[number]:
            levels = dump_levels(decoded[0], decoded[number], int(np.prod(config.heatmap_size)))
        whole = sides[0].results is not None and sides[number].results is not None
        levels[KEYPOINTS] = keypoint_level(people[0], people[number], config.input_size[1], whole)
        if matches:
            levels[SCORE] = score_level(matches[0], matches[number], options.replicates, options.seed, options.workers)
        pairs.append(Pair(number, levels, judge(levels, options.limits)))
        if options.explain:
            explain_pair(pairs[-1], sides, decoded, people, manifest, config, options.limits, rerun)
    return Comparison(sides, manifest, config.input_size, decoded, people, pairs)


def decode_sides(sides: List[Side], manifest: Optional[Manifest], options: Options) -> List[Optional[Decoded]]:
    with_dumps = [side for side in sides if side.readers]
    if not with_dumps:
        return [None] * len(sides)
    tolerances = options.limits["atol"], options.limits["rtol"]
    measured = iter(measure_dumps(with_dumps, manifest, options.flip_shift, tolerances, options.workers))
    return [next(measured) if side.readers else None for side in sides]


def match_sides(sides: List[Side], manifest: Optional[Manifest], decoded: List[Optional[Decoded]],
                annotations: Annotations) -> List[Matches]:
    """Every side's results, of its keypoints file or as postprocess.py makes them of dumps, matched to annotations."""
    images = manifest.settings["images"] if manifest else None
    truth = load_truth(annotations, images)
    matches = []
    for side, mine in zip(sides, decoded):
        results = side.results
        if results is None:
            results = results_of(manifest, mine.keypoints, mine.scores)
        annotations.require_images([person["image_id"] for person in results], f"results of {side.label}")
        matches.append(match_results(truth, results))
    return matches


def explain_pair(pair: Pair, sides: List[Side], decoded: List[Optional[Decoded]], people: List[People],
                 manifest: Optional[Manifest], config: PoseSpec, limits: Dict[str, float],
                 rerun: Optional[Rerun]) -> None:
    """Fill in the findings of one pair."""
    both = (decoded[0], decoded[pair.b]) if HEATMAPS in pair.levels else None
    broken = {verdict["level"] for verdict in pair.verdicts if not verdict["kept"]}
    pair.findings = diagnose((sides[0], sides[pair.b]), both, (people[0], people[pair.b]), manifest, config, limits,
                             broken, rerun)


def describe(comparison: Comparison, limits: Dict[str, float]) -> Dict[str, Any]:
    """Everything as plain values, for --json."""
    sides = [{"label": side.label, "dumps": [str(folder) for folder in side.folders],
              "keypoints": str(side.keypoints_path) if side.keypoints_path else None,
              "settings": [reader.settings for reader in side.readers],
              "dtypes": [np.dtype(reader.dtype).name for reader in side.readers]} for side in comparison.sides]
    pairs = [{"a": comparison.sides[0].label, "b": comparison.sides[pair.b].label, "agree": pair.agree,
              "differs_at": first_difference(pair.verdicts), "gate": pair.verdicts, "levels": pair.levels,
              "diagnosis": [{**dataclasses.asdict(finding), "title": finding.title} for finding in pair.findings]}
             for pair in comparison.pairs]
    return {"agree": comparison.agree, "people": len(comparison.people[0].keys), "limits": limits, "sides": sides,
            "pairs": pairs, "versions": {"python": platform.python_version(), "numpy": np.__version__}}
