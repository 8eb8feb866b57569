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


def scores(output: str) -> list:
    """The cells of a result table but for the speeds: our record of the run names the dumps as they were."""
    return output.split("|")[:-3]


def test_dumps_named_by_msame_are_scored(work, postprocess, dumps):
    expected = scores(done(postprocess()))
    for path in dumps:
        path.rename(path.with_name(path.name.replace("_0.bin", "_output_0.bin")))
    assert scores(done(postprocess())) == expected


def test_dumps_in_a_folder_a_device_are_scored(work, postprocess, dumps):
    expected = scores(done(postprocess()))
    for number, name in enumerate(("device0_0", "device1_1")):
        (work / "results" / "all" / name).mkdir()
        for path in dumps[number::2]:
            path.rename(path.parent / name / path.name)
    assert scores(done(postprocess())) == expected
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


@pytest.mark.parametrize("change, words", [
    (lambda name: name.replace("_0.bin", ".bin"), "12 files of other names (000000000000.bin, ...)"),
    (lambda name: name.replace("_0.bin", "_1.bin"), "12 files of other names (000000000000_1.bin, ...)"),
    (lambda name: name.replace(".bin", ".BIN"), "12 files of other names (000000000000_0.BIN, ...)"),
    (lambda name: f"2024_01_05-11_22_33/{name}", "12 .bin files in {folder}/2024_01_05-11_22_33"),
])
def test_dumps_of_other_names_are_not_just_missing(work, postprocess, dumps, change, words):
    folder = dumps[0].parent
    for path in dumps:
        target = folder / change(path.name)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    line = one_error(postprocess())
    assert "12 of 12 dumps are missing" in line and words.format(folder=folder) in line


def test_dumps_of_a_second_output_are_named_so(work, postprocess, dumps):
    shutil.copy(dumps[3], dumps[3].with_name("000000000003_1.bin"))
    assert "dumps of several outputs (000000000003_1.bin, ...)" in one_error(postprocess())


def test_a_link_to_nowhere_is_one_missing_dump(work, postprocess, dumps):
    dumps[3].unlink()
    dumps[3].symlink_to(work / "nowhere")
    assert "1 of 12 dumps are missing (000000000003_0.bin" in one_error(postprocess())


@pytest.mark.parametrize("kind, word", [(">f4", "big-endian"), ("<i4", "integers")])
def test_dumps_of_other_numbers_are_named(work, postprocess, dumps, kind, word):
    for path in dumps:
        (100 * np.fromfile(path, "<f4")).astype(kind).tofile(path)
    assert f"its values are not those of an output. Are they {word}?" in one_error(postprocess())


def test_dumps_full_of_one_value_are_said(work, postprocess, dumps):
    for path in (work / "results").glob("all*/*.bin"):
        np.full(path.stat().st_size // 4, 0.5, "<f4").tofile(path)
    assert "all joints of a person lie in one place" in postprocess().stderr
