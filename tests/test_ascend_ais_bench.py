"""ais_bench as a stage, of both generations: its dumps, several devices, failures, and what it would get wrong."""
from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ascend_cases import alive, models, row, run, wait_for  # noqa: F401
from conftest import ROOT, done, one_error, patch_model

from contract.dumps import read_settings
from contract.run_record import find_mismatch
from tests.emulator import environment

PEOPLE = 12
BOTH = pytest.mark.parametrize("generation", ["old", "new"])


@pytest.fixture(scope="session")
def expected(prepared, small_cfg, script, tmp_path_factory) -> dict:
    """Name -> bytes of the dumps that ONNX Runtime gives at batch 4."""
    folder = tmp_path_factory.mktemp("expected")
    model = patch_model(folder / "m.onnx", 4)
    done(script("infer.py", "--model", model, "--input", prepared / "prep_data", "--output", folder,
                "--output_dirname", "d", "--cfg", small_cfg))
    return dumps_in(folder / "d")


@pytest.fixture()
def bins(prepared, tmp_path) -> Path:
    """A copy of the bins, to damage."""
    return Path(shutil.copytree(prepared / "prep_data", tmp_path / "prep_data"))


def dumps_in(folder: Path) -> dict:
    return {path.name: path.read_bytes() for path in folder.glob("*.bin")}


@pytest.fixture()
def stage(models, small_cfg, bins, tmp_path):  # noqa: F811
    """Run a runner on an emulated machine; dumps go to results/bs4."""

    def call(*options: object, runner: str = "ais_bench", om: str = "m_bs4.om", **config: object):
        program = ["-m", "ascend.ais_bench"] if runner == "ais_bench" else ["infer.py", "--backend", "acl"]
        return run(environment(**config), *program, "--model", models / om, "--cfg", small_cfg, "--input", bins,
                   "--output", tmp_path / "results", "--output_dirname", "bs4", "--batchsize", "4", *options)

    return call


def summary_in(tmp_path: Path) -> dict:
    """The summary, whose record is that of the dumps."""
    dumps, summary = tmp_path / "results" / "bs4", json.loads((tmp_path / "results" / "bs4_summary.json").read_text())
    assert find_mismatch(dumps, summary, read_settings(dumps)) is None
    return summary


def check_people_timed(summary: dict, people: int) -> None:
    """Nobody was timed where the start and the end of an ais_bench this short are heard at once."""
    assert summary["end_to_end"] is None or summary["end_to_end"]["people"] == people


@BOTH
def test_the_command_line_is_the_published_one_and_the_dumps_are_those_of_the_cpu(stage, tmp_path, models, bins,  # noqa: F811
                                                                                  expected, generation):
    output = done(stage(ais_bench=generation))
    assert (f"python3 -m ais_bench --model {models}/m_bs4.om --input {bins} --output {tmp_path}/results "
            "--output_dirname bs4 --batchsize 4\n") in output
    assert dumps_in(tmp_path / "results" / "bs4") == expected
    summary = summary_in(tmp_path)
    check_people_timed(summary, PEOPLE)
    assert summary["NPU_compute_time"]["count"] == 3
    assert len(summary["filesinfo"]) == PEOPLE
    settings = json.loads((tmp_path / "results" / "bs4" / "settings.json").read_text())
    assert settings["backend"] == "ais_bench" and settings["bins"]["batch"] == 1
    assert "there already" in done(stage(ais_bench=generation))


@pytest.mark.parametrize("runner, om, generation, devices", [
    ("ais_bench", "m_bs4.om", "old", "0,1,2,3"), ("ais_bench", "m_bs4.om", "new", "3,1"),
    ("ais_bench", "m_gears.om", "new", "0"), ("acl", "m_bs4.om", "new", "0,1,2,3"), ("acl", "m_gears.om", "new", "2")])
def test_devices_and_gears_change_nothing(stage, tmp_path, expected, runner, om, generation, devices):
    done(stage("--device", devices, runner=runner, om=om, ais_bench=generation, devices=4))
    assert dumps_in(tmp_path / "results" / "bs4") == expected
    check_people_timed(summary_in(tmp_path), PEOPLE)
    assert summary_in(tmp_path)["throughput"] > 0
    assert {path.name for path in (tmp_path / "results").iterdir()} <= {"bs4", "bs4_summary.json",
                                                                        "bs4_ais_bench.log"}


@pytest.mark.parametrize("runner, hint", [row(14, "acl", "model alone"), row(14, "ais_bench", "model alone")])
def test_what_a_person_costs_is_told_beside_the_time_of_the_model(stage, runner, hint):
    """On a busy machine the start and the end of an ais_bench this short are heard at once, and then that is said."""
    told = re.search(rf"{hint} [\d.]+ crops/s at batch 4; (?:read, infer and write ([\d.]+) crops/s, 12 in|"
                     "(reading and writing were not timed))", done(stage(runner=runner)))
    assert runner == "ais_bench" if told[2] else float(told[1]) > 0


def test_float16_outputs_are_taken_as_they_are(tmp_path, models, stage, small_cfg, coco, bins, expected, script):  # noqa: F811
    om = tmp_path / "half.om"
    built = run(environment(), "-m", "ascend.atc", models / "m_bs4.onnx", "--soc_version", "Ascend310P3",
                "--output_type", "FP16", "--output", om)
    assert built.returncode == 0, built.stderr
    done(stage(om=om))
    for name, content in dumps_in(tmp_path / "results" / "bs4").items():
        assert content == np.frombuffer(expected[name], np.float32).astype(np.float16).tobytes()
    done(script("postprocess.py", "--dataroot", coco, "--dump_dir", tmp_path / "results" / "bs4", "--manifest",
                bins / "manifest.json"))


@pytest.mark.parametrize("runner, generation", [("ais_bench", "old"), ("ais_bench", "new"), ("acl", "new")])
def test_a_device_that_dies_is_told_and_a_rerun_completes(stage, tmp_path, expected, runner, generation):
    """Killed in the middle; what others did is kept and not done again."""
    call = "aclmdlExecute" if runner == "ais_bench" else "aclmdlExecuteAsync"
    kill = [{"call": call, "nth": 2, "device": 2, "signal": 9}]
    options = {"runner": runner, "ais_bench": generation, "devices": 3}
    failed = stage("--device", "0,1,2", errors=kill, **options)
    assert failed.returncode == 2 and "device 2 was killed by SIGKILL" in failed.stderr
    assert "run the same command again" in failed.stderr and "Traceback" not in failed.stderr
    kept = dumps_in(tmp_path / "results" / "bs4")
    assert kept and kept.items() < expected.items()
    assert not (tmp_path / "results" / "bs4_summary.json").exists()
    done(stage("--device", "0,1,2", **options))
    assert dumps_in(tmp_path / "results" / "bs4") == expected
    check_people_timed(summary_in(tmp_path), PEOPLE - len(kept))


@BOTH
def test_one_device_continues_where_it_was_killed(stage, tmp_path, expected, generation):
    kill = [{"call": "aclmdlExecute", "nth": 3, "signal": 9}]
    assert "SIGKILL" in one_error(stage(errors=kill, ais_bench=generation))
    kept = dumps_in(tmp_path / "results" / "bs4")
    assert 0 < len(kept) < PEOPLE
    done(stage(ais_bench=generation))
    assert dumps_in(tmp_path / "results" / "bs4") == expected


@pytest.mark.parametrize("runner, hint", [row(13, "acl", "in float16?"), row(13, "ais_bench", "in float16?")])
def test_an_overflow_in_float16_stops_the_score(stage, tmp_path, models, small_cfg, bins, coco, script, runner, hint):  # noqa: F811
    import onnx

    content = onnx.load(models / "m_bs4.onnx")
    weights = onnx.numpy_helper.to_array(content.graph.initializer[0]) * np.float32(1e6)
    content.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "weights"))
    onnx.save(content, tmp_path / "large.onnx")
    done(run(environment(), "-m", "ascend.atc", tmp_path / "large.onnx", "--soc_version", "Ascend310P3",
             "--output_type", "FP16"))
    done(stage(om=tmp_path / "large.om", runner=runner))
    assert hint in one_error(script("postprocess.py", "--dataroot", coco, "--dump_dir", tmp_path / "results" / "bs4",
                                    "--manifest", bins / "manifest.json"))


@BOTH
def test_codes_of_the_device_are_explained(stage, tmp_path, generation):
    errors = [{"call": "aclmdlExecute", "nth": 2, "code": 507015, "message": "EZ9999: injected"}]
    message = one_error(stage(ais_bench=generation, errors=errors))
    assert "ended with code 1: execute model failed" in message and "EZ9999: an inner error of CANN" in message
    assert (tmp_path / "results" / "bs4_ais_bench.log").exists()
    assert not (tmp_path / "results" / "bs4_summary.json").exists()


def test_a_summary_and_dumps_of_an_earlier_run_are_not_taken_for_this_ones(stage, tmp_path, expected):
    done(stage(om="m_gears.om"))
    assert "another run" in one_error(stage())
    failed = stage("--replace", errors=[{"call": "aclmdlExecute", "nth": 1, "code": 507011}])
    assert "execute model failed" in one_error(failed)
    assert not dumps_in(tmp_path / "results" / "bs4") and not (tmp_path / "results" / "bs4_summary.json").exists()
    stale = tmp_path / "results" / "bs4" / "000000000099_0.bin"
    stale.write_bytes(b"")
    (tmp_path / "results" / "bs4" / "settings.json").unlink()
    assert "nothing says which" in one_error(stage())
    done(stage("--replace"))
    assert dumps_in(tmp_path / "results" / "bs4") == expected


@pytest.mark.parametrize("runner, end", [("ais_bench", signal.SIGTERM), ("ais_bench", signal.SIGKILL),
                                         ("acl", signal.SIGTERM)])
def test_no_orphan_survives(tmp_path, models, small_cfg, bins, runner, end):  # noqa: F811
    """Two devices at work for a minute when the stage is told to end, or is killed."""
    trace = tmp_path / "trace"
    env = environment(devices=2, trace=str(trace), slow={"aclmdlExecute": 60, "aclmdlExecuteAsync": 60})
    program = ["-m", "ascend.ais_bench"] if runner == "ais_bench" else ["infer.py", "--backend", "acl"]
    command = [sys.executable, *program, "--model", models / "m_bs4.om", "--cfg", small_cfg, "--input", bins,
               "--output", tmp_path / "results", "--output_dirname", "bs4", "--device", "0,1"]
    stage = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def workers() -> set:
        lines = trace.read_text().splitlines() if trace.exists() else []
        return {json.loads(line)["pid"] for line in lines if line.endswith("}")} - {stage.pid}

    wait_for(lambda: len(workers()) == 2)
    stage.send_signal(end)
    assert stage.wait(30) == (143 if end == signal.SIGTERM else -signal.SIGKILL)
    wait_for(lambda: not any(map(alive, workers())))


def halve(bins: Path) -> None:
    for path in bins.glob("*.bin"):
        path.write_bytes(path.read_bytes()[:-4])


def rename(bins: Path, name: str) -> None:
    (bins / "manifest.json").unlink()
    os.rename(bins / "000000000000.bin", bins / name)


def widen(bins: Path) -> None:
    """As float64, which without a manifest has the size of two people of float32."""
    (bins / "manifest.json").unlink()
    for path in bins.glob("*.bin"):
        path.write_bytes(np.fromfile(path, np.float32).astype(np.float64).tobytes())


@pytest.mark.parametrize("damage, hint", [
    row(6, halve, "expected 36864"), row(6, widen, "Is it float64 or big-endian?"),
    row(6, lambda bins: np.save(bins / "x.npy", np.zeros((3, 64, 48))), "x.npy: ais_bench would read it"),
    row(7, lambda bins: rename(bins, "img.1.bin"), "before the first dot"),
    row(7, lambda bins: (bins / "x.BIN").mkdir(), "x.BIN: ais_bench would read it"),
    row(8, lambda bins: (bins / "000000000003.bin").chmod(0o660), "chmod go-w"),
    row(8, lambda bins: (bins / "manifest.json").chmod(0o666), "chmod go-w"),
    row(8, lambda bins: bins.chmod(0o775), "chmod go-w"),
    row(8, lambda bins: (bins / "link.txt").symlink_to("manifest.json"), "symlink"),
    row(8, lambda bins: (bins / "with space.txt").touch(), "A-Z"),
    row(8, lambda bins: os.chown(bins / "000000000003.bin", 12345, 12345), "chown",
        marks=pytest.mark.skipif(os.getuid() != 0, reason="only root may chown"))])
def test_what_ais_bench_would_refuse_late_or_get_wrong(stage, bins, tmp_path, damage, hint):
    damage(bins)
    assert hint in one_error(stage(ais_bench="new"))
    assert not (tmp_path / "results").exists()


def test_the_older_release_and_pyacl_take_what_the_newer_refuses(stage, bins, tmp_path, expected):
    (bins / "000000000003.bin").chmod(0o660)
    for options in ({"ais_bench": "old"}, {"runner": "acl"}):
        done(stage(**options))
        assert dumps_in(tmp_path / "results" / "bs4") == expected
        shutil.rmtree(tmp_path / "results")


@pytest.mark.parametrize("options, config, hint", [
    row(2, [], {"soc": "Ascend310"}, "507008"), row(3, [], {"set_env": False}, "set_env.sh"),
    row(5, [], {"ais_bench": None}, "--runner acl"), row(6, ["--batchsize", "8"], {}, "takes batches of 4"),
    row(10, ["--device", "0,0"], {}, "different ids"),
    row(11, ["--batchsize", "3"], {"om": "m_gears.om"}, "[1, 2, 4]"),
    row(16, ["--device", "1"], {}, "python3 -m ascend.doctor"), (["--model", "x.om"], {}, "no such model")])
def test_what_does_not_fit(stage, tmp_path, options, config, hint):
    assert hint in one_error(stage(*options, **config))
    assert not (tmp_path / "results").exists()


def test_an_om_for_bytes_does_not_take_float32(stage, tmp_path, models):  # noqa: F811
    built = run(environment(), "-m", "ascend.atc", models / "m_bs4.onnx", "--soc_version", "Ascend310P3", "--uint8",
                "--output", tmp_path / "bytes.om")
    assert built.returncode == 0, built.stderr
    assert "takes uint8 bins, but these are float32" in one_error(stage(om=tmp_path / "bytes.om"))


def test_bins_of_several_people(tmp_path, stage, models, small_cfg, coco, script, expected):  # noqa: F811
    """Files of 2 fill batches of 4; files of 5 do not, and ais_bench would mix people."""
    for people, fits in ((2, True), (5, False)):
        done(script("preprocess.py", "--dataroot", coco, "--detections", coco / "detections.json", "--cfg", small_cfg,
                    "--batch", people, "--output", tmp_path / f"p{people}", "--output_flip", tmp_path / f"f{people}"))
        finished = stage("--input", tmp_path / f"p{people}", "--replace")
        if fits:
            done(finished)
            content = b"".join(dumps_in(tmp_path / "results" / "bs4")[name] for name in sorted(
                dumps_in(tmp_path / "results" / "bs4")))
            assert content == b"".join(expected[name] for name in sorted(expected))
        else:
            assert "--batch 1" in one_error(finished)


@pytest.mark.parametrize("times", [[1.0, float("nan")], [-1.0], ["fast"], [None]])
def test_times_that_are_none(tmp_path, times):
    from ascend.ais_bench_processes import Share, read_times

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "d0_summary.json").write_text(json.dumps({"filesinfo": {}, "npu_compute_time_list": times}))
    share = Share("0", tmp_path, [], tmp_path / "out", "d0")
    with pytest.raises(ValueError, match="d0_summary.json: npu_compute_time holds"):
        read_times(share, None)


@pytest.mark.parametrize("content", ["3", "[]", "{}", '{"filesinfo": 3}', '{"filesinfo": {"0": 3}}',
                                     '{"filesinfo": {"0": {"infiles": [3], "outfiles": 3}}}', '{"filesinfo": {}}',
                                     '{"filesinfo": {}, "npu_compute_time_list": 3}', "[" * 9999, "not JSON",
                                     '{"filesinfo": {}, "npu_compute_time_list": [%s]}' % (400 * "9")])
def test_a_summary_of_another_shape(tmp_path, content):
    from ascend.ais_bench_processes import Share, read_times
    from contract.errors import UserError

    (tmp_path / "d0_summary.json").write_text(content)
    with pytest.raises(UserError, match="^[^\n]*d0_summary.json[^\n]*$"):
        read_times(Share("0", tmp_path, [], tmp_path, "d0"), None)
