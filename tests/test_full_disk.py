"""A disk that fills in the middle of a stage: one clear line, nothing half-written, and a rerun when there is room."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import done, one_error, tree

DUMP_BYTES = 17 * 16 * 12 * 4


@pytest.fixture()
def full_disk(tmp_path):
    """A folder on a disk of its own with the given number of kilobytes; needs the right to mount."""
    mounted = []

    def make(kilobytes: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("no right to mount a small disk here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture()
def disk_fills(monkeypatch):
    """Every rename from the given one on fails as on a full disk."""

    def after(renames: int) -> None:
        replace, left = os.replace, [renames]

        def full(source, target):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device", str(source), None, str(target))
            replace(source, target)

        monkeypatch.setattr(os, "replace", full)

    return after


@pytest.mark.parametrize("renames", [0, 1, 2, 9, 25, 27])
def test_preprocess_on_a_disk_that_fills(preprocess, prepared, disk_fills, monkeypatch, tmp_path, renames):
    disk_fills(renames)
    assert "No space left on device" in one_error(preprocess())
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.undo()
    done(preprocess())
    assert tree(tmp_path / "out") == tree(prepared / "prep_data")
    assert tree(tmp_path / "out_flip") == tree(prepared / "prep_data_flip")


@pytest.mark.parametrize("renames", [0, 1, 6, 13])
def test_infer_on_a_disk_that_fills(work, infer, disk_fills, monkeypatch, renames):
    disk_fills(renames)
    assert "No space left on device" in one_error(infer("--batchsize", 2))
    assert not list(work.rglob("*.tmp"))
    monkeypatch.undo()
    done(infer("--batchsize", 2))
    done(infer("--batchsize", 2, name="expected"))
    assert tree(work / "results" / "new") == tree(work / "results" / "expected")


@pytest.mark.parametrize("renames", [0, 1])
def test_postprocess_on_a_disk_that_fills(work, postprocess, disk_fills, monkeypatch, renames):
    done(postprocess("--flip_shift", "original"))  # an older result, of other settings
    disk_fills(renames)
    assert "No space left on device" in one_error(postprocess())
    assert not list(work.rglob("*.tmp"))
    left = tree(work / "score")
    monkeypatch.undo()
    done(postprocess())
    whole = tree(work / "score")
    done(postprocess("--flip_shift", "original"))
    older = tree(work / "score")
    assert left.items() < older.items() or left.items() < whole.items(), "of one result, and never a mixture of two"


def test_a_small_disk(full_disk, coco, prepared, small_cfg, small_model, script):
    """The real thing: bins, then dumps, onto a disk that has no room for them, which then grows."""
    disk = full_disk(300)

    def preprocess():
        return script("preprocess.py", "--dataroot", coco, "--detections", coco / "detections.json", "--cfg", small_cfg,
                      "--output", disk / "prep_data", "--output_flip", disk / "prep_data_flip")

    def infer():
        return script("infer.py", "--model", small_model, "--cfg", small_cfg, "--input", prepared / "prep_data",
                      "--output", disk / "results", "--output_dirname", "all", "--batchsize", 2)

    def grow(kilobytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)

    assert "No space left on device" in one_error(preprocess())
    assert not list(disk.rglob("*.tmp")) and not (disk / "prep_data" / "manifest.json").exists()
    grow(1000)
    done(preprocess())
    assert tree(disk / "prep_data") == tree(prepared / "prep_data")
    assert "No space left on device" in one_error(infer())
    assert not list(disk.rglob("*.tmp"))
    assert all(path.stat().st_size == DUMP_BYTES for path in (disk / "results" / "all").glob("*.bin"))
    grow(3000)
    done(infer())
    assert len(list((disk / "results" / "all").glob("*_0.bin"))) == 12
