"""What is used again is the same thing: a model with its weights, a part of a shared run, an option's file."""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from ascend_cases import run
from conftest import SMALL_INPUT, done, one_error, patch_heatmaps, patch_model, patch_weights, tree

from contract.dumps import summary_of
from contract.errors import UserError
from contract.onnx_file import sha256_of_model
from tests.emulator import environment

SOC = ("--soc_version", "Ascend310P3")


def split_model(path: Path, seed: int = 0, location: str = "weights.data") -> Path:
    """`patch_model` as torch 2.9 exports it: the weights in a file beside it."""
    model = onnx.load(patch_model(path, 1, seed=seed))
    (path.parent / "weights.data").unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    if location != "weights.data":
        content = path.read_bytes()
        path.write_bytes(content.replace(b"weights.data", location.encode()))
        assert len(location) == len("weights.data") and content != path.read_bytes()
    return path


def test_the_identity_of_a_model_covers_its_weights(tmp_path):
    whole, path = patch_model(tmp_path / "whole.onnx"), split_model(tmp_path / "m.onnx")
    assert sha256_of_model(whole) == hashlib.sha256(whole.read_bytes()).hexdigest()
    first, graph = sha256_of_model(path), path.read_bytes()
    assert split_model(path, seed=1).read_bytes() == graph, "the .onnx itself is the same"
    assert sha256_of_model(path) != first
    split_model(path)
    assert sha256_of_model(path) == first
    (tmp_path / "weights.data").unlink()
    with pytest.raises(UserError, match="no such file is there"):
        sha256_of_model(path)


@pytest.mark.parametrize("location", ["../etc/pass", "/etc/passwd0"])
def test_weights_outside_the_folder_are_refused(tmp_path, location):
    with pytest.raises(UserError, match="outside its folder|no such file"):
        sha256_of_model(split_model(tmp_path / "m.onnx", location=f"{location:.12}".ljust(12, "x")))


def test_dumps_of_other_weights_under_the_same_name_are_not_kept(prepared, small_cfg, main, tmp_path):
    def infer(*options: str):
        return main("infer", "--model", tmp_path / "m.onnx", "--cfg", small_cfg, "--input", prepared / "prep_data",
                    "--output", tmp_path, "--output_dirname", "a", *options)

    for seed in (0, 1):
        split_model(tmp_path / "m.onnx", seed)
        if seed:
            assert "model_sha256 was" in one_error(infer())
        done(infer("--replace"))
        row = np.fromfile(prepared / "prep_data" / "000000000000.bin", np.float32).reshape(1, 3, *SMALL_INPUT)
        dump = np.fromfile(tmp_path / "a" / "000000000000_0.bin", np.float32)
        np.testing.assert_allclose(dump, patch_heatmaps(row, seed).ravel(), atol=1e-5)
    assert not np.array_equal(patch_weights(0), patch_weights(1))


def test_an_om_of_other_weights_is_not_kept(tmp_path):
    for seed, words in ((0, "written"), (0, "kept"), (1, "written")):
        if words == "written":
            split_model(tmp_path / "m.onnx", seed)
        assert words in done(run(environment(), "-m", "ascend.atc", tmp_path / "m.onnx", *SOC))


def test_an_option_s_file_may_have_a_name_that_is_in_the_option(tmp_path):
    (tmp_path / "keep").write_text("")
    patch_model(tmp_path / "m.onnx", 1)
    env = {**environment(), "PYTHONPATH": f"{Path(__file__).parent.parent}:{environment()['PYTHONPATH']}"}
    finished = subprocess.run([sys.executable, "-m", "ascend.atc", "m.onnx", *SOC, "--extra=--keep_dtype=keep"],
                              env=env, cwd=tmp_path, capture_output=True, text=True)
    assert f" --keep_dtype={tmp_path}/keep" in finished.stdout, finished.stderr


CONSTANTS = '{{"mean_chn": {}, "min_chn": [0, 0, 0], "var_reci_chn": [1, 1, 1]}}'


@pytest.mark.parametrize("text", [
    '{"mean_chn": [1, 2, 3]}', "[1]", "{", "[" * 100000, CONSTANTS.format("[1, 1, NaN]"), CONSTANTS.format("[1]"),
    CONSTANTS.format('["1\\n  x: 2", 1, 1]')])
def test_pixel_constants_are_numbers_before_they_reach_aipp(tmp_path, text):
    path = patch_model(tmp_path / "m.onnx", 1)
    model = onnx.load(path)
    model.metadata_props.add(key="pixel_constants", value=text)
    onnx.save(model, path)
    assert "pixel_constants" in one_error(run(environment(), "-m", "ascend.atc", path, *SOC, "--uint8"))


def test_the_last_part_of_a_run_leaves_the_summary_of_all(infer, postprocess, inferred, work):
    for part in ("1/3", "0/3"):
        done(infer("--part", part, "--batchsize", 2, *["--replace"] * (part == "1/3"), name="all"))
        assert not summary_of(work / "results" / "all").exists()
    done(infer("--part", "2/3", "--batchsize", 2, name="all"))
    parts = [json.loads(summary_of(work / "results" / "all", f"{number}/3").read_text()) for number in range(3)]
    whole = json.loads(summary_of(work / "results" / "all").read_text())
    assert whole["end_to_end"]["people"] == 12 and len(whole["filesinfo"]) == 12
    assert whole["throughput"] == pytest.approx(sum(part["throughput"] for part in parts))
    assert whole["NPU_compute_time"]["count"] == sum(part["NPU_compute_time"]["count"] for part in parts)
    ends = [part["end_to_end"]["started"] + part["end_to_end"]["seconds"] for part in parts]
    assert whole["end_to_end"]["seconds"] == pytest.approx(
        max(ends) - min(part["end_to_end"]["started"] for part in parts))
    dumps = tree(work / "results" / "all")
    assert {name: dumps[name] for name in dumps if name.endswith(".bin")} == \
        {name: digest for name, digest in tree(inferred / "results" / "all").items() if name.endswith(".bin")}
    done(infer("--replace", name="all"))  # of other settings: what was measured before goes
    assert not summary_of(work / "results" / "all", "1/3").exists()


@pytest.mark.parametrize("sizes, batch", [("1,2", 6), ("4,8", 6)])
def test_times_are_one_a_call_whatever_the_gears(prepared, small_cfg, tmp_path, sizes, batch):
    """12 people at batch 6 are 2 calls: each is 3 of gear 2, or one of gear 8."""
    patch_model(tmp_path / "m.onnx")
    env = environment()
    done(run(env, "-m", "ascend.atc", tmp_path / "m.onnx", *SOC, "--gears", sizes))
    done(run(env, "infer.py", "--backend", "acl", "--model", tmp_path / "m_gears.om", "--cfg", small_cfg, "--input",
             prepared / "prep_data", "--output", tmp_path, "--output_dirname", "d", "--batchsize", batch))
    summary = json.loads(summary_of(tmp_path / "d").read_text())
    assert len(summary["npu_compute_time_list"]) == 2
    assert summary["throughput"] == pytest.approx(1000 * batch / np.mean(summary["npu_compute_time_list"]))
    assert os.path.getsize(tmp_path / "d" / "000000000011_0.bin") == 17 * 16 * 12 * 4
