"""The commands of the published workflow, typed as they are: they work, or say the one thing to change."""
from __future__ import annotations

import os
import shutil

import pytest
from ascend_cases import run
from conftest import ROOT, done, one_error, patch_model

from contract.errors import UserError
from contract.spec import load_spec
from preprocess import WEIGHTS, detect_people, parse_args
from tests.emulator import environment


def test_dumps_that_are_in_the_folder_of_another_spelling(postprocess, work, monkeypatch):
    """The document writes ./results when it makes dumps and ./result when it reads them."""
    typed = str(work / "result" / "all")
    error = one_error(postprocess("--dump_dir", typed))
    assert "12 of 12 dumps are missing" in error and "results/all, " in error and "results/all_flip: name" in error
    (work / "results" / "all" / "000000000003_0.bin").unlink()  # that is another thing to say
    assert "1 of 12" in one_error(postprocess()) and "name the right folder" not in one_error(postprocess())


def test_a_config_of_alphapose_without_its_clone(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match="no such config.*is configs/256x192_res50_lr1e-3_1x.yaml: type that"):
        load_spec("AlphaPose/configs/coco/resnet/256x192_res50_lr1e-3_1x.yaml")
    with pytest.raises(UserError, match="no such config$"):
        load_spec("AlphaPose/configs/unknown.yaml")


def test_weights_that_are_where_alphapose_has_them(monkeypatch, tmp_path):
    """Those of models/ come first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.jpg").touch()
    args = parse_args(["--output", "prep_data"])
    with pytest.raises(UserError, match="models/yolov3-spp.weights: no such detector"):
        detect_people(args)
    for path in reversed(WEIGHTS):
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(b"no weights")
        with pytest.raises(UserError) as error:
            detect_people(parse_args(["--output", "prep_data", "--yolo_cfg", str(ROOT / "configs/yolov3-spp.cfg"),
                                      "--images", str(tmp_path)]))
        assert str(error.value).startswith(path)


def test_weights_in_the_side_file_of_onnxsim(tmp_path):
    """It has the mode 0600: only the user who made it reads it."""
    import onnx

    model = patch_model(tmp_path / "inline.onnx", 16, (256, 192))
    split = tmp_path / "fastpose_bs16.onnx"
    onnx.save_model(onnx.load(model), split, save_as_external_data=True, location=f"{split.name}.data",
                    size_threshold=0)
    (tmp_path / f"{split.name}.data").chmod(0o600)
    command = ("-m", "ascend.atc", split, "--soc_version", "Ascend310P3")
    assert "written" in done(run(environment(), *command))
    other = shutil.copy(split, tmp_path / "alone.onnx")
    os.remove(tmp_path / f"{split.name}.data")
    assert f"{split.name}.data" in one_error(run(environment(), *command[:2], other, *command[3:]))
