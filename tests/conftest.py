"""What tests share: the repository's root, reference data outside it, ways to run a script, small inputs."""
from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Dict, List

import cv2
import numpy as np
import pytest
import server_python as server_pythons

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# A job in the background ignores Ctrl-C, and so would the scripts that tests start to interrupt them.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # models in tests are so small that torch's threads only wait

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SWAP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]  # each joint's left or right twin
SMALL_INPUT, SMALL_HEATMAP = (64, 48), (16, 12)  # of models made in tests: a quarter of the published size each way


@pytest.fixture(scope="session")
def shared() -> Path:
    """Golden data and real photographs, which are not part of the repository."""
    folder = Path(os.environ.get("POSE_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"golden data is not at {folder} (set POSE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def server_python(pytestconfig):
    """A version, "3.7" or "3.9", and packages beside numpy -> the python3 of an environment that has these alone."""
    cache = pytestconfig.cache.mkdir("server_pythons")
    return functools.lru_cache(None)(lambda version, *packages: server_pythons.make(version, packages, cache))


@pytest.fixture(scope="session")
def real_crops(shared) -> dict:
    """Crops of real people as the shared ultralight_simplepose.onnx takes them: of every other photo to calibrate, of
    the rest to measure."""
    from pose.boxes import box_to_center_scale
    from pose.crops import Normalizer, crop_person, read_photograph

    root = shared / "data/coco_mini"
    annotations = json.loads((root / "annotations/person_keypoints_val2017.json").read_text())["annotations"]
    photos = sorted({one["image_id"] for one in annotations if one["num_keypoints"]})
    crops = {"calibrate": [], "measure": []}
    normalize = Normalizer(IMAGENET_MEAN, IMAGENET_STD)
    for one in annotations:
        if one["num_keypoints"]:
            x, y, width, height = one["bbox"]
            center, scale = box_to_center_scale(np.array([[x, y, x + width, y + height]]), 0.75)
            image = read_photograph(root / "val2017" / f"{one['image_id']:012d}.jpg")
            part = crops["measure" if photos.index(one["image_id"]) % 2 else "calibrate"]
            part.append(normalize(crop_person(image, center[0], scale[0], (256, 192))))
    return {part: np.stack(rows[:24]) for part, rows in crops.items()}


@pytest.fixture(scope="session")
def script():
    """Run a script of the root as its user does; returns the finished process, its output as text."""

    def run(name: str, *args: object, **options) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / name), *map(str, args)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **options)

    return run


@pytest.fixture()
def main(monkeypatch, capsys):
    """Run a script's main in this process, which spares its imports; returns what `script` returns.

    An exception that would be a traceback on a terminal is one here.
    """
    from contract.script import exit_code

    def run(name: str, *args: object) -> SimpleNamespace:
        module = importlib.import_module(name)
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        capsys.readouterr()
        try:
            code = exit_code(module.main)
        except SystemExit as stop:  # argparse
            code = stop.code
        output, errors = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=output, stderr=errors)

    return run


def run_onnx(path: Path, rows: np.ndarray) -> np.ndarray:
    """The model's output by ONNX Runtime itself, without this project's backend."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: rows})[0]


def one_error(finished) -> str:
    """The one line that a script shows for bad input; fails when it shows anything else."""
    lines = [line for line in re.split(r"[\r\n]+", finished.stderr) if "error: " in line]
    assert finished.returncode == 2 and len(lines) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    return lines[0]


def done(finished) -> str:
    """The output of a script that must have succeeded."""
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout


def tree(folder: Path) -> Dict[str, str]:
    """Path -> sha256 of every file below `folder`; the summaries, which hold times, are left out."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith("_summary.json")}


def read_score(folder: Path) -> SimpleNamespace:
    """What postprocess.py wrote into `folder`."""
    return SimpleNamespace(results=json.loads((folder / "keypoints.json").read_text()),
                           **json.loads((folder / "metrics.json").read_text()))


def dumps_in(folder: Path, shape: tuple) -> np.ndarray:
    return np.stack([np.fromfile(path, np.float32).reshape(shape) for path in sorted(folder.glob("*.bin"))])


def bins_in(folder: Path, shape: tuple) -> np.ndarray:
    return np.concatenate([np.fromfile(path, np.float32).reshape(-1, *shape) for path in sorted(folder.glob("*.bin"))])


def write_config(path: Path, input_size=SMALL_INPUT, heatmap_size=SMALL_HEATMAP, model: str = "TYPE: FastPose",
                 **data_preset: object) -> Path:
    preset = {"IMAGE_SIZE": list(input_size), "HEATMAP_SIZE": list(heatmap_size), "NUM_JOINTS": 17, **data_preset}
    path.write_text("".join(["DATA_PRESET:\n", *(f"  {key}: {json.dumps(value)}\n" for key, value in preset.items()),
                             f"MODEL: {{{model}}}\nLOSS: {{TYPE: MSELoss}}\n"]))
    return path


def make_coco(folder: Path, photographs: int = 3, people_each: int = 4, seed: int = 0) -> Path:
    """A data root in COCO's layout: photographs of smooth noise, everyone annotated, one shifted detection each."""
    rng = np.random.default_rng(seed)
    (folder / "val2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images: List[dict] = []
    annotations: List[dict] = []
    detections: List[dict] = []
    for number in range(photographs):
        image_id, height, width = 11 * number + 3, 120 + 8 * number, 160
        noise = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        cv2.imwrite(str(folder / "val2017" / f"{image_id:012d}.jpg"), cv2.resize(noise, (width, height)))
        images.append({"id": image_id, "file_name": f"{image_id:012d}.jpg", "width": width, "height": height})
        for _ in range(people_each):
            x, y, w, h = (rng.uniform(low, high) for low, high in ((0, 90), (0, 60), (40, 70), (40, 60)))
            joints = np.stack([rng.uniform(x, x + w, 17), rng.uniform(y, y + h, 17), np.full(17, 2)], axis=1)
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0,
                                "bbox": [x, y, w, h], "area": 0.7 * w * h, "num_keypoints": 17,
                                "keypoints": joints.round(2).ravel().tolist(), "segmentation": []})
            detections.append({"image_id": image_id, "category_id": 1, "bbox": [x + 2.5, y - 1.25, w, h],
                               "score": float(rng.uniform(0.3, 1))})
    (folder / "annotations" / "person_keypoints_val2017.json").write_text(json.dumps(
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}))
    (folder / "detections.json").write_text(json.dumps(detections))
    return folder


@pytest.fixture(scope="session")
def coco(tmp_path_factory) -> Path:
    """A data root of 3 photographs and 12 people, not to be written to."""
    return make_coco(tmp_path_factory.mktemp("coco") / "data")


@pytest.fixture(scope="session")
def small_cfg(tmp_path_factory) -> Path:
    return write_config(tmp_path_factory.mktemp("cfg") / "small.yaml")


def patch_weights(seed: int = 0) -> np.ndarray:
    """(17, 3, 4, 4): a convolution with stride 4, the simplest model that has a pose model's shapes."""
    return np.random.default_rng(seed).standard_normal((17, 3, 4, 4)).astype(np.float32) / 7


def patch_model(path: Path, batch: object = "batch", input_size=SMALL_INPUT, seed: int = 0) -> Path:
    """An ONNX file of `patch_weights`; a `batch` that is a number is static."""
    onnx = pytest.importorskip("onnx")
    height, width = input_size
    weights = onnx.numpy_helper.from_array(patch_weights(seed), "weights")
    node = onnx.helper.make_node("Conv", ["image", "weights"], ["output"], strides=[4, 4], kernel_shape=[4, 4])
    shapes = [("image", [batch, 3, height, width]), ("output", [batch, 17, height // 4, width // 4])]
    image, output = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes)
    graph = onnx.helper.make_graph([node], "patches", [image], [output], [weights])
    opset = [onnx.helper.make_opsetid("", 11)]
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=opset, ir_version=6).SerializeToString())
    return path


def patch_heatmaps(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """What `patch_model` computes, by numpy in float64: (N, 3, H, W) -> (N, 17, H/4, W/4)."""
    people, channels, height, width = rows.shape
    patches = rows.astype(np.float64).reshape(people, channels, height // 4, 4, width // 4, 4)
    return np.einsum("ncyixj,kcij->nkyx", patches, patch_weights(seed).astype(np.float64))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    return patch_model(tmp_path_factory.mktemp("model") / "patches.onnx")


@pytest.fixture(scope="session")
def prepared(coco, small_cfg, script, tmp_path_factory) -> Path:
    """A folder with prep_data and prep_data_flip of `coco`, not to be written to."""
    folder = tmp_path_factory.mktemp("prepared")
    done(script("preprocess.py", "--dataroot", coco, "--detections", coco / "detections.json", "--cfg", small_cfg,
                "--output", folder / "prep_data", "--output_flip", folder / "prep_data_flip"))
    return folder


@pytest.fixture(scope="session")
def inferred(prepared, small_cfg, small_model, script) -> Path:
    """`prepared` with the dumps of `small_model` in results/all and results/all_flip."""
    for suffix in ("", "_flip"):
        done(script("infer.py", "--model", small_model, "--input", f"{prepared}/prep_data{suffix}", "--output",
                    prepared / "results", "--output_dirname", f"all{suffix}", "--cfg", small_cfg))
    return prepared


@pytest.fixture()
def work(inferred, tmp_path) -> Path:
    """A copy of `inferred` to damage."""
    return Path(shutil.copytree(inferred, tmp_path / "work"))


@pytest.fixture()
def own_coco(tmp_path) -> Path:
    """A data root of this test alone, to damage."""
    return make_coco(tmp_path / "coco")


@pytest.fixture()
def preprocess(own_coco, small_cfg, main, tmp_path):
    """Run preprocess.py on `own_coco`, into out and out_flip of tmp_path."""

    def run(*options: object):
        boxes = () if {"--gt_boxes", "--detections"} & set(options) else ("--detections", own_coco / "detections.json")
        return main("preprocess", "--dataroot", own_coco, *boxes, "--cfg", small_cfg, "--output", tmp_path / "out",
                    "--output_flip", tmp_path / "out_flip", *options)

    return run


@pytest.fixture()
def infer(work, small_cfg, small_model, main):
    """Run infer.py on the bins of `work`, into a folder `name` of its results."""

    def run(*options: object, name: str = "new"):
        return main("infer", "--model", small_model, "--cfg", small_cfg, "--input", work / "prep_data", "--output",
                    work / "results", "--output_dirname", name, *options)

    return run


@pytest.fixture()
def postprocess(work, coco, main):
    """Run postprocess.py on the dumps of `work`, into its score."""

    def run(*options: object):
        return main("postprocess", "--dataroot", coco, "--dump_dir", work / "results" / "all", "--dump_dir_flip",
                    work / "results" / "all_flip", "--manifest", work / "prep_data" / "manifest.json", "--output",
                    work / "score", *options)

    return run
