"""The same people, however the input is cut and whatever the batches and threads: to the last digit with one batch size
and one number of threads, else within 1e-2 pixels and 1e-5 of a score."""
from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest
from conftest import done

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from demo.walks import Film  # noqa: E402

FRAMES = 14
BATCHES = ("--detbatch", 2, "--posebatch", 4)


@pytest.fixture(scope="module")
def images() -> List[np.ndarray]:
    """Of a rendered film, every third frame: people who walk."""
    film = Film(5, 3 * FRAMES)
    return [film.frame(3 * number).image for number in range(FRAMES)]


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def film(images, tmp_path_factory) -> Path:
    pytest.importorskip("av")
    from prediction.video import VideoWriter

    path = tmp_path_factory.mktemp("film") / "clip.mp4"
    writer = VideoWriter(path, Fraction(10), None)
    for number, image in enumerate(images):
        writer.add(image, number)
    writer.close()
    return path


@pytest.fixture()
def predict(main, tmp_path):
    """predict.py with the project's own networks on one thread; what it found."""
    def run(name: str, *arguments: object, threads: int = 1) -> List[dict]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            done(main("predict", *arguments, "--no-save_img", "--no-save_video", "--output", tmp_path / name))
        finally:
            torch.set_num_threads(before)
        return json.loads((tmp_path / name / "alphapose-results.json").read_text())

    return run


def by_image(people: List[dict]) -> dict:
    return {name: json.dumps([person for person in people if person["image_id"] == name])
            for name in sorted({person["image_id"] for person in people})}


def test_pictures_cut_in_any_way_have_the_same_bytes(predict, folder):
    together = predict("together", folder, *BATCHES)
    assert len(together) > FRAMES
    paths = sorted(folder.iterdir(), key=lambda path: int(path.stem))
    order = np.random.default_rng(0).permutation(FRAMES)
    parts = {name: [paths[number] for number in numbers] for name, numbers in (
        ("one", order[:1]), ("five", order[1:6]), ("rest", order[6:]))}
    apart = [person for name, files in parts.items() for person in predict(name, *files, *BATCHES)]
    assert by_image(apart) == by_image(together)


def test_a_film_beside_others_has_the_same_bytes(predict, film, folder):
    pytest.importorskip("scipy")
    alone = predict("alone", film, "--track", *BATCHES)
    beside = predict("beside", folder / "3.png", film, "--track", *BATCHES)
    named = [{**person, "image_id": Path(person["image_id"]).name} for person in beside
             if person["image_id"].startswith("clip")]
    assert json.dumps(named) == json.dumps(alone) and len(alone) > FRAMES


@pytest.mark.parametrize("batches, threads", [((1, 1), 1), ((3, 16), 2), ((8, 7), 3)])
def test_batches_and_threads_change_nothing_that_can_be_seen(predict, film, batches, threads):
    pytest.importorskip("scipy")
    usual = predict("usual", film, "--track", *BATCHES)
    other = predict("other", film, "--track", "--detbatch", batches[0], "--posebatch", batches[1], threads=threads)
    assert [(one["image_id"], one["idx"]) for one in other] == [(one["image_id"], one["idx"]) for one in usual]
    a, b = (np.array([person["keypoints"] for person in people]).reshape(-1, 17, 3) for people in (usual, other))
    assert np.abs(a - b)[..., :2].max() < 1e-2 and np.abs(a - b)[..., 2].max() < 1e-5
    assert max(abs(one["score"] - two["score"]) for one, two in zip(usual, other)) < 1e-5
