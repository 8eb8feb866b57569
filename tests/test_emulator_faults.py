"""The emulated pyACL: leaks are counted, faults hit the call that they name, the machine is what was configured."""
from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT, patch_model

from tests.emulator.loaded import H2D, Loaded, build_models, rows
from tests.emulator.local import configured, load


@pytest.fixture(scope="module")
def oms(tmp_path_factory):
    return build_models(tmp_path_factory.mktemp("om"), patch_model)


@pytest.fixture()
def acl():
    with configured(devices=2) as module:
        assert module.init() == 0 and module.rt.set_device(0) == 0
        yield module


def test_leaks_are_counted(acl, oms, capsys):
    Loaded(acl, oms.bs4)
    acl.rt.create_stream(), acl.rt.create_event(), acl.rt.create_context(0)
    acl.rt.malloc_host(8)
    leaks = load("ascend_emulator.acl.state").STATE.leaks()
    assert leaks == {"buffer": 2, "context": 1, "dataset": 2, "desc": 1, "device memory": 2, "device not reset": 1,
                     "event": 1, "host memory": 1, "model": 1, "stream": 1}
    assert acl.finalize() == 0
    assert "aclFinalize: still open" in capsys.readouterr().err


def test_nothing_is_left_of_a_thousand_batches(acl, oms):
    state = load("ascend_emulator.acl.state").STATE
    model, stream = Loaded(acl, oms.bs4), acl.rt.create_stream()[0]
    host = acl.rt.malloc_host(model.sizes[0])[0]
    before = state.leaks()
    for _ in range(1000):
        acl.rt.memcpy_async(model.device[0], model.sizes[0], host, model.sizes[0], H2D, stream)
        acl.mdl.execute_async(model.id, model.inputs, model.outputs, stream)
        assert acl.rt.synchronize_stream(stream) == 0
    assert state.leaks() == before
    model.close()
    acl.rt.free_host(host), acl.rt.destroy_stream(stream), acl.rt.reset_device(0)
    assert state.leaks() == {}


def test_faults_hit_the_call_that_they_name(oms, tmp_path):
    faults = [{"call": "aclmdlExecute", "nth": 3, "code": 507011, "message": "EZ9999: injected"},
              {"call": "acl.rt.malloc_host", "nth": [1, 2], "code": 207001},
              {"call": "acl.mdl.create_desc", "nth": 2, "value": None},
              {"call": "aclrtFree", "device": 1, "code": 107000}]
    with configured(errors=faults, devices=2, trace=str(tmp_path / "trace")) as acl:
        acl.init(), acl.rt.set_device(0)
        model = Loaded(acl, oms.bs4)
        model.feed(rows())
        assert [acl.mdl.execute(model.id, model.inputs, model.outputs) for _ in range(4)] == [0, 0, 507011, 0]
        assert acl.get_recent_err_msg() == "EZ9999: injected"
        assert [acl.rt.malloc_host(8)[1] for _ in range(3)] == [207001, 207001, 0]
        assert acl.mdl.create_desc() is None
        assert acl.rt.free(acl.rt.malloc(8, 0)[0]) == 0
        acl.rt.set_device(1)
        assert acl.rt.free(acl.rt.malloc(8, 0)[0]) == 107000
    calls = [json.loads(line) for line in (tmp_path / "trace").read_text().splitlines()]
    assert [call["code"] for call in calls if call["call"] == "aclmdlExecute"] == [0, 0, 507011, 0]


@pytest.mark.parametrize("text, expected", [("1", [1]), ("0,2,3", [0, 2, 3]), ("2,1", [2]), ("0,9,1", [0]),
                                            ("1, 2", [1]), ("", []), (None, [0, 1, 2, 3])])
def test_visible_devices(monkeypatch, text, expected):
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
    if text is not None:
        monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", text)
    with configured(devices=4) as acl:
        acl.init()
        assert acl.rt.get_device_count() == (len(expected), 0)
        assert load("ascend_emulator.acl.rt").visible_devices() == expected
        assert acl.rt.set_device(len(expected)) == 107001


def test_the_overflow_mode_is_the_chips():
    for soc, expected in (("Ascend310P3", 207000), ("Ascend910B3", 0)):
        with configured(soc=soc) as acl:
            acl.init(), acl.rt.set_device(0)
            assert acl.rt.set_device_sat_mode(0) == 0 and acl.rt.set_device_sat_mode(1) == expected
            assert acl.get_soc_name() == soc and acl.rt.get_run_mode() == (1, 0)


def test_nothing_of_it_is_imported_by_accident():
    """Not by importing its package, where the packages of a card are installed or not."""
    code = "import sys, tests.emulator; print(*{'acl', 'aclruntime', 'ais_bench'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == ""
