"""The emulated pyACL: each rule is broken once, and the right use gives what ONNX Runtime gives."""
from __future__ import annotations

import threading

import numpy as np
import pytest
from conftest import patch_heatmaps, patch_model

from tests.emulator.loaded import D2D, D2H, FLOATS, H2D, SHAPE, Loaded, build_models, close_to, rows
from tests.emulator.local import configured


@pytest.fixture(scope="module")
def oms(tmp_path_factory):
    return build_models(tmp_path_factory.mktemp("om"), patch_model)


@pytest.fixture()
def acl():
    with configured(devices=2) as module:
        assert module.init() == 0 and module.rt.set_device(0) == 0
        yield module


def test_a_model_computes(acl, oms):
    model = Loaded(acl, oms.bs4)
    assert acl.mdl.get_input_dims(model.desc, 0) == (
        {"name": "image", "dimCount": 4, "dims": [4, *SHAPE]}, 0)
    assert model.sizes == [4 * FLOATS * 4] and model.out_size == 4 * 17 * 16 * 12 * 4
    model.feed(rows())
    assert acl.mdl.execute(model.id, model.inputs, model.outputs) == 0
    close_to(model.read((4, 17, 16, 12)), patch_heatmaps(rows()))
    model.close()
    assert acl.rt.reset_device(0) == 0 and acl.finalize() == 0


def test_half_precision_outputs_are_rounded_once(acl, oms):
    model = Loaded(acl, oms.half)
    assert acl.mdl.get_output_data_type(model.desc, 0) == 1 and model.out_size == 4 * 17 * 16 * 12 * 2
    model.feed(rows())
    assert acl.mdl.execute(model.id, model.inputs, model.outputs) == 0
    np.testing.assert_allclose(model.read((4, 17, 16, 12), np.float16), patch_heatmaps(rows()), atol=4e-3)


def test_gears(acl, oms):
    model = Loaded(acl, oms.gears)
    assert acl.mdl.get_dynamic_batch(model.desc) == ({"batchCount": 3, "batch": [1, 2, 4]}, 0)
    index, code = acl.mdl.get_input_index_by_name(model.desc, "ascend_mbatch_shape_data")
    assert (index, code) == (1, 0) and model.sizes == [4 * FLOATS * 4, 8]
    model.feed(rows(2))
    assert acl.mdl.set_dynamic_batch_size(model.id, model.inputs, 1, 3) == 145013
    assert acl.mdl.set_dynamic_batch_size(model.id, model.inputs, 0, 2) == 100000
    assert acl.mdl.set_dynamic_batch_size(model.id, model.inputs, 1, 2) == 0
    assert acl.mdl.execute(model.id, model.inputs, model.outputs) == 0
    assert acl.mdl.get_cur_output_dims(model.desc, 0)[0]["dims"] == [2, 17, 16, 12]
    close_to(model.read((2, 17, 16, 12)), patch_heatmaps(rows(2)))


def test_without_a_gear_the_largest_is_used(acl, oms):
    model = Loaded(acl, oms.gears)
    model.feed(rows())
    assert acl.mdl.execute(model.id, model.inputs, model.outputs) == 0
    close_to(model.read((4, 17, 16, 12)), patch_heatmaps(rows()))


def test_a_static_model_has_no_gear(acl, oms):
    model = Loaded(acl, oms.bs4)
    assert acl.mdl.get_dynamic_batch(model.desc) == ({"batchCount": 0, "batch": []}, 0)
    assert acl.mdl.set_dynamic_batch_size(model.id, model.inputs, 0, 4) == 100019


@pytest.mark.parametrize("name, expected", [
    ("other_chip", 507008), ("absent", 145002), ("text", 100012), ("header", 100012), ("newer", 545001),
    ("broken", 100013)])
def test_what_cannot_be_loaded(acl, oms, name, expected, tmp_path):
    path = tmp_path / f"{name}.om"
    data = oms.bs4.read_bytes()
    if name == "other_chip":
        path = oms.other_chip
    elif name != "absent":
        path.write_bytes({"text": b"PK", "header": data[:100], "broken": data[:2000],
                          "newer": data.replace(b'"cann": "9.1.0"', b'"cann": "9.2.0"')}[name])
    assert acl.mdl.load_from_file(str(path)) == (0, expected)
    message = acl.get_recent_err_msg()
    assert message and acl.get_recent_err_msg() is None
    if name == "other_chip":
        assert "EE1001" in message and "socVersion=Ascend310P3" in message and "Ascend910B" in message


def test_calls_need_init_and_a_context():
    with configured() as acl:
        assert acl.rt.set_device(0) == 100001 and acl.rt.malloc(8, 0) == (0, 100001)
        assert acl.finalize() == 100001
        assert acl.init() == 0 and acl.init() == 100002
        assert acl.rt.malloc(8, 0) == (0, 107002) and acl.rt.get_context() == (0, 107002)
        assert acl.mdl.load_from_file("x") == (0, 107002) and acl.rt.create_stream() == (0, 107002)
        assert acl.rt.set_device(1) == 107001 and acl.rt.create_context(-1) == (0, 107001)
        assert acl.finalize() == 0 and acl.finalize() == 100037 and acl.init() == 100002


def test_a_context_is_of_its_thread(acl):
    codes = []
    context = acl.rt.create_context(0)[0]
    thread = threading.Thread(target=lambda: codes.extend(
        [acl.rt.malloc(8, 0)[1], acl.rt.set_context(context), acl.rt.malloc(8, 0)[1]]))
    thread.start()
    thread.join()
    assert codes == [107002, 0, 0]
    assert acl.rt.destroy_context(context) == 0 and acl.rt.malloc(8, 0) == (0, 107002)
    assert acl.rt.set_context(context) == 107002


def test_arguments_are_checked_as_python_does(acl):
    for call in (lambda: acl.rt.malloc(8), lambda: acl.rt.malloc("8", 0), lambda: acl.rt.malloc(8.0, 0),
                 lambda: acl.mdl.load_from_file(b"x"), lambda: acl.rt.free(address=1)):
        with pytest.raises(TypeError):
            call()
    assert acl.rt.malloc(np.int64(8), 0)[1] == 0


def test_memory_has_bounds_and_sides(acl):
    device, host = acl.rt.malloc(64, 0)[0], acl.rt.malloc_host(64)[0]
    own = np.zeros(64, np.uint8)
    assert acl.rt.memcpy(device, 64, own.ctypes.data, 64, H2D) == 0
    assert acl.rt.memcpy(device + 32, 32, own.ctypes.data, 32, H2D) == 0
    assert acl.rt.memcpy(device, 32, own.ctypes.data, 33, H2D) == 107000  # more than dst_max
    assert acl.rt.memcpy(device, 65, own.ctypes.data, 10, H2D) == 107000  # dst_max beyond the allocation
    assert acl.rt.memcpy(device + 40, 32, own.ctypes.data, 10, H2D) == 107000
    assert acl.rt.memcpy(own.ctypes.data, 64, device + 1, 64, D2H) == 107000  # source range
    assert acl.rt.memcpy(device, 64, host, 64, D2H) == 107000 and acl.rt.memcpy(host, 64, device, 64, H2D) == 107000
    assert acl.rt.memcpy(device, 64, host, 64, D2D) == 107000 and acl.rt.memcpy(0, 64, host, 64, H2D) == 100000
    assert acl.rt.memcpy(device, 64, host, 64, 9) == 100000
    assert acl.rt.free(host) == 107000 and acl.rt.free_host(device) == 107000 and acl.rt.free(device + 1) == 107000
    assert acl.rt.free(device) == 0 and acl.rt.free(device) == 107000 and acl.rt.free_host(host) == 0
    assert acl.rt.memcpy(own.ctypes.data, 64, device, 64, D2H) == 107000  # freed
    assert acl.rt.malloc(0, 0) == (0, 100000) and acl.rt.malloc(8, 9) == (0, 100000)


def test_memory_belongs_to_its_device(acl):
    there = acl.rt.malloc(8, 0)[0]
    assert acl.rt.set_device(1) == 0
    own = np.zeros(8, np.uint8)
    assert acl.rt.memcpy(there, 8, own.ctypes.data, 8, H2D) == 107000


def test_fresh_memory_is_not_zero(acl):
    own = np.zeros(4, np.float32)
    assert acl.rt.memcpy(own.ctypes.data, 16, acl.rt.malloc(16, 0)[0], 16, D2H) == 0
    assert np.isnan(own).all()


def test_device_memory_ends(oms):
    with configured(memory_mb=1) as acl:
        acl.init(), acl.rt.set_device(0)
        first = acl.rt.malloc(1 << 20, 0)[0]
        assert acl.rt.malloc(1, 0) == (0, 207001) and acl.rt.get_mem_info(0) == (0, 1 << 20, 0)
        assert acl.rt.free(first) == 0 and acl.rt.malloc(1, 0)[1] == 0


def test_python_cannot_look_into_device_memory(acl):
    address = acl.rt.malloc(8, 0)[0]
    with pytest.raises(MemoryError, match="segmentation fault"):
        acl.util.ptr_to_bytes(address, 8)
    with pytest.raises(MemoryError):
        acl.util.ptr_to_numpy(address, (8,), 2)
    data = b"12345678"
    assert acl.util.ptr_to_bytes(acl.util.bytes_to_ptr(data), 8) == data
    array = np.arange(3, dtype=np.float32)
    assert acl.util.ptr_to_numpy(acl.util.numpy_to_ptr(array), (3,), 11).tolist() == [0, 1, 2]


def test_load_execute_and_unload_are_in_one_context(acl, oms):
    model = Loaded(acl, oms.bs4)
    acl.rt.create_context(0)
    assert acl.mdl.execute(model.id, model.inputs, model.outputs) == 107003
    assert acl.mdl.unload(model.id) == 107003
    assert acl.mdl.execute(99, model.inputs, model.outputs) == 145003 and acl.mdl.unload(99) == 145003


def test_data_sets_must_fit(acl, oms):
    model = Loaded(acl, oms.bs4)
    size, out = model.sizes[0], model.device[-1]
    empty, small = model.dataset([]), model.dataset([(model.device[0], size - 4)])
    assert acl.mdl.execute(model.id, empty, model.outputs) == 100017
    assert acl.mdl.execute(model.id, model.inputs, empty) == 100018
    assert acl.mdl.execute(model.id, small, model.outputs) == 145000
    lying = model.dataset([(out, size)])  # says more than the allocation has
    assert acl.mdl.execute(model.id, lying, model.outputs) == 145000
    host = model.dataset([(acl.rt.malloc_host(size)[0], size)])
    assert acl.mdl.execute(model.id, host, model.outputs) == 507011
    assert acl.mdl.execute(model.id, 77, model.outputs) == 100000
    assert acl.mdl.get_desc(acl.mdl.create_desc(), 99) == 100011
    assert acl.mdl.get_num_inputs(acl.mdl.create_desc()) == 0  # no description yet
