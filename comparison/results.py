"""What the arguments of compare.py name: dumps, keypoints files, or both, and what is read and measured of each."""
from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from comparison.decoded import Decoded, measure_dumps
from comparison.people import People, people_of_keypoints, people_of_manifest
from contract.dumps import DumpReader, possible_forms, read_settings
from contract.errors import UserError
from contract.files import read_json
from contract.manifest import Manifest, bins_in, settings_of
from contract.records import is_emulated, read_record
from contract.spec import KEYPOINTS, row_bytes
from contract.tables import mark
from pose.annotations import Annotations, load_annotations
from pose.coco_results import results_of
from pose.matching import Matches, load_truth, match_results
from pose.people import spec_of, spec_of_dumps
from pose.skeleton import COCO17
from pose.spec import PoseSpec
from reid.features import Features, holds_features, read_features

UNKNOWN = "unknown"  # source of the boxes of a manifest that was made up for dumps without one


@dataclasses.dataclass(frozen=True)
class Options:
    """How results are compared: what the model takes and gives, the limits (two tolerances among them), the flip shift
    of postprocess.py, replicates and seed of the bootstrap, and threads."""

    spec: PoseSpec
    limits: Dict[str, float]
    flip_shift: str
    replicates: int
    seed: int
    workers: int


@dataclasses.dataclass(eq=False)
class Result:
    """One of the results to compare: dumps of the normal and perhaps the mirrored bins, a keypoints file, or both; or
    the `features` of a ReID model.

    `open_results` fills in what its files are: `readers` of the dumps, `keypoints` as the file has them. `read_results`
    fills in what follows from them: `decoded` of the dumps if there are any, `people` of either, and `matches` with
    annotations.
    """

    label: str
    folders: List[Path]
    keypoints_path: Optional[Path]
    readers: List[DumpReader] = dataclasses.field(default_factory=list)
    keypoints: Optional[List[Dict[str, Any]]] = None
    matches: Optional[Matches] = None
    features: Optional[Features] = None
    decoded: Decoded = dataclasses.field(init=False, repr=False)
    people: People = dataclasses.field(init=False, repr=False)

    @property
    def manifest(self) -> Manifest:
        """Of the bins that the dumps are of."""
        return self.readers[0].manifest

    @property
    def holds_heatmaps(self) -> bool:
        """Not where there are no dumps, or those of a one-pass model."""
        return bool(self.readers) and spec_of_dumps(self.readers[0]).decode != KEYPOINTS

    @property
    def count(self) -> int:
        """Of people."""
        return len(self.features.names) if self.features else len(self.people.keys)

    @property
    def records(self) -> List[Optional[Dict[str, Any]]]:
        """What made the dumps of each folder, where it is known."""
        return [self.features.record] if self.features else [reader.settings for reader in self.readers]


def parse_result(text: str) -> Result:
    """[LABEL=]PATH[,PATH ...]: a folder of dumps, then that of the mirrored bins; a .json file of keypoints."""
    label, equals, rest = text.partition("=")
    if not equals or os.path.exists(text):
        label, rest = "", text
    paths = [Path(part) for part in ([rest] if os.path.exists(rest) else rest.split(","))]
    folders = [path for path in paths if path.suffix != ".json"]
    files = [path for path in paths if path.suffix == ".json"]
    if len(folders) > 2 or len(files) > 1:
        raise UserError(f"{text}: expected [LABEL=]DUMPS[,DUMPS_OF_MIRRORED][,KEYPOINTS.json]")
    for path in folders:
        if not path.is_dir():
            raise UserError(f"{path}: no such folder of dumps. Name a folder, or a keypoints file that ends in .json")
    default = folders[0].name if folders else str(files[0])
    if len(paths) == 1 and folders and holds_features(folders[0]):
        return Result(label or default, [], None, features=read_features(folders[0]))
    return Result(label or default, folders, files[0] if files else None)


def label_apart(results: List[Result]) -> None:
    """Give every result a label of its own."""
    for result in results:
        same = [other for other in results if other.label == result.label]
        for other in same if len(same) > 1 else []:
            other.label = str(other.features.folder if other.features else [*other.folders, other.keypoints_path][0])
    for number, result in enumerate(results):
        if result.label in {other.label for other in results[:number]}:
            result.label += f" ({number + 1})"


def open_results(results: List[Result], manifest: Optional[Manifest]) -> None:
    """Find every file of every result, of the right size, and read the keypoints files; nothing is computed yet."""
    if len({result.features is None for result in results}) > 1:
        raise UserError("some results are folders of ReID features and some are of poses, which cannot be compared")
    if manifest is not None:
        open_dumps([result for result in results if result.folders], manifest)
    for result in results:
        result.keypoints = load_keypoints(result.keypoints_path) if result.keypoints_path else None
        beside = [read_record(result.keypoints_path.with_name("metrics.json"))] if result.keypoints_path else []
        result.label = mark(result.label, any(map(is_emulated, (*result.records, *beside))))


def open_dumps(results: List[Result], manifest: Manifest) -> None:
    """The readers of all folders. A one-pass model has mirrored the crops itself and has one."""
    for result in results:
        result.readers = [DumpReader(result.folders[0], manifest)]
        if len(result.folders) > 1 and not result.holds_heatmaps:
            raise UserError(f"{result.folders[0]}: dumps of a one-pass model, which has mirrored the crops itself. "
                            "Name this folder alone")
    if len({len(result.folders) for result in results if result.holds_heatmaps}) > 1:
        raise UserError("some results have dumps of mirrored bins and some have not. Give both folders of each, as "
                        "LABEL=DUMPS,DUMPS_OF_MIRRORED, or only the first")
    for result in results:
        result.readers += [DumpReader(folder, manifest.mirrored()) for folder in result.folders[1:]]


def read_results(results: List[Result], options: Options, dataroot: Optional[Path]) -> None:
    """Decode all dumps in one pass, compare them with those of the first result, and find the people of every result;
    with `dataroot`, match them to its annotations."""
    annotations = load_annotations(dataroot) if dataroot else None  # refused before hours of decoding
    with_dumps = [result for result in results if result.readers]
    if with_dumps:
        tolerances = options.limits["atol"], options.limits["rtol"]
        measured = measure_dumps([result.readers for result in with_dumps], with_dumps[0].manifest, options.flip_shift,
                                 tolerances, options.workers)
        for result, decoded in zip(with_dumps, measured):
            result.decoded = decoded
    for result in results:
        if result.features is not None:
            continue
        if result.keypoints is not None:
            result.people = people_of_keypoints(result.keypoints, options.spec.input_size)
        else:
            result.people = people_of_manifest(result.manifest, result.decoded.keypoints, result.decoded.scores)
    if annotations:
        match_annotations(results, annotations)


def match_annotations(results: List[Result], annotations: Annotations) -> None:
    """Every result's people, of its keypoints file or as postprocess.py makes them of dumps."""
    images = next((result.manifest.settings["images"] for result in results if result.readers), None)
    truth = load_truth(annotations, images)
    for result in results:
        people = result.keypoints
        if people is None:
            people = results_of(result.manifest, result.decoded.keypoints, result.decoded.scores)
        annotations.require_images([person["image_id"] for person in people], f"results of {result.label}")
        result.matches = match_results(truth, people)


def anonymous_manifest(results: List[Result], spec: PoseSpec) -> Manifest:
    """A manifest for dumps that come without one: rows, but no photos and no boxes. Crops are taken as wholes.

    The settings beside any of the dumps tell shapes and rows to a file; without them it is `spec` and 1.
    """
    folders = [result.folders[0] for result in results if result.folders]
    recorded = ((read_settings(folder) or {}).get("bins") for folder in folders)
    settings = next(filter(None, recorded), None) or settings_of(
        spec, batch=1, boxes=UNKNOWN, boxes_sha256=None, images=None)
    people = _count_rows(folders[0], Manifest(settings, {}))
    height, width = spec_of(Manifest(settings, {})).input_size
    crops = np.tile(np.array([0, 0, width, height], np.float32), (people, 1))
    return Manifest(settings, {"image_id": np.arange(people), "bbox_xywh": crops.astype(np.float64),
                               "crop_xyxy": crops, "score": np.ones(people)})


def _count_rows(folder: Path, manifest: Manifest) -> int:
    """Rows of all dumps in a folder: every file but the last holds the manifest's batch."""
    found = bins_in(folder)
    if not found:
        raise UserError(f"{folder}: no dumps (.bin files). Run the inference first")
    sizes = [found[name] for name in sorted(found)]
    of_forms = [row_bytes(*form) for form in possible_forms(manifest)]
    bytes_each = next((size for size in of_forms if sizes[0] == manifest.batch * size), of_forms[0])
    return (len(sizes) - 1) * manifest.batch + max(1, sizes[-1] // bytes_each)


def load_keypoints(path: Path) -> List[Dict[str, Any]]:
    """A COCO results file of keypoints, as postprocess.py writes it."""
    people = read_json(path, "keypoints")
    if not isinstance(people, list) or not people:
        raise UserError(f"{path}: expected a JSON list of people with keypoints, as postprocess.py writes it")
    for number, person in enumerate(people):
        try:
            complete = np.shape(person["keypoints"]) == (3 * len(COCO17),) and np.shape(person["bbox"]) == (4,)
            finite = bool(np.isfinite([*person["keypoints"], *person["bbox"], person["score"],
                                       person["image_id"]]).all())
        except (KeyError, TypeError, ValueError):
            complete = finite = False
        if not complete or not finite:
            raise UserError(f"{path}: row {number}: expected image_id, bbox of 4, score and keypoints of "
                            f"{3 * len(COCO17)} finite numbers")
    return people
