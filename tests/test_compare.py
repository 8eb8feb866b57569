"""compare.py as its user runs it: verdicts, exit codes, what is refused, what is written."""
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import done, one_error
from detection_cases import tiny_cfg

from comparison.compare import load_comparisons
from comparison.decoded import measure_dumps
from comparison.results import open_results, parse_result
from contract.manifest import load_manifest
from contract.spec import load_spec

PEOPLE = 12  # of the `inferred` fixture, whose heatmaps are (17, 16, 12)
# Its heatmaps are as good as noise: float16 makes a few of their highest cells equal.
TIES = ("--limit", "argmax=0.96", "--limit", "oks=0.96")


@pytest.fixture()
def scored(work, coco, main) -> Path:
    """`work` with the keypoints of its dumps in score/."""
    done(main("postprocess", "--dataroot", coco, "--dump_dir", work / "results" / "all", "--dump_dir_flip",
              work / "results" / "all_flip", "--manifest", work / "prep_data" / "manifest.json", "--output",
              work / "score"))
    return work


@pytest.fixture()
def compare(work, main, tmp_path):
    """Run compare.py with the manifest of `work`; what it returns, with `json` as its file says, if it wrote one."""

    def run(*arguments: object, manifest: bool = True):
        more = ("--manifest", work / "prep_data" / "manifest.json") if manifest else ()
        finished = main("compare", *arguments, *more, "--json", tmp_path / "out.json")
        finished.json = json.loads((tmp_path / "out.json").read_text()) if (tmp_path / "out.json").exists() else None
        return finished

    return run


def change(work: Path, name: str, edit, source: str = "all", settings: bool = True) -> Path:
    """A copy of the dumps `source` under results/`name`, every file's values passed through `edit(number, values)`."""
    folder = work / "results" / name
    shutil.copytree(work / "results" / source, folder)
    for number, path in enumerate(sorted(folder.glob("*.bin"))):
        edit(number, np.fromfile(path, np.float32)).tofile(path)
    if not settings:
        (folder / "settings.json").unlink()
    return folder


def test_the_same_dumps_agree(work, compare):
    again = change(work, "again", lambda number, values: values)
    finished = compare(work / "results" / "all", f"npu={again}", "--gate", "fp32")
    assert finished.returncode == 0 and "npu agrees with all" in finished.stdout
    pair = finished.json["pairs"][0]
    assert pair["agree"] and pair["differs_at"] is None and pair["levels"]["tensors"]["normal"]["MaxAbsoluteError"] == 0
    assert finished.json["sides"][0]["settings"][0]["backend"] == "onnxruntime"


def test_dumps_that_differ_say_so_with_exit_code_1_and_name_the_first_level(work, compare):
    other = change(work, "other", lambda number, values: values + np.float32(0.5) * (number == 3))
    finished = compare(work / "results" / "all", other)
    assert finished.returncode == 1 and "other DIFFERS from all, first at the tensors" in finished.stdout
    pair = finished.json["pairs"][0]
    assert pair["differs_at"] == "tensors" and pair["levels"]["tensors"]["normal"]["worst_row"] == 3
    assert pair["levels"]["tensors"]["normal"]["MaxAbsoluteError"] == pytest.approx(0.5, rel=1e-5)


def test_a_comparison_is_saved_and_loaded_as_json(work, compare, tmp_path):
    """It is true where the results agree, and has what every level measured."""
    again, other = (change(work, name, lambda number, values, by=by: values * by)
                    for name, by in (("again", np.float32(1)), ("other", np.float32(2))))
    finished = compare(work / "results" / "all", again, other, "--explain")
    same, doubled = load_comparisons(tmp_path / "out.json")
    assert same and not doubled
    assert (doubled.a, doubled.b, doubled.differs_at) == ("all", "other", "tensors")
    assert doubled.levels["tensors"]["normal"].RelativeEuclideanDistance == pytest.approx(1)
    assert doubled.levels["keypoints"].people == PEOPLE and "scaled" in [finding.cause for finding in doubled.findings]
    assert [pair.to_json() for pair in (same, doubled)] == finished.json["pairs"]


def test_float16_dumps_keep_the_gate_of_float16_and_not_of_float32(work, compare):
    half = change(work, "half", lambda number, values: values.astype(np.float16))
    assert compare(work / "results" / "all", half, "--gate", "fp16", *TIES).returncode == 0
    assert compare(work / "results" / "all", half, "--gate", "fp32", "--limit", "max_abs=1e-6", *TIES).returncode == 1


def test_each_result_is_held_against_the_first(work, compare):
    one = change(work, "one", lambda number, values: values)
    two = change(work, "two", lambda number, values: values * 2)
    finished = compare(work / "results" / "all", one, two)
    assert finished.returncode == 1
    assert [(pair["b"], pair["agree"]) for pair in finished.json["pairs"]] == [("one", True), ("two", False)]


def test_one_pass_measures_what_separate_readings_do(work):
    """Every result in one reading of 12 people by 3 threads, against numpy on whole arrays."""
    change(work, "other", lambda number, values: values * np.float32(1 + number / 100))
    manifest = load_manifest(work / "prep_data" / "manifest.json")
    results = [parse_result(f"{work}/results/{name},{work}/results/all_flip") for name in ("all", "other")]
    open_results(results, manifest)
    _, other = measure_dumps([result.readers for result in results], manifest, "clean", (0, 0), 3)
    a, b = (np.stack([np.fromfile(path, np.float32) for path in sorted((work / "results" / name).glob("*.bin"))])
            .reshape(PEOPLE, 17, -1).astype(np.float64) for name in ("all", "other"))
    np.testing.assert_allclose(other.sums[0, ..., 2], ((a - b) ** 2).sum(axis=2), rtol=1e-5)
    np.testing.assert_array_equal(other.cells[0], b.argmax(axis=2))
    assert (other.sums[1, ..., 2] == 0).all()


def test_a_keypoints_file_is_compared_with_the_dumps_it_was_made_from(scored, compare, coco):
    finished = compare(f"dumps={scored}/results/all,{scored}/results/all_flip", scored / "score" / "keypoints.json",
                       "--dataroot", coco)
    assert finished.returncode == 0, finished.stdout
    levels = finished.json["pairs"][0]["levels"]
    assert "tensors" not in levels and levels["keypoints"]["input_pixels"]["max"] < 1e-3
    assert levels["score"]["differences"]["AP"] == 0
    metrics = json.loads((scored / "score" / "metrics.json").read_text())["metrics"]
    assert levels["score"]["b"] == pytest.approx(metrics, abs=1e-12)


def test_two_keypoints_files_need_no_manifest(scored, compare, coco):
    people = json.loads((scored / "score" / "keypoints.json").read_text())
    people[0]["keypoints"] = [value + 30 for value in people[0]["keypoints"]]
    (scored / "moved.json").write_text(json.dumps(people[:-1]))
    finished = compare(scored / "score" / "keypoints.json", scored / "moved.json", "--dataroot", coco, manifest=False)
    assert finished.returncode == 1
    keypoints = finished.json["pairs"][0]["levels"]["keypoints"]
    assert (keypoints["only_in_a"], keypoints["only_in_b"]) == (1, 0)
    assert keypoints["image_pixels"]["max"] == pytest.approx(30 * 2 ** 0.5)
    assert keypoints["worst"][0]["row_a"] == 0


def test_dumps_without_a_manifest_are_compared_by_their_rows(work, compare, small_cfg):
    """As two folders of ais_bench that somebody sent: no settings, no manifest, only a config for the shapes."""
    a = change(work, "a", lambda number, values: values, settings=False)
    b = change(work, "b", lambda number, values: values.astype(np.float16), settings=False)
    finished = compare(a, b, "--cfg", small_cfg, *TIES, manifest=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.json["people"] == PEOPLE and finished.json["sides"][1]["dtypes"] == ["float16"]


@pytest.fixture()
def detections(tmp_path) -> Path:
    """A detector's .cfg and two equal folders of its dumps."""
    (tmp_path / "tiny.cfg").write_text(tiny_cfg())
    shape, rng = next(iter(load_spec(tmp_path / "tiny.cfg").outputs.values())), np.random.default_rng(0)
    for number in range(3):
        values = rng.random(shape, np.float32)
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            values.tofile(tmp_path / folder / f"{number:012d}_0.bin")
    return tmp_path


def test_values_of_a_detectors_dumps_are_compared(detections, main):
    both = [detections / "a", detections / "b", "--cfg", detections / "tiny.cfg"]
    assert "agrees" in done(main("compare", *both))
    path = detections / "b" / "000000000001_0.bin"
    np.fromfile(path, np.float32)[::-1].tofile(path)
    finished = main("compare", *both)
    assert finished.returncode == 1 and "DIFFERS" in finished.stdout
    assert "--explain: not for" in one_error(main("compare", *both, "--explain"))
    path.write_bytes(path.read_bytes()[:-4])
    assert "expected the same dumps, but 000000000001_0.bin has" in one_error(main("compare", *both))


def test_a_score_of_dumps_needs_their_manifest(work, compare, coco):
    folder = work / "results" / "all"
    assert "--manifest" in one_error(compare(folder, folder, "--dataroot", coco, manifest=False))


@pytest.mark.parametrize("edit, message", [
    (lambda folder: os.remove(folder / "000000000003_0.bin"), "1 of 12 dumps are missing"),
    (lambda folder: shutil.copy(folder / "000000000003_0.bin", folder / "000000000099_0.bin"), "1 dumps more"),
    (lambda folder: (folder / "000000000003_0.bin").write_bytes(b"short"), "5 bytes, expected"),
    (lambda folder: np.full(17 * 16 * 12, np.nan, np.float32).tofile(folder / "000000000011_0.bin"), "NaN"),
])
def test_broken_dumps_stop_it_and_nothing_is_written(work, compare, edit, message):
    edit(change(work, "broken", lambda number, values: values))
    finished = compare(work / "results" / "all", work / "results" / "broken", "--report", work / "page.html")
    assert message in one_error(finished)
    assert finished.json is None and finished.stdout == "" and not (work / "page.html").exists()


def test_dumps_of_other_bins_are_refused(work, compare):
    other = change(work, "other", lambda number, values: values)
    settings = json.loads((other / "settings.json").read_text())
    settings["bins"]["config"]["mean"] = [0, 0, 0]
    (other / "settings.json").write_text(json.dumps(settings))
    assert "other bins" in one_error(compare(work / "results" / "all", other))


@pytest.mark.parametrize("arguments, message", [
    (["nowhere", "nowhere"], "no such folder"),
    (["nowhere.json", "nowhere.json"], "no such keypoints file"),
    (["A,A,A", "A"], "expected [LABEL=]DUMPS"),
    (["A,A", "A"], "both folders of each"),
    (["A", "A", "--limit", "cosinus=1"], "no such limit"),
    (["A", "A", "--model", "A/no.onnx", "--input", "PREP", "--explain"], "no such model file"),
])
def test_bad_arguments_are_one_line(work, compare, arguments, message):
    places = {"A": str(work / "results" / "all"), "PREP": str(work / "prep_data")}
    arguments = [",".join(places.get(part, part) for part in text.split(",")) for text in arguments]
    assert message in one_error(compare(*arguments))


@pytest.mark.parametrize("content", ["[]", "{}", '[{"image_id": 1}]', '[{"image_id": 1, "bbox": [0, 0, 1, 1], "score": '
                                     '1, "keypoints": [NaN' + ", 0" * 50 + "]}]", "no json"])
def test_a_broken_keypoints_file_is_one_line(work, compare, content):
    (work / "broken.json").write_text(content)
    assert "broken.json" in one_error(compare(work / "broken.json", work / "broken.json", manifest=False))


def test_results_on_unknown_photographs_are_refused(scored, compare, coco):
    people = json.loads((scored / "score" / "keypoints.json").read_text())
    people[0]["image_id"] = 999999
    (scored / "strangers.json").write_text(json.dumps(people))
    finished = compare(scored / "score" / "keypoints.json", scored / "strangers.json", "--dataroot", coco)
    assert "999999" in one_error(finished)


def test_the_process_returns_the_verdict_and_one_line_for_bad_input(work, script):
    """The exit codes as a shell sees them."""
    manifest, folder = ("--manifest", work / "prep_data" / "manifest.json"), work / "results" / "all"
    other = change(work, "other", lambda number, values: values * 2)
    assert script("compare.py", folder, folder, *manifest).returncode == 0
    assert script("compare.py", folder, other, *manifest).returncode == 1
    finished = script("compare.py", folder, work / "nowhere", *manifest)
    assert "nowhere" in one_error(finished)
    assert script("compare.py", folder).returncode == 2
