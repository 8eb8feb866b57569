"""docs/from-other-tools.md: no command of the source systems is missing, and ours exist and take their flags."""
from __future__ import annotations

import re
import shlex
from typing import List, NamedTuple

import pytest
from conftest import ROOT
from test_readme import check_command

PAGE = ROOT / "docs" / "from-other-tools.md"
OUTCOMES = ("as typed", "ours", "refused")
# Section -> its commands: words of which some row's first column has all.
COMMANDS = {
    "AlphaPose in Ascend's ModelZoo": [
        "preprocess.py --dataroot --output --output_flip", "pth2onnx.py .yaml .pth .onnx", "onnxsim --input-shape",
        "npu-smi info", "atc --framework=5 --model= --output= --input_format=NCHW --input_shape= --log= --soc_version=",
        "ais_bench --model --input --output --output_dirname --batchsize", "ais_bench --device --outfmt",
        "postprocess.py --dataroot --dump_dir --dump_dir_flip"],
    "AlphaPose_TRT": [
        "darknet2onnx.py --cfg --weight", "darknet2onnx_dynamic.py --cfg --weight",
        "polygraphy surgeon sanitize --fold-constants --output",
        "trtexec --onnx= --explicitBatch --saveEngine= --workspace= --fp16 --verbose --plugins=",
        "trtexec --minShapes= --optShapes= --maxShapes= --shapes=", "pytorch2onnx.py --cfg --checkpoint",
        "pytorch2onnx_dynamic.py --cfg --checkpoint", "inference.py --cfg --checkpoint --save_img --showbox --indir",
        "trt_inference.py --yolo_engine --pose_engine --cfg --save_img --indir --dll_file",
        "inference.py --cfg --checkpoint --save_video --video",
        "trt_inference.py --yolo_engine --cfg --save_video --video --dll_file --pose_engine --detector yolo",
        "trt_inference.py --yolo_engine --cfg --save_video --video --dll_file --pose_engine --detector yolo_trt",
        "validate.py --cfg --checkpoint --flip-test --detector",
        "validate_trt.py --cfg --pose_engine --yolo_engine --dll_file --flip-test --detector",
        "demo_trt_fastpose.py --cfg --checkpoint --engine_path --batch",
        "demo_trt_yolov3_spp.py --cfg --weight --engine_path --batch",
        "demo_trt_alphapose.py --fastpose_cfg --yolo_cfg --weight --checkpoint --fastpose_engine --yolo_engine "
        "--batch"],
    "The int8 guide": [
        "trtexec --onnx= --saveEngine=", "trtexec --onnx= --saveEngine= --fp16",
        "ModelPrecision calib_table_file calibration_batch_size calib_data_path calib_data_list calib_set.txt"],
    "Hourglass with mmdeploy and ncnn": [
        "codebase_config onnx_config backend_config use_vulkan", "deploy.sh", "test_ncnn.sh", "test_ncnn_int8.sh"],
    "FastReID": [
        "caffe_export.py --config-file --name --output --opts",
        "caffe_inference.py --model-def --model-weights --input --output",
        "onnx_export.py --config-file --name --output --opts", "onnx_inference.py --model-path --input --output",
        "trt_export.py --name --output --mode --batch-size --height --width --onnx-model",
        "trt_inference.py --model-path --input --batch-size --height --width --output", "demo/demo.py",
        "np.testing.assert_allclose rtol=1e-3 atol=1e-6"],
}


class Row(NamedTuple):
    section: str
    typed: str
    outcome: str
    how: str


def read_rows() -> List[Row]:
    rows, section = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        section = line[3:] if line.startswith("## ") else section
        if section in COMMANDS and line.startswith("| ") and not line.startswith(("| You type", "| ---")):
            rows.append(Row(section, *(cell.strip() for cell in line.strip("|").split(" | "))))
    return rows


def commands(cell: str) -> List[str]:
    return [code for code in re.findall("`([^`]+)`", cell) if code.startswith(("python3 ", "bash "))]


def words(text: str) -> List[str]:
    return re.findall(r"[^\s`:;,()]+", text)


ROWS = read_rows()
OURS = [command for row in ROWS for command in commands(row.typed if row.outcome == "as typed" else row.how)]


@pytest.mark.parametrize("section, command", [(name, one) for name, listed in COMMANDS.items() for one in listed])
def test_no_command_is_missing(section, command):
    def has(row: Row, word: str) -> bool:
        found = words(row.typed)
        if word.startswith("-") or "." in word:
            return any(one.startswith(word) or one.split("/")[-1] == word or one.endswith(word) for one in found)
        return any(one.startswith(word) for one in found)

    assert any(row.section == section and all(has(row, word) for word in command.split()) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.typed[:50])
def test_every_row_says_what_becomes_of_the_command(row):
    assert row.outcome in OUTCOMES
    assert row.how and (commands(row.how) or row.outcome != "ours")


@pytest.mark.parametrize("command", OURS)
def test_our_command_exists_and_takes_its_flags(command):
    check_command(*shlex.split(command))
