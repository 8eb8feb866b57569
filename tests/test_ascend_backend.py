"""pyACL: numbers, leaks and failures, on the emulated card that checks every call (tests/test_backends.py has more)."""
from __future__ import annotations

import json
import re

import pytest
from ascend_cases import models, row, run  # noqa: F401
from conftest import one_error

from tests.emulator import environment

# Runs in a process of its own, as one does with ACL. Prints one JSON line.
THOUSAND = """
import json, resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from ascend.backend import Backend
from conftest import patch_heatmaps
backend = Backend(sys.argv[1])
rng = np.random.default_rng(0)
crops = [rng.uniform(-0.5, 0.6, (rows, 3, 64, 48)).astype(np.float32) for rows in (4, 1, 3, 4)[:int(sys.argv[2])]]
expected = [patch_heatmaps(rows) for rows in crops]
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def check(number):
    rows = crops[number % len(crops)]
    if number % 3:
        heatmaps = backend.infer(rows)
    else:  # written straight into the memory that is copied from
        heatmaps = backend.infer_from(len(rows), lambda memory: np.copyto(memory, rows))
    assert heatmaps.dtype == np.float32
    return float(np.abs(heatmaps - expected[number % len(crops)]).max())
with ThreadPoolExecutor(backend.slots) as pool:
    errors = list(pool.map(check, range(100)))
    before = peak()
    errors += pool.map(check, range(1000))
print(json.dumps({"error": max(errors), "times": len(backend.times), "grown_kib": peak() - before}))
backend.close()
"""
# Every call of pyACL that reports success fails once, the first time and the second.
FAILURES = """
import json, sys
import numpy as np
from ascend.backend import Backend
from ascend.pyacl import initialise
from contract.errors import UserError
from ascend_emulator.acl.state import STATE
from ascend_emulator.machine import Fault, machine
initialise()
crops = np.zeros((4, 3, 64, 48), np.float32)
def use():
    backend = Backend(sys.argv[1])
    try:
        backend.infer(crops)
        return backend.infer(crops)
    finally:
        backend.close()
use()
told, leaks = {}, {}
for call in json.loads(sys.argv[2]):
    for nth in (1, 2):
        machine().counts.clear()
        machine().errors = [Fault(call, nth, code=507033, message="EE9999: told by the emulator")]
        try:
            use()
        except UserError as error:
            told[call] = str(error)
        machine().errors = []
        leaks.update(STATE.leaks())
        if nth == 1 and call not in told:
            told[call] = "nothing"
use()
print(json.dumps({"told": told, "leaks": leaks}))
"""
CALLS = ("acl.rt.set_device", "acl.rt.create_context", "acl.rt.create_stream", "acl.mdl.load_from_file",
         "acl.mdl.get_desc", "acl.mdl.get_dynamic_batch", "acl.mdl.get_input_dims", "acl.mdl.get_output_dims",
         "acl.rt.malloc", "acl.rt.malloc_host", "acl.mdl.add_dataset_buffer", "acl.rt.set_context",
         "acl.rt.create_event", "acl.rt.memcpy_async", "acl.rt.record_event", "acl.rt.stream_wait_event",
         "acl.mdl.execute_async", "acl.rt.synchronize_stream", "acl.rt.event_elapsed_time")
GEAR_CALLS = ("acl.mdl.get_input_index_by_name", "acl.mdl.set_dynamic_batch_size")


@pytest.mark.parametrize("schedule", ["late", "eager", "shuffle"])
@pytest.mark.parametrize("model, sizes", [("m_bs4.om", 1), ("m_gears.om", 4)])
def test_a_thousand_batches_leave_nothing_open(tmp_path, models, model, sizes, schedule):  # noqa: F811
    """Whatever order a device does its work in, from three threads."""
    env = environment(schedule=schedule)
    env["PYTHONPATH"] += ":tests"
    finished = run(env, "-c", THOUSAND, models / model, sizes)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["error"] < 1e-6 and found["times"] == 1100 and found["grown_kib"] < 4096
    assert "still open" not in finished.stderr


# Two batches from two threads, of which the first waits for a second: in that time the other is submitted.
AHEAD = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from ascend.backend import Backend
backend = Backend(sys.argv[1])
with ThreadPoolExecutor(2) as pool:
    list(pool.map(backend.infer, [np.zeros((4, 3, 64, 48), np.float32)] * 2))
backend.close()
"""


def test_a_batch_is_submitted_before_the_one_before_it_is_done(tmp_path, models):  # noqa: F811
    trace = tmp_path / "trace"
    finished = run(environment(trace=str(trace), slow={"aclrtSynchronizeStream": 1}), "-c", AHEAD,
                   models / "m_bs4.om")
    assert finished.returncode == 0, finished.stderr
    calls = [json.loads(line)["call"] for line in trace.read_text().splitlines()]
    waits = [place for place, call in enumerate(calls) if call == "aclrtSynchronizeStream"]
    assert calls[:waits[0]].count("aclmdlExecuteAsync") == 2


@pytest.mark.parametrize("fill, hint", [("memory[:] = 1", ""), ("raise UserError('a bin is short')", "a bin is short")])
def test_rows_that_cannot_be_written_leave_the_memory_for_the_next(tmp_path, models, fill, hint):  # noqa: F811
    program = f"""
import sys
import numpy as np
from ascend.backend import Backend
from contract.errors import UserError
backend = Backend(sys.argv[1])
def write(memory):
    {fill}
for _ in range(5):
    try:
        backend.infer_from(4, write)
    except UserError as error:
        print(error)
print((backend.infer(np.ones((4, 3, 64, 48), np.float32)) != 0).any())
backend.close()
"""
    finished = run(environment(), "-c", program, models / "m_bs4.om")
    assert finished.stdout.splitlines() == [hint] * (5 if hint else 0) + ["True"], finished.stderr


@pytest.mark.parametrize("model, calls", [("m_bs4.om", CALLS), ("m_gears.om", GEAR_CALLS)])
def test_every_failure_is_told_and_leaks_nothing(tmp_path, models, model, calls):  # noqa: F811
    finished = run(environment(), "-c", FAILURES, models / model, json.dumps(calls))
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["leaks"] == {} and "still open" not in finished.stderr
    for call in calls:
        assert re.search(rf"{call} failed with 507033: .*cannot be opened.*told by the emulator", found["told"][call])


# Two models on a device, one on another.
TWO = """
import sys
import numpy as np
from ascend.backend import Backend
rows = np.random.default_rng(0).standard_normal((4, 3, 64, 48)).astype(np.float32)
first, second, elsewhere = (Backend(sys.argv[1], device) for device in ("0", "0", "1"))
expected = first.infer(rows)
first.close()
assert (second.infer(rows) == expected).all() and (elsewhere.infer(rows) == expected).all()
second.close()
again = Backend(sys.argv[1])
assert (elsewhere.infer(rows) == expected).all() and (again.infer(rows) == expected).all()
again.close(), elsewhere.close()
"""


def test_closing_one_of_several_leaves_the_others_alone(tmp_path, models):  # noqa: F811
    finished = run(environment(devices=2), "-c", TWO, models / "m_bs4.om")
    assert finished.returncode == 0 and finished.stderr == ""


OPEN = "import sys; from ascend.backend import Backend; Backend(sys.argv[1], sys.argv[2] or None)"


@pytest.mark.parametrize("config, device, hint", [
    row(1, {"errors": [{"call": "aclInit", "code": 507008}]}, "", "ascend_install.info"),
    row(1, {"errors": [{"call": "aclrtSetDevice", "code": 507033}]}, "", "HwHiAiUser"),
    row(1, {"cann": "8.0.0"}, "", "newer CANN"), row(2, {"soc": "Ascend910B2"}, "", "507008"),
    row(2, {"soc": "Ascend910B2"}, "", "--soc_version"), row(3, {"acl": False}, "", "set_env.sh"),
    row(3, {"set_env": False}, "", "set_env.sh"), row(16, {}, "3", "107001"),
    row(17, {"errors": [{"call": "aclInit", "code": 507000, "message": "TsdOpen failed"}]}, "", "ASCEND_AICPU_PATH"),
    ({}, "cuda", "such as 0"), ({"memory_mb": 0.01}, "", "smaller batch")])
def test_what_is_wrong_with_the_machine_is_explained(tmp_path, models, config, device, hint):  # noqa: F811
    code = f"import sys\nfrom contract.script import exit_code\ndef main():\n    {OPEN}\nsys.exit(exit_code(main))"
    assert hint in one_error(run(environment(**config), "-c", code, models / "m_bs4.om", device))


def test_an_om_that_cannot_be_read(tmp_path, models):  # noqa: F811
    code = f"import sys\nfrom contract.script import exit_code\ndef main():\n    {OPEN}\nsys.exit(exit_code(main))"
    damaged = tmp_path / "damaged.om"
    damaged.write_bytes(b"damaged")
    assert "damaged or of a newer CANN" in one_error(run(environment(), "-c", code, damaged, ""))
