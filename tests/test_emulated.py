"""What an emulator made says so, is not used on a real device, and does not replace what a real device made."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, done, one_error, patch_model

from tests.emulator import environment

SOC = "Ascend310P3"


def run(env, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def rehearsal(prepared, coco, small_cfg, tmp_path_factory) -> Path:
    """An .om, dumps and their score, made on the emulated card."""
    folder, env = tmp_path_factory.mktemp("rehearsal"), environment()
    model = patch_model(folder / "m.onnx", 1)
    done(run(env, "-m", "ascend.atc", model, "--soc_version", SOC))
    for suffix in ("", "_flip"):
        done(run(env, "infer.py", "--backend", "acl", "--model", folder / "m.om", "--cfg", small_cfg, "--input",
                 f"{prepared}/prep_data{suffix}", "--output", folder, "--output_dirname", f"npu{suffix}"))
    scored = done(run(os.environ, "postprocess.py", "--dataroot", coco, "--dump_dir", folder / "npu", "--dump_dir_flip",
                      folder / "npu_flip", "--manifest", prepared / "prep_data" / "manifest.json"))
    (folder / "score.md").write_text(scored)
    return folder


def test_every_record_says_so(rehearsal):
    for name in ("m.om.json", "npu/settings.json", "npu_summary.json", "npu_score/metrics.json"):
        assert json.loads((rehearsal / name).read_text())["emulated"] is True, name
    assert b"emulated" in (rehearsal / "m.om").read_bytes()[:40]


def test_every_figure_of_a_table_says_so_in_its_cell(rehearsal):
    cells = re.findall(r"\d+\.\d+[^|]*", (rehearsal / "score.md").read_text())
    assert len(cells) == 15 and all(" (emulated" in cell for cell in cells)


def test_a_comparison_and_its_page_say_so(rehearsal, inferred, main, prepared, tmp_path):
    npu = f"npu={rehearsal / 'npu'},{rehearsal / 'npu_flip'}"
    cpu = f"cpu={inferred / 'results' / 'all'},{inferred / 'results' / 'all_flip'}"
    finished = main("compare", cpu, npu, "--manifest", prepared / "prep_data" / "manifest.json", "--report",
                    tmp_path / "page.html", "--bootstrap", 0)
    assert "npu (emulated)" in finished.stdout and "cpu (emulated)" not in finished.stdout
    assert "npu (emulated)" in (tmp_path / "page.html").read_text()
    finished = main("compare", inferred / "results" / "all", rehearsal / "npu_score" / "keypoints.json")
    assert "keypoints.json (emulated)" in finished.stdout or finished.returncode == 2


@pytest.fixture()
def real_card(tmp_path) -> dict:
    """The same machine as a real one would look: nothing says that it is emulated."""
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import acl\ndel acl.EMULATED\n")
    env = environment(cann="9.1.0")
    home = shutil.copytree(env["ASCEND_TOOLKIT_HOME"], folder / "latest", ignore=shutil.ignore_patterns("EMULATED"))
    return {**env, "PYTHONPATH": f"{folder}:{env['PYTHONPATH']}", "ASCEND_TOOLKIT_HOME": str(home),
            "ASCEND_HOME_PATH": str(home)}


def test_nothing_of_it_is_used_on_a_real_card(rehearsal, real_card, prepared, small_cfg, tmp_path):
    work = shutil.copytree(rehearsal, tmp_path / "work")
    infer = ("infer.py", "--backend", "acl", "--model", work / "m.om", "--cfg", small_cfg, "--input",
             prepared / "prep_data", "--output", work, "--output_dirname", "npu")
    assert "the emulator of the tests made it" in one_error(run(real_card, *infer, "--replace"))
    assert "written" in done(run(real_card, "-m", "ascend.atc", work / "m.onnx", "--soc_version", SOC))
    assert "emulated was true, now false" in one_error(run(real_card, *infer))
    done(run(real_card, *infer, "--replace"))
    assert json.loads((work / "npu" / "settings.json").read_text())["emulated"] is False
    # And back: what the card has made is kept from the next rehearsal.
    assert "the device here is emulated" in one_error(run(environment(), *infer, "--replace"))
    again = run(environment(), "-m", "ascend.atc", work / "m.onnx", "--soc_version", SOC)
    assert "a real device made it" in one_error(again)
    shutil.copy(rehearsal / "m.om", work / "n.om")
    shutil.copy(rehearsal / "m.om.json", work / "n.om.json")
    infer = [work / "n.om" if argument == work / "m.om" else argument for argument in infer]
    assert "a real device made it" in one_error(run(environment(), *infer, "--replace"))


def test_detections_of_an_emulated_card_are_not_kept_on_a_real_one(monkeypatch):
    from detection import detector

    for emulated in (True, False):
        monkeypatch.setattr(detector, "is_emulated", lambda name, emulated=emulated: emulated)
        origin = detector.Detector(model=__file__, cfg=ROOT / "configs" / "yolov3-spp.cfg", backend="acl").origin()
        assert bool(origin["emulated"]) == emulated
