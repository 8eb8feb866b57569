"""--reid: people who come back elsewhere keep their ids, by a network's features of their pictures."""
from __future__ import annotations

import contextlib
import json
from fractions import Fraction

import numpy as np
import pytest
from conftest import done, one_error

pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")

from pose.poses import People  # noqa: E402
from prediction.looks import Looks  # noqa: E402

CFG = """TASK: reid
MODEL: {BACKBONE: {FEAT_DIM: 512}}
INPUT: {SIZE_TEST: [256, 128], MEAN: [0.485, 0.456, 0.406], STD: [0.229, 0.224, 0.225]}
"""


@pytest.fixture()
def osnet(shared, tmp_path):
    (tmp_path / "osnet.yaml").write_text(CFG)
    return tmp_path / "osnet.yaml", shared / "models/osnet_x0_25.onnx"


def test_a_person_and_the_mirror_image_are_alike_and_others_are_not(osnet, shared):
    """README.md of the models: cosine 0.984 to the own mirror image, 0.413 to others, of 24 people."""
    from prediction.pictures import read_picture

    rows = json.loads((shared / "data/coco_mini/detections.json").read_text())
    best = [row for row in rows if row["score"] > 0.8 and row["bbox"][3] > 150][:8]
    assert len(best) == 8
    features = []
    with contextlib.closing(Looks(*osnet)) as looks:
        for row in best:
            image = read_picture(shared / f"data/coco_mini/val2017/{row['image_id']:012d}.jpg")
            x, y, width, height = row["bbox"]
            for picture, left in ((image, x), (np.ascontiguousarray(image[:, ::-1]), image.shape[1] - x - width)):
                box = np.array([[left, y, width, height]])
                people = People(box, np.ones(1), np.zeros((1, 17, 2)), np.ones((1, 17)))
                features.append(looks(picture, people)[0])
    cosines = np.array(features[::2]) @ np.array(features[1::2]).T
    assert np.diag(cosines).min() > 0.9
    assert cosines[~np.eye(8, dtype=bool)].mean() < 0.6
    assert (cosines.argmax(axis=1) == np.arange(8)).all()


def test_ids_of_a_film(osnet, main, small_cfg, small_model, tmp_path):
    """Two people leave, and come back elsewhere in the other order."""
    pytest.importorskip("av")
    from demo.walks import Film
    from prediction.video import VideoWriter

    film = Film(16, 200, people=4)
    one, other = (film.walkers[number].at(0) for number in (3, 2))
    from demo.scenes import Canvas

    def picture(*places) -> np.ndarray:
        canvas = Canvas(film.background.copy())
        for person, x in places:
            moved = np.array([x - person.keypoints()[11, 0], 0, 0])
            for part in person.parts:
                part.centers = part.centers + moved
                canvas.paint(part)
            person.joints = {name: point + moved for name, point in person.joints.items()}
        return canvas.image

    boxes = []
    writer = VideoWriter(tmp_path / "clip.mp4", Fraction(10), None)
    before, after = ((one, 100), (other, 400)), ((other, 250), (one, 560))
    for number, places in enumerate([before] * 8 + [()] * 12 + [after] * 4):
        writer.add(picture(*places), None)
        for person, _ in places:
            low, high = person.keypoints()[:, :2].min(axis=0) - 12, person.keypoints()[:, :2].max(axis=0) + 12
            boxes.append({"image_id": number, "bbox": [*low, *(high - low)], "score": 0.9})
    writer.close()
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    arguments = ("predict", tmp_path / "clip.mp4", "--cfg", small_cfg, "--model", small_model, "--detections",
                 tmp_path / "boxes.json", "--nms", "none", "--no-save_video")
    cfg, model = osnet

    def ids(name: str, *more: object) -> list:
        done(main(*arguments, "--output", tmp_path / name, *more))
        people = json.loads((tmp_path / name / "alphapose-results.json").read_text())
        return [person["idx"] for person in people]

    assert ids("looks", "--track", "--reid", model, "--reid_cfg", cfg) == [1, 2] * 8 + [2, 1] * 4
    assert ids("motion", "--track")[-2:] != [2, 1]
    assert "--reid goes with --track motion" in one_error(main(*arguments, "--output", tmp_path / "x", "--reid", model))
