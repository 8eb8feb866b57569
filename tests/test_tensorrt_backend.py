"""The tensorrt backend on the emulated GPU of tests/tensorrt_emulator: numbers, threads, graphs, devices.

tests/test_backends.py holds it to the contract of all backends.
"""
from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import patch_heatmaps, patch_model

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from tensorrt_cases import (  # noqa: E402
    TOLERANCE,
    assert_right,
    build_engine,
    gpu,
    make_engines,
    opened,
    rows,
    typed_model,
)

from backends.tensorrt.backend import EXECUTIONS, SLOTS, Backend  # noqa: E402
from contract.errors import UserError  # noqa: E402

VERSIONS = ("8.6.1", "10.3.0", "11.4.0")


@pytest.fixture(scope="module")
def engines(tmp_path_factory) -> SimpleNamespace:
    return make_engines(tmp_path_factory.mktemp("engines"))


@pytest.mark.parametrize("schedule", ["late", "eager", "shuffle"])
@pytest.mark.parametrize("layout", ["new", "old"])
@pytest.mark.parametrize("version", VERSIONS)
def test_from_all_its_threads_in_any_order_of_the_device(tmp_path, engines, version, layout, schedule):
    """Sizes that come and go: chunks of the largest batch, rests, a graph gained and lost."""
    engine = build_engine(engines.symbolic, tmp_path / "m.engine", [(1, 4, 8)], tensorrt=version)
    sizes = [int(size) for size in np.random.default_rng(0).choice([1, 3, 8, 8, 8, 19], 60)]
    with gpu(tensorrt=version, layout=layout, schedule=schedule) as machine, opened(engine) as backend:
        assert backend.infer(rows(2)).shape[0] == 2  # from this thread, as a warm-up is
        backend.times.clear()
        with ThreadPoolExecutor(backend.slots) as pool:
            results = list(pool.map(lambda pair: backend.infer(rows(pair[1], pair[0])), enumerate(sizes)))
        for number, (size, heatmaps) in enumerate(zip(sizes, results)):
            assert_right(heatmaps, rows(size, number))
        assert len(backend.times) == len(sizes) and min(backend.times) > 0
        assert machine.counts["cudaGraphLaunch"] > 0


def test_a_static_engine_fills_every_slot_and_runs_as_graphs(engines):
    with gpu() as machine, opened(engines.static) as backend:
        assert backend.input_shape == (4, 3, 64, 48) and backend.slots == SLOTS
        for number in range(4 * SLOTS):
            assert_right(backend.infer(rows(4, number)), rows(4, number))
        assert machine.counts["cudaStreamBeginCapture"] == SLOTS  # one a slot, at its second batch
        assert machine.counts["cudaGraphLaunch"] == 3 * SLOTS
        with pytest.raises(UserError, match="takes 4 rows at a time, got 3"):
            backend.infer(rows(3))


def test_what_tensorrt_warns_of_while_an_engine_is_run_reaches_a_log(tmp_path, engines, capsys):
    engine = tmp_path / "m.engine"
    engine.write_bytes(engines.static.read_bytes())  # without a record, as trtexec leaves it
    log = tmp_path / "m.engine.inference.log"
    with gpu(), opened(engine) as backend:
        assert_right(backend.infer(rows(4)), rows(4))
    assert not log.exists() and not capsys.readouterr().err
    with gpu(gpu="another GPU of the same kind"), opened(engine) as backend:
        assert_right(backend.infer(rows(4)), rows(4))
    assert log.read_text().startswith("warning: Using an engine plan file across different models of devices")
    assert f"TensorRT gave 1 warnings, 0 of them about int8: {log}" in capsys.readouterr().err


def test_each_slot_keeps_graphs_of_two_sizes(engines):
    with gpu(profile_sharing=True) as machine, opened(engines.profile) as backend:
        for size in (8, 3) * (3 * SLOTS):
            assert_right(backend.infer(rows(size, size)), rows(size, size))
        assert machine.counts["cudaStreamBeginCapture"] == EXECUTIONS * SLOTS
        before = machine.counts["cudaStreamBeginCapture"]
        for size in (8, 3, 5) * SLOTS:  # one more than there are executions: none comes twice in a row
            assert_right(backend.infer(rows(size, size)), rows(size, size))
        assert machine.counts["cudaStreamBeginCapture"] - before <= SLOTS


def test_a_short_batch_after_a_long_one_has_no_stale_rows(engines):
    with gpu(), opened(engines.profile) as backend:
        for _ in range(SLOTS + 1):
            backend.infer(rows(8, 1))
        for size in (1, 5, 7):
            assert_right(backend.infer(rows(size, 2)), rows(size, 2))


def test_results_stay_when_their_slot_is_used_again(engines):
    with gpu(), opened(engines.profile) as backend:
        first = backend.infer(rows(8, 1))
        for number in range(2, 3 * SLOTS):
            backend.infer(rows(8, number))
        assert_right(first, rows(8, 1))
        first[:] = 0
    assert first.sum() == 0  # and it is there when the pinned memory is not


def test_rows_may_change_as_soon_as_they_are_inferred(engines):
    with gpu(), opened(engines.profile) as backend:
        for number in range(2 * SLOTS):
            crops = rows(8, number)
            expected = patch_heatmaps(crops)
            heatmaps = backend.infer(crops)
            crops[:] = np.nan
            np.testing.assert_allclose(heatmaps, expected, atol=TOLERANCE)


def test_fewer_rows_than_the_smallest_batch_are_padded(tmp_path, engines):
    engine = build_engine(engines.symbolic, tmp_path / "m.engine", [(4, 8, 8)])
    with gpu(), opened(engine) as backend:
        assert backend.input_shape[0] is None
        for size in (1, 4, 9):
            assert_right(backend.infer(rows(size)), rows(size))


def test_a_profile_of_one_size_is_a_static_batch(tmp_path, engines):
    engine = build_engine(engines.symbolic, tmp_path / "m.engine", [(4, 4, 4)])
    with gpu(), opened(engine) as backend:
        assert backend.input_shape[0] == backend.output_shape[0] == 4
        assert_right(backend.infer(rows(4)), rows(4))


@pytest.mark.parametrize("version", VERSIONS)
def test_of_several_profiles_it_takes_the_largest_batch(tmp_path, engines, version):
    engine = build_engine(engines.symbolic, tmp_path / "m.engine", [(1, 1, 2), (1, 4, 16), (1, 4, 8)], tensorrt=version)
    with gpu(tensorrt=version) as machine, opened(engine) as backend:
        assert_right(backend.infer(rows(16)), rows(16))
        assert machine.counts["kernel"] == 1
        assert machine.counts["IExecutionContext.set_optimization_profile_async"] > 0


def test_where_contexts_cannot_share_a_profile_one_batch_is_in_flight(engines):
    with gpu(), opened(engines.profile) as backend:
        assert backend.slots == SLOTS
    alone = engines.profile.with_name("alone.engine")
    engine = build_engine(engines.symbolic, alone, [(1, 4, 8)], profile_sharing=False)
    with gpu() as machine, opened(engine) as backend:
        assert backend.slots == 1
        for size in (8, 8, 8, 3, 3, 3):
            assert_right(backend.infer(rows(size, size)), rows(size, size))
        assert machine.counts["cudaStreamBeginCapture"] == 2  # lost when the size changes, and made again


def test_where_memory_is_short_fewer_batches_are_in_flight(engines):
    """A context of this engine takes 1.2 MB, and a slot 0.4 MB."""
    with gpu(memory_mb=2) as machine, opened(engines.profile) as backend:
        assert backend.slots == 1
        assert_right(backend.infer(rows(8)), rows(8))
        assert_right(backend.infer(rows(2)), rows(2))
        assert machine.counts["ICudaEngine.create_execution_context"] > 1


def test_bytes_in_and_float16_out(tmp_path):
    model = typed_model(tmp_path / "m.onnx", "UINT8", "FLOAT16")
    crops = np.random.default_rng(0).integers(0, 256, (5, 64, 48, 3), np.uint8)
    with gpu(), opened(build_engine(model, tmp_path / "m.engine", [(1, 4, 8)])) as backend:
        assert backend.input_dtype == np.uint8 and backend.input_shape == (None, 64, 48, 3)
        heatmaps = backend.infer(crops)
    assert heatmaps.dtype == np.float32
    expected = patch_heatmaps(crops.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(heatmaps, expected, rtol=2 ** -10, atol=1e-2)


def test_several_outputs_are_refused_by_their_names(tmp_path):
    engine = build_engine(typed_model(tmp_path / "m.onnx", "FLOAT", outputs=2), tmp_path / "m.engine", [(1, 4, 8)])
    with gpu(), pytest.raises(UserError, match="gives 2 outputs, output .*, more1 .*extract_model"):
        Backend(engine)


def test_it_takes_float32_and_bytes(tmp_path, engines):
    assert Path(engines.static).exists()
    with gpu(), opened(engines.static) as backend:
        assert backend.input_dtype == np.float32
    engine = build_engine(typed_model(tmp_path / "m.onnx", "FLOAT16"), tmp_path / "m.engine", [(1, 4, 8)])
    with gpu(), pytest.raises(UserError, match="image is .* of HALF, expected FLOAT or UINT8.*--keep_io_types"):
        Backend(engine)


def test_two_backends_in_one_process_at_the_same_time(tmp_path, engines):
    """On a GPU each, and on the same one, with captures of one beside allocations of the other."""
    other = build_engine(patch_model(tmp_path / "other.onnx", seed=1), tmp_path / "other.engine", [(1, 4, 8)])
    for device in ("0", "cuda:1"):
        with gpu(devices=2) as machine, opened(engines.profile) as first, opened(other, device=device) as second:
            assert second.device == int(device[-1])

            def use(number: int) -> None:
                backend, seed = ((first, 0), (second, 1))[number % 2]
                crops = rows((8, 3)[number // 20 % 2], number)
                np.testing.assert_allclose(backend.infer(crops), patch_heatmaps(crops, seed), atol=TOLERANCE)

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(use, range(60)))
            assert machine.counts["cudaGraphLaunch"] > 0


def test_it_is_closed_from_another_thread_and_twice(engines):
    with gpu():
        backend = Backend(engines.profile)
        backend.infer(rows(3))
        thread = threading.Thread(target=backend.close)
        thread.start()
        thread.join()
        backend.close()
