"""CalibrationTable files: what they say, and which are refused."""
from __future__ import annotations

import struct

import numpy as np
import pytest
from conftest import done, one_error

from backends.tensorrt.calibration_table import check_table, decode_version, read_table, version_of
from contract.errors import UserError

# Rows as the reference gives them: an input in 0..1 has a scale of about 1/127.
TABLE = "TRT-8601-EntropyCalibration2\nimage: 3c008912\n(Unnamed Layer* 0) [Shuffle]_output: 4000890a\n341: 0\n"


@pytest.fixture()
def table(tmp_path):
    path = tmp_path / "CalibrationTable"
    path.write_text(TABLE)
    return path


@pytest.mark.parametrize("number, version", [(7103, (7, 1, 3)), (8502, (8, 5, 2)), (8601, (8, 6, 1)),
                                             (100300, (10, 3, 0)), (101602, (10, 16, 2)), (110400, (11, 4, 0))])
def test_versions_are_one_number(number, version):
    assert decode_version(number) == version


@pytest.mark.parametrize("text, version", [("8.6.1.post1", (8, 6, 1)), ("10.16.1.11", (10, 16, 1)),
                                           ("11.4", (11, 4, 0))])
def test_versions_of_packages(text, version):
    assert version_of(text) == version


def test_ranges_are_127_scales(table):
    read = read_table(table)
    assert read.version == (8, 6, 1) and read.algorithm == "EntropyCalibration2"
    assert list(read.amax) == ["image", "(Unnamed Layer* 0) [Shuffle]_output", "341"]
    assert read.amax["image"] == pytest.approx(0.99634, abs=1e-5) and read.amax["341"] == 0
    assert read.amax["(Unnamed Layer* 0) [Shuffle]_output"] == pytest.approx(2.008 * 127, rel=1e-3)


def test_any_range_survives_the_file(tmp_path):
    scales = np.random.default_rng(0).lognormal(0, 9, 200).astype(np.float32)
    rows = [f"t{number}: {struct.pack('>f', scale).hex()}" for number, scale in enumerate(scales)]
    (tmp_path / "table").write_text("\n".join(["TRT-100300-MinMaxCalibration", *rows]))
    assert list(read_table(tmp_path / "table").amax.values()) == (scales.astype(np.float64) * 127).tolist()


def test_the_tool_prints_a_row_a_tensor(main, table):
    lines = done(main("backends.tensorrt.calibration_table", table)).splitlines()
    assert "TensorRT 8.6.1, EntropyCalibration2, 3 tensors" in lines[0]
    assert lines[1].split("\t")[1] == "image" and float(lines[1].split("\t")[0]) == pytest.approx(0.99634, abs=1e-5)
    assert len(lines) == 4


@pytest.mark.parametrize("content", [b"", b"image: 3c008912\n", b"TRT-8601-EntropyCalibration2\n",
                                     TABLE[:-10].encode() + b"\nimage", b"\xff\xfe", b"TRT-8601-X\nimage: 3c008912f\n"])
def test_what_is_no_table(main, table, content):
    table.write_bytes(content)
    assert "not a CalibrationTable" in one_error(main("backends.tensorrt.calibration_table", table))


def test_a_table_that_is_not_there(main, tmp_path):
    assert "no such" in one_error(main("backends.tensorrt.calibration_table", tmp_path / "table"))


def test_a_table_of_another_version_or_algorithm_is_refused_by_name(table):
    check_table(table, (8, 6, 1), "entropy")
    with pytest.raises(UserError, match="CalibrationTable of TensorRT 8.6.1, and this build is of 10.3.0"):
        check_table(table, (10, 3, 0), "entropy")
    with pytest.raises(UserError, match="of the algorithm EntropyCalibration2, and this build is of MinMaxCalibration"):
        check_table(table, (8, 6, 1), "minmax")
