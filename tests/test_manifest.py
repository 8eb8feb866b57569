"""Manifests: who is in which row, to the last bit, and what was not written by preprocess.py."""
from __future__ import annotations

import json

import numpy as np
import pytest
from bin_cases import CONFIG, manifest_of

from contract.errors import UserError
from contract.files import sha256_of_file
from contract.manifest import load_manifest, save_manifest, settings_difference
from pose.coco import load_detections
from pose.people import build_manifest, spec_of
from pose.spec import load_spec


def test_a_manifest_comes_back_from_disk_to_the_last_bit(tmp_path):
    manifest = manifest_of(7, batch=3)
    save_manifest(tmp_path, manifest)
    again = load_manifest(tmp_path / "manifest.json")
    assert again.settings == manifest.settings and spec_of(again) == CONFIG
    assert list(again.columns) == ["image_id", "bbox_xywh", "crop_xyxy", "score"]
    for name in manifest.columns:
        ours, theirs = manifest[name], again[name]
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_manifest_is_json_with_a_person_a_line(tmp_path):
    save_manifest(tmp_path, manifest_of(5))
    text = (tmp_path / "manifest.json").read_text()
    people = json.loads(text)["rows"]
    assert len(people) == 5 and people[2]["image_id"] == 10 ** 11 + 1
    assert sum(line.startswith("{") and "crop_xyxy" in line for line in text.splitlines()) >= 4


@pytest.mark.parametrize("people, batch, files, last", [(7, 1, 7, 1), (7, 3, 3, 1), (6, 3, 2, 3), (2, 16, 1, 2)])
def test_names_and_sizes_of_bins(people, batch, files, last):
    manifest = manifest_of(people, batch)
    assert manifest.bin_names == [f"{number:012d}.bin" for number in range(files)]
    assert sum(manifest.rows(number) for number in range(files)) == people
    assert manifest.rows(files - 1) == last and manifest.bin_bytes(files - 1) == last * 3 * 8 * 4 * 4


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"people": []}', '{"people": [{"image_id": 1}]}',
                                  '{"people": 5, "config": {}}', '{"format": 2}', '{"format": 2, "rows": 5}',
                                  '{"format": 3, "rows": []}'])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="manifest.json: [^\n]*$"):
        load_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize("key", ["config", "input_shape", "dtype", "outputs", "batch", "mirrored", "rows", "columns"])
def test_a_manifest_without_a_setting_is_refused(tmp_path, key):
    save_manifest(tmp_path, manifest_of(3))
    content = json.loads((tmp_path / "manifest.json").read_text())
    del content[key]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=key):
        load_manifest(tmp_path / "manifest.json")


def test_settings_that_differ_are_named_with_both_values():
    assert settings_difference({"a": 1, "b": [2]}, {"a": 1, "b": [2]}) is None
    assert settings_difference({"a": 1, "b": 3}, {"a": 1, "b": 2}) == "b was 2, now 3"
    assert "c" in settings_difference({"c": 1}, {}) and "c" in settings_difference({}, {"c": 1})
    assert settings_difference({"a": 1}, {"a": 2}, but=("a",)) is None


def test_a_manifest_is_rebuilt_from_the_detections_alone(tmp_path, coco, prepared, small_cfg):
    path = coco / "detections.json"
    rebuilt = build_manifest(load_detections(path), sha256_of_file(path), load_spec(small_cfg))
    written = load_manifest(prepared / "prep_data" / "manifest.json")
    assert settings_difference(rebuilt.settings, written.settings, but=("photographs", "opencv")) is None
    for name in rebuilt.columns:
        np.testing.assert_array_equal(rebuilt[name], written[name])
