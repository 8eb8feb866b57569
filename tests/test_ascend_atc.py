"""atc: its command line, what it may do wrong, and what is made of its errors."""
from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ascend_cases import alive, row, run, wait_for
from conftest import ROOT, done, one_error, patch_model

from tests.emulator import environment

# Section 1.1 of the reference, but for the model's absolute path: atc runs in another folder.
PUBLISHED = ("atc --framework=5 --model={0}/fastpose_bs16.onnx --output=fastpose_bs16 --input_format=NCHW "
             "--input_shape=image:16,3,256,192 --soc_version=Ascend310P3 --log=error")
GEARS = ("atc --framework=5 --model={0}/fastpose.onnx --output=fastpose_gears --input_format=NCHW "
         "--input_shape=image:-1,3,256,192 --dynamic_batch_size=1,4,8,16,32 --soc_version=Ascend310P3 --log=error")
UINT8 = PUBLISHED.replace("output=fastpose_bs16", "output=fastpose_bs16_uint8") + \
    " --insert_op_conf=aipp.cfg --enable_small_channel=1"


@pytest.fixture()
def atc(tmp_path, monkeypatch, main):
    """Run our atc stage in this process on an emulated machine."""

    def build(*arguments: object, **config: object):
        for name, value in environment(**config).items():
            monkeypatch.setenv(name, value)
        return main("ascend.atc", *arguments)

    return build


@pytest.fixture()
def model(tmp_path) -> Path:
    return patch_model(tmp_path / "fastpose_bs16.onnx", 16, (256, 192))


def built(atc_output: Path) -> dict:
    return json.loads(Path(f"{atc_output}.json").read_text())


@pytest.mark.parametrize("name, batch, options, expected, om", [
    ("fastpose_bs16", 16, ["--batch", "16"], PUBLISHED, "fastpose_bs16.om"),
    ("fastpose", "batch", ["--gears", "1,4,8,16,32"], GEARS, "fastpose_gears.om"),
    ("fastpose_bs16", 16, ["--uint8"], UINT8, "fastpose_bs16_uint8.om")])
def test_the_command_lines_are_those_of_the_reference(atc, tmp_path, name, batch, options, expected, om):
    model = patch_model(tmp_path / f"{name}.onnx", batch, (256, 192))
    output = done(atc(model, "--soc_version", "Ascend310P3", *options))
    assert " ".join(built(tmp_path / om)["command"]) == expected.format(tmp_path)
    assert expected.format(tmp_path) in output
    assert (tmp_path / om).stat().st_mode & 0o777 == 0o640


def test_other_options_are_handed_on(atc, tmp_path, model):
    done(atc(model, "--soc_version", "Ascend310P3", "--precision_mode", "allow_fp32_to_fp16", "--output_type", "FP16",
             "--output", tmp_path / "other.om", "--extra=--op_debug_level=0"))
    command = built(tmp_path / "other.om")["command"]
    assert command[-3:] == ["--precision_mode=allow_fp32_to_fp16", "--output_type=FP16", "--op_debug_level=0"]
    assert built(tmp_path / "other.om")["precision"] == "allow_fp32_to_fp16"


def test_aipp_is_the_normalisation_of_the_reference(atc, model):
    """All 256 values of each channel, with the constants in the types that atc keeps them in."""
    done(atc(model, "--soc_version", "Ascend310P3", "--uint8"))
    text = (model.parent / "fastpose_bs16_uint8.atc" / "aipp.cfg").read_text()
    fields = dict(re.findall(r"(\w+): (\S+)", text))
    assert fields["input_format"] == "RGB888_U8" and fields["aipp_mode"] == "static"
    assert (fields["src_image_size_w"], fields["src_image_size_h"]) == ("192", "256")
    pixels = np.arange(256, dtype=np.float64)
    for channel, mean in enumerate((0.406, 0.457, 0.480)):
        whole = int(fields[f"mean_chn_{channel}"])  # uint8
        rest, scale = (float(np.float16(fields[f"{key}_chn_{channel}"])) for key in ("min", "var_reci"))
        assert whole == float(fields[f"mean_chn_{channel}"])
        bias = (whole + rest - 255 * mean) / 255
        assert abs(bias) <= 1.3e-6
        assert np.abs((pixels - whole - rest) * scale - (pixels / 255 - mean)).max() < 2e-5


def test_what_is_unchanged_is_kept(atc, model):
    arguments = (model, "--soc_version", "Ascend310P3")
    done(atc(*arguments))
    assert ": kept" in done(atc(*arguments))
    assert ": kept" not in done(atc(*arguments, cann="9.0.0"))
    assert ": kept" not in done(atc(model, "--soc_version", "Ascend310P1", cann="9.0.0"))
    patch_model(model, 16, (256, 192), seed=1)
    assert ": kept" not in done(atc(model, "--soc_version", "Ascend310P1", cann="9.0.0"))
    (model.parent / "fastpose_bs16.om").write_bytes(b"damaged")
    assert ": kept" not in done(atc(model, "--soc_version", "Ascend310P1", cann="9.0.0"))


def test_a_file_that_an_option_names_counts_by_its_content(atc, model):
    """atc runs in a folder of its own, so it is given the file's whole path."""
    kept = model.parent / "keep_dtype.txt"
    kept.write_text("conv1\n")
    arguments = (model, "--soc_version", "Ascend310P3", f"--extra=--keep_dtype={os.path.relpath(kept, ROOT)}")
    done(atc(*arguments))
    assert built(model.parent / "fastpose_bs16.om")["command"][-1] == f"--keep_dtype={kept}"
    assert ": kept" in done(atc(*arguments))
    kept.write_text("conv1\nconv_out\n")
    assert ": kept" not in done(atc(*arguments))


@pytest.mark.parametrize("fault, hint", [
    ({"effect": "no_file"}, "left no fastpose_bs16.om"), ({"effect": "truncated"}, "cannot read"),
    row(1, {"message": "E19999"}, "python3 -m ascend.doctor"), row(4, {"message": "E40021"}, "numpy"),
    row(12, {"effect": "killed"}, "TE_PARALLEL_COMPILER=1")])
def test_a_failure_leaves_no_om_and_is_explained(atc, model, fault, hint):
    message = one_error(atc(model, "--soc_version", "Ascend310P3", errors=[{"call": "atc", "nth": 1, **fault}]))
    assert hint in message
    assert not list(model.parent.glob("*.om*")) and (model.parent / "fastpose_bs16.atc" / "atc.log").exists()


@pytest.mark.parametrize("machine, code, hint", [({"libpython": False}, "E40001", "LD_LIBRARY_PATH"),
                                                 ({"kernels": False}, "EZ3003", "Ascend-cann-...-ops")])
def test_a_server_that_lacks_what_atc_needs(atc, model, machine, code, hint):
    message = one_error(atc(model, "--soc_version", "Ascend310P3", **machine))
    assert code in message and hint in message


def test_an_om_for_another_chip_is_not_taken(atc, model, tmp_path):
    """As atc --mode=6 says it: soc_version[...]."""
    other = tmp_path / "other" / "atc"  # builds for another chip whatever is asked for
    other.parent.mkdir()
    real = environment()["PATH"].split(":")[0]
    other.write_text(f'#!/bin/bash\nexec {real}/atc "${{@/--soc_version=Ascend310P3/--soc_version=Ascend310P1}}"\n')
    other.chmod(0o755)
    env = environment()
    finished = run({**env, "PATH": f"{other.parent}:{env['PATH']}"}, "-m", "ascend.atc", model, "--soc_version",
                   "Ascend310P3")
    assert "an .om for Ascend310P1, not Ascend310P3" in one_error(finished)
    assert not list(model.parent.glob("*.om"))


def test_the_log_of_a_retry_can_say_more(atc, model):
    done(atc(model, "--soc_version", "Ascend310P3", "--log", "debug"))
    assert "--log=debug" in built(model.parent / "fastpose_bs16.om")["command"]


@pytest.mark.parametrize("opset, release, known, hint", [
    row(9, 17, "6.0.RC1", True, "its opset is 17"), row(9, 22, "8.5.0", True, "its opset is 22"),
    row(9, 19, "8.5.0", False, "E19010")])
def test_an_opset_that_this_cann_has_no_parser_for(atc, model, monkeypatch, opset, release, known, hint):
    """Where the release is not known, the opset is not checked before, and atc's own error is explained."""
    import onnx

    content = onnx.load(model)
    content.opset_import[0].version = opset
    onnx.save(content, model)
    if not known:
        monkeypatch.setattr("ascend.cann.version", lambda: None)
    message = one_error(atc(model, "--soc_version", "Ascend310P3", cann=release))
    assert hint in message and "--opset 11" in message


@pytest.mark.parametrize("options, hint", [
    row(2, ["--soc_version", "Ascend910B"], "Ascend910B1"), row(2, ["--soc_version", "ascend310p3"], "Ascend310P3"),
    row(6, ["--soc_version", "Ascend310P3", "--batch", "4"], "pth2onnx.py --batch 4"),
    row(11, ["--soc_version", "Ascend310P3", "--gears", "1,2"], "without _bs"),
    row(11, ["--soc_version", "Ascend310P3", "--gears", "4"], "2 to 100"),
    row(11, ["--soc_version", "Ascend310P3", "--gears", "1;2"], "1,4,8,16"),
    (["--soc_version", "Ascend310P3", "--precision_mode_v2", "mixed_bfloat16"], "no bfloat16")])
def test_what_atc_would_refuse_or_misread(atc, model, options, hint):
    assert hint in one_error(atc(model, *options))
    assert not (model.parent / "fastpose_bs16.atc").exists()


def test_files_that_are_no_onnx(atc, model):
    model.write_bytes(model.read_bytes()[:100])
    assert "damaged" in one_error(atc(model, "--soc_version", "Ascend310P3"))
    assert "no such" in one_error(atc(model.parent / "x.onnx", "--soc_version", "Ascend310P3"))


def test_without_set_env(tmp_path, model):
    finished = run(environment(set_env=False), "-m", "ascend.atc", model, "--soc_version", "Ascend310P3")
    assert "set_env.sh" in one_error(finished)


def test_nothing_survives_a_stage_that_is_told_to_end(tmp_path, model):
    trace = tmp_path / "pids"
    (tmp_path / "slow").mkdir()
    slow = tmp_path / "slow" / "atc"  # a shell wrapper with a child, as the real one
    slow.write_text(f"#!/bin/sh\nsleep 600 & echo $! >>{trace}; echo $$ >>{trace}; wait\n")
    slow.chmod(0o755)
    env = environment()
    stage = subprocess.Popen([sys.executable, "-m", "ascend.atc", model, "--soc_version", "Ascend310P3"], cwd=ROOT,
                             env={**env, "PATH": f"{slow.parent}:{env['PATH']}"})
    wait_for(lambda: trace.exists() and len(trace.read_text().split()) == 2)
    stage.send_signal(signal.SIGTERM)
    assert stage.wait(30) == 143
    wait_for(lambda: not any(alive(int(pid)) for pid in trace.read_text().split()))
    assert not list(tmp_path.glob("*.om"))


def test_no_file_is_written_where_the_user_stands(atc, model):
    before = set(os.listdir(ROOT))
    done(atc(model, "--soc_version", "Ascend310P3"))
    assert set(os.listdir(ROOT)) - before <= {"__pycache__"}


@pytest.mark.parametrize("page", ["ascend.md", "ascend.zh-CN.md"])
def test_the_pages_show_the_published_command_lines(page):
    """That of atc as tested above, and that of ais_bench as design and tests/test_ascend_ais_bench.py have it."""
    shown = [shlex.split(line) for line in (ROOT / "docs" / page).read_text().splitlines() if line.startswith("    ")]
    name = "fast_res50_256x192_bs16"
    expected = PUBLISHED.replace("{0}/", "").replace("fastpose_bs16", name)
    assert expected.split() in shown
    assert (f"python3 -m ais_bench --model models/{name}.om --input ./prep_data --output ./results --output_dirname "
            "bs16 --batchsize 16").split() in shown
