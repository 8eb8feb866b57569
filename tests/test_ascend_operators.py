"""What of an ONNX file atc may not build, told before it is run; the emulated atc refuses what no list has."""
from __future__ import annotations

import re

import pytest
from ascend_cases import run
from conftest import ROOT, done, one_error, patch_model

from ascend.operators import foresee
from contract.onnx_file import OnnxFacts, read_facts
from tests.emulator import environment


def told(operators=("Conv", "Relu"), soc="Ascend310P3", version="8.0.0", precision=None, dtype="FLOAT") -> str:
    facts = OnnxFacts("image", (1, 3, 8, 8), dtype, 11, {}, False, False, operators=operators)
    return "; ".join(foresee(facts, soc, version, precision))


@pytest.mark.parametrize("case, hint", [
    ({"operators": ["Conv", "com.microsoft::FusedConv"]}, "operator of com.microsoft"),
    ({"operators": ["Loop"]}, "Loop is in no list"), ({"operators": ["GridSample"]}, ""),
    ({"operators": ["GridSample"], "version": "6.0.RC1"}, "list of CANN 8.0"),
    ({"operators": ["ArgMax", "CumSum", "LogSoftmax", "Hardmax"]}, ""),
    ({"operators": ["DepthToSpace CRD"]}, ""),
    ({"operators": ["DepthToSpace CDR"]}, "expected the mode DCR or CRD"),
    ({"operators": ["DepthToSpace CRD"], "soc": "Ascend310B4"}, "not in the vendor's list for 310B"),
    ({"dtype": "DOUBLE"}, "float64"), ({"precision": "must_keep_origin_dtype"}, "AI CPU"),
    ({"precision": "origin", "soc": "Ascend310"}, "AI CPU"), ({"precision": "origin", "soc": "Ascend910B3"}, ""),
    ({"precision": "force_fp32"}, ""), ({"soc": "Ascend310", "version": "8.2.RC1"}, ""),
    ({"soc": "Ascend310", "version": "8.5.0"}, "up to CANN 8.2"),
    ({"soc": "Ascend950PR_9599", "version": "8.5.0"}, "from CANN 9.0 on"), ({"version": None}, "")])
def test_what_is_told(case, hint):
    assert (hint in told(**case)) if hint else told(**case) == ""


def test_our_own_networks_are_in_the_lists(main, tmp_path):
    """FastPose and the detector, on every chip that a list has everything for."""
    pytest.importorskip("torch")
    onnx = tmp_path / "fastpose.onnx"
    done(main("pth2onnx", "configs/demo_fastpose.yaml", ROOT / "demo" / "fastpose_small.pth", onnx))
    done(main("detection.export", "configs/demo_yolov3_tiny.cfg", ROOT / "demo" / "yolov3_demo.weights",
              tmp_path / "yolo.onnx"))
    for name in ("fastpose.onnx", "yolo.onnx"):
        for soc in ("Ascend310", "Ascend310P3", "Ascend910B3"):
            assert not list(foresee(read_facts(tmp_path / name), soc, "6.0.RC1" if soc != "Ascend910B3" else "8.0.0",
                                    None)), name
    assert "DepthToSpace CRD" in read_facts(onnx).operators


@pytest.fixture()
def foreign(tmp_path):
    """A model in the operators of ONNX Runtime's optimiser."""
    import onnx

    path = patch_model(tmp_path / "fastpose_bs16.onnx", 16, (256, 192))
    model = onnx.load(path)
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path)
    return path


def test_atc_is_preceded_by_what_may_fail(foreign):
    finished = run(environment(), "-m", "ascend.atc", foreign, "--soc_version", "Ascend310P3")
    assert "E19010" in one_error(finished)
    assert finished.stderr.index("note: ") < finished.stderr.index("error: ")
    assert "is an operator of com.microsoft" in finished.stderr


def test_the_doctor_tells_it_of_a_model(foreign, small_model):
    finished = run(environment(), "-m", "ascend.doctor", "--model", foreign)
    assert finished.returncode == 0 and re.search(r"fastpose_bs16.onnx +note +com.microsoft::Conv", finished.stdout)
    assert re.search(r"patches.onnx +ok", run(environment(), "-m", "ascend.doctor", "--model", small_model).stdout)


def test_a_job_of_a_model_has_it_examined_first(main, small_model):
    output = done(main("run", "--targets", "Ascend310P3", "--model", small_model, "--runner", "acl", "--gt_boxes",
                       "--demo", "--plan"))
    assert f"--model {small_model}" in output.splitlines()[0] or f"--model {small_model}" in output.split("doctor")[1]
