"""What may be wrong when two sets of ReID features differ. Each cause is tried, on the features or by running the
reference's model again on its own images."""
from __future__ import annotations

import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set

import numpy as np

from backends.rooms import open_backend
from comparison.finding import NOT_TESTED, Finding, best_of, judge_trial, remainder
from contract.backend import infer_rows
from contract.errors import UserError
from contract.onnx_file import load_onnx
from contract.pixels import FASTREID_MEAN, FASTREID_STD
from pose.photos import Photos, read_photograph
from reid.crops import RESIZES, region, to_row
from reid.features import RECORD, Features
from reid.ranking import normalise

PEOPLE = 8  # whose features are made again
REPRODUCES = 0.9999  # least cosine between the features of the model run here and the reference
OTHER_EPSILONS = (1e-3, 1e-2, 1e-12)  # of the last batch norm, which has 1e-5
TITLES = {"feature_length": "features of one side are not of length 1", "feature_order": "features of other people",
          "feature_bgr": "crops in the order B, G, R", "feature_flip": "mirrored crops",
          "feature_resize": "crops resized in another way", "feature_normalisation": "pixels normalised otherwise",
          "feature_epsilon": "another epsilon in the last batch norm"}


@dataclasses.dataclass
class FeatureRerun:
    """An ONNX file and the folder of the images, cut out and resized as the record of the reference says."""

    model: str
    photos: Path

    def infer(self, rows: np.ndarray, model: Optional[str] = None) -> np.ndarray:
        """Features of length 1."""
        backend = open_backend("onnxruntime", model or self.model)
        try:
            return normalise(infer_rows(backend, rows, backend.input_shape[0] or PEOPLE).reshape(len(rows), -1))
        finally:
            backend.close()

    def regions(self, entries: List[Dict[str, Any]]) -> List[np.ndarray]:
        """(h, w, 3) uint8 RGB of each person, before it is resized. `entries` are those of the features' record."""
        files = {path.stem: path for path in Photos(self.photos).files}
        parts = []
        for entry in entries:
            stem = Path(entry["file"]).stem
            if stem not in files:
                raise UserError(f"{self.photos}: has no image {stem}, of which the reference has features")
            image = read_photograph(files[stem])
            parts.append(image if entry["bbox"] is None else region(image, entry["bbox"]))
        return parts


def try_features(a: Features, b: Features, broken: Set[str], rerun: Optional[FeatureRerun]) -> List[Finding]:
    """A finding for each of TITLES."""
    if not broken:
        return [Finding(cause, NOT_TESTED, "the results agree") for cause in TITLES]
    return [_length(a, b), _order(a, b), *_made_again(a, b, rerun)]


def _length(a: Features, b: Features) -> Finding:
    lengths = [np.linalg.norm(side.values, axis=1, keepdims=True) for side in (a, b)]
    left = remainder(normalise(a.values) * lengths[1], a.values, b.values)
    finding = judge_trial("feature_length", "scaling each to the other's length", left)
    finding.evidence += f"; mean lengths are {lengths[0].mean():.4g} and {lengths[1].mean():.4g}"
    return finding


def _order(a: Features, b: Features) -> Finding:
    ours, theirs = normalise(a.values), normalise(b.values)
    nearest = (theirs @ ours.T).argmax(axis=1)
    moved = int((nearest != np.arange(len(nearest))).sum())
    finding = judge_trial("feature_order", "taking the most similar of the reference",
                          remainder(ours[nearest], ours, theirs) if moved else 1.0)
    finding.evidence += f"; that is another person for {moved} of {len(nearest)}"
    return finding


def _made_again(a: Features, b: Features, rerun: Optional[FeatureRerun]) -> List[Finding]:
    """Of the causes for which the model is run again."""
    causes = [cause for cause in TITLES if cause not in ("feature_length", "feature_order")]
    if rerun is None or not a.record or "images" not in a.record:
        why = "give --model and --input, the folder of the images" if rerun is None else f"{a.folder} has no {RECORD}"
        return [Finding(cause, NOT_TESTED, why) for cause in causes]
    names = a.names[:PEOPLE]
    ours, theirs = normalise(a.of(names)), normalise(b.of(names))
    trials = Trials(rerun, a.record, rerun.regions([a.record["images"][name] for name in names]))
    if (rerun.infer(trials.rows()) * ours).sum(axis=1).min() < REPRODUCES:
        return [Finding(cause, NOT_TESTED, f"{rerun.model} does not reproduce {a.folder}") for cause in causes]
    return [best_of([judge_trial(cause, what, remainder(features(), ours, theirs))
                     for what, features in trials.of(cause).items()]) for cause in causes]


@dataclasses.dataclass
class Trials:
    """What other crops, or another model, make of the same people."""

    rerun: FeatureRerun
    record: Dict[str, Any]
    parts: List[np.ndarray]

    def rows(self, change: Callable[[np.ndarray], np.ndarray] = lambda part: part,
             resize: Optional[str] = None) -> np.ndarray:
        way, record = RESIZES[resize or self.record["geometry"]], self.record
        return np.stack([to_row(way(np.ascontiguousarray(change(part)), tuple(record["input_size"])), record["dtype"],
                                record["mean"], record["std"]) for part in self.parts])

    def of(self, cause: str) -> Dict[str, Callable[[], np.ndarray]]:
        """What is tried for a cause -> the features that it gives."""
        infer, rows = self.rerun.infer, self.rows()
        other = next(name for name in RESIZES if name != self.record["geometry"])
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (FASTREID_MEAN, FASTREID_STD))
        tried: Dict[str, Dict[str, Callable[[], np.ndarray]]] = {
            "feature_bgr": {"B, G, R": lambda: infer(self.rows(lambda part: part[..., ::-1]))},
            "feature_flip": {"mirroring": lambda: infer(self.rows(lambda part: part[:, ::-1]))},
            "feature_resize": {f"resizing by {other}": lambda: infer(self.rows(resize=other))},
            "feature_normalisation": {
                "dividing by 255": lambda: infer(as_input(rows, lambda pixels: pixels / 255)),
                "normalising as ImageNet": lambda: infer(as_input(rows, lambda pixels: (pixels - mean) / std))},
            "feature_epsilon": {f"epsilon {value:g}": partial(self.with_epsilon, rows, value)
                                for value in OTHER_EPSILONS}}
        return tried[cause]

    def with_epsilon(self, rows: np.ndarray, value: float) -> np.ndarray:
        """By the model with another epsilon in its last batch norm; unchanged where it has none left."""
        import onnx

        model = load_onnx(self.rerun.model)
        norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
        for attribute in norms[-1].attribute if norms else ():
            if attribute.name == "epsilon":
                attribute.f = value
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(model, f"{folder}/model.onnx")
            return self.rerun.infer(rows, f"{folder}/model.onnx")


def as_input(rows: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Rows of pixels from 0 to 255 with a change that only float32 input can have."""
    return change(rows).astype(np.float32) if rows.dtype == np.float32 else rows
