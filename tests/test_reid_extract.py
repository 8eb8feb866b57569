"""Features from images to their comparison: what is written, kept and refused, and which planted fault is named."""
from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import ROOT, done, one_error
from golden.weights import fill

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxsim")

from networks.bot import BagTricks  # noqa: E402
from networks.onnx_export import export_onnx  # noqa: E402
from reid.crops import RESIZES  # noqa: E402
from reid.spec import load_spec  # noqa: E402

SMALL = "TASK: reid\nMODEL: {BACKBONE: {WIDTH: 0.125}}\nINPUT: {SIZE_TEST: [64, 32]}\n"
PEOPLE, CAMERAS = 5, 2


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SimpleNamespace:
    """A small network as ONNX, its config, and images of people: each of two colours, before two backgrounds."""
    folder = tmp_path_factory.mktemp("extract")
    (folder / "small.yaml").write_text(SMALL)
    network = fill(BagTricks(width=0.125, identities=3))
    network.heads.bottleneck[0].running_var.mul_(0.01)  # small, so that an epsilon shows
    torch.save({"model": network.state_dict()}, folder / "small.pth")
    export_onnx(load_spec(folder / "small.yaml"), str(folder / "small.pth"), str(folder / "small.onnx"), [4])
    random = np.random.default_rng(0)
    (folder / "images").mkdir()
    for person in range(PEOPLE):
        look = cv2.resize(random.integers(0, 256, (4, 2, 3)).astype(np.uint8), (40, 90))
        for camera in range(CAMERAS):
            image = np.clip(look + random.normal(0, 12, look.shape) + 10 * camera, 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / "images" / f"{person:04d}_c{camera + 1}s1_000000_00.png"), image)
    return SimpleNamespace(folder=folder, cfg=folder / "small.yaml", onnx=folder / "small.onnx",
                           checkpoint=folder / "small.pth", images=folder / "images", network=network)


@pytest.fixture()
def extract(made, main):
    def run(output, *more, model=None, images=None):
        return main("reid.extract", "--model", model or made.onnx, "--config-file", made.cfg, "--output", output,
                    "--input", *(images if isinstance(images, list) else [images or made.images]), *more)

    return run


def features(folder) -> np.ndarray:
    return np.concatenate([np.load(path) for path in sorted(folder.glob("*.npy"))])


def expected(made, resize: str = "pil") -> np.ndarray:
    crops = [RESIZES[resize](np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]), (64, 32))
             for path in sorted(made.images.iterdir())]
    with torch.inference_mode():
        values = made.network(torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32))).numpy()
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["any batch", "batch of 4", "pytorch", "caffe", "raw", "cv2"])
def test_features_are_the_networks_whatever_runs_it(made, extract, tmp_path, kind):
    """10 people in batches of 4 leave a tail of 2."""
    more, model, wanted = [], None, expected(made, "cv2" if kind == "cv2" else "pil")
    if kind == "batch of 4":
        model = made.folder / "small_bs4.onnx"
    elif kind == "pytorch":
        model, more = made.checkpoint, ["--batch-size", 4]
    elif kind == "caffe":
        from backends.caffe.build import build

        model = build(made.onnx, tmp_path / "net")[0]
    elif kind in ("raw", "cv2"):
        more = ["--raw"] if kind == "raw" else ["--resize", "cv2"]
    done(extract(tmp_path / "out", *more, model=model))
    came = features(tmp_path / "out")
    assert np.load(next((tmp_path / "out").glob("*.npy"))).shape == (1, 256)
    if kind == "raw":
        assert not np.allclose(np.linalg.norm(came, axis=1), 1, atol=0.1)
        came = came / np.linalg.norm(came, axis=1, keepdims=True)
    np.testing.assert_allclose(came, wanted, rtol=0, atol=1e-5)


def test_it_continues_and_takes_new_images(made, extract, tmp_path):
    images = sorted(made.images.iterdir())
    out = tmp_path / "out"
    assert "0 kept" in done(extract(out, images=images[:3]))
    (out / f"{images[1].stem}.npy").unlink()  # as if it had been stopped
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.npy")}
    assert "2 kept" in done(extract(out, images=images[:4]))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    np.testing.assert_allclose(features(out), expected(made)[:4], rtol=0, atol=1e-5)


def test_features_of_other_settings_are_not_mixed(extract, tmp_path):
    done(extract(tmp_path / "out"))
    assert 'geometry was "pil", now "cv2"' in one_error(extract(tmp_path / "out", "--resize", "cv2"))
    assert "normalised was true" in one_error(extract(tmp_path / "out", "--raw"))


def test_boxes_of_a_detections_file(made, extract, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    images = [cv2.imread(str(path)) for path in sorted(made.images.iterdir())[:2]]
    cv2.imwrite(str(photos / "7.png"), np.hstack(images))
    boxes = [{"image_id": 7, "category_id": 1, "bbox": [40 * number, 0, 40, 90], "score": 0.9} for number in (0, 1)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    done(extract(tmp_path / "out", "--detections", tmp_path / "boxes.json", images=photos))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npy")) == ["7_000.npy", "7_001.npy"]
    np.testing.assert_allclose(features(tmp_path / "out"), expected(made)[:2], rtol=0, atol=1e-5)
    assert json.loads((tmp_path / "out" / "features.json").read_text())["images"]["7_001"]["bbox"] == [40, 0, 40, 90]


@pytest.mark.parametrize("fault, says", [("cut", "cannot decode"), ("text", "no JPEG or PNG|JPEG"),
                                         ("twice", "would both be"), ("none", "no such image"), ("empty", "no images"),
                                         ("boxes", "box 0: expected image_id"), ("shape", "its output is N x 256")])
def test_bad_input_is_one_line(made, extract, tmp_path, fault, says):
    images, more, first = tmp_path / "images", [], sorted(made.images.iterdir())[0]
    images.mkdir()
    if fault == "cut":
        (images / "a.png").write_bytes(first.read_bytes()[:300])
    elif fault == "text":
        (images / "a.jpg").write_text("hello")
    elif fault == "twice":
        for name in ("a.png", "a.PNG"):
            (images / name).write_bytes(first.read_bytes())
    elif fault == "none":
        images = images / "none.jpg"
    elif fault == "boxes":
        (tmp_path / "boxes.json").write_text('[{"image": 1}]')
        more = ["--detections", tmp_path / "boxes.json"]
    elif fault == "shape":
        images, more = made.images, ["--opts", "MODEL.BACKBONE.FEAT_DIM", "2048"]
    message = one_error(extract(tmp_path / "out", *more, images=images))
    assert re.search(says, message), message
    assert not list((tmp_path / "out").glob("*.npy"))


@pytest.fixture(scope="module")
def reference(made, tmp_path_factory):
    """Features of the network, by extract."""
    folder = tmp_path_factory.mktemp("reference") / "torch"
    subprocess.run([sys.executable, "-m", "reid.extract", "--model", made.onnx, "--config-file", made.cfg, "--input",
                    made.images, "--output", folder], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return folder


def write(folder, reference, values: np.ndarray):
    folder.mkdir()
    for path, row in zip(sorted(reference.glob("*.npy")), values):
        np.save(folder / path.name, row[None].astype(np.float32))
    return folder


def test_equal_features_agree_and_have_scores(reference, main, tmp_path):
    near = write(tmp_path / "near", reference, features(reference) * (1 + 3e-7))
    output = done(main("compare", f"a={reference}", f"b={near}", "--gate", "fp32"))
    assert "verdict: b agrees with a" in output and "| rank-1 | 1.0000 | 1.0000 | +0.0000" in output
    assert main("reid.check", f"a={reference}", f"b={near}", "--gate", "fp32").returncode == 0


def test_fastreids_gate_is_numpys_allclose_and_nothing_else(reference, main, tmp_path):
    values = features(reference)
    assert main("compare", str(reference), str(write(tmp_path / "a", reference, values * 1.0009)), "--gate",
                "fastreid").returncode == 0
    values[0, np.abs(values[0]).argmin()] += 2e-4  # one element near zero, which no cosine shows
    other = write(tmp_path / "b", reference, values)
    assert main("compare", str(reference), str(other), "--gate", "fp16").returncode == 0
    finished = main("compare", str(reference), str(other), "--gate", "fastreid")
    assert finished.returncode == 1 and "allclose | 0.0003906" in finished.stdout


def test_allclose_is_scaled_by_the_second_as_numpys(reference, main, tmp_path):
    large = 1e4 * features(reference)  # off by less than 1e-3 of the larger, by more of the smaller
    larger, smaller = (write(tmp_path / str(factor), reference, large * factor) for factor in (1, 0.9990005))
    failing = ~np.isclose(features(larger), features(smaller), rtol=1e-3, atol=1e-6)
    assert failing.mean() > 0.5
    finished = main("compare", str(larger), str(smaller), "--gate", "fastreid")
    assert finished.returncode == 1 and f"| allclose | {failing.mean():.7g} |" in finished.stdout
    assert main("compare", str(smaller), str(larger), "--gate", "fastreid").returncode == 0


def test_how_many_elements_of_torchs_own_float32_fail_against_float64(made, extract, main, tmp_path):
    for precision in ("fp64", "fp32"):
        done(extract(tmp_path / precision, "--raw", "--precision", precision, model=made.checkpoint))
    double, single = (features(tmp_path / precision) for precision in ("fp64", "fp32"))
    rows = np.stack([RESIZES["pil"](np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]), (64, 32))
                     for path in sorted(made.images.iterdir())]).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        wanted = copy.deepcopy(made.network).double()(torch.from_numpy(rows.astype(np.float64))).numpy()
    np.testing.assert_allclose(double, wanted, rtol=1e-7)  # stored as float32
    failing = int((~np.isclose(double, single, rtol=1e-3, atol=1e-6)).sum())
    finished = main("reid.check", f"float64={tmp_path / 'fp64'}", f"torch={tmp_path / 'fp32'}", "--gate", "fastreid")
    assert f"| {failing} of 2560 (" in finished.stdout and finished.returncode == bool(failing)


@pytest.mark.parametrize("fault, cause", [
    ("length", "not of length 1"), ("order", "features of other people"), ("bgr", "B, G, R"), ("flip", "mirrored"),
    ("resize", "resized in another way"), ("normalisation", "normalised otherwise"), ("epsilon", "another epsilon")])
def test_a_planted_fault_is_named(made, reference, extract, main, tmp_path, fault, cause):
    values, images, model, more = features(reference), made.images, None, []
    if fault in ("bgr", "flip"):
        images = tmp_path / "changed"
        images.mkdir()
        for path in made.images.iterdir():
            image = cv2.imread(str(path))
            cv2.imwrite(str(images / path.name), image[..., ::-1] if fault == "bgr" else image[:, ::-1])
    if fault == "epsilon":
        changed = onnx.load(str(made.onnx))
        norm = [node for node in changed.graph.node if node.op_type == "BatchNormalization"][-1]
        next(attribute for attribute in norm.attribute if attribute.name == "epsilon").f = 1e-2
        model = tmp_path / "epsilon.onnx"
        onnx.save(changed, str(model))
    if fault == "normalisation":
        more = ["--opts", "INPUT.STD", "[1, 1, 1]"]  # pixels from 0 to 1 into a network that normalises inside
    other = tmp_path / "other"
    if fault in ("length", "order"):
        write(other, reference, 7 * values if fault == "length" else np.roll(values, 1, axis=0))
    else:
        done(extract(other, *(["--resize", "cv2"] if fault == "resize" else more), images=images, model=model))
    finished = main("compare", f"a={reference}", f"b={other}", "--gate", "fp32", "--limit", "distance_error=1e-7",
                    "--explain", "--model", made.onnx, "--input", made.images)
    if fault == "length":  # a cosine does not see it: only allclose does
        finished = main("compare", f"a={reference}", f"b={other}", "--gate", "fastreid", "--explain")
    assert finished.returncode == 1, finished.stderr
    found = [line for line in finished.stdout.splitlines() if line.strip().startswith("found")]
    assert len(found) == 1 and cause in found[0], finished.stdout


@pytest.mark.parametrize("fault, says", [("missing", "features of other images"), ("dimension", "different dimensions"),
                                         ("nan", "NaN"), ("text", "expected an array of numpy"),
                                         ("model", "of two models"), ("pose gate", "--gate fastreid is for ReID")])
def test_features_that_cannot_be_compared_are_one_line(reference, main, tmp_path, fault, says):
    values = features(reference)
    other = write(tmp_path / "other", reference, values[:, :8] if fault == "model" else values)
    first = sorted(other.glob("*.npy"))[0]
    if fault == "missing":
        first.unlink()
    elif fault == "dimension":
        np.save(first, values[:1, :7])
    elif fault == "nan":
        np.save(first, values[:1] * np.nan)
    elif fault == "text":
        first.write_text("no array")
    arguments = [reference, other]
    if fault == "pose gate":
        (tmp_path / "a.json").write_text("[]")
        arguments = [tmp_path / "a.json", tmp_path / "a.json", "--gate", "fastreid"]
    assert says in one_error(main("compare", *arguments))


def test_dumps_of_a_device_as_npy_are_no_features(tmp_path):
    from reid.features import holds_features

    np.save(tmp_path / "000000000000_0.npy", np.zeros((16, 17, 4, 3), np.float32))
    assert not holds_features(tmp_path)
    np.save(tmp_path / "000000000000_0.npy", np.zeros((1, 64), np.float32))
    assert holds_features(tmp_path)
