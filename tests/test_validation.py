"""The validation table, as its script makes it from a few rendered photographs."""
from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from ascend_cases import run
from conftest import ROOT, done, read_score

pytest.importorskip("torch")
ENVIRONMENT = {**os.environ, "VIRTUAL_ENV": sys.prefix}


@pytest.fixture(scope="module")
def validate(tmp_path_factory):
    """Run validate.sh for the CPU with the demo's weights on a few photographs; all runs share a work folder."""
    folder = tmp_path_factory.mktemp("validation")
    done(run(ENVIRONMENT, "-m", "demo.render", "--output", folder / "data", "--images", 3))
    for name in ("fastpose_small.pth", "yolov3_demo.weights"):
        shutil.copy(ROOT / "demo" / name, folder)

    def call(batch: str):
        return run(ENVIRONMENT, "scripts/validate.sh", "cpu", "--batch", batch, "--dataroot", folder / "data",
                   "--checkpoint", folder / "fastpose_small.pth", "--config", "configs/demo_fastpose.yaml", "--weights",
                   folder / "yolov3_demo.weights", "--yolo_cfg", "configs/demo_yolov3_tiny.cfg", "--work", call.work)

    call.work = folder / "work"
    return call


@pytest.fixture(scope="module")
def validated(validate) -> Path:
    """Its work folder after batches 1 and 4."""
    finished = validate("1 4")
    assert (validate.work / "validation.md").read_text() in done(finished)
    return validate.work


def cells(line: str) -> list:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_table_has_the_score_of_each_and_the_verdicts(validated):
    head, _, *rows = (validated / "validation.md").read_text().strip().splitlines()
    assert cells(head) == ["model", "batch", "pytorch AP", "cpu AP", "pytorch crops/s", "cpu crops/s", "cpu agrees"]
    for batch, row in zip((1, 4), rows):
        values = dict(zip(cells(head), cells(row)))
        assert values["model"] == "fastpose_small" and values["batch"] == str(batch) and values["cpu agrees"] == "yes"
        for target in ("pytorch", "cpu"):
            score = read_score(validated / "results" / f"{target}_bs{batch}_score")
            assert values[f"{target} AP"] == f"{score.metrics['AP']:.4f}"
            assert values[f"{target} crops/s"].split(" (")[0] == f"{score.speed['crops_per_second']:.1f}"
        assert "cpu" in (validated / f"validation_cpu_bs{batch}.html").read_text()
    settings = [json.loads((validated / "results" / f"{target}_bs4" / "settings.json").read_text())
                for target in ("pytorch", "cpu")]
    assert settings[0]["bins"] == settings[1]["bins"] and settings[0]["backend"] == "pytorch"


def test_a_device_that_differs_is_said_and_is_the_exit_code(validate, validated):
    """A dump of the right size and of other values, as a card at fault would leave it."""
    path = validated / "results" / "cpu_bs4" / "000000000001_0.bin"
    content = path.read_bytes()
    path.write_bytes((np.frombuffer(content, np.float32) * np.float32(1.5)).tobytes())
    finished = validate("4")
    path.write_bytes(content)
    assert finished.returncode == 1
    assert cells(finished.stdout.strip().splitlines()[-1])[-1] == "NO"


@pytest.mark.parametrize("arguments, hint", [([], "expected --targets"), (["--demo"], "expected --targets"),
                                             (["cpu", "--batch"], "expected at least one argument"),
                                             (["abacus"], "unknown target")])
def test_usage(arguments, hint):
    finished = run(ENVIRONMENT, "scripts/validate.sh", *arguments)
    assert finished.returncode == 2 and hint in finished.stderr


PARTS_OF_ONE = "import sys, jobs.quick, run; jobs.quick.LEAST_PHOTOS = 1; sys.exit(run.main())"


def quick(work: Path, *options: str):
    """Of three photos, one by one: too few to decide before all are used."""
    return run(ENVIRONMENT, "-c", PARTS_OF_ONE, "--targets", "cpu", "--validate", "--quick", "--gt_boxes",
               "--checkpoint", ROOT / "demo/fastpose_small.pth", "--config", "configs/demo_fastpose.yaml",
               "--dataroot", work.parent / "data", "--batch", "4", "--work", work, *options)


def test_quick_goes_through_parts_continues_and_says_what_it_is(validate):
    work = validate.work.parent / "quick"
    output = done(quick(work))
    table = (work / "validation_quick.md").read_text()
    assert table in output and "1 of 1 decided" in output and "is no AP" in " ".join(table.split())
    row = dict(zip(cells(table.splitlines()[0]), cells(table.splitlines()[2])))
    assert row["target"] == "cpu" and row["AP within 0.003 of PyTorch's"] == "yes"
    assert row["photos used"] == "3 of 3 (100%)" and "AP" not in row
    photos = [json.loads((work / f"photos_quick{number}.json").read_text()) for number in range(3)]
    assert [len(one) for one in photos] == [1, 1, 1] and len({one[0] for one in photos}) == 3
    bins = {one["image_id"] for number in range(3)
            for one in json.loads((work / f"results/cpu_bs4_quick{number}_score/keypoints.json").read_text())}
    assert bins == {one[0] for one in photos}
    for dump in sorted((work / "results").glob("cpu_bs4_quick2*/*.bin")):
        dump.write_bytes(bytes(dump.stat().st_size))  # a device at fault: nobody is found on a photo
    again = quick(work)
    assert again.returncode == 1 and "| NO |" in again.stdout
    record = json.loads((work / "validation_quick.json").read_text())
    assert record["seed"] == 0 and record["targets"][0]["exact"] and record["targets"][0]["difference"] < -0.05


@pytest.mark.parametrize("options, hint", [(["--quick"], "--quick needs --validate"),
                                           (["--quick", "--validate", "--limit", "2"], "--quick and --limit")])
def test_quick_asks_for_what_it_needs(options, hint):
    finished = run(ENVIRONMENT, "run.py", "--targets", "cpu", "--demo", *options)
    assert finished.returncode == 2 and hint in finished.stderr
