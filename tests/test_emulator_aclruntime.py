"""The emulated aclruntime as the public ais_bench package uses it, and ais_bench on small models of our own."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import patch_heatmaps, patch_model

from tests.emulator import environment
from tests.emulator.local import build_om

SHAPE, OUTPUT = (3, 64, 48), (17, 16, 12)
SESSION = """
import json, sys, numpy as np, aclruntime
path, gears, generation = sys.argv[1:]
options = aclruntime.session_options()
found = {"options": [options.loop, options.log_level, options.acl_json_path]}
session = aclruntime.InferenceSession(path, 0, options)
desc = session.get_inputs()[0]
found["input"] = [desc.name, int(desc.datatype), desc.format, desc.shape, desc.size, desc.realsize]
names = [one.name for one in session.get_outputs()]
rows = np.random.default_rng(0).standard_normal((4, 3, 64, 48)).astype(np.float32)
outputs = session.run(names, [aclruntime.BaseTensor(rows.__array_interface__["data"][0], rows.nbytes)])
try:
    np.array(outputs[0])
except RuntimeError as error:
    found["on_device"] = [str(error), str(outputs[0].type), outputs[0].device]
outputs[0].to_host()
np.save(sys.argv[1] + ".npy", np.array(outputs[0]))
tensor = aclruntime.Tensor(rows)
tensor.to_device(0)
by_name = session.run(names, {"image": tensor})[0]
by_name.to_host()
found["same"] = bool((np.array(by_name) == np.array(outputs[0])).all())
found["text"] = [str(outputs[0]), str(session)]
times = session.sumary().exec_time_list
found["times"] = [len(times), isinstance(times[0], tuple)]
found["copies"] = [len(aclruntime.MemorySummary().H2D_time_list), len(aclruntime.MemorySummary().D2H_time_list)]
found["reset"] = [session.reset_sumaryinfo(), len(session.sumary().exec_time_list)]
other = aclruntime.InferenceSession(gears, 0, options)
found["gear"] = [other.set_dynamic_batchsize(2), other.get_inputs()[0].shape, other.get_inputs()[0].realsize]
two = other.run(names, [aclruntime.BaseTensor(rows.__array_interface__["data"][0], rows.nbytes // 2)])[0]
found["gear"].append(two.shape)
for call in (lambda: other.set_dynamic_batchsize(3), lambda: aclruntime.InferenceSession("absent.om", 0, options),
             lambda: session.run(names, [aclruntime.BaseTensor(rows.__array_interface__["data"][0], 8)])):
    try:
        call()
    except RuntimeError as error:
        found.setdefault("errors", []).append(str(error))
if generation == "new":
    other.free_resource(), session.free_resource(), aclruntime.InferenceSession.finalize()
else:
    session.finalize()
print("found " + json.dumps(found), flush=True)
"""


@pytest.fixture(scope="module")
def oms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("om")
    static, symbolic = patch_model(folder / "m4.onnx", 4), patch_model(folder / "m.onnx")
    made = SimpleNamespace(bs4=build_om(static, folder / "bs4", "image:4,3,64,48"),
                           gears=build_om(symbolic, folder / "gears", "image:-1,3,64,48", dynamic_batch_size="1,2,4"))
    for path in (made.bs4, made.gears):
        path.chmod(0o640)
    return made


@pytest.mark.parametrize("generation", ["old", "new"])
def test_a_session(oms, tmp_path, generation):
    done = subprocess.run([sys.executable, "-c", SESSION, oms.bs4, oms.gears, generation], text=True,
                          env=environment(ais_bench=generation), capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("found "))[6:])
    size = 4 * 3 * 64 * 48 * 4
    rows = np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(np.load(f"{oms.bs4}.npy"), patch_heatmaps(rows), atol=2e-5)
    assert found["options"] == [1, 2, ""] and found["input"] == ["image", 0, 0, [4, *SHAPE], size, size]
    assert found["on_device"] == ["tensor is in npu. can't convert to numpy array", "type.memory_device", 0]
    assert found["same"]
    assert found["text"][0] == "<Tensor>\nshape:\t(4, 17, 16, 12)\ndtype:\tfloat32\ndevice:\t-1"
    assert f"  #0    image  (4, 3, 64, 48)  float32  {size}  {size}\n" in found["text"][1]
    assert found["times"] == [2, generation == "new"] and found["copies"] == [2, 2] and found["reset"] == [0, 0]
    assert found["gear"] == [0, [-1, *SHAPE], size // 2, [2, *OUTPUT]]
    assert found["errors"] == ["[1][ACL: invalid parameter] ", "[1][ACL: invalid parameter] ",
                               "[-1][ACL: general failure] "]


@pytest.fixture()
def bench(oms, tmp_path):
    """Run ais_bench in a folder with five people in prep/ and an empty results/."""
    (tmp_path / "prep").mkdir(mode=0o750)
    (tmp_path / "results").mkdir(mode=0o755)
    people = np.random.default_rng(0).standard_normal((5, *SHAPE)).astype(np.float32)
    for number, row in enumerate(people):
        path = tmp_path / "prep" / f"{number:012d}.bin"
        row.tofile(path)
        path.chmod(0o640)

    def run(generation, *arguments, model=oms.bs4, **config):
        env = environment(ais_bench=generation, **config)
        return subprocess.run(
            [sys.executable, "-m", "ais_bench", "--model", model, "--input", "prep", "--output", "results",
             "--output_dirname", "o", *arguments], cwd=tmp_path, env=env, capture_output=True, text=True)

    return SimpleNamespace(run=run, folder=tmp_path, people=people)


@pytest.mark.parametrize("generation", ["old", "new"])
def test_dumps_are_the_models(bench, generation):
    done = bench.run(generation)
    assert done.returncode == 0, done.stderr
    dumps = sorted((bench.folder / "results" / "o").iterdir())
    assert [path.name for path in dumps] == [f"{number:012d}_0.bin" for number in range(5)]
    came = np.stack([np.fromfile(path, np.float32).reshape(OUTPUT) for path in dumps])
    np.testing.assert_allclose(came, patch_heatmaps(bench.people), atol=2e-5)
    modes = {oct(path.stat().st_mode & 0o777) for path in dumps}
    assert modes == {"0o640"} if generation == "new" else "0o640" not in modes
    summary = json.loads((bench.folder / "results" / "o_summary.json").read_text())
    assert summary["NPU_compute_time"]["count"] == 2 and len(summary["filesinfo"]) == 5


def test_a_failing_execution_is_reported_and_what_was_whole_stays(bench):
    fault = {"call": "aclmdlExecute", "nth": 3, "code": 507015, "message": "EZ9999: AI-core exception"}
    done = bench.run("old", errors=[fault])
    assert done.returncode == 1 and done.stderr.endswith("RuntimeError: [-1][ACL: general failure] \n")
    assert "EZ9999: AI-core exception" in done.stdout and "[ERROR] execute model failed, modelId is 1" in done.stdout
    assert len(list((bench.folder / "results" / "o").iterdir())) == 4  # the first batch
    assert not (bench.folder / "results" / "o_summary.json").exists()


def test_the_new_path_rules_see_every_entry(bench):
    (bench.folder / "prep" / "manifest.json").write_text("{}")
    (bench.folder / "prep" / "manifest.json").chmod(0o664)
    done = bench.run("new")
    assert done.returncode == 1 and done.stderr.endswith("RuntimeError: input data:prep/manifest.json is illegal\n")
    assert bench.run("old").returncode == 0
    (bench.folder / "prep").chmod(0o770)
    done = bench.run("new")
    assert done.returncode == 2 and "argument --input/-i: input path:prep is illegal. Please check." in done.stderr


def test_a_gear_must_be_set_in_the_new_generation(bench, oms):
    done = bench.run("new", model=oms.gears)
    assert done.returncode == 1 and "dymbatch, dymdims or dymshape not set!" in done.stderr
    assert bench.run("new", "--dymBatch", "1", model=oms.gears).returncode == 0
    done = bench.run("old", model=oms.gears)
    assert done.returncode == 0 and "try get model batchsize:-1" in done.stdout and ": -" in done.stdout


@pytest.mark.parametrize("generation, expected", [("old", 0), ("new", 1)])
def test_without_setuptools(bench, generation, expected):
    done = bench.run(generation, setuptools=False)
    assert done.returncode == expected
    assert "Inference tensor Processing" in done.stdout if generation == "old" else "UnboundLocalError" in done.stderr


def test_the_generations_can_be_told_apart():
    for generation in ("old", "new"):
        done = subprocess.run([sys.executable, "-m", "ais_bench", "--help"], env=environment(ais_bench=generation),
                              capture_output=True, text=True)
        assert done.returncode == 0 and ("--divide_input" in done.stdout) == (generation == "new")
        folder = environment(ais_bench=generation)["PYTHONPATH"].split(os.pathsep)[0]
        assert os.path.exists(f"{folder}/ais_bench/infer/args_adapter.py") == (generation == "new")
