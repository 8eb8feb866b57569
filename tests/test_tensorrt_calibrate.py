"""int8 by a calibrator, on the emulated TensorRT: which bins it gets, which tables are written, used and refused."""
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import done, one_error, patch_model
from tensorrt_build_cases import builder, plan_of, record_of
from tensorrt_cases import typed_model

from backends.tensorrt.calibration_table import read_table

PEOPLE = 10


def write_bins(folder: Path, rows: np.ndarray, batch: int = 1) -> Path:
    folder.mkdir()
    for number in range(0, len(rows), batch):
        (folder / f"{number // batch:012d}.bin").write_bytes(rows[number:number + batch].tobytes())
    return folder


@pytest.fixture()
def rows() -> np.ndarray:
    """Ten people, each with a largest magnitude of its own: 1 to 10."""
    rows = np.random.default_rng(0).uniform(-1, 1, (PEOPLE, 3, 64, 48)).astype(np.float32)
    rows[:, 0, 0, 0] = 1
    return rows * np.arange(1, PEOPLE + 1, dtype=np.float32)[:, None, None, None]


@pytest.fixture()
def model(tmp_path) -> Path:
    return patch_model(tmp_path / "m.onnx")


@pytest.fixture()
def table(tmp_path) -> Path:
    return tmp_path / "CalibrationTable"


@pytest.fixture()
def build(main, model, small_cfg, table):
    """Build the int8 engine of `model`, with TensorRT 10.3.0 unless another is asked for."""

    def run(*options: object, onnx: Path = model, **config: object) -> SimpleNamespace:
        return builder(main)(onnx, "--precision", "int8", "--cfg", small_cfg, "--calibration_table", table, *options,
                             **{"tensorrt": "10.3.0", **config})

    return run


@pytest.mark.parametrize("version, first_line", [("8.6.1", "TRT-8601-"), ("10.3.0", "TRT-100300-"),
                                                 ("10.16.1.11", "TRT-101601-")])
@pytest.mark.parametrize("method, title", [("entropy", "EntropyCalibration2"), ("minmax", "MinMaxCalibration")])
def test_a_table_is_made_of_our_bins(build, rows, table, tmp_path, version, first_line, method, title):
    bins = write_bins(tmp_path / "bins", rows)
    done(build("--batch", 2, "--calibration", bins, "--calibration_method", method, tensorrt=version))
    assert table.read_text().splitlines()[0] == first_line + title
    assert read_table(table).amax["image"] == pytest.approx(PEOPLE, rel=1e-6)
    record = record_of(tmp_path / "m_bs2_int8.engine")
    assert record["builder_flags"] == ["INT8", "FP16"] and record["calibration"]["method"] == method
    assert plan_of(tmp_path / "m_bs2_int8.engine")["int8_scales"]["image"] == pytest.approx(PEOPLE / 127, rel=1e-6)
    assert table.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("people_a_bin, batch, people, last", [
    (1, 2, 512, 10), (1, 4, 512, 8), (5, 2, 512, 10), (5, 4, 512, 8), (2, 3, 512, 9), (2, 1, 10, 10),
    (1, 1, 5, 9), (1, 1, 1, 1), (5, 5, 5, 5)])  # the last three: every second, the first alone, the first bin alone
def test_every_batch_is_full_and_people_are_spread(build, rows, table, tmp_path, people_a_bin, batch, people, last):
    """A rest that does not fill a batch is left out; the largest magnitude says who was the last one."""
    bins = write_bins(tmp_path / "bins", rows, people_a_bin)
    done(build("--batch", batch, "--calibration", bins, "--calibration_people", people))
    assert read_table(table).amax["image"] == pytest.approx(last, rel=1e-6)


def test_the_usual_batch_of_a_profile_calibrates(build, rows, table, tmp_path):
    done(build("--profile", "1,3,8", "--calibration", write_bins(tmp_path / "bins", rows)))
    assert read_table(table).amax["image"] == pytest.approx(9, rel=1e-6)  # three batches of three


def test_a_table_is_used_again(build, rows, table, tmp_path):
    bins = write_bins(tmp_path / "bins", rows)
    done(build("--batch", 2, "--calibration", bins))
    before = table.stat().st_mtime_ns
    (tmp_path / "m_bs2_int8.engine").unlink()
    done(build("--batch", 2, "--calibration", bins))
    assert ": kept" in done(build("--batch", 2, "--calibration", bins))
    done(build("--batch", 4))  # of no bins at all
    assert table.stat().st_mtime_ns == before
    assert plan_of(tmp_path / "m_bs4_int8.engine")["int8_scales"]["image"] == pytest.approx(PEOPLE / 127, rel=1e-6)


def test_another_table_is_another_engine(build, rows, table, tmp_path):
    done(build("--batch", 2, "--calibration", write_bins(tmp_path / "bins", rows)))
    Path(f"{table}.json").unlink()
    table.write_text(f"{table.read_text()}(Unnamed Layer* 0) [Constant]_output: 3c010a14\n")
    assert ": kept" not in done(build("--batch", 2))
    assert "(Unnamed Layer* 0) [Constant]_output" in plan_of(tmp_path / "m_bs2_int8.engine")["int8_scales"]


def test_a_table_made_of_something_else_is_made_anew(build, rows, table, model, tmp_path):
    bins, others = write_bins(tmp_path / "bins", rows), write_bins(tmp_path / "others", rows[:8])
    done(build("--batch", 2, "--calibration", bins))
    seen = {(table.read_bytes(), Path(f"{table}.json").read_text())}
    for options in (["--calibration", others], ["--calibration", bins, "--calibration_people", 4]):
        done(build("--batch", 2, *options))
        seen.add((table.read_bytes(), Path(f"{table}.json").read_text()))
    patch_model(model, seed=1)
    done(build("--batch", 2, "--calibration", bins))
    seen.add((table.read_bytes(), Path(f"{table}.json").read_text()))
    assert len(seen) == 4


def test_a_table_of_unknown_origin_is_not_used_silently(build, rows, table, tmp_path):
    bins = write_bins(tmp_path / "bins", rows)
    done(build("--batch", 2, "--calibration", bins))
    Path(f"{table}.json").unlink()
    assert "not known to be made from these bins and this" in one_error(build("--batch", 2, "--calibration", bins))


@pytest.mark.parametrize("options, config, words", [
    ([], {"tensorrt": "8.6.1"}, "TensorRT 10.3.0, and this build is of 8.6.1"),
    ([], {"tensorrt": "10.16.1.11"}, "TensorRT 10.3.0, and this build is of 10.16.1"),
    (["--calibration_method", "minmax"], {}, "EntropyCalibration2, and this build is of MinMaxCalibration")])
def test_a_table_that_tensorrt_would_not_take_is_refused_by_name(build, rows, table, tmp_path, options, config, words):
    """The library itself says so in its log only, and calibrates anew, or not at all."""
    done(build("--batch", 2, "--calibration", write_bins(tmp_path / "bins", rows)))
    before = table.read_bytes()
    message = one_error(build("--batch", 4, *options, **config))
    assert words in message and str(table) in message
    assert table.read_bytes() == before and not (tmp_path / "m_bs4_int8.engine").exists()


def test_a_table_of_tensorrt_7_is_refused_with_the_command_that_makes_ours(build, table):
    table.write_text("TRT-7202-EntropyCalibration2\nimage: 3c010a14\n")
    message = one_error(build("--batch", 2))
    assert "TensorRT 7.2.2" in message and "--precision int8 --calibration BINS" in message


@pytest.mark.parametrize("rows_of_table, words", [
    ("image: 3c010a14\nelsewhere: 3c010a14\nconv1:0: 3c010a14\n", "of other tensors (elsewhere, conv1:0, image, ...)"),
    ("input.1: 3c010a14\n", "whose input is image"), ("image: 3c810204\n", "its image goes up to 2, and")])
def test_a_table_of_other_tensors_or_another_range_is_refused_by_name(build, table, model, rows_of_table, words):
    """As the two that tutorials hand out: of their own network, and of pixels that were not normalised as ours are."""
    onnx = pytest.importorskip("onnx")
    content = onnx.load(str(model))
    constants = {"mean_chn": [103, 116, 122], "min_chn": [0.53, 0.535, 0.4], "var_reci_chn": [1 / 255] * 3}
    onnx.helper.set_model_props(content, {"pixel_constants": json.dumps(constants)})
    onnx.save(content, str(model))
    table.write_text(f"TRT-100300-EntropyCalibration2\n{rows_of_table}")
    assert words in one_error(build("--batch", 2))
    table.write_text("TRT-100300-EntropyCalibration2\nimage: 3b991988\n(Unnamed Layer* 3) [Shuffle]_output: 3c010a14\n")
    done(build("--batch", 2))


@pytest.mark.parametrize("method", ["entropy", "minmax"])
def test_the_table_does_not_depend_on_the_batch(build, rows, table, tmp_path, method):
    bins, tables = write_bins(tmp_path / "bins", rows), set()
    for batch in (1, 2, 5):
        table.unlink(missing_ok=True)
        done(build("--batch", batch, "--calibration", bins, "--calibration_method", method))
        tables.add(table.read_bytes())
    assert len(tables) == 1


def test_without_bins_and_table(build, table):
    assert f"{table}: no such CalibrationTable" in one_error(build("--batch", 2))


def test_bins_that_the_network_does_not_take(build, rows, main, tmp_path):
    bins = write_bins(tmp_path / "bins", rows)
    assert "one batch is 11" in one_error(build("--batch", 11, "--calibration", bins))
    assert "one batch is 4" in one_error(build("--batch", 4, "--calibration", bins, "--calibration_people", 3))
    large = patch_model(tmp_path / "large.onnx", input_size=(128, 96))
    assert "(3, 128, 96) float32" in one_error(build("--batch", 2, "--calibration", bins, onnx=large))
    of_bytes = typed_model(tmp_path / "bytes.onnx", "UINT8")
    assert "uint8 bins, and calibration on them has not been verified" in \
        one_error(build("--batch", 2, "--calibration", bins, onnx=of_bytes))
    assert "no .bin files" in one_error(build("--batch", 2, "--calibration", tmp_path / "nowhere"))


@pytest.mark.parametrize("fault", [{"call": "cudaMalloc", "code": 2}, {"call": "cudaMemcpy", "code": 2},
                                   {"call": "cudaMemcpy", "code": 2, "nth": 3},
                                   {"call": "Builder.build_serialized_network", "message": "of this test"}])
def test_a_failed_calibration_leaves_no_table(build, rows, table, tmp_path, fault):
    message = one_error(build("--batch", 2, "--calibration", write_bins(tmp_path / "bins", rows), errors=[fault]))
    assert "cudaErrorMemoryAllocation" in message or "of this test" in message
    assert not list(tmp_path.glob("*.engine*")) and not list(tmp_path.glob(f"{table.name}*"))


def test_a_bin_that_is_gone_meanwhile(build, rows, table, tmp_path, monkeypatch):
    """What is raised while TensorRT calls the calibrator gets through it."""
    import backends.tensorrt.calibrator

    def fail(*arguments: object) -> None:
        raise OSError(2, "No such file or directory", "000000000003.bin")

    bins = write_bins(tmp_path / "bins", rows)
    monkeypatch.setattr(backends.tensorrt.calibrator, "batches", lambda *arguments: iter(fail, None))
    message = one_error(build("--batch", 2, "--calibration", bins))
    assert "000000000003.bin" in message and not table.exists()


def test_the_record_of_a_table_says_what_it_was_made_of(build, rows, table, model, tmp_path):
    done(build("--batch", 2, "--calibration", write_bins(tmp_path / "bins", rows), "--calibration_people", 6))
    origin = json.loads(Path(f"{table}.json").read_text())
    assert origin["people"] == 6 and origin["batch"] == 2 and origin["method"] == "entropy"


def test_a_table_of_another_onnx_is_refused_without_bins_too(build, rows, table, model, tmp_path):
    done(build("--batch", 2, "--calibration", write_bins(tmp_path / "bins", rows)))
    patch_model(model, seed=1)
    assert "made from another ONNX" in one_error(build("--batch", 2))
    patch_model(model)
    done(build("--batch", 2))
