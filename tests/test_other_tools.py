"""Bins and dumps that other tools wrote: read, or named with what to do."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import done, one_error, tree

SHAPE = (1, 17, 16, 12)


@pytest.fixture()
def dumps(work) -> list:
    return sorted((work / "results" / "all").glob("*.bin"))


def test_dumps_named_by_msame_are_scored(work, postprocess, dumps):
    expected = done(postprocess())
    for path in dumps:
        path.rename(path.with_name(path.name.replace("_0.bin", "_output_0.bin")))
    assert done(postprocess()) == expected


def test_dumps_in_a_folder_a_device_are_scored(work, postprocess, dumps):
    expected = done(postprocess())
    for number, name in enumerate(("device0_0", "device1_1")):
        (work / "results" / "all" / name).mkdir()
        for path in dumps[number::2]:
            path.rename(path.parent / name / path.name)
    assert done(postprocess()) == expected
    shutil.copy(dumps[0].parent / "device0_0" / dumps[0].name, dumps[0].parent / "device1_1")
    assert "of the same bin" in one_error(postprocess())


def test_npy_is_named_with_a_command_that_makes_dumps_of_it(work, postprocess, dumps):
    before = tree(work / "results" / "all")
    for path in dumps:
        np.save(path.with_suffix(".npy"), np.fromfile(path, np.float32).reshape(SHAPE))
        path.unlink()
    error = one_error(postprocess())
    assert f"There are {len(dumps)} .npy files" in error
    subprocess.run(["bash", "-c", error[error.index("python3 -c"):error.index(" makes them")]], check=True)
    done(postprocess())
    assert before.items() <= tree(work / "results" / "all").items()


def test_text_is_named(work, postprocess, dumps):
    for path in dumps:
        path.rename(path.with_suffix(".txt"))
    assert "--outfmt BIN" in one_error(postprocess())


@pytest.mark.parametrize("kind", ["<f8", ">f4", ">f8"])
@pytest.mark.parametrize("manifest", [True, False])
def test_bins_of_other_numbers_are_named(work, infer, kind, manifest):
    if not manifest:
        (work / "prep_data" / "manifest.json").unlink()
    for path in sorted((work / "prep_data").glob("*.bin")):
        np.fromfile(path, "<f4").astype(kind).tofile(path)
    error = one_error(infer())
    assert str(Path("prep_data") / "000000000000.bin") in error and "astype('<f4')" in error
