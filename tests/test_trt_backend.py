"""The tensorrt backend on the emulated GPU of tests/tensorrt_emulator: numbers, threads, graphs, failures, leaks.

tests/test_backends.py holds it to the contract of all backends.
"""
from __future__ import annotations

import contextlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, List

import numpy as np
import pytest
from conftest import patch_heatmaps, patch_model

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from trt_cases import build_plan, typed_model  # noqa: E402

from pose.errors import UserError  # noqa: E402
from tests.tensorrt_emulator import emulated  # noqa: E402
from trt.backend import LANES, SLOTS, Backend  # noqa: E402

VERSIONS = ("8.6.1", "10.3.0", "11.4.0")
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def plans(tmp_path_factory) -> SimpleNamespace:
    """Of the default version: for batches of 4, and with a profile of 1 to 8."""
    folder = tmp_path_factory.mktemp("plans")
    static, symbolic = patch_model(folder / "m4.onnx", 4), patch_model(folder / "m.onnx")
    return SimpleNamespace(static=build_plan(static, folder / "m4.engine"), symbolic=symbolic,
                           profile=build_plan(symbolic, folder / "m.engine", [(1, 4, 8)]))


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.6, (count, 3, 64, 48)).astype(np.float32)


def assert_right(heatmaps: np.ndarray, crops: np.ndarray) -> None:
    assert heatmaps.dtype == np.float32 and len(heatmaps) == len(crops)
    np.testing.assert_allclose(heatmaps, patch_heatmaps(crops), atol=TOLERANCE)


@contextlib.contextmanager
def gpu(**config: Any) -> Iterator[Any]:
    """The emulated machine; nothing may be left open, or be done that the real one does not report."""
    with emulated(**config) as machine:
        yield machine
        assert machine.state.leaks() == {} and machine.notes == [] and machine.state.pageable == 0


@contextlib.contextmanager
def opened(plan: Path, **options: Any) -> Iterator[Backend]:
    with contextlib.closing(Backend(plan, **options)) as backend:
        yield backend


@pytest.mark.parametrize("schedule", ["late", "eager", "shuffle"])
@pytest.mark.parametrize("layout", ["new", "old"])
@pytest.mark.parametrize("version", VERSIONS)
def test_from_all_its_threads_in_any_order_of_the_device(tmp_path, plans, version, layout, schedule):
    """Sizes that come and go: chunks of the largest batch, rests, a graph gained and lost."""
    plan = build_plan(plans.symbolic, tmp_path / "m.engine", [(1, 4, 8)], tensorrt=version)
    sizes = [int(size) for size in np.random.default_rng(0).choice([1, 3, 8, 8, 8, 19], 60)]
    with gpu(tensorrt=version, layout=layout, schedule=schedule) as machine, opened(plan) as backend:
        assert backend.infer(rows(2)).shape[0] == 2  # from this thread, as a warm-up is
        backend.times.clear()
        with ThreadPoolExecutor(backend.slots) as pool:
            results = list(pool.map(lambda pair: backend.infer(rows(pair[1], pair[0])), enumerate(sizes)))
        for number, (size, heatmaps) in enumerate(zip(sizes, results)):
            assert_right(heatmaps, rows(size, number))
        assert len(backend.times) == len(sizes) and min(backend.times) > 0
        assert machine.counts["cudaGraphLaunch"] > 0


def test_a_static_plan_fills_every_slot_and_runs_as_graphs(plans):
    with gpu() as machine, opened(plans.static) as backend:
        assert backend.input_shape == (4, 3, 64, 48) and backend.slots == SLOTS
        for number in range(4 * SLOTS):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        assert machine.counts["cudaStreamBeginCapture"] == SLOTS  # one a slot, at its second batch
        assert machine.counts["cudaGraphLaunch"] == 3 * SLOTS
        with pytest.raises(UserError, match="takes 4 rows at a time, got 3"):
            backend.infer(rows(3))


def test_each_slot_keeps_graphs_of_two_sizes(plans):
    with gpu(profile_sharing=True) as machine, opened(plans.profile) as backend:
        for size in (8, 3) * (3 * SLOTS):
            assert_right(backend.infer(rows(size, size)), rows(size, size))
        assert machine.counts["cudaStreamBeginCapture"] == LANES * SLOTS
        before = machine.counts["cudaStreamBeginCapture"]
        for size in (8, 3, 5) * SLOTS:  # one more than there are lanes: none comes twice in a row
            assert_right(backend.infer(rows(size, size)), rows(size, size))
        assert machine.counts["cudaStreamBeginCapture"] - before <= SLOTS


def test_a_short_batch_after_a_long_one_has_no_stale_rows(plans):
    with gpu(), opened(plans.profile) as backend:
        for _ in range(SLOTS + 1):
            backend.infer(rows(8, 1))
        for size in (1, 5, 7):
            assert_right(backend.infer(rows(size, 2)), rows(size, 2))


def test_results_stay_when_their_slot_is_used_again(plans):
    with gpu(), opened(plans.profile) as backend:
        first = backend.infer(rows(8, 1))
        for number in range(2, 3 * SLOTS):
            backend.infer(rows(8, number))
        assert_right(first, rows(8, 1))
        first[:] = 0
    assert first.sum() == 0  # and it is there when the pinned memory is not


def test_rows_may_change_as_soon_as_they_are_inferred(plans):
    with gpu(), opened(plans.profile) as backend:
        for number in range(2 * SLOTS):
            crops = rows(8, number)
            expected = patch_heatmaps(crops)
            heatmaps = backend.infer(crops)
            crops[:] = np.nan
            np.testing.assert_allclose(heatmaps, expected, atol=TOLERANCE)


def test_fewer_rows_than_the_smallest_batch_are_padded(tmp_path, plans):
    plan = build_plan(plans.symbolic, tmp_path / "m.engine", [(4, 8, 8)])
    with gpu(), opened(plan) as backend:
        assert backend.input_shape[0] is None
        for size in (1, 4, 9):
            assert_right(backend.infer(rows(size)), rows(size))


def test_a_profile_of_one_size_is_a_static_batch(tmp_path, plans):
    plan = build_plan(plans.symbolic, tmp_path / "m.engine", [(4, 4, 4)])
    with gpu(), opened(plan) as backend:
        assert backend.input_shape[0] == backend.output_shape[0] == 4
        assert_right(backend.infer(rows(4)), rows(4))


@pytest.mark.parametrize("version", VERSIONS)
def test_of_several_profiles_it_takes_the_largest_batch(tmp_path, plans, version):
    plan = build_plan(plans.symbolic, tmp_path / "m.engine", [(1, 1, 2), (1, 4, 16), (1, 4, 8)], tensorrt=version)
    with gpu(tensorrt=version) as machine, opened(plan) as backend:
        assert_right(backend.infer(rows(16)), rows(16))
        assert machine.counts["kernel"] == 1
        assert machine.counts["IExecutionContext.set_optimization_profile_async"] > 0


def test_where_contexts_cannot_share_a_profile_one_batch_is_in_flight(plans):
    with gpu() as machine, opened(plans.profile) as backend:
        assert backend.slots == SLOTS
    plan = build_plan(plans.symbolic, plans.profile.with_name("alone.engine"), [(1, 4, 8)], profile_sharing=False)
    with gpu() as machine, opened(plan) as backend:
        assert backend.slots == 1
        for size in (8, 8, 8, 3, 3, 3):
            assert_right(backend.infer(rows(size, size)), rows(size, size))
        assert machine.counts["cudaStreamBeginCapture"] == 2  # lost when the size changes, and made again


def test_where_memory_is_short_fewer_batches_are_in_flight(plans):
    """A context of this plan takes 1.2 MB, and a slot 0.4 MB."""
    with gpu(memory_mb=2) as machine, opened(plans.profile) as backend:
        assert backend.slots == 1
        assert_right(backend.infer(rows(8)), rows(8))
        assert_right(backend.infer(rows(2)), rows(2))
        assert machine.counts["ICudaEngine.create_execution_context"] > 1


def test_bytes_in_and_float16_out(tmp_path):
    model = typed_model(tmp_path / "m.onnx", "UINT8", "FLOAT16", outputs=2)
    crops = np.random.default_rng(0).integers(0, 256, (5, 64, 48, 3), np.uint8)
    with gpu(), opened(build_plan(model, tmp_path / "m.engine", [(1, 4, 8)])) as backend:
        assert backend.input_dtype == np.uint8 and backend.input_shape == (None, 64, 48, 3)
        heatmaps = backend.infer(crops)
    assert heatmaps.dtype == np.float32
    expected = patch_heatmaps(crops.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(heatmaps, expected, rtol=2 ** -10, atol=1e-2)


def test_it_takes_float32_and_bytes(tmp_path, plans):
    assert Path(plans.static).exists()
    with gpu(), opened(plans.static) as backend:
        assert backend.input_dtype == np.float32
    plan = build_plan(typed_model(tmp_path / "m.onnx", "FLOAT16"), tmp_path / "m.engine", [(1, 4, 8)])
    with gpu(), pytest.raises(UserError, match="image is .* of HALF, expected FLOAT or UINT8.*--keep_io_types"):
        Backend(plan)


def test_two_backends_in_one_process_at_the_same_time(tmp_path, plans):
    """On a GPU each, and on the same one, with captures of one beside allocations of the other."""
    other = build_plan(patch_model(tmp_path / "other.onnx", seed=1), tmp_path / "other.engine", [(1, 4, 8)])
    for device in ("0", "cuda:1"):
        with gpu(devices=2) as machine, opened(plans.profile) as first, opened(other, device=device) as second:
            assert second.device == int(device[-1])

            def use(number: int) -> None:
                backend, seed = ((first, 0), (second, 1))[number % 2]
                crops = rows((8, 3)[number // 20 % 2], number)
                np.testing.assert_allclose(backend.infer(crops), patch_heatmaps(crops, seed), atol=TOLERANCE)

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(use, range(60)))
            assert machine.counts["cudaGraphLaunch"] > 0


def test_it_is_closed_from_another_thread_and_twice(plans):
    with gpu():
        backend = Backend(plans.profile)
        backend.infer(rows(3))
        thread = threading.Thread(target=backend.close)
        thread.start()
        thread.join()
        backend.close()


@pytest.mark.parametrize("call, message", [
    ("cudaStreamBeginCapture", "cudaStreamBeginCapture failed with cudaErrorUnknown"),
    ("cudaStreamEndCapture", "cudaStreamEndCapture failed with cudaErrorUnknown"),
    ("cudaGraphInstantiate", "cudaGraphInstantiate failed with cudaErrorUnknown")])
def test_without_a_graph_it_goes_on(plans, capsys, call, message):
    with gpu(errors=[{"call": call}]) as machine, opened(plans.static) as backend:
        for number in range(4 * SLOTS):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        assert machine.counts[call] == SLOTS and machine.counts["cudaGraphLaunch"] == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == SLOTS and message in lines[0] and "without a CUDA graph" in lines[0]


def test_an_execution_that_cannot_be_captured(plans, capsys):
    fault = {"call": "IExecutionContext.execute_async_v3", "nth": SLOTS + 1, "message": "a loop cannot be captured"}
    with gpu(errors=[fault]) as machine, opened(plans.static) as backend:
        for number in range(3 * SLOTS):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        assert machine.counts["cudaGraphLaunch"] > 0  # of the other slots
    assert "a loop cannot be captured" in capsys.readouterr().err


def test_graphs_can_be_left_out(plans):
    with gpu() as machine, opened(plans.static, cuda_graph=False) as backend:
        for number in range(3 * SLOTS):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        assert machine.counts["cudaStreamBeginCapture"] == 0


CALLS = ("cudaGetDeviceCount", "cudaSetDevice", "cudaGetDeviceProperties", "cudaDriverGetVersion",
         "cudaRuntimeGetVersion", "cudaStreamCreateWithFlags", "cudaMalloc", "cudaHostAlloc",
         "cudaEventCreateWithFlags", "cudaMemcpyAsync", "cudaEventRecord", "cudaStreamWaitEvent",
         "cudaEventSynchronize", "cudaEventElapsedTime", "cudaGraphLaunch")
METHODS = ("Runtime.deserialize_cuda_engine", "IExecutionContext.set_input_shape", "IExecutionContext.infer_shapes",
           "IExecutionContext.set_tensor_address", "IExecutionContext.execute_async_v3")


def use(plan: Path) -> List[np.ndarray]:
    with opened(plan) as backend:
        return [backend.infer(rows(4, number)) for number in range(3 * SLOTS)]


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("call", CALLS + METHODS)
def test_every_failure_is_told_and_leaks_nothing(plans, call, nth):
    """Each call that reports success fails, the first time or the second, and the next use is undisturbed."""
    with gpu(errors=[{"call": call, "nth": nth, "code": 719, "message": "told by the emulator"}]) as machine:
        if machine_calls(plans.static, call) >= nth:
            with pytest.raises(UserError, match="^[^\n]*$") as caught:
                use(plans.static)
            expected = f"{call} failed with cudaErrorLaunchFailure" if call in CALLS else "told by the emulator"
            assert expected in str(caught.value) and (call in CALLS or str(plans.static) in str(caught.value))
            del caught
        machine.errors = []
        for number, heatmaps in enumerate(use(plans.static)):
            assert_right(heatmaps, rows(4, number))


def machine_calls(plan: Path, call: str) -> int:
    """How often the call is made when nothing fails."""
    from nvidia_emulator.machine import machine

    faults, machine().errors = machine().errors, []
    use(plan)
    count, machine().errors = machine().counts[call], faults
    machine().counts.clear()
    return count


def test_no_context_at_all_is_told(plans):
    with gpu(errors=[{"call": "ICudaEngine.create_execution_context", "nth": 1}]), \
            pytest.raises(UserError, match="gives no execution context.*nvidia-smi"):
        Backend(plans.static)


def test_a_failure_in_the_middle_leaves_the_slot_to_the_next(plans):
    """The third of many batches in flight fails while others run."""
    with gpu(errors=[{"call": "cudaMemcpyAsync", "nth": 5}]), opened(plans.static) as backend, \
            ThreadPoolExecutor(backend.slots) as pool:
        jobs = [pool.submit(backend.infer, rows(4, number)) for number in range(20)]
        failed = [job for job in jobs if job.exception() is not None]
        assert len(failed) == 1 and "cudaMemcpyAsync" in str(failed.pop().exception())
        for number, job in enumerate(jobs):
            if job.exception() is None:
                assert_right(job.result(), rows(4, number))
        del jobs, job


def test_a_lost_gpu_is_told_by_every_batch_after_it(plans):
    """Memory of a lost GPU cannot be freed; closing does not raise for that."""
    with emulated(errors=[{"call": "kernel", "nth": 3, "code": 700}]), opened(plans.static) as backend:
        for number in range(2):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        for _ in range(3):
            with pytest.raises(UserError, match="cudaErrorIllegalAddress.*lost"):
                backend.infer(rows(4))


@pytest.mark.parametrize("device, message", [
    ("cpu", "--device cpu: .*such as 0 or cuda:0"), ("cuda:x", "cuda:x"), ("-1", "-1"), ("1,2", "1,2"),
    ("2", "--device 2: this machine has 2 GPUs"), ("cuda:7", "this machine has 2 GPUs")])
def test_devices_that_are_none(plans, device, message):
    with gpu(devices=2), pytest.raises(UserError, match=message):
        Backend(plans.static, device=device)


@pytest.mark.parametrize("device, number", [(None, 0), ("0", 0), ("1", 1), ("cuda", 0), ("cuda:1", 1)])
def test_memory_and_work_are_on_the_device_that_was_asked_for(plans, device, number):
    with gpu(devices=2) as machine:
        with opened(plans.static, device=device) as backend:
            assert_right(backend.infer(rows(4)), rows(4))
            assert {memory.device for memory in machine.state.memory.values()} == {number}


@pytest.mark.parametrize("config, message", [
    ({"devices": 0}, r"cudaGetDeviceCount failed with cudaErrorInsufficientDriver \(35\). .*nvidia-smi"),
    ({"devices": 0, "libcuda": False, "layout": "old"}, "CUDA cannot be used: Failed to dlopen libcuda.so.1.*driver")])
def test_a_machine_without_cuda_touches_nothing_of_tensorrt(plans, config, message):
    with gpu(**config) as machine:
        with pytest.raises(UserError, match=f"^[^\n]*{message}[^\n]*$"):
            Backend(plans.static)
        assert not [call for call in machine.counts if "." in call]


def test_a_tensorrt_that_is_too_old(plans):
    with gpu(tensorrt="8.4.3"), pytest.raises(UserError, match="TensorRT is 8.4.3, expected 8.6 or newer"):
        Backend(plans.static)


@pytest.mark.parametrize("missing, package", [("tensorrt", "tensorrt"), ("cuda", "cuda-python")])
def test_what_is_not_installed_is_named_in_one_line(plans, monkeypatch, missing, package):
    import sys

    with gpu():
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(UserError) as caught:
            Backend(plans.static)
    assert re.fullmatch(f"--backend tensorrt needs the Python package {package}, [^\n]*pip install {package}[^\n]*",
                        str(caught.value))
