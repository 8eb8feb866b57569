"""The emulated CUDA runtime: that each mistake a program can make with memory, streams, events and graphs is seen."""
from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from conftest import patch_heatmaps, patch_model

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from nvidia_cases import CROP_BYTES, HEATMAP_BYTES, Gpu, program  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return patch_model(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture()
def gpu(model) -> Iterator[Gpu]:
    with program(model) as one:
        yield one


def test_results_are_there_when_they_are_waited_for_and_not_before(gpu):
    gpu.set_up()
    gpu.copy_in(gpu.stream)
    assert gpu.execute()
    gpu.copy_out(gpu.stream)
    assert not gpu.right()
    gpu.call("cudaStreamSynchronize", gpu.stream)
    assert gpu.right()


def test_a_copy_out_that_does_not_wait_for_the_computing_reads_poison(gpu):
    gpu.set_up()
    other, event = gpu.call("cudaStreamCreateWithFlags", 1), gpu.call("cudaEventCreateWithFlags", 2)
    for waits in (False, True):
        gpu.copy_in(gpu.stream)
        assert gpu.execute()
        gpu.call("cudaEventRecord", event, gpu.stream)
        if waits:
            gpu.call("cudaStreamWaitEvent", other, event, 0)
        gpu.copy_out(other)
        gpu.call("cudaStreamSynchronize", other)
        assert gpu.right() == waits


def test_memory_that_is_filled_again_too_early_spoils_the_batch_in_flight(gpu):
    gpu.set_up()
    gpu.copy_in(gpu.stream)
    before = gpu.crops.copy()
    gpu.crops[:] = 1
    assert gpu.execute()
    gpu.copy_out(gpu.stream)
    gpu.call("cudaStreamSynchronize", gpu.stream)
    assert gpu.right() and not np.allclose(gpu.heatmaps, patch_heatmaps(before))


def test_memory_that_is_not_pinned_is_copied_at_once_and_counted(gpu):
    gpu.set_up()
    crops, heatmaps = gpu.crops.copy(), np.zeros_like(gpu.heatmaps)
    gpu.copy_in(gpu.stream, crops)
    crops[:] = 0
    assert gpu.execute()
    gpu.copy_out(gpu.stream, heatmaps)
    np.testing.assert_allclose(heatmaps, patch_heatmaps(gpu.crops), atol=1e-5)
    assert gpu.machine.state.pageable == 2


@pytest.mark.parametrize("change", ["small", "freed", "host"])
def test_an_address_that_is_no_device_memory_of_that_size_loses_the_gpu(gpu, change):
    gpu.set_up()
    address = gpu.call("cudaMalloc", HEATMAP_BYTES) if change == "small" else gpu.output
    if change == "freed":
        gpu.call("cudaFree", gpu.output)
    assert gpu.context.set_tensor_address("output", gpu.heatmaps.ctypes.data if change == "host" else address)
    assert gpu.execute()
    assert gpu.code("cudaStreamSynchronize", gpu.stream) == gpu.code("cudaMalloc", 4) == 700


def test_a_copy_beyond_its_memory_is_refused(gpu):
    kind = gpu.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
    assert gpu.code("cudaMemcpyAsync", gpu.input, gpu.crops.ctypes.data, 9 * CROP_BYTES, kind, gpu.stream) == 1
    with pytest.raises(AttributeError):  # an integer in the place of the kind
        gpu.cuda.cudaMemcpyAsync(gpu.input, gpu.crops.ctypes.data, 4, 1, gpu.stream)


def captured(gpu: Gpu, mode: int, during: Any = None) -> Any:
    """Code of EndCapture and the graph of one execution."""
    gpu.call("cudaStreamBeginCapture", gpu.stream, gpu.cuda.cudaStreamCaptureMode(mode))
    gpu.execute()
    if during:
        during()
    code, graph = gpu.cuda.cudaStreamEndCapture(gpu.stream)
    return int(code), graph


def warm(gpu: Gpu, rows: int = 8) -> None:
    gpu.set_up(rows)
    assert gpu.execute()
    gpu.call("cudaStreamSynchronize", gpu.stream)


def test_a_graph_runs_what_was_captured_with_new_content(gpu):
    warm(gpu)
    code, graph = captured(gpu, 1)
    launch = gpu.call("cudaGraphInstantiate", graph, 0)
    assert code == 0 and gpu.machine.counts["kernel"] == 1
    for seed in range(2):
        gpu.crops[:] = np.random.default_rng(seed).standard_normal(gpu.crops.shape)
        gpu.copy_in(gpu.stream)
        gpu.call("cudaGraphLaunch", launch, gpu.stream)
        gpu.copy_out(gpu.stream)
        gpu.call("cudaStreamSynchronize", gpu.stream)
        assert gpu.right()
    assert gpu.machine.notes == []


@pytest.mark.parametrize("change", ["shape", "address", "destroyed"])
def test_a_graph_whose_context_was_changed_is_noted(gpu, change):
    warm(gpu)
    launch = gpu.call("cudaGraphInstantiate", captured(gpu, 1)[1], 0)
    if change == "shape":
        gpu.context.set_input_shape("image", (3, 3, 64, 48))
    elif change == "address":
        gpu.context.set_tensor_address("image", gpu.call("cudaMalloc", 8 * CROP_BYTES))
    else:
        del gpu.context
    gpu.call("cudaGraphLaunch", launch, gpu.stream)
    gpu.cuda.cudaStreamSynchronize(gpu.stream)
    assert len(gpu.machine.notes) == 1


def test_the_first_execution_of_a_shape_cannot_be_captured(gpu):
    warm(gpu, 8)
    gpu.set_up(3)
    assert captured(gpu, 1)[0] == 901
    assert not gpu.execute() and "not cleared" in gpu.messages[-1]
    assert gpu.code("cudaGetLastError") == 901 and gpu.code("cudaGetLastError") == 0
    assert gpu.execute() and captured(gpu, 1)[0] == 0


@pytest.mark.parametrize("mode, elsewhere, code", [(0, False, 901), (0, True, 901), (1, False, 901), (1, True, 0),
                                                   (2, False, 0)])
def test_who_may_allocate_during_a_capture_depends_on_its_mode(gpu, mode, elsewhere, code):
    def allocate() -> None:
        thread = threading.Thread(target=gpu.cuda.cudaMalloc, args=(16,))
        thread.start() if elsewhere else gpu.cuda.cudaMalloc(16)
        if elsewhere:
            thread.join()

    warm(gpu)
    assert captured(gpu, mode, allocate)[0] == code


def test_waiting_for_a_stream_that_captures_spoils_it(gpu):
    warm(gpu)
    assert captured(gpu, 1, lambda: gpu.cuda.cudaStreamSynchronize(gpu.stream))[0] == 901


def test_a_capture_ends_in_the_thread_that_began_it(gpu):
    warm(gpu)
    codes = []
    gpu.call("cudaStreamBeginCapture", gpu.stream, gpu.cuda.cudaStreamCaptureMode(1))
    thread = threading.Thread(target=lambda: codes.append(gpu.code("cudaStreamEndCapture", gpu.stream)))
    thread.start()
    thread.join()
    assert codes == [908]


def test_events_measure_between_two_that_were_reached(gpu):
    first, last, untimed = (gpu.call("cudaEventCreateWithFlags", flags) for flags in (0, 0, 2))
    assert gpu.code("cudaEventElapsedTime", first, last) == gpu.code("cudaGetLastError") == 400
    gpu.set_up()
    gpu.call("cudaEventRecord", first, gpu.stream)
    assert gpu.execute()
    gpu.call("cudaEventRecord", last, gpu.stream)
    gpu.call("cudaEventRecord", untimed, gpu.stream)
    assert gpu.code("cudaEventElapsedTime", first, last) == gpu.code("cudaEventQuery", last) == 600
    gpu.call("cudaEventSynchronize", last)
    assert gpu.call("cudaEventElapsedTime", first, last) > 0
    assert gpu.code("cudaEventElapsedTime", first, untimed) == 400
