"""Bad bins, models and dumps to infer.py and postprocess.py: one clear line, exit code 2, nothing half-written."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import done, make_coco, one_error, patch_model, tree, write_config

BIN_BYTES = 3 * 64 * 48 * 4


@pytest.mark.parametrize("size", [0, BIN_BYTES // 2, BIN_BYTES + 4])
def test_a_bin_of_the_wrong_size(work, infer, size):
    (work / "prep_data" / "000000000005.bin").write_bytes(bytes(size))
    assert f"000000000005.bin: {size} bytes, expected {BIN_BYTES} (3x64x48 float32)" in one_error(infer())
    assert not (work / "results" / "new").exists()


def test_missing_and_extra_bins(work, infer):
    (work / "prep_data" / "000000000005.bin").rename(work / "prep_data" / "000000000012.bin")
    assert "000000000005.bin" in one_error(infer())
    shutil.copy(work / "prep_data" / "000000000012.bin", work / "prep_data" / "000000000005.bin")
    assert "000000000012.bin" in one_error(infer())
    assert "no .bin" in one_error(infer("--input", work / "nowhere"))
    assert not (work / "results" / "new").exists()


def test_bins_that_preprocessing_has_not_finished(work, infer):
    (work / "prep_data" / "manifest.json").rename(work / "prep_data" / "manifest.unfinished.json")
    assert "not finished" in one_error(infer())


def test_bins_of_another_config(work, infer, tmp_path):
    other = write_config(tmp_path / "other.yaml", MEAN=[0, 0, 0])
    assert "--cfg" in one_error(infer("--cfg", other))
    assert not (work / "results" / "new").exists()


def test_a_model_of_another_input_shape(work, infer, tmp_path):
    other = patch_model(tmp_path / "other.onnx", input_size=(128, 96))
    error = one_error(infer("--model", other))
    assert "N x 3 x 128 x 96" in error and "N x 3 x 64 x 48" in error and "other.onnx" in error
    assert not (work / "results" / "new").exists()


def test_a_batch_that_the_model_does_not_take(work, infer, tmp_path):
    static = patch_model(tmp_path / "static.onnx", 4)
    assert "batches of 4, but --batchsize is 3" in one_error(infer("--model", static, "--batchsize", 3))
    assert "nowhere.onnx" in one_error(infer("--model", tmp_path / "nowhere.onnx"))
    assert not (work / "results" / "new").exists()


def test_dumps_of_another_model_are_left_alone(work, infer, tmp_path):
    other = patch_model(tmp_path / "other.onnx", seed=1)
    before = tree(work / "results")
    assert "holds dumps of another run (model" in one_error(infer("--model", other, name="all"))
    (work / "results" / "all" / "settings.json").rename(work / "results" / "settings.json")
    assert "nothing says which" in one_error(infer(name="all"))
    (work / "results" / "settings.json").rename(work / "results" / "all" / "settings.json")
    assert tree(work / "results") == before
    done(infer("--model", other, "--replace", name="all"))
    done(infer("--model", other, name="fresh"))
    assert tree(work / "results" / "all") == tree(work / "results" / "fresh") != before


def damage_dump(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "short":
        path.write_bytes(path.read_bytes()[:-4])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "long":
        path.write_bytes(path.read_bytes() + bytes(4))
    elif how == "extra":
        shutil.copy(path, path.with_name("000000000012_0.bin"))
    else:
        values = np.fromfile(path, np.float32)
        values[100] = float(how)
        values.tofile(path)


@pytest.mark.parametrize("number", [0, 7, 11])
@pytest.mark.parametrize("folder", ["all", "all_flip"])
@pytest.mark.parametrize("how", ["missing", "short", "empty", "long", "extra", "nan", "inf"])
def test_a_damaged_dump_is_named_and_nothing_is_written(work, postprocess, how, folder, number):
    name = f"{number:012d}_0.bin"
    damage_dump(work / "results" / folder / name, how)
    error = one_error(postprocess())
    assert f"results/{folder}" in error
    named = {"extra": "000000000012_0.bin", "short": "_0.bin", "empty": "_0.bin", "long": "_0.bin"}.get(how, name)
    assert named in error
    assert not (work / "score").exists()


@pytest.mark.parametrize("how", ["missing", "short", "long"])
def test_inferring_again_mends_a_damaged_dump(work, infer, how):
    before = tree(work / "results" / "all")
    damage_dump(work / "results" / "all" / "000000000007_0.bin", how)
    done(infer(name="all"))
    assert tree(work / "results" / "all") == before


def test_a_missing_or_malformed_manifest(work, postprocess, tmp_path):
    assert "nowhere.json" in one_error(postprocess("--manifest", tmp_path / "nowhere.json"))
    (work / "prep_data" / "manifest.json").write_text("{")
    assert "manifest.json" in one_error(postprocess())
    (work / "prep_data" / "manifest.json").write_text("{}")
    assert "manifest.json" in one_error(postprocess())
    assert not (work / "score").exists()


def test_a_data_root_without_or_with_malformed_annotations(work, postprocess, tmp_path, own_coco):
    assert "no_such" in one_error(postprocess("--dataroot", tmp_path / "no_such"))
    (own_coco / "annotations" / "person_keypoints_val2017.json").write_text('{"images": [')
    assert "person_keypoints_val2017.json" in one_error(postprocess("--dataroot", own_coco))
    other = make_coco(tmp_path / "other", photographs=1)
    assert "has no photo 14" in one_error(postprocess("--dataroot", other))
    assert not (work / "score").exists()


def test_dumps_of_two_models_or_of_swapped_folders(work, postprocess, infer, tmp_path):
    results = work / "results"
    assert "mirrored" in one_error(postprocess("--dump_dir", results / "all_flip", "--dump_dir_flip", results / "all"))
    other = patch_model(tmp_path / "other.onnx", seed=1)
    done(infer("--model", other, "--input", work / "prep_data_flip", name="other_flip"))
    assert "dumps of two runs (model" in one_error(postprocess("--dump_dir_flip", results / "other_flip"))
    assert not (work / "score").exists()


def test_dumps_of_other_bins(work, postprocess, infer, own_coco, main, small_cfg):
    rows = json.loads((own_coco / "detections.json").read_text())
    (own_coco / "detections.json").write_text(json.dumps(rows[::-1]))
    done(main("preprocess", "--dataroot", own_coco, "--detections", own_coco / "detections.json", "--cfg", small_cfg,
              "--output", work / "b", "--output_flip", work / "b_flip"))
    assert "boxes_sha256" in one_error(postprocess("--manifest", work / "b" / "manifest.json"))
    assert not (work / "score").exists()


@pytest.mark.parametrize("content", ["3", "[]", "{}", "null", "[" * 9999, '{"end_to_end": 3, "throughput": 1}',
                                     '{"end_to_end": null, "throughput": "x", "npu_compute_time_list": []}',
                                     '{"end_to_end": {"people": 1, "started": 0, "seconds": 1, "people_per_second": '
                                     'NaN}, "throughput": 1, "npu_compute_time_list": []}'])
def test_a_summary_of_another_shape(infer, postprocess, work, content):
    """Of dumps that are all there: whatever it is, it is not shown as a speed."""
    done(infer())
    (work / "results" / "new_summary.json").write_text(content)
    assert "new_summary.json" in one_error(infer())
    (work / "results" / "new_summary.json").unlink()
    done(infer())
    (work / "results" / "all_summary.json").write_text('{"throughput": %s, "end_to_end": 3}' % (400 * "9"))
    assert "No speed is given" in postprocess().stderr


@pytest.mark.parametrize("name", ["", ".", "..", "../dumps", "/tmp/dumps", "a/b"])
def test_the_name_of_the_dumps_folder_leads_nowhere_else(infer, name):
    refused = infer(name=name)
    assert refused.returncode == 2 and "expected the name of a folder" in refused.stderr


def test_an_output_that_cannot_be_written_is_told_before_the_work(postprocess, work, main):
    """Decoding would find NaN."""
    for path in (work / "results" / "all").glob("*.bin"):
        path.write_bytes(b"\xff" * path.stat().st_size)
    dumps = work / "results" / "all"
    (work / "file").write_text("")
    assert f"{work}/file: Not a directory" in one_error(postprocess("--output", work / "file" / "score"))
    assert f"{work}/file: Not a directory" in one_error(main("compare", dumps, dumps, "--manifest",
                                                            work / "prep_data" / "manifest.json", "--json",
                                                            work / "file" / "c.json"))
