"""The emulated atc: what it builds, what it refuses, how it fails."""
from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import patch_heatmaps, patch_model

from tests.emulator import environment
from tests.emulator.local import configured, load

AIPP = """aipp_op {  # a comment
  aipp_mode : static
  input_format : RGB888_U8
  src_image_size_w : 48  src_image_size_h : 64
  mean_chn_0 : 103 mean_chn_1 : 116 mean_chn_2 : 122
  min_chn_0 : 0.53 min_chn_1 : 0.535 min_chn_2 : 0.4
  var_reci_chn_0 : 0.00392156862745098
  var_reci_chn_1 : 0.00392156862745098
  var_reci_chn_2 : 0.00392156862745098
}
"""


@pytest.fixture()
def atc(tmp_path, monkeypatch, capsys):
    """Run atc in this process and an empty folder; returns the exit code and what it printed."""
    patch_model(tmp_path / "m.onnx")
    patch_model(tmp_path / "m4.onnx", 4)
    (tmp_path / "aipp.cfg").write_text(AIPP)
    monkeypatch.chdir(tmp_path)
    main = load("ascend_emulator.atc.main").main
    base = {"framework": "5", "model": "m.onnx", "output": "out/m", "soc_version": "Ascend310P3",
            "input_shape": "image:4,3,64,48"}

    def run(machine=None, **flags):
        values = {name: value for name, value in {**base, **flags}.items() if value is not None}
        with configured(**(machine or {})):
            code = main([f"--{name}={value}" for name, value in values.items()])
        return code, capsys.readouterr().out

    return run


def om(path="out/m.om"):
    return load("ascend_emulator.om").read(path)


def test_atc_builds_and_leaves_its_litter(atc, tmp_path):
    code, text = atc()
    assert code == 0 and text.splitlines()[0] == "ATC start working now, please wait for a moment."
    assert text.splitlines()[-1] == "ATC run success, welcome to the next use."
    assert (tmp_path / "kernel_meta").is_dir() and (tmp_path / "fusion_result.json").is_file()
    facts = om().facts
    assert facts["soc"] == "Ascend310P3" and facts["gears"] == [] and facts["cann"] == "9.1.0"
    assert om().inputs[0] == ("image", "float32", (4, 3, 64, 48), 0) and om().outputs[0].shape == (4, 17, 16, 12)


def test_atc_says_what_an_om_is(atc):
    atc()
    code, text = atc(mode="6", om="out/m.om", framework=None, model=None, output=None, soc_version=None,
                     input_shape=None)
    assert code == 0 and "soc_version[Ascend310P3]" in text and "command line: atc --framework=5" in text


@pytest.mark.parametrize("code, flags", [
    ("E10001", {"soc_version": "Ascend310p3"}), ("E10001", {"soc_version": "310P3"}), ("E10001", {"framework": "9"}),
    ("E10001", {"input_format": "CHWN"}), ("E10001", {"precision_mode": "fp16"}), ("E10001", {"output_type": "FP8"}),
    ("E10001", {"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}), ("E10001", {"log": "loud"}),
    ("E10001", {"precision_mode": "allow_mix_precision_bf16"}), ("E10001", {"dynamic_batch_size": "1,4096"}),
    ("E10002", {"input_shape": "image=4,3,64,48"}), ("E10002", {"input_shape": "image:4,3,64,x"}),
    ("E10004", {"input_shape": ""}), ("E10007", {"framework": None}), ("E10054", {"soc_version": None}),
    ("E10054", {"output": None}), ("E10016", {"input_shape": "data:4,3,64,48"}), ("E10016", {"out_nodes": "x:0"}),
    ("E10410", {"model": "absent.onnx"}), ("E10410", {"insert_op_conf": "absent.cfg"}),
    ("E10040", {"input_shape": "image:-1,3,64,48"}), ("E10031", {"dynamic_batch_size": "1,2"}),
    ("E10035", {"dynamic_batch_size": "4", "input_shape": "image:-1,3,64,48"}),
    ("E10036", {"dynamic_batch_size": ",".join(map(str, range(1, 102))), "input_shape": "image:-1,3,64,48"}),
    ("E10039", {"dynamic_batch_size": "2,2", "input_shape": "image:-1,3,64,48"}),
    ("E10018", {"dynamic_batch_size": "1,2", "input_shape": "image:-1,3,-1,48"}),
    ("E10045", {"dynamic_batch_size": "1,2", "dynamic_dims": "1;2", "input_shape": "image:-1,3,64,48"}),
    ("E10056", {"dynamic_dims": "1;2", "insert_op_conf": "aipp.cfg"}),
    ("E10049", {"input_shape": "image:4,3,64"}), ("E10050", {"model": "m4.onnx", "input_shape": "image:8,3,64,48"}),
    ("E10050", {"input_shape": "image:4,3,48,64"}), ("E10041", {"model": "aipp.cfg"}),
    ("E10034", {"insert_op_conf": "aipp.cfg", "input_fp16_nodes": "image"})])
def test_atc_refuses(atc, code, flags):
    exit_code, text = atc(**flags)
    assert exit_code == 255 and not Path("out/m.om").exists()
    assert text.splitlines()[2].startswith("ATC run failed, Please check the detail log")
    assert text.splitlines()[3].startswith(f"{code}: ") and "TraceBack (most recent call last):" in text


@pytest.mark.parametrize("old, new", [
    ("mean_chn_0 : 103", "mean_chn_0 : 103.53"), ("min_chn_0 : 0.53", "min_chn_0 : -1"), ("static", "fixed"),
    ("RGB888_U8", "RGB888"), ("src_image_size_w : 48", "src_image_size_w : 192"), ("mean_chn_0", "mean_0"),
    ("aipp_op {", "aipp_op"), ("}", ""), ("input_format", "crop : true input_format"), ("aipp_mode :", "aipp_mode")])
def test_atc_reads_aipp_strictly(atc, old, new):
    Path("bad.cfg").write_text(AIPP.replace(old, new, 1))
    code, text = atc(insert_op_conf="bad.cfg")
    assert code == 255 and "E10052: " in text


def test_aipp_takes_bytes_in_hwc(atc):
    assert atc(insert_op_conf="aipp.cfg", enable_small_channel="1")[0] == 0
    model = om()
    assert model.inputs[0] == ("image", "uint8", (4, 64, 48, 3), 1)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 48, 3), np.uint8)
    came = model.run([pixels.reshape(-1)], 4)[0]
    crops = pixels.transpose(0, 3, 1, 2) / 255 - np.array([0.406, 0.457, 0.480])[:, None, None]
    np.testing.assert_allclose(came, patch_heatmaps(crops), atol=2e-5)


def test_half_precision_arithmetic_of_aipp_stays_near(atc):
    normalise, parse = load("ascend_emulator.aipp").normalise, load("ascend_emulator.aipp").parse
    pixels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    exact, half = (normalise(pixels, parse(AIPP)[0], arithmetic) for arithmetic in ("float32", "float16"))
    assert 0 < np.abs(exact - half).max() < 6e-4


def test_gears_and_types_reach_the_model(atc):
    assert atc(dynamic_batch_size="4,1,2", input_shape="image:-1,3,64,48", output_type="FP16")[0] == 0
    assert om().gears == [1, 2, 4] and om().inputs[0].shape[0] == -1 and om().outputs[0].dtype == "float16"
    assert om().run([np.zeros(2 * 3 * 64 * 48 * 4, np.uint8)], 2)[0].shape == (2, 17, 16, 12)


def test_atc_knows_the_opsets_of_its_release(atc):
    import onnx
    model = onnx.load("m.onnx")
    model.opset_import[0].version = 17
    onnx.save(model, "m17.onnx")
    assert atc(model="m17.onnx")[0] == 0
    code, text = atc({"cann": "6.0.1"}, model="m17.onnx")
    assert code == 255 and "E19010: " in text and "No parser is registered for Op" in text
    assert "ai.onnx::17::Conv" in text


def test_faults_of_atc(atc):
    code, text = atc({"errors": [{"call": "atc", "effect": "no_file"}]})
    assert code == 0 and "success" in text and not Path("out/m.om").exists()
    assert atc({"errors": [{"call": "atc", "effect": "truncated"}]})[0] == 0
    with pytest.raises(ValueError):
        om()
    assert atc({"errors": [{"call": "atc", "effect": "os_arch"}]}, output="out/n")[0] == 0
    assert [path.name.startswith("n_linux_") for path in Path("out").glob("n*.om")] == [True]
    code, text = atc({"errors": [{"call": "atc", "message": "E40021"}]})
    assert code == 255 and "\nE40021: " in text and "Failed to compile Op" in text


def test_the_text_of_an_error_is_the_releases(atc, tmp_path, monkeypatch):
    monkeypatch.setenv("ASCEND_PROCESS_LOG_PATH", str(tmp_path / "log"))
    _, text = atc(soc_version="x")
    assert re.search(r"^E10001: \[PID: \d+\] \S+ Value \[x\] for parameter \[--soc_version\]", text, re.MULTILINE)
    _, text = atc({"cann": "7.0.0"}, soc_version="x", log="error")
    assert "\nE10001: Value [x] for parameter [--soc_version] is invalid." in text
    (log,) = (tmp_path / "log").rglob("plog-*.log")  # not with --log=null, the default
    assert "E10001" in log.read_text()


def test_atc_as_a_program(tmp_path):
    patch_model(tmp_path / "m.onnx", 1)
    flags = ["--framework=5", "--model=m.onnx", "--output=m", "--soc_version", "Ascend310P3"]
    run = {"cwd": tmp_path, "capture_output": True, "text": True}
    killed = subprocess.run(["atc", *flags], env=environment(errors=[{"call": "atc", "effect": "killed"}]), **run)
    assert killed.returncode == -9 and not (tmp_path / "m.om").exists()
    unknown = subprocess.run(["atc", *flags, "--soc=x"], env=environment(), **run)
    assert unknown.returncode == 1 and "unknown command line flag 'soc'" in unknown.stderr
