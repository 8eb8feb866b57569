"""The evaluation command and the demo's people, against a ranking written anew."""
from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import done, one_error

from demo.identities import CAMERAS, VIEWS, render_person, write_people
from reid.features import write_feature

PEOPLE, DIMENSION = 12, 16


def make(folder, seed: int, people=range(-1, PEOPLE), length: float = 1):
    """A noisy feature of every person and camera."""
    folder.mkdir(parents=True)
    centres = np.random.default_rng(0).normal(0, 1, (PEOPLE + 1, DIMENSION))
    random = np.random.default_rng(seed)
    for person in people:
        for camera in range(1, 4):
            feature = centres[person + 1] + random.normal(0, 1.4, DIMENSION)
            write_feature(folder, f"{person:04d}_c{camera}s1_{seed:06d}_00", length * feature)
    return folder


def brute_force(query, gallery) -> tuple:
    """Rank-1 and mAP, one query at a time, from the files' names."""
    entries = [[(int(path.stem.split("_")[0]), path.stem.split("_")[1][:2], np.load(path)[0].astype(float))
                for path in sorted(folder.glob("*.npy")) if not path.stem.startswith("-")]
               for folder in (query, gallery)]
    firsts, precisions = [], []
    for person, camera, feature in entries[0]:
        others = [entry for entry in entries[1] if entry[:2] != (person, camera)]
        others.sort(key=lambda entry: -feature @ entry[2] / np.linalg.norm(feature) / np.linalg.norm(entry[2]))
        right = [entry[0] == person for entry in others]
        hits = [sum(right[:place + 1]) / (place + 1) for place, is_right in enumerate(right) if is_right]
        firsts.append(right[0])
        precisions.append(np.mean(hits))
    return np.mean(firsts), np.mean(precisions)


def test_the_figures_are_those_of_a_ranking_written_anew(main, tmp_path):
    query, gallery = make(tmp_path / "query", 1), make(tmp_path / "gallery", 2)
    output = done(main("reid.evaluate", "--query", query, "--gallery", gallery, "--json", tmp_path / "figures.json"))
    first, mean = brute_force(query, gallery)
    assert 0.1 < first < 0.95
    assert f"| Rank-1 | {first:.4f} | " in output and f"| mAP | {mean:.4f} | " in output
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert all(low < value < high for value, low, high in figures.values())


@pytest.mark.parametrize("flags", [("--rerank",), ("--rerank", "paper"), ("--aqe",), ("--metric", "euclidean")])
def test_options_change_the_figures_and_help_these_features(main, tmp_path, flags):
    query, gallery = make(tmp_path / "query", 1), make(tmp_path / "gallery", 2, length=2)
    plain, changed = (done(main("reid.evaluate", "--query", query, "--gallery", gallery, *more))
                      for more in ((), flags))
    assert plain != changed


def test_published_figures_stand_beside_their_own_checkpoint_alone(main, tmp_path):
    query, gallery = make(tmp_path / "query", 1), make(tmp_path / "gallery", 2)
    for folder in (query, gallery):
        (folder / "features.json").write_text(json.dumps({"model": "market_bot_R50.onnx"}))
    assert "| 0.944 |" in done(main("reid.evaluate", "--query", query, "--gallery", gallery))
    (query / "features.json").write_text(json.dumps({"model": "other.onnx"}))
    assert "0.944" not in done(main("reid.evaluate", "--query", query, "--gallery", gallery))


@pytest.mark.parametrize("fault, says", [("names", "say person and camera"), ("model", "of two models or settings"),
                                         ("alone", "none of 33 queries"), ("junk", "junk alone")])
def test_what_cannot_be_evaluated_is_one_line(main, tmp_path, fault, says):
    query = make(tmp_path / "query", 1, range(PEOPLE))
    gallery = make(tmp_path / "gallery", 2, {"junk": [-1], "alone": [0]}.get(fault, range(PEOPLE)))
    if fault == "names":
        next(gallery.glob("*.npy")).rename(gallery / "anna.npy")
    elif fault == "model":
        for folder, digest in ((query, "a"), (gallery, "b")):
            (folder / "features.json").write_text(json.dumps({"model_sha256": digest}))
    elif fault == "alone":
        for path in query.glob("0000_*"):
            path.unlink()
    assert says in one_error(main("reid.evaluate", "--query", query, "--gallery", gallery))


def test_drawn_people_are_functions_of_their_seeds(tmp_path):
    first, again = (render_person([1, 2], [3, 4], [5]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, render_person([1, 2], [3, 5], [5]))
    write_people(tmp_path, 2)
    for folder in ("query", "bounding_box_test"):
        assert len(list((tmp_path / folder).glob("000[12]_c*.png"))) == 2 * CAMERAS * (VIEWS - 1)
