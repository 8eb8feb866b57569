"""Bins on disk: written when they are whole, read in their order, never mixed."""
from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from bin_cases import CONFIG, crops_of, detections_of, filled, manifest_of

from contract.bins import BinFolder, BinReader, RowWriter, natural_order
from contract.errors import UserError
from contract.files import make_folder
from pose.people import build_manifest
from pose.spec import PoseSpec


@pytest.mark.parametrize("people, batch", [(7, 1), (7, 3), (1, 4)])
def test_rows_that_come_in_any_order_are_the_bins(tmp_path, people, batch):
    crops, manifest = crops_of(people), manifest_of(people, batch)
    writer = RowWriter(make_folder(tmp_path / "bins"), manifest)
    rows = np.random.default_rng(3).permutation(people)
    threads = [threading.Thread(target=lambda part: [writer.put(row, crops[row]) for row in part], args=(part,))
               for part in np.array_split(rows, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = filled(tmp_path / "expected", people, batch, manifest=False)
    np.testing.assert_array_equal(crops, expected)
    for name in manifest.bin_names:
        assert (tmp_path / "bins" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "bins")) == manifest.bin_names and not writer.incomplete


def test_a_bin_is_not_there_before_its_last_row(tmp_path):
    writer = RowWriter(tmp_path, manifest_of(3, batch=3))
    for row in (2, 0):
        writer.put(row, crops_of(3)[row])
        assert not list(tmp_path.iterdir())
    writer.put(1, crops_of(3)[1])
    assert [path.name for path in tmp_path.iterdir()] == ["000000000000.bin"]


def test_what_is_missing_or_short_is_to_be_written(tmp_path):
    filled(tmp_path, 5)
    (tmp_path / "000000000001.bin").unlink()
    (tmp_path / "000000000003.bin").write_bytes(b"short")
    assert BinFolder(tmp_path, manifest_of(5)).missing == [1, 3]


def test_a_folder_has_no_manifest_while_it_is_being_filled(tmp_path):
    folder = BinFolder(tmp_path / "bins", manifest_of(5))
    assert folder.missing == [0, 1, 2, 3, 4]
    folder.open()
    filled(tmp_path / "bins", 4, manifest=False)
    assert BinFolder(tmp_path / "bins", manifest_of(5)).missing == [4]
    with pytest.raises(UserError, match="not finished"):
        BinReader(tmp_path / "bins", CONFIG)
    filled(tmp_path / "bins", 5, manifest=False)
    folder.close()
    assert len(BinReader(tmp_path / "bins", CONFIG)) == 5
    assert len(list((tmp_path / "bins").glob("*.json"))) == 1


def test_a_folder_that_is_filled_again_is_unfinished_again(tmp_path):
    filled(tmp_path, 5)
    (tmp_path / "000000000002.bin").unlink()
    folder = BinFolder(tmp_path, manifest_of(5))
    folder.open()
    with pytest.raises(UserError, match="not finished"):
        BinReader(tmp_path, CONFIG)


def test_bins_of_other_settings_are_not_mixed_in(tmp_path):
    filled(tmp_path / "bins", 5)
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "bins").iterdir())
    others = {"batch": manifest_of(5, batch=2), "mirrored": manifest_of(5).mirrored(),
              "config": build_manifest(detections_of(5), "0" * 64, PoseSpec((8, 4), (2, 1), mean=(0, 0, 0))),
              "boxes_sha256": build_manifest(detections_of(5), "1" * 64, CONFIG)}
    for key, manifest in others.items():
        with pytest.raises(UserError, match=key):
            BinFolder(tmp_path / "bins", manifest)
    assert before == sorted((path.name, path.read_bytes()) for path in (tmp_path / "bins").iterdir())


def test_bins_of_unknown_origin_are_not_mixed_in(tmp_path):
    filled(tmp_path, 5, manifest=False)
    with pytest.raises(UserError, match="000000000000.bin"):
        BinFolder(tmp_path, manifest_of(5))


def test_bins_beyond_the_manifest_are_refused(tmp_path):
    filled(tmp_path, 5)
    (tmp_path / "000000000005.bin").write_bytes(b"")
    for reader in (lambda: BinFolder(tmp_path, manifest_of(5)), lambda: BinReader(tmp_path, CONFIG)):
        with pytest.raises(UserError, match="000000000005.bin"):
            reader()


def test_replacing_removes_bins_of_other_settings_only(tmp_path):
    filled(tmp_path, 5)
    assert BinFolder(tmp_path, manifest_of(5), replace=True).missing == []
    assert BinFolder(tmp_path, manifest_of(5, batch=2), replace=True).missing == [0, 1, 2]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("people, batch", [(7, 1), (7, 3), (3, 3)])
@pytest.mark.parametrize("manifest", [True, False])
def test_bins_are_read_back(tmp_path, people, batch, manifest):
    crops = filled(tmp_path, people, batch, manifest)
    reader = BinReader(tmp_path, CONFIG)
    assert sum(reader.rows) == people
    for at_once in (1, 2, 3, 4, 100):
        groups = reader.groups(at_once)
        assert [number for group in groups for number in group] == list(range(len(reader)))
        assert all(sum(reader.rows[number] for number in group) <= at_once or len(group) == 1 for group in groups)
        rows = [reader.read(group) for group in groups]
        assert all(part.dtype == np.float32 and part.shape[1:] == CONFIG.input_shape for part in rows)
        np.testing.assert_array_equal(np.concatenate(rows), crops)


def test_bins_without_a_manifest_come_in_ais_benchs_order(tmp_path):
    names = ["10.bin", "2.bin", "img_12.bin", "img_3.bin", "1.bin"]
    for name in names:
        crops_of(1).tofile(tmp_path / name)
    assert BinReader(tmp_path, CONFIG).names == ["1.bin", "2.bin", "10.bin", "img_3.bin", "img_12.bin"]


def test_natural_order_compares_any_two_names():
    names = ["", "a", "1", "a1", "1a", "01", "a_1_b", "²", "a²1"]
    assert sorted(names, key=natural_order)[0] == ""


def test_bins_of_another_config_are_refused(tmp_path):
    filled(tmp_path, 3)
    for other in (PoseSpec(), PoseSpec((8, 4), (2, 1), std=(1, 1, 2))):
        with pytest.raises(UserError, match="--cfg"):
            BinReader(tmp_path, other)


@pytest.mark.parametrize("size", [0, 100, 3 * 8 * 4 * 4 - 1, 3 * 8 * 4 * 4 + 4])
@pytest.mark.parametrize("manifest", [True, False])
def test_a_bin_of_the_wrong_size_is_named_with_both_sizes(tmp_path, size, manifest):
    filled(tmp_path, 3, manifest=manifest)
    (tmp_path / "000000000001.bin").write_bytes(bytes(size))
    with pytest.raises(UserError, match=rf"000000000001.bin: {size} bytes, expected 384 \(3x8x4 float32\)"):
        BinReader(tmp_path, CONFIG)


def test_a_missing_bin_or_folder_is_named(tmp_path):
    filled(tmp_path / "bins", 3)
    (tmp_path / "bins" / "000000000002.bin").unlink()
    with pytest.raises(UserError, match="000000000002.bin"):
        BinReader(tmp_path / "bins", CONFIG)
    for folder in ("nowhere", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="preprocess.py"):
            BinReader(tmp_path / folder, CONFIG)
