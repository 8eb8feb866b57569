"""Why two results differ: every cause is tested against the data, and at most one is named.

Faults of the dumps are looked for where the dumps differ; where they agree, or are not there, in the keypoints.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

from backends.rooms import open_pose_backend
from comparison.causes import CAUSES, FOUND, NOT_TESTED, REPRODUCED, RULED_OUT, Finding, best_of, name_rows
from comparison.decoding import decode_variants, explain_flip, explain_keypoints, not_tested_without_dumps
from comparison.gates import HEATMAPS, TENSORS
from comparison.inputs import INPUT_CAUSES, explain_inputs, without_model
from comparison.measure import Decoded, read_people
from comparison.order import explain_order
from comparison.outputs import explain_outputs
from comparison.sides import People, Side, match_people, people_of_manifest
from contract.backend import Backend
from contract.bins import BinReader
from contract.manifest import Manifest
from contract.pixels import FLOAT32, UINT8
from pose.crops import Normalizer
from pose.metrics import keypoint_distances, relative_distances
from pose.people import spec_of
from pose.spec import PoseSpec

SAMPLE = 32  # people whose heatmaps are changed
RERUN = 8  # of them that are run again; a fault that is there reproduces them to rounding
FEW = 0.25  # of all people: what is wrong with fewer is wrong with them, not with the device


@dataclasses.dataclass
class Rerun:
    """A model and the bins of the reference."""

    backend: Backend
    bins: BinReader

    def crops(self, rows: np.ndarray) -> np.ndarray:
        """The network's input, (rows, 3, H, W) float32."""
        batch, config = max(self.bins.rows), self.bins.spec
        crops = [self.bins.read(range(row // batch, row // batch + 1))[row % batch] for row in rows.tolist()]
        return np.stack(list(map(Normalizer(config.mean, config.std), crops)) if config.dtype == UINT8 else crops)


def open_rerun(model: str, folder: Path, config: PoseSpec) -> Rerun:
    """The model takes float32, whatever the bins hold. Raises UserError when model or bins do not fit `config`."""
    bins = BinReader(folder, config)
    return Rerun(open_pose_backend("onnxruntime", model, dataclasses.replace(config, dtype=FLOAT32)), bins)


def diagnose(sides: Tuple[Side, Side], dumps: Optional[Tuple[Decoded, Decoded]], people: Tuple[People, People],
             manifest: Optional[Manifest], config: PoseSpec, limits: Dict[str, float], broken: set,
             rerun: Optional[Rerun]) -> List[Finding]:
    """One finding for every cause, those found first. `broken` are the levels at which the two differ."""
    if not broken:
        return [Finding(cause, RULED_OUT, "the results agree") for cause in CAUSES]
    if dumps and broken & {TENSORS, HEATMAPS}:
        findings, wrong, total = explain_dumps(sides, dumps, config, limits, rerun)
    else:
        findings, wrong, total = explain_people(sides, people, manifest, config, limits, dumps is not None)
    return conclude(findings, wrong, total)


def explain_dumps(sides: Tuple[Side, Side], dumps: Tuple[Decoded, Decoded], config: PoseSpec,
                  limits: Dict[str, float], rerun: Optional[Rerun]) -> Tuple[List[Finding], np.ndarray, int]:
    """Findings from the folder of dumps that differs most; the rows of the wrong people, and how many there are."""
    a, b = dumps
    folder = int(relative_distances(b.sums.sum(axis=(1, 2))).argmax())
    distances = relative_distances(b.sums[folder].sum(axis=1))
    wrong = np.nonzero(distances > np.sqrt(2 * (1 - limits["cosine"])))[0]  # |a - b| / |a| at that cosine
    wrong = wrong if len(wrong) else np.arange(len(distances))
    sample = wrong[np.linspace(0, len(wrong) - 1, min(SAMPLE, len(wrong))).astype(int)]
    heatmaps = [read_people(side.readers[folder], sample) for side in sides]
    peaks = a.peaks[folder], b.peaks[folder]
    findings = explain_order(*peaks, wrong) + explain_outputs(*heatmaps, *peaks)
    accounted = [finding for finding in findings if finding.status == FOUND and finding.unexplained < REPRODUCED]
    if accounted:
        text = f"{CAUSES[accounted[0].cause]} accounts for the difference"
        findings += [Finding(cause, RULED_OUT, text) for cause in INPUT_CAUSES]
    elif rerun and folder == 0:
        few = slice(None, None, -(-len(sample) // RERUN))
        findings += explain_inputs(rerun.backend, rerun.crops(sample[few]), *(each[few] for each in heatmaps), config)
    else:
        findings += without_model(recorded_models(sides))
    findings.append(Finding("flip_shift", RULED_OUT, "the dumps differ, and the flip test comes after them"))
    return findings, wrong, len(distances)


def recorded_models(sides: Tuple[Side, Side]) -> Optional[str]:
    """What the settings beside the dumps tell of the models; None when one side has none."""
    settings = [side.readers[0].settings for side in sides]
    if not all(settings):
        return None
    a, b = (f"{each['model']} ({each['model_sha256'][:12]}, {each['backend']})" for each in settings)
    return f"the dumps were made by {a} and {b}; needs --model and --input to tell which is right"


def explain_people(sides: Tuple[Side, Side], people: Tuple[People, People], manifest: Optional[Manifest],
                   config: PoseSpec, limits: Dict[str, float],
                   agreeing: bool) -> Tuple[List[Finding], np.ndarray, int]:
    """Findings from keypoints; the rows (in a) of the wrong people, and how many there are in both."""
    a, b = people
    rows_a, rows_b = match_people(a, b)
    pixels = input_pixels(a, rows_a, config)
    off = (keypoint_distances(a.keypoints[rows_a], b.keypoints[rows_b]) * pixels[:, None]).mean(axis=1)
    wrong = np.nonzero(off > limits["pixels_p95"])[0]
    wrong = wrong if len(wrong) else np.arange(len(rows_a))
    scores = a.scores[rows_a], b.scores[rows_b]
    places = [side.keypoints[rows][wrong] * pixels[wrong, None, None] for side, rows in ((a, rows_a), (b, rows_b))]
    findings = explain_order(*scores, wrong) + explain_keypoints(*places, *(values[wrong] for values in scores))
    findings += explain_decoding(sides, people, manifest)
    if agreeing:
        text = "the dumps agree, so it is nothing before them"
        findings += [Finding(cause, RULED_OUT, text) for cause in (*INPUT_CAUSES, "transposed", "saturation")]
    else:
        findings += not_tested_without_dumps() + without_model(None)
    return findings, rows_a[wrong], len(rows_a)


def input_pixels(people: People, rows: np.ndarray, config: PoseSpec) -> np.ndarray:
    """Pixels of the network's input to a pixel of the photograph, for each of `rows`."""
    return config.input_size[1] / np.maximum(people.widths[rows], 1e-6)


def explain_decoding(sides: Tuple[Side, Side], people: Tuple[People, People],
                     manifest: Optional[Manifest]) -> List[Finding]:
    """Tell from heatmaps of both crops how the keypoints files came about; the other side's serve as well."""
    both = [side for side in sides if len(side.readers) == 2]
    if not both or spec_of(manifest).regression:
        return [Finding("flip_shift", NOT_TESTED, "needs dumps of normal and mirrored bins, and --manifest")]
    nothing = np.empty(0)
    everybody = people_of_manifest(manifest, nothing, nothing)
    findings = []
    for side, mine in zip(sides, people):
        if side.results is None:
            continue
        source = side if side in both else both[0]
        rows, there = match_people(everybody, mine)
        pick = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
        rows, there = rows[pick], there[pick]
        decoded = decode_variants(*(read_people(reader, rows) for reader in source.readers),
                                  manifest["crop_xyxy"][rows], manifest)
        findings += explain_flip(side.label, decoded, mine.keypoints[there],
                                 input_pixels(mine, there, spec_of(manifest)))
    return findings


def conclude(findings: List[Finding], wrong: np.ndarray, total: int) -> List[Finding]:
    """One finding a cause; of those found, the one that leaves least of the difference stands. If nothing accounts for
    it and few people are wrong, it is them."""
    few = len(wrong) < FEW * total
    share = f"{len(wrong)} of {total} people differ beyond the limit"
    each: Dict[str, Finding] = {}
    for cause in CAUSES:
        mine = [finding for finding in findings if finding.cause == cause]
        if mine:
            each[cause] = best_of([f for f in mine if f.status == FOUND] or
                                  [f for f in mine if f.status == RULED_OUT] or mine)
    if few and each["weights"].status == FOUND:
        each["weights"] = Finding("weights", RULED_OUT, f"{share}; other weights would change everybody")
    found = [finding for finding in each.values() if finding.status == FOUND]
    named = best_of(found) if found else None
    for finding in found:
        if finding is not named:
            finding.status = RULED_OUT
            finding.evidence += f"; {CAUSES[named.cause]} leaves less"
    if named is None and few:
        each["few_people"] = Finding("few_people", FOUND, f"{share}: {name_rows(wrong)}; the rest agrees")
    else:
        each["few_people"] = Finding("few_people", RULED_OUT, share)
    order = {FOUND: 0, RULED_OUT: 1, NOT_TESTED: 2}
    return sorted(each.values(), key=lambda finding: order[finding.status])

