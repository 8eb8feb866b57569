"""The capture of a CUDA graph on a stand-in for torch.cuda: a capture notes the operations, a replay does them again
on the same memory, as a CUDA graph does. What a real device adds, order between streams, is not seen here."""
from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from backends.pytorch.cuda_graph import SLOTS, CudaRunner  # noqa: E402


class Graph:
    def __init__(self):
        self.operations = []

    def replay(self):
        for function, arguments, options, results in self.operations:
            again = function(*arguments, **options)
            for old, new in zip(torch.utils._pytree.tree_leaves(results), torch.utils._pytree.tree_leaves(again)):
                if isinstance(old, torch.Tensor) and old is not new:
                    old.copy_(new)


class Recorder(TorchDispatchMode):
    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        results = function(*arguments, **(options or {}))
        self.graph.operations.append((function, arguments, options or {}, results))
        return results


class Event:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        pass

    def elapsed_time(self, _):
        return 2.5


class Stream:
    made = []

    def __init__(self, device):
        self.synchronized, self.waited = 0, []
        self.made.append(self)

    def wait_event(self, event):
        self.waited.append(event)

    def synchronize(self):
        self.synchronized += 1


@pytest.fixture()
def cuda(monkeypatch):
    """torch.cuda on this CPU. `captured` has the graphs; set `failure` to make the next capture fail."""

    @contextlib.contextmanager
    def capture(graph, pool, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        with Recorder(graph):
            yield
        if state.failure:
            raise RuntimeError(state.failure)
        state.captured.append(graph)

    state, nothing = SimpleNamespace(captured=[], failure=None), contextlib.nullcontext
    for name, value in (("Stream", Stream), ("Event", Event), ("CUDAGraph", Graph), ("graph", capture),
                        ("stream", lambda stream: nothing()), ("device", lambda device: nothing()),
                        ("synchronize", lambda device: None), ("graph_pool_handle", lambda: "pool")):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(Stream, "made", [])
    return state


def forward(rows):
    return torch.nn.functional.avg_pool2d(torch.relu(rows), 2).to(torch.float16).float()


def expected(rows: np.ndarray) -> np.ndarray:
    return forward(torch.from_numpy(rows)).numpy()


def crops(people: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((people, 3, 8, 6)).astype(np.float32)


@pytest.mark.parametrize("capturing", [True, False])
def test_every_batch_gets_its_own_numbers(cuda, capturing):
    runner = CudaRunner(forward, torch.device("cpu"), capturing)
    for seed, people in enumerate((4, 4, 4, 1, 4, 2, 1, 4)):  # sizes take turns, and a tail comes between
        np.testing.assert_array_equal(runner(crops(people, seed)), expected(crops(people, seed)))
    assert len(cuda.captured) == (5 if capturing else 0)  # of each slot, which take turns: 4, 1 and 2; 4 and 1
    assert runner.times == [2.5] * 8 and len(runner.stream.waited) == 8
    assert sum(stream.synchronized for stream in Stream.made) == 8


def test_threads_at_once_get_their_own_numbers(cuda):
    runner = CudaRunner(forward, torch.device("cpu"), True)
    rows = [crops(4, seed) for seed in range(24)]
    with ThreadPoolExecutor(SLOTS) as pool:
        for found, mine in zip(pool.map(runner, rows), rows):
            np.testing.assert_array_equal(found, expected(mine))


def test_results_are_the_callers_to_keep(cuda):
    runner = CudaRunner(forward, torch.device("cpu"), True)
    results = [runner(crops(3, seed)) for seed in range(4)]
    results[1][:] = 0
    for seed in (0, 2, 3):
        np.testing.assert_array_equal(results[seed], expected(crops(3, seed)))


def test_bytes_stay_bytes_until_the_network(cuda):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), np.uint8)
    runner = CudaRunner(lambda rows: forward(rows.float().permute(0, 3, 1, 2)), torch.device("cpu"), True)
    for _ in range(2):
        np.testing.assert_array_equal(runner(pixels), expected(np.ascontiguousarray(
            pixels.astype(np.float32).transpose(0, 3, 1, 2))))
    assert runner.free.get().batches[4].host_input.dtype == torch.uint8


def test_a_capture_that_fails_is_told_and_batches_go_on_without(cuda, capsys):
    runner = CudaRunner(forward, torch.device("cpu"), True)
    runner(crops(2))
    stream, cuda.failure = runner.stream, "operation not permitted when stream is capturing\nmore"
    for seed, people in enumerate((4, 4, 2, 3)):
        np.testing.assert_array_equal(runner(crops(people, seed)), expected(crops(people, seed)))
    assert not runner.capturing and runner.stream is not stream and len(cuda.captured) == 1
    note, = capsys.readouterr().err.splitlines()
    assert "no CUDA graph for 4 rows" in note and "operation not permitted" in note and "more" not in note


def test_a_batch_that_does_not_fit_leaves_nothing_behind(cuda):
    def small(rows):
        if len(rows) > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(rows)

    runner = CudaRunner(small, torch.device("cpu"), True)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        runner(crops(3))
    slots = [runner.free.get() for _ in range(SLOTS)]
    assert not any(slot.batches for slot in slots)
    for slot in slots:
        runner.free.put(slot)
    np.testing.assert_array_equal(runner(crops(2)), expected(crops(2)))
