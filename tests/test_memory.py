"""Peak memory grows with people by their records and nothing else: four times as many people, measured."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, make_coco, patch_model, write_config

from contract.files import make_folder, sha256_of_file
from contract.manifest import save_manifest
from pose.coco import load_detections
from pose.people import build_manifest
from pose.spec import load_spec

FEW, MANY = 300, 1200
# A person's records: paths in the summary; keypoints as Python numbers, pycocotools' copies, JSON. A crop of the model
# below has 147,456 bytes and a stack of its heatmaps 52,224.
INFER_RECORDS, POSTPROCESS_RECORDS = 4_000, 16_000
NOISE = 8_000_000  # bytes by which two equal runs differ, by the timing of their threads

# VmHWM is the peak of this program alone, unlike ru_maxrss, which begins with that of the process that started it.
MEASURED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


def peak_bytes(name: str, *args: object) -> int:
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    finished = subprocess.run([sys.executable, "-c", MEASURED, name, *map(str, args)], cwd=ROOT, capture_output=True,
                              text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return int(finished.stdout.split()[-1])


@pytest.fixture(scope="module")
def crowds(tmp_path_factory) -> Path:
    """FEW and MANY people: their data roots, bins and dumps. All bins are one file with many names, and so all dumps,
    which keeps the disk small."""
    folder = tmp_path_factory.mktemp("crowds")
    config = load_spec(write_config(folder / "model.yaml", (128, 96), (32, 24)))
    patch_model(folder / "model.onnx", input_size=(128, 96))
    rng = np.random.default_rng(0)
    rng.random((1, *config.input_shape), np.float32).tofile(folder / "bin")
    rng.random((1, *config.outputs["output"]), np.float32).tofile(folder / "dump")
    for people in (FEW, MANY):
        coco = make_coco(make_folder(folder / str(people)) / "coco", photographs=1, people_each=12)
        row = json.loads((coco / "detections.json").read_text())[0]
        apart = [{**row, "bbox": [100 * number, 20, 60, 60]} for number in range(people)]  # so that all survive the NMS
        (coco / "detections.json").write_text(json.dumps(apart))
        detections = load_detections(coco / "detections.json")
        manifest = build_manifest(detections, sha256_of_file(coco / "detections.json"), config)
        for name, source, suffix in (("bins", "bin", ""), ("dumps", "dump", "_0"), ("dumps_flip", "dump", "_0")):
            target = make_folder(folder / str(people) / name)
            for number in range(people):
                os.link(folder / source, target / f"{number:012d}{suffix}.bin")
        save_manifest(folder / str(people) / "bins", manifest)
    return folder


def test_infer(crowds, tmp_path):
    peaks = [peak_bytes("infer.py", "--model", crowds / "model.onnx", "--cfg", crowds / "model.yaml", "--input",
                        crowds / str(people) / "bins", "--output", tmp_path, "--output_dirname", people)
             for people in (FEW, MANY)]
    assert peaks[1] - peaks[0] < (MANY - FEW) * INFER_RECORDS + NOISE


def test_postprocess(crowds, tmp_path):
    peaks = []
    for people in (FEW, MANY):
        folder = crowds / str(people)
        peaks.append(peak_bytes("postprocess.py", "--dataroot", folder / "coco", "--dump_dir", folder / "dumps",
                                "--dump_dir_flip", folder / "dumps_flip", "--manifest",
                                folder / "bins" / "manifest.json", "--output", tmp_path / str(people)))
    assert peaks[1] - peaks[0] < (MANY - FEW) * POSTPROCESS_RECORDS + NOISE
