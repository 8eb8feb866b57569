"""The small ReID network that comes with the project: people whom it has not seen are told apart, files to figures."""
from __future__ import annotations

import json

import pytest
from conftest import ROOT, done

pytest.importorskip("torch")
pytest.importorskip("onnxsim")

CONFIG, CHECKPOINT = ROOT / "configs" / "demo_reid.yaml", ROOT / "demo" / "reid_small.pth"
PEOPLE = 12
LEAST = 0.85  # 1 here, and 0.94 of 50 people


def test_its_size():
    assert CHECKPOINT.stat().st_size < 2e6


@pytest.fixture()
def made(main, tmp_path):
    """A folder with the network as small.onnx, and people/ who are measured."""
    folder = tmp_path / "made"
    done(main("demo.identities", "--output", folder / "people", "--people", PEOPLE))
    done(main("reid.export", "--config-file", CONFIG, "--checkpoint", CHECKPOINT, "--output", folder / "small"))
    return folder


def test_people_are_told_apart(made, main, tmp_path):
    for side, folder in (("query", "query"), ("gallery", "bounding_box_test")):
        done(main("reid.extract", "--config-file", CONFIG, "--model", made / "small.onnx", "--input",
                  made / "people" / folder, "--output", tmp_path / side))
    done(main("reid.evaluate", "--query", tmp_path / "query", "--gallery", tmp_path / "gallery", "--config-file",
              CONFIG, "--json", tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["valid"] == 3 * PEOPLE and figures["figures"]["Rank-1"][0] >= LEAST


def test_int8_calibrated_on_images_of_others_tells_people_apart(made, main, tmp_path):
    others, int8 = tmp_path / "others", tmp_path / "int8.onnx"
    done(main("demo.identities", "--output", others, "--people", 12, "--seed", 31))
    name = "query/0001_c1s1_000000_00.png"
    assert (others / name).read_bytes() != (made / "people" / name).read_bytes()
    quantize = ("quantize", made / "small.onnx", "--input", others / "bounding_box_test", "--cfg", CONFIG, "--output",
                int8, "--method", "mse", "--keep")
    assert "53 of 53 layers in int8" in done(main(*quantize))
    assert "kept, of the same model" in done(main(*quantize))
    images = [made / "people" / side for side in ("query", "bounding_box_test")]
    for model, folder in ((made / "small.onnx", "float"), (int8, "int8")):
        done(main("reid.extract", "--config-file", CONFIG, "--model", model, "--input", *images, "--output",
                  tmp_path / folder))
    finished = main("reid.check", f"float={tmp_path / 'float'}", f"int8={tmp_path / 'int8'}", "--gate", "int8",
                    "--limit", "neighbours=0.5", "--limit", "distance_error=0.3")  # a CPU may round otherwise
    assert finished.returncode == 0, finished.stdout
    ranks = next(line.split("|") for line in finished.stdout.splitlines() if line.startswith("| rank-1 "))
    assert float(ranks[3]) >= LEAST and "| mAP | " in finished.stdout


def test_rows_to_calibrate_on_are_those_that_features_are_made_of(made):
    from quantization.crops import open_source
    from reid.images import Crop, read_row
    from reid.spec import load_spec

    source = open_source(made / "people" / "query", CONFIG, None)
    files = sorted((made / "people" / "query").iterdir())
    assert len(source) == len(files)
    expected = {read_row(Crop(file.stem, file), load_spec(CONFIG)).tobytes() for file in files}
    assert {source.read(range(number, number + 1))[0].tobytes() for number in range(len(source))} == expected
