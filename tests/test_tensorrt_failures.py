"""What goes wrong under the tensorrt backend: it is told in one line, leaks nothing, and where it can be it goes on."""
from __future__ import annotations

import contextlib
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import List

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from tensorrt_cases import assert_right, build_engine, gpu, make_engines, opened, rows  # noqa: E402

from backends.tensorrt.backend import SLOTS, Backend  # noqa: E402
from contract.errors import UserError  # noqa: E402
from tests.tensorrt_emulator import emulated  # noqa: E402


@pytest.fixture(scope="module")
def engines(tmp_path_factory) -> SimpleNamespace:
    return make_engines(tmp_path_factory.mktemp("engines"))


@pytest.mark.parametrize("call, message", [
    ("cudaStreamBeginCapture", "cudaStreamBeginCapture failed with cudaErrorUnknown"),
    ("cudaStreamEndCapture", "cudaStreamEndCapture failed with cudaErrorUnknown"),
    ("cudaGraphInstantiate", "cudaGraphInstantiate failed with cudaErrorUnknown")])
def test_without_a_graph_it_goes_on(engines, capsys, call, message):
    with gpu(errors=[{"call": call}]) as machine, opened(engines.static) as backend:
        for number in range(4 * SLOTS):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        assert machine.counts[call] == SLOTS and machine.counts["cudaGraphLaunch"] == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == SLOTS and message in lines[0] and "without a CUDA graph" in lines[0]


def test_an_execution_that_cannot_be_captured(engines, capsys):
    fault = {"call": "IExecutionContext.execute_async_v3", "nth": SLOTS + 1, "message": "a loop cannot be captured"}
    with gpu(errors=[fault]) as machine, opened(engines.static) as backend:
        for number in range(3 * SLOTS):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        assert machine.counts["cudaGraphLaunch"] > 0  # of the other slots
    assert "a loop cannot be captured" in capsys.readouterr().err


def test_other_threads_may_allocate_while_a_graph_is_captured(engines, monkeypatch):
    """They may serve other models."""
    with gpu() as machine, opened(engines.static) as backend:
        from cuda.bindings import runtime
        from nvidia_emulator.context import IExecutionContext

        execute, codes = IExecutionContext.execute_async_v3, []

        def allocate() -> None:
            code, address = runtime.cudaMalloc(16)
            codes.extend([code, *runtime.cudaFree(address)])

        def spy(context, stream):
            if machine.state.stream(stream).capture is not None:
                thread = threading.Thread(target=allocate)
                thread.start()
                thread.join()
            return execute(context, stream)

        monkeypatch.setattr(IExecutionContext, "execute_async_v3", spy)
        for number in range(2 * SLOTS):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        assert codes == [0, 0] * SLOTS and machine.counts["cudaGraphLaunch"] == SLOTS


def test_graphs_can_be_left_out(engines):
    with gpu() as machine, opened(engines.static, cuda_graph=False) as backend:
        for number in range(3 * SLOTS):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        assert machine.counts["cudaStreamBeginCapture"] == 0


CALLS = ("cudaGetDeviceCount", "cudaSetDevice", "cudaGetDeviceProperties", "cudaDriverGetVersion",
         "cudaRuntimeGetVersion", "cudaStreamCreateWithFlags", "cudaMalloc", "cudaHostAlloc",
         "cudaEventCreateWithFlags", "cudaMemcpyAsync", "cudaEventRecord", "cudaStreamWaitEvent",
         "cudaEventSynchronize", "cudaEventElapsedTime", "cudaGraphLaunch")
METHODS = ("Runtime", "Runtime.deserialize_cuda_engine", "IExecutionContext.set_input_shape",
           "IExecutionContext.infer_shapes", "IExecutionContext.set_tensor_address",
           "IExecutionContext.execute_async_v3")


def use(engine: Path) -> List[np.ndarray]:
    with opened(engine) as backend:
        return [backend.infer(rows(4, number)) for number in range(3 * SLOTS)]


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("call", CALLS + METHODS)
def test_every_failure_is_told_and_leaks_nothing(engines, call, nth):
    """Each call that reports success fails, the first time or the second, and the next use is undisturbed."""
    with gpu(errors=[{"call": call, "nth": nth, "code": 719, "message": "told by the emulator"}]) as machine:
        if machine_calls(engines.static, call) >= nth:
            with pytest.raises(UserError, match="^[^\n]*$") as caught:
                use(engines.static)
            expected = f"{call} failed with cudaErrorLaunchFailure" if call in CALLS else "told by the emulator"
            assert expected in str(caught.value)
            assert call in (*CALLS, "Runtime") or str(engines.static) in str(caught.value)
            del caught
        machine.errors = []
        for number, heatmaps in enumerate(use(engines.static)):
            assert_right(heatmaps, rows(4, number))


def machine_calls(engine: Path, call: str) -> int:
    """How often the call is made when nothing fails."""
    from nvidia_emulator.machine import machine

    faults, machine().errors = machine().errors, []
    use(engine)
    count, machine().errors = machine().counts[call], faults
    machine().counts.clear()
    return count


def test_no_context_at_all_is_told(engines):
    with gpu(errors=[{"call": "ICudaEngine.create_execution_context", "nth": 1}]), \
            pytest.raises(UserError, match="gives no execution context.*nvidia-smi"):
        Backend(engines.static)


def test_a_failure_in_the_middle_leaves_the_slot_to_the_next(engines):
    """The third of many batches in flight fails while others run."""
    with gpu(errors=[{"call": "cudaMemcpyAsync", "nth": 5}]) as machine, opened(engines.static) as backend, \
            ThreadPoolExecutor(backend.slots) as pool:
        jobs = [pool.submit(backend.infer, rows(4, number)) for number in range(20)]
        failed = [job for job in jobs if job.exception() is not None]
        assert machine.counts["cudaStreamBeginCapture"] == machine.counts["cudaGraphInstantiate"] <= SLOTS
        assert len(failed) == 1 and "cudaMemcpyAsync" in str(failed.pop().exception())
        for number, job in enumerate(jobs):
            if job.exception() is None:
                assert_right(job.result(), rows(4, number))
        del jobs, job


def test_a_batch_that_was_given_up_is_finished_before_its_slot_is_used_again(engines):
    """It runs as a graph, and the next batch, of another size, changes the context of that."""
    alone = engines.profile.with_name("alone.engine")
    engine = build_engine(engines.symbolic, alone, [(1, 4, 8)], profile_sharing=False)
    with gpu(errors=[{"call": "cudaEventSynchronize", "nth": 3}]) as machine, opened(engine) as backend:
        for number in range(3):
            with pytest.raises(UserError) if number == 2 else contextlib.nullcontext():
                backend.infer(rows(8, number))
        assert machine.counts["cudaGraphLaunch"] == 2
        assert_right(backend.infer(rows(3)), rows(3))


def test_a_lost_gpu_is_told_by_every_batch_after_it(engines):
    """Memory of a lost GPU cannot be freed; closing does not raise for that."""
    with emulated(errors=[{"call": "kernel", "nth": 3, "code": 700}]), opened(engines.static) as backend:
        for number in range(2):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        for _ in range(3):
            with pytest.raises(UserError, match="cudaErrorIllegalAddress.*lost"):
                backend.infer(rows(4))


@pytest.mark.parametrize("device, message", [
    ("cpu", "--device cpu: .*such as 0 or cuda:0"), ("cuda:x", "cuda:x"), ("-1", "-1"), ("1,2", "1,2"),
    ("2", "--device 2: this machine has 2 GPUs"), ("cuda:7", "this machine has 2 GPUs")])
def test_devices_that_are_none(engines, device, message):
    with gpu(devices=2), pytest.raises(UserError, match=message):
        Backend(engines.static, device=device)


@pytest.mark.parametrize("device, number", [(None, 0), ("0", 0), ("1", 1), ("cuda", 0), ("cuda:1", 1)])
def test_memory_and_work_are_on_the_device_that_was_asked_for(engines, device, number):
    with gpu(devices=2) as machine:
        with opened(engines.static, device=device) as backend:
            assert_right(backend.infer(rows(4)), rows(4))
            assert {memory.device for memory in machine.state.memory.values()} == {number}
        assert machine.state.opened == {number}


@pytest.mark.parametrize("config, message", [
    ({"devices": 0}, r"cudaGetDeviceCount failed with cudaErrorInsufficientDriver \(35\). .*nvidia-smi"),
    ({"devices": 0, "libcuda": False, "layout": "old"}, "CUDA cannot be used: Failed to dlopen libcuda.so.1.*driver")])
def test_a_machine_without_cuda_touches_nothing_of_tensorrt(engines, config, message):
    with gpu(**config) as machine:
        with pytest.raises(UserError, match=f"^[^\n]*{message}[^\n]*$"):
            Backend(engines.static)
        assert not [call for call in machine.counts if "." in call]


def test_a_tensorrt_that_is_too_old(engines):
    with gpu(tensorrt="8.4.3"), pytest.raises(UserError, match="TensorRT is 8.4.3, expected 8.6 or newer"):
        Backend(engines.static)


@pytest.mark.parametrize("missing, package", [("tensorrt", "tensorrt"), ("cuda", "cuda-python")])
def test_what_is_not_installed_is_named_in_one_line(engines, monkeypatch, missing, package):
    with gpu():
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(UserError) as caught:
            Backend(engines.static)
    assert re.fullmatch(f"TensorRT needs the Python package {package}, [^\n]*pip install {package}[^\n]*",
                        str(caught.value))
