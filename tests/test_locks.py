"""One run at a time for each output: refused with a true line, shared where it is meant, freed when the holder dies."""
from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, done, one_error

from contract.errors import UserError
from contract.locks import Lock, hold, reading

HOLDER = """
import sys, time
from contract.locks import Lock
lock = Lock(sys.argv[1])
getattr(lock, sys.argv[2])()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture()
def holder(tmp_path):
    """Start processes that hold tmp_path, alone or sharing it; they are gone after the test."""
    running = []

    def start(how: str = "alone", output: Path = tmp_path) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(output), how], cwd=ROOT, text=True,
                                   stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_second_is_refused_in_one_line_that_names_the_first(tmp_path, holder):
    other = holder()
    with pytest.raises(UserError) as refused, hold(tmp_path):
        pass
    match = re.fullmatch(rf"{tmp_path}: pid {other.pid} on \S+ \(.*\), started (.*), is at work there\. .*",
                         str(refused.value))
    started = time.mktime(time.strptime(match.group(1), "%Y-%m-%d %H:%M:%S"))
    assert abs(time.time() - started) < 120


def test_a_killed_holder_holds_nothing_and_its_half_written_files_go(tmp_path, holder):
    other = holder()
    (tmp_path / "000000000000.bin.0123abcd.tmp").write_bytes(b"half")
    (tmp_path / "notes.tmp").write_bytes(b"the user's")
    other.send_signal(signal.SIGKILL)
    other.wait()
    with hold(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "notes.tmp"}
    assert {path.name for path in tmp_path.iterdir()} == {"notes.tmp"}


def test_a_file_is_held_beside_it(tmp_path, holder):
    output = tmp_path / "m.om"
    (tmp_path / "m.om.json.0123abcd.tmp").write_bytes(b"its")
    holder(output=tmp_path / "m.om2")
    (tmp_path / "m.om2.0123abcd.tmp").write_bytes(b"another's")
    with hold(output):
        assert {path.name for path in tmp_path.iterdir()} == {"m.om.lock", "m.om2.lock", "m.om2.0123abcd.tmp"}


def test_those_who_share_keep_others_out_until_the_last_has_left(tmp_path, holder):
    first = holder("share")
    lock = Lock(tmp_path)
    assert not lock.try_alone()
    lock.share()
    first.kill()
    first.wait()
    second = holder("share")
    lock.release()
    assert (tmp_path / ".lock").exists()
    with pytest.raises(UserError, match=f"pid {second.pid} "), hold(tmp_path):
        pass


def test_who_holds_it_alone_may_let_others_join(tmp_path, holder):
    lock = Lock(tmp_path)
    lock.alone()
    lock.share()
    holder("share")
    lock.release()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("kept")
    (tmp_path / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError), hold(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "kept"


def test_what_is_read_is_not_replaced(preprocess, infer, work, tmp_path, holder):
    """AP of bins of which some are of the next run is a number, and a wrong one."""
    done(preprocess())
    for output, command in ((tmp_path / "out", lambda: preprocess("--batch", 3, "--replace")),
                            (work / "results" / "all", lambda: infer("--batchsize", 3, "--replace", name="all"))):
        before = sorted((path.name, path.read_bytes()) for path in output.iterdir())
        reader = holder("read", output)
        assert f"pid {reader.pid} " in one_error(command())
        reader.kill()
        reader.wait()
        (output / ".lock").unlink()  # of the killed one
        assert sorted((path.name, path.read_bytes()) for path in output.iterdir()) == before
        done(command())


@pytest.mark.parametrize("place", ["prep_data", "patches.onnx"])
def test_inference_does_not_read_what_is_being_replaced(infer, work, small_model, holder, place):
    model = Path(shutil.copy(small_model, work))
    writer = holder(output=work / place)
    assert f"pid {writer.pid} " in one_error(infer("--model", model))
    writer.kill()
    writer.wait()
    done(infer("--model", model))
    assert not list(work.rglob("*.lock"))


def test_scores_are_not_made_of_dumps_that_are_being_replaced(postprocess, work, holder):
    writer = holder(output=work / "results" / "all_flip")
    assert f"pid {writer.pid} " in one_error(postprocess())
    writer.kill()
    writer.wait()
    done(postprocess())
    done(postprocess("--output", work / "results" / "all"))  # in the folder that was read


def test_detections_are_not_read_while_they_are_replaced(preprocess, own_coco, holder):
    writer = holder(output=own_coco / "detections.json")
    assert f"pid {writer.pid} " in one_error(preprocess())


def test_reading_needs_no_permission_to_write(tmp_path, holder):
    """/proc/self/fd is a folder in which nobody may make a file, root included."""
    with reading(Path("/proc/self/fd"), tmp_path / "is not there"):
        assert not list(tmp_path.iterdir())
