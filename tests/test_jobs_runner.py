"""Stages that end with the job, whichever way the job ends, and one job at a time in a work folder."""
from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from ascend_cases import alive, wait_for
from conftest import ROOT, one_error

# A job of one stage, which starts a child of its own and tells both their ids. Where it is deaf it only notes SIGTERM.
STAGE = """
import os, pathlib, signal, subprocess, sys, time
pids = pathlib.Path(sys.argv[1])
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, lambda *_: pids.with_name("asked").touch())
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pids.with_name("partial").write_text(f"{os.getpid()} {child.pid}")
pids.with_name("partial").rename(pids)
end = time.monotonic() + 600
while time.monotonic() < end:
    time.sleep(1)
"""
JOB = """
import sys
from pathlib import Path
from contract.script import exit_code
from contract.stage import stage
from jobs.runner import StageFailed, at_work
def main():
    with at_work(Path(sys.argv[1])) as runner:
        try:
            runner.run([stage("-c", *sys.argv[2:])])
        except StageFailed as failed:
            return failed.code
sys.exit(exit_code(main))
"""


@pytest.fixture()
def job(tmp_path):
    """Start a job in tmp_path; its process and the ids of its stage and of the stage's child."""
    started = []

    def start(stage: str = STAGE, mood: str = "obedient"):
        process = subprocess.Popen([sys.executable, "-c", JOB, str(tmp_path), stage, str(tmp_path / "pids"), mood],
                                   cwd=ROOT, stderr=subprocess.PIPE, text=True)
        started.append(process)
        wait_for((tmp_path / "pids").exists)
        return process, [int(pid) for pid in (tmp_path / "pids").read_text().split()]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("signum, code, mood", [
    (signal.SIGKILL, -9, "obedient"), (signal.SIGTERM, 143, "obedient"), (signal.SIGINT, 130, "obedient"),
    (signal.SIGHUP, 129, "obedient"), (signal.SIGKILL, -9, "deaf"), (signal.SIGTERM, 143, "deaf")])
def test_nothing_outlives_the_job(job, signum, code, mood):
    """Also a stage that does not listen, and what the stage has started."""
    process, pids = job(mood=mood)
    process.send_signal(signum)
    assert process.wait(30) == code
    wait_for(lambda: not any(map(alive, pids)), seconds=20)


def test_a_second_signal_kills_the_stage(job, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text("import signal; signal.alarm = lambda seconds: 0\n")  # no patience ends
    process, pids = job(mood="deaf")
    process.send_signal(signal.SIGTERM)
    wait_for((tmp_path / "asked").exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 143 and not any(map(alive, pids))


def test_a_second_run_is_told_who_is_at_work(job, tmp_path):
    process, _ = job()
    second = subprocess.run([sys.executable, "-c", JOB, str(tmp_path), "pass", "", ""], cwd=ROOT, capture_output=True,
                            text=True, timeout=60)
    assert f"pid {process.pid} " in one_error(second) and str(tmp_path) in second.stderr


def test_a_rerun_meets_a_stage_that_is_left(job, tmp_path):
    """Its job was killed, and it is still ending."""
    process, pids = job(mood="deaf")
    process.kill()
    process.wait(30)
    second = subprocess.run([sys.executable, "-c", JOB, str(tmp_path), "pass", "", ""], cwd=ROOT, capture_output=True,
                            text=True, timeout=60)
    assert "is at work there" in one_error(second)
    wait_for(lambda: not any(map(alive, pids)), seconds=20)


def test_a_stage_that_is_killed_is_named(tmp_path):
    killed = subprocess.run([sys.executable, "-c", JOB, str(tmp_path), "import os; os.kill(os.getpid(), 9)"], cwd=ROOT,
                            capture_output=True, text=True, timeout=60)
    assert "was killed by SIGKILL" in one_error(killed) and not list(tmp_path.iterdir())


def test_the_exit_code_of_a_stage_is_the_jobs(tmp_path):
    for code in (1, 2, 70):
        assert subprocess.run([sys.executable, "-c", JOB, str(tmp_path), f"raise SystemExit({code})"], cwd=ROOT,
                              timeout=60).returncode == code
    assert not list(tmp_path.iterdir())
