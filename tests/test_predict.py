"""predict.py on pictures: what goes in, what comes out, and what happens when it is stopped or given nonsense."""
from __future__ import annotations

import json
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest
from conftest import done

BOXES = ("--box", "20,10,60,100", "--box", "70,20,50,90")


def noise(path: Path, seed: int, height: int = 130, width: int = 160) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture()
def folder(tmp_path) -> Path:
    for number, name in enumerate(("10.jpg", "2.jpg", "deep/er/photo of me.png")):
        noise(tmp_path / "in" / name, number)
    return tmp_path / "in"


@pytest.fixture()
def predict(main, small_cfg, small_model, tmp_path):
    """Run predict.py with a small model and typed boxes."""
    def run(*arguments, boxes=BOXES, output="out"):
        return main("predict", "--cfg", small_cfg, "--model", small_model, *boxes, "--output", tmp_path / output,
                    *arguments)
    return run


def results(folder: Path) -> List[dict]:
    return json.loads((folder / "alphapose-results.json").read_text())


def lines(folder: Path) -> List[dict]:
    return [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()][1:]


def test_a_folder_in_natural_order_with_pictures_of_everybody(predict, folder, tmp_path):
    said = done(predict(folder, "--nms", "none"))
    names = ["2.jpg", "10.jpg", "deep/er/photo of me.png"]
    assert [person["image_id"] for person in results(tmp_path / "out")] == sorted(2 * names, key=names.index)
    assert [line["image"] for line in lines(tmp_path / "out")] == names
    for name in names:
        drawn = cv2.imread(str((tmp_path / "out/vis" / name).with_suffix(".jpg")))
        before = cv2.imread(str(folder / name))
        assert drawn.shape == before.shape and np.abs(drawn.astype(int) - before).max() > 60
    assert "6 people on 3 images" in said
    person = results(tmp_path / "out")[0]
    assert person["box"] == [20, 10, 60, 100] and len(person["keypoints"]) == 51 and person["idx"] == [0.0]
