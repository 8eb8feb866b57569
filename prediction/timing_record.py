"""The record of a round of `bench.py --pipeline`, beside what the round gave, and what it is compared with.

A round's folder holds the people of every image, the outputs of the two networks for drawn inputs, and a summary:
milliseconds, and the record, as contract/run_record.py has them for one network. Which images are hashed is drawn at
random when the round starts.
"""
from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from contract.files import read_json, sha256_of_file, sha256_of_rows
from contract.onnx_file import sha256_of_model
from contract.run_record import CLOCK_SECONDS, RECORD, SAMPLED, draw, wrong_clock, wrong_run
from prediction.sources import Pictures

SUMMARY, PEOPLE, NETWORKS = "summary.json", "people.jsonl", ("detector", "pose")
SAME_PLACE, SAME_SCORE = 1e-2, 1e-5


def draw_images(source: Pictures) -> Dict[str, str]:
    """Some images and the SHA-256 of their files."""
    return {source.names[number]: sha256_of_file(source.paths[source.names[number]])
            for number in draw(list(range(len(source.names))))}


def record_of(settings: Dict[str, Any], source: Pictures, drawn: Dict[str, str], lines: List[bytes],
              outputs: Dict[str, str], machine: Dict[str, Any]) -> Dict[str, Any]:
    """`lines` are those of all images in order, `outputs` the SHA-256 of each network's. `crops` and `of` count
    images."""
    by_name = dict(zip(source.names, lines))
    return {"settings": settings, "images_list": images_list(source), "crops": len(lines), "of": len(lines),
            "outputs": outputs, "machines": [machine],
            "samples": [{"image": name, "input": digest, "output": hashlib.sha256(by_name[name]).hexdigest()}
                        for name, digest in drawn.items()]}


def images_list(source: Pictures) -> str:
    """Digest of names and sizes."""
    return sha256_of_rows((name, source.size(name)) for name in source.names)


def find_mismatch(folder: Path, settings: Dict[str, Any], models: Dict[str, str], source: Pictures) -> Optional[str]:
    """In words, the first thing that keeps the summary in `folder` from being that of the round which gave what lies
    there, with these settings, model files and images. None where all agrees."""
    summary = read_json(folder / SUMMARY, "summary")
    try:
        record = summary[RECORD]
        return wrong_run(summary, settings) or _wrong_times(summary, record) or _wrong_outputs(folder, record) or \
            _wrong_inputs(record, models, source)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        return f"its record is none that this project writes ({type(error).__name__}: {error})"


def _wrong_times(summary: Dict[str, Any], record: Dict[str, Any]) -> Optional[str]:
    moved = wrong_clock(record)
    if moved:
        return moved
    machine, spent = record["machines"][0], summary["seconds"]
    told = sum(sum(summary[network]) for network in NETWORKS) / 1000 + spent
    if min([spent, *summary["detector"], *summary["pose"]]) <= 0 or told > machine["monotonic_s"] + CLOCK_SECONDS:
        return f"its times add up to {told:.3g} s, and the run took {machine['monotonic_s']:.3g} s"
    return None


def _wrong_outputs(folder: Path, record: Dict[str, Any]) -> Optional[str]:
    lines = (folder / PEOPLE).read_bytes().splitlines(keepends=True)
    found = {json.loads(line)["image"]: hashlib.sha256(line).hexdigest() for line in lines}
    if len(lines) != record["crops"]:
        return f"it counts {record['crops']} images, and {len(lines)} were done"
    if len(record["samples"]) < min(SAMPLED, len(lines)):
        return f"{len(record['samples'])} of its images are hashed, expected {min(SAMPLED, len(lines))}"
    for one in record["samples"]:
        if found.get(one["image"]) != one["output"]:
            return f"the people of {one['image']} are not those that the timed run found"
    for network in NETWORKS:
        if sha256_of_file(folder / network / "0.bin") != record["outputs"][network]:
            return f"{network}/0.bin is not what the timed run gave"
    return None


def _wrong_inputs(record: Dict[str, Any], models: Dict[str, str], source: Pictures) -> Optional[str]:
    for network, model in models.items():
        if sha256_of_model(model) != record["settings"][f"{network}_sha256"]:
            return f"{model} is another model than the run's"
    if images_list(source) != record["images_list"]:
        return "the images are others than the run's"
    for one in record["samples"]:
        if sha256_of_file(source.paths[one["image"]]) != one["input"]:
            return f"{one['image']} is another image than the run's"
    return None


def same_people(folder: Path, reference: Path) -> bool:
    """Whether two rounds of one pair have found the same: as many people, keypoints within SAME_PLACE pixels and scores
    within SAME_SCORE. Not every device gives the same bytes twice."""
    for one, other in zip(_lines(folder), _lines(reference)):
        if one["image"] != other["image"] or len(one["people"]) != len(other["people"]):
            return False
        if one["people"]:
            mine, theirs = (np.array([person["keypoints"] for person in line["people"]]).reshape(-1, 3)
                            for line in (one, other))
            apart = np.abs(mine - theirs).max(axis=0)
            if apart[:2].max() > SAME_PLACE or apart[2] > SAME_SCORE:
                return False
    return True


def _lines(folder: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in (folder / PEOPLE).read_bytes().splitlines()]
