"""The emulated ais_bench against recordings of the real package, and its rules on small models of our own."""
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.emulator import comparing, recordings
from tests.emulator.local import build_om

SHARED = Path(os.environ.get("POSE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
RECORDINGS = sorted((SHARED / "golden" / "ais_bench").glob("*/*.json"))


@pytest.fixture(scope="session")
def contents():
    return recordings.Contents()


@pytest.fixture(scope="session")
def pose_models(shared, tmp_path_factory):
    """One batch, or gears -> the .om of the recordings' network."""
    folder, made = tmp_path_factory.mktemp("pose_om"), {}

    def model(*sizes: int) -> bytes:
        if sizes not in made:
            gears = {"dynamic_batch_size": ",".join(map(str, sizes))} if len(sizes) > 1 else {}
            made[sizes] = build_om(shared / "models" / "ultralight_simplepose.onnx", folder / "pose",
                                   f"data:{-1 if gears else sizes[0]},3,256,192", **gears).read_bytes()
        return made[sizes]

    return model


@pytest.mark.skipif(not RECORDINGS, reason=f"no recordings in {SHARED}/golden/ais_bench (set POSE_SHARED)")
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_recording_is_reproduced(path, contents, pose_models, tmp_path):
    recording = json.loads(path.read_text())
    if recording["exit_code"] < 0 or recording.get("exit_note"):
        pytest.skip(f"the recorder interfered: {recording.get('exit_note')}")
    folder = tmp_path / "run"
    folder.mkdir()
    try:
        recordings.lay_out(recording, folder, contents)
    except (KeyError, PermissionError) as error:  # contents that are not known, or chown by somebody who is not root
        pytest.skip(f"the input cannot be made again: {error}")
    name, sizes = recordings.model_of(recording)
    if sizes:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(pose_models(*sizes))
        (folder / name).chmod(0o640)
    before, trace = comparing.tree(folder), tmp_path / "trace"
    result = recordings.replay(recording, folder, trace)
    places = {recordings.site(recording["generation"]): "<SITE>", str(folder): "<TMP>"}
    wrong = [f"exit code {result.exit_code}"] * (result.exit_code != recording["exit_code"])
    wrong += comparing.compare_text(recording, result, places)
    wrong += comparing.compare_files(recording, before, comparing.tree(folder))
    wrong += comparing.compare_summaries(recording, folder, places)
    wrong += comparing.compare_executions(recording, trace)
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(not RECORDINGS, reason=f"no recordings in {SHARED}/golden/ais_bench (set POSE_SHARED)")
def test_our_normalisation_is_that_of_the_recordings():
    for path in RECORDINGS:
        recording = json.loads(path.read_text())
        came = comparing.lines(comparing.normalise(recording["stdout_raw"], {}))
        assert came == recording["stdout_lines"], path.name
