"""What a kit's run.sh does, and what its Python files may ask of a server's Python."""
from __future__ import annotations

import argparse
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from kit_cases import SOC

from jobs.arguments import parse_args
from jobs.series import make_choices, make_jobs
from kit import packing, plan
from kit.archive import write_tar


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    args = parse_args(["--targets", "cpu", "--work", str(tmp_path_factory.mktemp("work"))])
    return make_jobs(args, make_choices(args))[0]


def text(job, *targets: str) -> str:
    jobs = [(dataclasses.replace(job, target=target, runner=next(iter(plan.kit_runners(target)))), "m_bs16.onnx")
            for target in targets]
    return plan.script((packing.HERE / "run.sh").read_text(), "m", jobs)


def test_run_sh_is_bash(job, tmp_path):
    (tmp_path / "run.sh").write_text(text(job, "Ascend310P3", "Ascend910B3", "gpu", "cpu"))
    assert subprocess.run(["bash", "-n", str(tmp_path / "run.sh")]).returncode == 0


def test_run_sh_runs_the_published_commands(job):
    """Those of docs/ascend.md, with the devices that the user names."""
    lines = [line.strip() for line in text(job, "Ascend310P3").splitlines() if line.strip().startswith("step ")]
    assert 'step "$PYTHON" -m ascend.atc models/m_bs16.onnx --soc_version Ascend310P3 --output models/m_bs16.om ' \
        "--batch 16" in lines
    assert 'step "$PYTHON" -m ascend.ais_bench --model models/m_bs16.om --input prep_data --output results ' \
        '--output_dirname Ascend310P3_bs16 --batchsize 16 --device "$device" --replace' in lines


def test_each_precision_has_files_of_its_own(job):
    jobs = [(dataclasses.replace(job, target="Ascend310P3", runner="acl", variant=f"_{mode}",
                                 options={"precision_mode": mode}), "m_bs16.onnx")
            for mode in ("force_fp16", "must_keep_origin_dtype")]
    built = re.findall(r"--output (models/\S+) .* --precision_mode (\w+)",
                       plan.script((packing.HERE / "run.sh").read_text(), "m", jobs))
    assert set(built) == {("models/m_bs16_force_fp16.om", "force_fp16"),
                          ("models/m_bs16_must_keep_origin_dtype.om", "must_keep_origin_dtype")}


@pytest.mark.parametrize("target, options, expected", [
    (SOC, {}, {"": {}}), ("gpu", {"precision": ["fp32", "int8"]},
                          {"_fp32": {"precision": "fp32"}, "_int8": {"precision": "int8"}}),
    (SOC, {"precision": ["fp16", "int8", "fp32"]}, {"_fp16": {}, "_int8": {"precision": "int8"}}),
    (SOC, {"precision": ["int8", "fp16"], "precision_mode": ["allow_mix_precision"]},
     {"_int8_allow_mix_precision": {"precision": "int8", "precision_mode": "allow_mix_precision"}}),
    ("cpu", {"precision": ["fp16", "int8"], "precision_mode": ["allow_mix_precision"]},
     {"_int8": {"precision": "int8"}})], ids=str)
def test_a_target_has_a_run_for_each_precision_that_it_takes(target, options, expected):
    """float16 of Ascend is what atc makes unasked."""
    args = argparse.Namespace(**{"precision": None, "precision_mode": None, **options})
    assert {variant: chosen for chosen, variant in packing.variants(target, args)} == expected


def test_a_name_cannot_end_the_comment_that_it_stands_in(job):
    assert "\nrm" not in plan.script((packing.HERE / "run.sh").read_text(), "m\nrm -r x", [(job, "m.onnx")])


def test_an_engine_is_built_on_the_first_of_several_gpus(job):
    built = [line for line in text(job, "gpu").splitlines() if "tensorrt.build" in line]
    assert built and all('--device "${device%%,*}"' in line for line in built)


def test_nothing_of_this_machine_is_in_run_sh(job):
    assert str(ROOT) not in text(job, "Ascend310P3", "gpu", "cpu") and "/tmp" not in text(job, "gpu")


@pytest.mark.parametrize("target", ["Ascend310P3", "cpu", "gpu"])
def test_the_program_is_complete(tmp_path, target):
    """Every module of it can be found in it; none is taken from elsewhere."""
    files = packing.program_files([target])
    for path in files:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for command in (["infer.py", "--help"], ["-m", "kit.server", "--help"]):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert not [path for path in files if Path(path).suffix != ".py"]


def test_the_same_files_are_the_same_bytes(tmp_path):
    """Whatever the order, times and modes of the files, and the name of the tar."""
    (tmp_path / "file").write_bytes(b"x" * 1000)
    files = {"b/file": tmp_path / "file", "a": b"text"}
    first = write_tar(tmp_path / "one.tar", "kit", files)
    os.utime(tmp_path / "file", (1, 1))
    (tmp_path / "file").chmod(0o777)
    assert write_tar(tmp_path / "two.tar", "kit", dict(reversed(list(files.items())))) == first
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
