"""The emulated streams: asynchronous work happens late, early or at random, and only waiting makes it sure."""
from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from conftest import patch_heatmaps, patch_model

from tests.emulator.loaded import D2H, H2D, Loaded, build_models, close_to, rows
from tests.emulator.local import configured, load


@pytest.fixture(scope="module")
def oms(tmp_path_factory):
    return build_models(tmp_path_factory.mktemp("om"), patch_model)


@pytest.fixture()
def acl():
    with configured(devices=2) as module:
        assert module.init() == 0 and module.rt.set_device(0) == 0
        yield module


def test_asynchronous_copies_need_pinned_memory(acl):
    stream, device = acl.rt.create_stream()[0], acl.rt.malloc(8, 0)[0]
    own, host = np.zeros(8, np.uint8), acl.rt.malloc_host(8)[0]
    assert acl.rt.memcpy_async(device, 8, own.ctypes.data, 8, H2D, stream) == 107000
    assert acl.rt.memcpy_async(device, 8, host, 8, H2D, stream) == 0
    assert acl.rt.synchronize_stream(stream) == 0


def test_streams_and_events_are_of_their_context(acl):
    stream, event = acl.rt.create_stream()[0], acl.rt.create_event()[0]
    other = acl.rt.create_context(0)[0]
    assert acl.rt.synchronize_stream(stream) == 107003 and acl.rt.record_event(event, 0) == 107003
    assert acl.rt.synchronize_stream(12345) == 107000 and acl.rt.synchronize_stream(0) == 0
    assert acl.rt.destroy_context(other) == 0


def asynchronous(acl, model, stream, host_in, host_out):
    for kind in ("in", "execute", "out"):
        yield {"in": lambda: acl.rt.memcpy_async(model.device[0], model.sizes[0], host_in, model.sizes[0], H2D, stream),
               "execute": lambda: acl.mdl.execute_async(model.id, model.inputs, model.outputs, stream),
               "out": lambda: acl.rt.memcpy_async(host_out, model.out_size, model.device[-1], model.out_size, D2H,
                                                  stream)}[kind]()


@pytest.mark.parametrize("schedule", ["late", "eager", "shuffle"])
def test_asynchronous_work_is_done_when_it_is_waited_for(oms, schedule):
    with configured(schedule=schedule) as acl:
        acl.init(), acl.rt.set_device(0)
        model, stream = Loaded(acl, oms.bs4), acl.rt.create_stream()[0]
        host_in, host_out = acl.rt.malloc_host(model.sizes[0])[0], acl.rt.malloc_host(model.out_size)[0]
        memory = load("ascend_emulator.acl.state").STATE.memory
        memory[host_in].bytes[:] = rows().reshape(-1).view(np.uint8)
        assert list(asynchronous(acl, model, stream, host_in, host_out)) == [0, 0, 0]
        result = memory[host_out].bytes.view(np.float32).reshape(4, 17, 16, 12)
        if schedule == "late":
            assert acl.rt.stream_query(stream) == (1, 0)
            assert (memory[host_out].bytes == 0xA5).all()  # nothing came before the program waited
        assert acl.rt.synchronize_stream(stream) == 0 and acl.rt.stream_query(stream) == (0, 0)
        close_to(result, patch_heatmaps(rows()))


def pipelined(acl, oms, with_event):
    """Copy in on one stream, execute on another; only an event orders them. Returns the result."""
    model = Loaded(acl, oms.bs4)
    copy, compute, event = acl.rt.create_stream()[0], acl.rt.create_stream()[0], acl.rt.create_event()[0]
    host = acl.rt.malloc_host(model.sizes[0])[0]
    load("ascend_emulator.acl.state").STATE.memory[host].bytes[:] = rows().reshape(-1).view(np.uint8)
    assert acl.rt.memcpy_async(model.device[0], model.sizes[0], host, model.sizes[0], H2D, copy) == 0
    assert acl.rt.record_event(event, copy) == 0
    if with_event:
        assert acl.rt.stream_wait_event(compute, event) == 0
    assert acl.mdl.execute_async(model.id, model.inputs, model.outputs, compute) == 0
    assert acl.rt.synchronize_stream(compute) == 0
    assert acl.rt.query_event_status(event) == (0 if with_event else 1, 0)
    return model.read((4, 17, 16, 12))


def test_events_order_streams_and_their_absence_is_seen(acl, oms):
    close_to(pipelined(acl, oms, True), patch_heatmaps(rows()))
    assert np.isnan(pipelined(acl, oms, False)).all()


def test_one_model_runs_on_one_stream_at_a_time(acl, oms):
    model = Loaded(acl, oms.bs4)
    model.feed(rows())
    first, second = acl.rt.create_stream()[0], acl.rt.create_stream()[0]
    assert acl.mdl.execute_async(model.id, model.inputs, model.outputs, first) == 0
    assert acl.mdl.execute_async(model.id, model.inputs, model.outputs, second) == 507011
    assert "another stream" in acl.get_recent_err_msg()
    assert acl.mdl.execute(model.id, model.inputs, model.outputs) == 507011 and acl.mdl.unload(model.id) == 507011
    assert acl.rt.synchronize_stream(first) == 0
    assert acl.mdl.execute_async(model.id, model.inputs, model.outputs, second) == 0


def test_memory_freed_under_a_copy_is_seen(acl):
    stream, device, host = acl.rt.create_stream()[0], acl.rt.malloc(8, 0)[0], acl.rt.malloc_host(8)[0]
    assert acl.rt.memcpy_async(device, 8, host, 8, H2D, stream) == 0 and acl.rt.free_host(host) == 0
    assert acl.rt.synchronize_stream(stream) == 507011 and "freed" in acl.get_recent_err_msg()
    assert acl.rt.synchronize_stream(stream) == 0  # said once


def test_synchronising_lets_other_threads_run(oms):
    with configured(slow={"acl.rt.synchronize_stream": 0.2}) as acl:
        acl.init(), acl.rt.set_device(0)
        stream, seen, done = acl.rt.create_stream()[0], [], threading.Event()
        thread = threading.Thread(target=lambda: [seen.append(time.sleep(0.01)) for _ in iter(done.is_set, True)])
        thread.start()
        acl.rt.synchronize_stream(stream)
        done.set()
        thread.join()
        assert len(seen) >= 3
