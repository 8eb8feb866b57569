"""Dumps on disk: all there, of the right size, finite, and of the bins that the manifest says."""
from __future__ import annotations

from typing import Optional

import numpy as np
import pytest
from bin_cases import CONFIG, heatmaps_in, manifest_of

from contract.dumps import DumpReader, _end_to_end, describe_speed, dump_name
from contract.errors import UserError
from contract.files import write_json


@pytest.mark.parametrize("people, batch", [(7, 1), (7, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_dumps_are_read_as_float32(tmp_path, people, batch, dtype):
    heatmaps = heatmaps_in(tmp_path, people, batch, dtype)
    manifest = manifest_of(people, batch)
    reader = DumpReader(tmp_path, manifest)
    for number in range(len(reader.names)):
        out = np.empty((manifest.rows(number), *CONFIG.outputs["output"]), np.float32)
        reader.read(number, out)
        np.testing.assert_array_equal(out, heatmaps[number * batch:(number + 1) * batch].astype(np.float32))


def test_a_missing_or_extra_dump_is_named(tmp_path):
    heatmaps_in(tmp_path, 5)
    with pytest.raises(UserError, match="1 of 6 dumps .*000000000005_0.bin"):
        DumpReader(tmp_path, manifest_of(6))
    with pytest.raises(UserError, match="000000000004_0.bin"):
        DumpReader(tmp_path, manifest_of(4))
    with pytest.raises(UserError, match="missing"):
        DumpReader(tmp_path / "nowhere", manifest_of(4))


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize("size", [0, 67, 17 * 2 * 4 - 1, 17 * 2 * 4 + 4, 17 * 2 * 2])
def test_a_dump_of_the_wrong_size_is_named_with_both_sizes(tmp_path, number, size):
    heatmaps_in(tmp_path, 5)
    (tmp_path / f"{number:012d}_0.bin").write_bytes(bytes(size))
    with pytest.raises(UserError, match=r"_0.bin: \d+ bytes, expected \d+ \(1 x 17 x 2 x 1 float"):
        DumpReader(tmp_path, manifest_of(5))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [np.nan] * 3])
def test_values_that_are_not_finite_are_counted(tmp_path, dtype, values):
    heatmaps = heatmaps_in(tmp_path, 3, dtype=dtype)
    heatmaps[1].flat[5:5 + len(values)] = values
    heatmaps[1].tofile(tmp_path / "000000000001_0.bin")
    reader = DumpReader(tmp_path, manifest_of(3))
    out = np.empty((1, *CONFIG.outputs["output"]), np.float32)
    reader.read(0, out)
    with pytest.raises(UserError, match=f"000000000001_0.bin: {len(values)} of 34 values"):
        reader.read(1, out)


def test_large_finite_values_are_taken(tmp_path):
    """Though their sum is not finite in float32."""
    heatmaps = heatmaps_in(tmp_path, 1)
    heatmaps[:] = np.finfo(np.float32).max
    heatmaps.tofile(tmp_path / "000000000000_0.bin")
    out = np.empty((1, *CONFIG.outputs["output"]), np.float32)
    DumpReader(tmp_path, manifest_of(1)).read(0, out)
    np.testing.assert_array_equal(out, heatmaps)


def record_of(bins: Optional[dict]) -> dict:
    """The least that settings.json says of dumps of bins with these settings."""
    return {"format": 2, "bins": bins, "outputs": {"output": list(CONFIG.outputs["output"])}}


def test_the_shape_of_a_dump_is_what_its_model_gave(tmp_path):
    """17 x 2 x 1 says the manifest; another model may read the same bins."""
    np.arange(6, dtype=np.float32).tofile(tmp_path / "000000000000_0.bin")
    write_json(tmp_path / "settings.json", {**record_of(None), "outputs": {"keypoints": [2, 3]}})
    assert DumpReader(tmp_path, manifest_of(1)).read_all(range(1)).tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize("record", [{"bins": None}, {**record_of(None), "format": 3}])
def test_settings_of_another_format_are_refused_with_the_way_on(tmp_path, record):
    heatmaps_in(tmp_path, 1)
    write_json(tmp_path / "settings.json", record)
    with pytest.raises(UserError, match="settings.json: of format [13], [^\n]*--replace$"):
        DumpReader(tmp_path, manifest_of(1))


def test_dumps_of_other_bins_than_the_manifests_are_refused(tmp_path):
    heatmaps_in(tmp_path, 3)
    for settings, key in ((manifest_of(3).mirrored().settings, "mirrored"),
                          ({**manifest_of(3).settings, "boxes_sha256": "1"}, "boxes_sha256")):
        write_json(tmp_path / "settings.json", record_of(settings))
        with pytest.raises(UserError, match=key):
            DumpReader(tmp_path, manifest_of(3))
    for settings in (manifest_of(3).settings, None):  # None: bins that came without a manifest
        write_json(tmp_path / "settings.json", record_of(settings))
        assert DumpReader(tmp_path, manifest_of(3)).settings == record_of(settings)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null"])
def test_settings_that_nothing_wrote_are_refused(tmp_path, text):
    heatmaps_in(tmp_path, 3)
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(UserError, match="settings.json"):
        DumpReader(tmp_path, manifest_of(3))


def test_dump_names_are_those_of_ais_bench():
    assert dump_name("000000000007.bin") == "000000000007_0.bin"


def test_a_start_and_an_end_that_were_heard_at_once_give_no_speed():
    """As of an ais_bench on a busy machine, all of whose lines come together."""
    assert _end_to_end([(12, 5.0, 5.0)]) is None and _end_to_end([(0, 5.0, 7.0)]) is None
    assert _end_to_end([(12, 5.0, 7.0), (4, 6.0, 9.0)])["people_per_second"] == 4
    line = describe_speed({"end_to_end": None, "throughput": 80.0}, 4, {"output": (17, 64, 48)})
    assert line == "model alone 80.0 crops/s at batch 4; reading and writing were not timed"
