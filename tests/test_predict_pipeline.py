"""The pipeline's batches: crops across frames, each frame with its own rows, in order, a bounded number waiting."""
from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from contract.threads import in_order
from prediction.pipeline import WAITING_FRAMES, Work, cut, grouped, joined
from prediction.sources import Frame


def works(counts):
    """Frames whose crops say whose they are: frame and number."""
    for number, count in enumerate(counts):
        yield Work(Frame(str(number), None), crops=[np.array([number, crop]) for crop in range(count)])


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("seed", range(4))
def test_every_frame_gets_its_own_rows_back(size, seed):
    counts = np.random.default_rng(seed).choice([0, 0, 0, 1, 2, 11], 300).tolist()
    batches = list(cut(works(counts), size))
    assert all(len(crops) <= size and len(ended) <= WAITING_FRAMES for crops, ended in batches)
    full = sum(len(crops) == size for crops, _ in batches)
    assert full >= 0.5 * sum(counts) / size
    done = list(joined((np.array(crops), ended) for crops, ended in cut(works(counts), size)))
    assert [work.frame.name for work in done] == [str(number) for number in range(300)]
    for number, (work, count) in enumerate(zip(done, counts)):
        assert [row.tolist() for row in work.heatmaps] == [[number, crop] for crop in range(count)]


def test_frames_without_people_do_not_pile_up():
    """However long nobody is seen, frames go on."""
    taken = []
    frames = (taken.append(number) or work for number, work in enumerate(works([0] * 1000)))
    crops, ended = next(cut(frames, 8))
    assert not crops and len(ended) == len(taken) == WAITING_FRAMES


def test_groups():
    assert [len(group) for group in grouped(works([0] * 7), 3)] == [3, 3, 1]


def test_stages_in_a_chain_run_at_once_in_order_and_bounded():
    """Both stages wait until the other one is at work too; the source is not read far ahead."""
    meeting, read = threading.Barrier(2, timeout=20), []
    source = (read.append(number) or number for number in range(40))

    def stage(number: int) -> int:
        meeting.wait()
        return number

    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        chain = in_order(second, lambda number: number, in_order(first, lambda number: number, source))
        assert next(chain) == 0 and len(read) <= 6
        assert list(chain) == list(range(1, 40))
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        # Item n of the second stage meets item n + 1 of the first; the last ones meet nobody.
        met = in_order(second, lambda number: stage(number) if number < 19 else number,
                       in_order(first, lambda number: stage(number) if number > 0 else number, range(20)))
        assert list(met) == list(range(20))


def test_two_networks_at_once_get_half_of_the_cores_each(small_cfg, monkeypatch):
    """What their libraries say in the threads that run them, and no more than OMP_NUM_THREADS. With boxes that
    are given, one core is left; one after another, OMP_NUM_THREADS decides."""
    torch, ort = pytest.importorskip("torch"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from prediction import pipeline as module
    from prediction.arguments import complete, parse_args
    from prediction.assembly import make_finder, make_poser

    monkeypatch.setattr(module, "CORES", 6)
    finder, poser = (make(complete(parse_args([])), False) for make in (make_finder, make_poser))
    settings = module.Settings(lambda people, areas: people)
    usual = torch.get_num_threads()
    for detector, at_once, most, threads in ((finder, True, 8, 3), (finder, True, 2, 2), (None, True, 8, 5),
                                             (finder, False, 8, 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", str(most))
        with module.Pipeline(detector, poser, settings, at_once=at_once) as opened:
            assert opened.posing.submit(torch.get_num_threads).result() == threads
            if detector:
                session = detector.backend.session
                assert isinstance(session, ort.InferenceSession)
                assert session.get_session_options().intra_op_num_threads == threads
    torch.set_num_threads(usual)
