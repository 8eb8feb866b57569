"""Bins of bytes: a quarter of the size, normalised by the model, and the same keypoints on every backend."""
from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from ascend_cases import run
from conftest import ROOT, bins_in, done, dumps_in, one_error, read_score, write_config

from contract.manifest import load_manifest
from contract.pixels import pixel_constants
from pose.crops import Normalizer
from pose.spec import PoseSpec, load_spec
from tests.emulator import environment

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxsim")

INPUT, HEATMAP = (64, 32), (16, 8)
PIXELS = 0.05  # of the network's input: largest difference of a joint from that of float32 bins


@pytest.fixture(scope="module")
def work(coco, script, tmp_path_factory) -> Path:
    """Bins of both dtypes, a narrow FastPose, and its ONNX files for both; not to be written to."""
    from networks.registry import build_network

    folder = tmp_path_factory.mktemp("uint8")
    cfg = write_config(folder / "narrow.yaml", INPUT, HEATMAP, "TYPE: FastPose, WIDTH: 0.05")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(build_network(load_spec(cfg)).state_dict(), folder / "narrow.pth")
    for dtype in ("float32", "uint8"):
        done(script("preprocess.py", "--dataroot", coco, "--detections", coco / "detections.json", "--cfg", cfg,
                    "--dtype", dtype, "--output", folder / dtype, "--output_flip", folder / f"{dtype}_flip"))
        done(script("pth2onnx.py", cfg, folder / "narrow.pth", folder / "narrow.onnx", "--batch", 4, "--dtype", dtype))
    return folder


@pytest.fixture()
def infer(work, main, tmp_path):
    def call(model: object, bins: str, name: str = "new", **options: object):
        flags = [part for key, value in options.items() for part in (f"--{key}", value)]
        return main("infer", "--model", work / model, "--cfg", work / "narrow.yaml", "--input", work / bins, "--output",
                    tmp_path, "--output_dirname", name, *flags)

    return call


def test_float32_bins_are_the_bytes_normalised(work):
    """By the definition, pixel / 255 - mean, in float64."""
    for flip in ("", "_flip"):
        pixels = np.stack([np.fromfile(path, np.uint8).reshape(*INPUT, 3)
                           for path in sorted((work / f"uint8{flip}").glob("*.bin"))])
        floats = bins_in(work / f"float32{flip}", (3, *INPUT))
        assert pixels.max() > 100 and (work / "uint8" / "000000000000.bin").stat().st_size * 4 == floats[0].nbytes
        expected = pixels.transpose(0, 3, 1, 2) / 255 - np.array([0.406, 0.457, 0.480])[:, None, None]
        np.testing.assert_allclose(floats, expected, rtol=0, atol=1e-7)


def test_the_constants_are_those_of_the_reference():
    """Option B of section 2.2, and what they compute for every byte; a mean outside 0..1 has no whole part."""
    assert pixel_constants(PoseSpec().mean, PoseSpec().std) == {
        "mean_chn": (103, 116, 122), "min_chn": (0.53, 0.535, 0.4), "var_reci_chn": (0.00392156862745098,) * 3}
    pixels = np.arange(256, dtype=np.float64)[:, None]
    for config in (PoseSpec(), PoseSpec(mean=(0.485, -0.1, 1.5), std=(0.229, 2, 1))):
        constants = pixel_constants(config.mean, config.std)
        whole, rest, scale = (np.array(constants[key]) for key in ("mean_chn", "min_chn", "var_reci_chn"))
        assert ((whole >= 0) & (whole <= 255) & (whole == whole.round())).all()
        expected = (pixels / 255 - config.mean) / config.std
        np.testing.assert_allclose((pixels - whole - rest) * scale, expected, rtol=0, atol=1e-9)


def test_torch_normalises_as_preprocess_does(work):
    from networks.fastpose import PixelInput

    config = load_spec(work / "narrow.yaml")
    pixels = np.random.default_rng(0).integers(0, 256, (3, *INPUT, 3), np.uint8)
    crops = np.stack([Normalizer(config.mean, config.std)(crop) for crop in pixels])
    took = PixelInput(config.mean, config.std)(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(took, crops, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend, model", [
    ("onnxruntime", "narrow_uint8.onnx"), ("onnxruntime", "narrow_bs4_uint8.onnx"), ("pytorch", "narrow.pth")])
def test_backends_take_them(work, infer, tmp_path, backend, model):
    done(infer("narrow_bs4.onnx", "float32", "floats"))
    done(infer(model, "uint8", backend=backend))
    floats, bytes_ = (dumps_in(tmp_path / name, (17, *HEATMAP)) for name in ("floats", "new"))
    np.testing.assert_allclose(bytes_, floats, rtol=0, atol=1e-5 * np.abs(floats).max())
    settings = json.loads((tmp_path / "new" / "settings.json").read_text())
    assert settings["bins"]["dtype"] == "uint8" == load_manifest(work / "uint8" / "manifest.json").settings["dtype"]


@pytest.mark.parametrize("runner", ["ais_bench", "acl"])
@pytest.mark.parametrize("sizes", [("--batch", "4"), ("--gears", "1,2,4")], ids=" ".join)
def test_an_om_with_aipp_gives_what_the_cpu_gives(work, infer, tmp_path, runner, sizes):
    """On an emulated card, whose AIPP computes in float32, as the ONNX file of bytes does: equal to the last bit."""
    done(infer("narrow_bs4_uint8.onnx", "uint8", "cpu"))
    model = shutil.copy(work / ("narrow_bs4.onnx" if "--batch" in sizes else "narrow.onnx"), tmp_path / "m.onnx")
    done(run(environment(), "-m", "ascend.atc", model, "--soc_version", "Ascend310P3", *sizes, "--uint8", "--output",
             tmp_path / "m.om"))
    stage = ["-m", "ascend.ais_bench"] if runner == "ais_bench" else ["infer.py", "--backend", "acl"]
    done(run(environment(devices=2), *stage, "--model", tmp_path / "m.om", "--cfg", work / "narrow.yaml", "--input",
             work / "uint8", "--output", tmp_path, "--output_dirname", "card", "--batchsize", 4, "--device", "0,1"))
    cpu, card = (dumps_in(tmp_path / name, (17, *HEATMAP)) for name in ("cpu", "card"))
    np.testing.assert_array_equal(card, cpu)


def test_aipp_takes_the_constants_of_the_config(work, script, tmp_path):
    """pth2onnx.py leaves them in the ONNX file; those of a file without are AlphaPose's."""
    cfg = write_config(tmp_path / "c.yaml", INPUT, HEATMAP, "TYPE: FastPose, WIDTH: 0.05", MEAN=[0.5, 0.25, 0.125],
                       STD=[0.2, 0.5, 1])
    done(script("pth2onnx.py", cfg, work / "narrow.pth", tmp_path / "m.onnx", "--batch", 4))
    done(run(environment(), "-m", "ascend.atc", tmp_path / "m_bs4.onnx", "--soc_version", "Ascend310P3", "--uint8"))
    text = (tmp_path / "m_bs4_uint8.atc" / "aipp.cfg").read_text()
    for line in ("mean_chn_0: 127", "min_chn_0: 0.5", "mean_chn_2: 31", "min_chn_2: 0.875",
                 f"var_reci_chn_1: {1 / 127.5}"):
        assert f" {line}\n" in text


@pytest.mark.parametrize("model, bins, hint", [
    ("narrow_uint8.onnx", "float32", "takes uint8 bins, but these are float32"),
    ("narrow.onnx", "uint8", "preprocess.py --dtype float32")])
def test_a_model_for_other_bins_is_refused(infer, tmp_path, model, bins, hint):
    assert hint in one_error(infer(model, bins))
    assert not (tmp_path / "new").exists()


def test_an_onnx_file_of_bytes_gets_no_aipp(work):
    finished = run(environment(), "-m", "ascend.atc", work / "narrow_bs4_uint8.onnx", "--soc_version", "Ascend310P3")
    assert "--uint8" in one_error(finished)


def test_bins_of_both_kinds_are_not_mixed(work, coco, main, tmp_path):
    shutil.copytree(work / "uint8", tmp_path / "p")
    error = one_error(main("preprocess", "--dataroot", coco, "--detections", coco / "detections.json", "--cfg",
                           work / "narrow.yaml", "--output", tmp_path / "p", "--output_flip", tmp_path / "f"))
    assert 'dtype was "uint8", now "float32"' in error


def test_results_of_both_kinds_can_be_compared_and_explained(work, infer, main, tmp_path):
    """One manifest serves both; --explain runs the float32 model on bins of bytes."""
    done(infer("narrow_uint8.onnx", "uint8", "a"))
    done(infer("narrow.onnx", "float32", "b"))
    command = ("compare", tmp_path / "a", tmp_path / "b", "--manifest", work / "uint8" / "manifest.json")
    same = main(*command, "--gate", "fp32")
    assert same.returncode == 0, same.stdout
    for path in (tmp_path / "b").glob("*.bin"):
        heatmaps = np.fromfile(path, np.float32)
        heatmaps[:] = heatmaps[::-1]
        heatmaps.tofile(path)
    other = main(*command, "--explain", "--model", work / "narrow.onnx", "--input", work / "uint8")
    assert other.returncode == 1 and "gives neither" not in other.stdout


def test_bench_times_models_of_bytes(work, main, tmp_path):
    done(main("bench", "--run", f"onnxruntime:{work}/narrow_uint8.onnx", "--batch", 4, "--people", 5, "--repeat", 1,
              "--input", work / "uint8", "--cfg", work / "narrow.yaml", "--output", tmp_path / "bench"))
    assert json.loads((tmp_path / "bench" / "bench.json").read_text())["people"] == 4  # a whole batch


def test_keypoints_of_real_photographs_are_those_of_float32(shared, tmp_path):
    """The job of run_bs16.sh on coco_mini with the demo network, all people, both ways."""
    env = {**environment(set_env=False), "VIRTUAL_ENV": sys.prefix}
    mini = shared / "data" / "coco_mini"
    for path in ("demo/fastpose_small.pth", "configs/demo_fastpose.yaml"):
        shutil.copy(ROOT / path, tmp_path)
    results = {}
    for flags in ((), ("--uint8",)):
        done(run(env, "scripts/run_bs16.sh", "cpu", "--dataroot", mini, "--detections", mini / "detections.json",
                 "--checkpoint", tmp_path / "fastpose_small.pth", "--config", tmp_path / "demo_fastpose.yaml", "--work",
                 tmp_path / "work", *flags))
        folder = tmp_path / "work" / "results" / f"cpu_bs16{'_uint8' if flags else ''}_score"
        results[flags] = {(person["image_id"], *person["bbox"]): np.reshape(person["keypoints"], (-1, 3))[:, :2] *
                          192 / np.sqrt(person["area"] * 192 / 256) for person in read_score(folder).results}
    floats, bytes_ = results.values()
    assert floats.keys() == bytes_.keys() and len(floats) > 100
    distances = np.linalg.norm(np.stack(list(floats.values())) - np.stack([bytes_[key] for key in floats]), axis=-1)
    flipped = distances > PIXELS  # the quarter of a heatmap pixel went the other way, or to another peak
    assert flipped.mean() < 1e-3
