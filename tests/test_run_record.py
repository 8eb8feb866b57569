"""The record of a timed run: planted cheats are refused, honest runs are not, and what a machine did is told."""
from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from conftest import done, patch_model, read_score

from contract import machine, run_record
from contract.dumps import read_settings, summary_of
from contract.machine import MachineWatch
from contract.run_record import find_mismatch, remarks, sealed

pytest.importorskip("onnxruntime")

BATCH = 3  # 12 people are 4 batches


class World:
    """A run of normal and of mirrored bins, `all` and `all_flip`, and another model's beside it, all to tamper with."""

    def __init__(self, folder: Path):
        self.folder, self.bins, self.results = folder, folder / "prep_data", folder / "results"
        self.model = folder / "model.onnx"

    def dump(self, number: int, of: str = "all") -> Path:
        return self.results / of / f"{number:012d}_0.bin"

    def edit(self, path: Path, change: Callable[[Dict[str, Any]], Any], seal: bool = False) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(sealed(content) if seal else content))

    def summary(self, change: Callable[[Dict[str, Any]], Any], seal: bool = False) -> None:
        self.edit(summary_of(self.results / "all"), change, seal)

    def settings(self, change: Callable[[Dict[str, Any]], Any], of: str = "all") -> None:
        self.edit(self.results / of / "settings.json", change)

    def copy(self, source: str, target: str, *suffixes: str) -> None:
        """Of "" the folder, of "_summary.json" the summary."""
        for suffix in suffixes:
            one, other = self.results / f"{source}{suffix}", self.results / f"{target}{suffix}"
            if one.is_dir():
                shutil.rmtree(other)
                shutil.copytree(one, other)
            else:
                shutil.copyfile(one, other)


@pytest.fixture(scope="module")
def honest(prepared, small_cfg, script, tmp_path_factory) -> World:
    world = World(tmp_path_factory.mktemp("record") / "world")
    shutil.copytree(prepared, world.folder, ignore=shutil.ignore_patterns("results"))
    patch_model(world.model)
    for name, model, bins, batch in (
            ("all", world.model, "prep_data", BATCH), ("all_flip", world.model, "prep_data_flip", BATCH),
            ("other", patch_model(world.folder / "other.onnx", seed=1), "prep_data", BATCH),
            ("slow", world.model, "prep_data", 1)):
        done(script("infer.py", "--model", model, "--input", world.folder / bins, "--output", world.results,
                    "--output_dirname", name, "--cfg", small_cfg, "--batchsize", batch))
    shutil.copytree(world.folder, world.folder.with_name("kept"))
    return world


@pytest.fixture()
def world(honest) -> World:
    yield honest
    shutil.rmtree(honest.folder)
    shutil.copytree(honest.folder.with_name("kept"), honest.folder)


def result_of(world: World, main, coco):
    """postprocess.py: (its speed, or None where all of it is refused; what it said)."""
    score = world.folder / "score"
    finished = main("postprocess", "--dataroot", coco, "--dump_dir", world.results / "all", "--dump_dir_flip",
                    world.results / "all_flip", "--manifest", world.bins / "manifest.json", "--output", score)
    return read_score(score).speed if finished.returncode == 0 else None, finished.stdout, finished.stderr


def times(keep: int = 4, factor: float = 1.0) -> Callable[[Dict[str, Any]], None]:
    """The fastest `keep` times, each multiplied, and the throughput that they make."""
    def change(summary: Dict[str, Any]) -> None:
        kept = [factor * one for one in sorted(summary["npu_compute_time_list"])[:keep]]
        summary.update(npu_compute_time_list=kept, throughput=1000 * BATCH / float(np.mean(kept)))
        summary["record"]["calls"] = [keep]
    return change


def at(path: str, value: Any) -> Callable[[Dict[str, Any]], None]:
    """Set one value: `value` itself, or what it makes of the old one."""
    def change(content: Any) -> None:
        *keys, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        for key in keys:
            content = content[key]
        content[last] = value(content[last]) if callable(value) else value
    return change


def all_outputs_as_the_first(world: World) -> None:
    first = world.dump(0).read_bytes()
    for path in (world.results / "all").glob("*_0.bin"):
        path.write_bytes(first)


def one_output_for_all(world: World) -> None:
    """A run that computed nothing, and says so in its record."""
    all_outputs_as_the_first(world)

    def change(summary: Dict[str, Any]) -> None:
        samples = summary["record"]["samples"]
        for one in samples:
            one["output"] = samples[0]["output"]
    world.summary(change, seal=True)


def exchange(*paths: Path) -> None:
    first, second = (path.read_bytes() for path in paths)
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)


def replaced_model(world: World, keep_time: bool = False) -> None:
    state = world.model.stat()
    world.model.write_bytes((world.folder / "other.onnx").read_bytes())
    if keep_time:
        os.utime(world.model, ns=(state.st_atime_ns, state.st_mtime_ns))


def noise_in(path: Path) -> None:
    values = np.fromfile(path, np.float32)
    (values * np.float32(1.001)).tofile(path)


def dumps_of(source: str, settings: bool = False, target: str = "all") -> Callable[[World], None]:
    def cheat(world: World) -> None:
        for path in (world.results / source).iterdir():
            if settings or path.suffix == ".bin":
                shutil.copyfile(path, world.results / target / path.name)
    return cheat


def twice(value: float) -> float:
    return 2 * value


def half(value: float) -> float:
    return value / 2


EDITED, OUTPUT, OTHER = "it was changed after the run", "is not what the timed run gave", "with other settings"
CHEATS = {  # what is done to an honest run, and what is said
    "throughput doubled": (lambda w: w.summary(at("throughput", twice)), EDITED),
    "throughput doubled, sealed again": (lambda w: w.summary(at("throughput", twice), True), "its times make"),
    "times divided": (lambda w: w.summary(times(factor=0.5)), EDITED),
    "times divided, sealed again": (lambda w: w.summary(at("npu_compute_time_list", lambda all_: list(map(half, all_))),
                                                        True), "its times make"),
    "seconds divided": (lambda w: w.summary(at("end_to_end.seconds", half)), EDITED),
    "seconds divided, sealed again": (lambda w: w.summary(at("end_to_end.seconds", half), True), "a second"),
    "crops inflated": (lambda w: w.summary(at("end_to_end.people", 24), True), "it counts 24 crops"),
    "batch count inflated": (lambda w: w.summary(at("record.batches", 8), True), "of 4 batches, and the run did 8"),
    "a batch skipped": (lambda w: w.summary(times(keep=3), True), "times of 3 batches, and the run did 4"),
    "warm cache only": (lambda w: w.summary(times(keep=1), True), "times of 1 batches, and the run did 4"),
    "batch inflated": (lambda w: [w.settings(at("batch", 16), name) for name in ("all", "all_flip")], OTHER),
    "batch inflated in one": (lambda w: w.settings(at("batch", 16)), "dumps of two runs"),
    "batch inflated in the record": (lambda w: w.summary(at("record.settings.batch", 16), True), OTHER),
    "clock set back": (lambda w: w.summary(at("record.machines.0.ended", lambda ended: ended - 60), True), "clock"),
    "timed outside the run": (lambda w: w.summary(at("end_to_end.started", lambda start: start - 9), True), "within"),
    "load hidden": (lambda w: w.summary(at("record.machines.0.busy_with_others", -1)), EDITED),
    "energy lowered": (lambda w: w.summary(at("record.machines.0.cpu_joules", 1e-3)), EDITED),
    "record removed": (lambda w: w.summary(lambda summary: summary.pop("record")), "no record"),
    "record and seal removed": (lambda w: w.summary(lambda s: (s.pop("record"), s.pop("seal"))), "no record"),
    "record emptied": (lambda w: w.summary(at("record", {}), True), "no record"),
    "record replaced": (lambda w: w.summary(at("record", {"settings": 3}), True), "none that this project writes"),
    "hashes removed": (lambda w: w.summary(at("record.samples", []), True), "0 of its outputs are hashed"),
    "hashes of one output": (lambda w: w.summary(at("record.samples", lambda all_: all_[:1]), True), "expected 12"),
    "cached outputs": (all_outputs_as_the_first, OUTPUT),
    "one output for all": (one_output_for_all, "the same output for 12 different inputs"),
    "one dump of another model": (lambda w: shutil.copyfile(w.dump(5, "other"), w.dump(5)), OUTPUT),
    "one dump retouched": (lambda w: noise_in(w.dump(11)), OUTPUT),
    "two dumps exchanged": (lambda w: exchange(w.dump(0), w.dump(1)), OUTPUT),
    "dumps of another model": (dumps_of("other"), OUTPUT),
    "dumps and settings of another model": (dumps_of("other", True), "dumps of two runs"),
    "another model's run, but its speed": (lambda w: [dumps_of("other", True, name)(w) for name in ("all", "all_flip")],
                                           "dumps of other bins"),
    "another model's speed": (lambda w: w.copy("other", "all", "_summary.json"), 'model was "other.onnx"'),
    "speed of another batch": (lambda w: w.copy("slow", "all", "_summary.json"), "batch was 1"),
    "speeds exchanged": (lambda w: exchange(*(summary_of(w.results / n) for n in ("all", "all_flip"))), "bins was"),
    "flip skipped": (lambda w: w.copy("all", "all_flip", "", "_summary.json"), "dumps of other bins"),
    "flip skipped, settings kept": (dumps_of("all", target="all_flip"), OUTPUT),
    "flip skipped, settings edited": (lambda w: [w.copy("all", "all_flip", "", "_summary.json"),
                                                 w.settings(at("bins.mirrored", True), "all_flip")], "bins was"),
    "swapped boxes": (lambda w: [w.settings(at("bins.boxes", "ground_truth"), name) for name in ("all", "all_flip")],
                      "dumps of other bins"),
    "swapped boxes, manifest edited": (
        lambda w: [*(w.settings(at("bins.boxes", "ground_truth"), name) for name in ("all", "all_flip")),
                   w.edit(w.bins / "manifest.json", at("boxes", "ground_truth"))], "bins was"),
    "precision edited": (lambda w: [w.settings(at("precision", "fp16"), name) for name in ("all", "all_flip")],
                         "precision was"),
    "device edited": (lambda w: [w.settings(at("device", "Ascend310P3"), name) for name in ("all", "all_flip")],
                      "device was"),
    "model replaced": (replaced_model, "another model"),
    "model replaced, its time kept": (lambda w: replaced_model(w, keep_time=True), "another model"),
    "a bin replaced": (lambda w: noise_in(w.bins / "000000000003.bin"), "is another bin"),
    "two bins exchanged": (lambda w: exchange(*(w.bins / f"{n:012d}.bin" for n in (4, 7))), "is another bin"),
    "a bin removed": (lambda w: (w.bins / "000000000003.bin").unlink(), "holds other bins"),
    "a bin added": (lambda w: shutil.copyfile(w.bins / "000000000003.bin", w.bins / "000000000012.bin"), "other bins"),
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_planted_cheat_is_refused(world, main, coco, name):
    cheat, expected = CHEATS[name]
    cheat(world)
    speed, table, said = result_of(world, main, coco)
    assert expected in said and len(said.strip().splitlines()) == 1, said
    assert speed is None or list(speed) == ["refused"] and table.count("| refused ") == 2 and expected in \
        speed["refused"]


def test_an_honest_run_is_not_refused_and_stays_so_when_its_files_are_gone(world, main, coco):
    speed, table, said = result_of(world, main, coco)
    assert speed["crops_per_second"] > 0 < speed["people_per_second"] and not said and "refused" not in table
    shutil.copytree(world.bins, world.folder / "here")
    for name in ("prep_data", "prep_data_flip"):
        shutil.rmtree(world.folder / name)
    (world.folder / "here").rename(world.bins)  # as good as the old ones
    world.model.unlink()
    assert result_of(world, main, coco)[0] == speed


@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("way", ["whole", "resumed", "in parts"])
def test_honest_runs_of_every_kind(world, main, small_cfg, batch, way):
    def infer(*options: object) -> None:
        done(main("infer", "--model", world.model, "--input", world.bins, "--output", world.folder, "--output_dirname",
                  "new", "--cfg", small_cfg, "--batchsize", batch, *options))

    for number in range(3 if way == "in parts" else 1):
        infer(*(["--part", f"{number}/3"] if way == "in parts" else []))
    if way == "resumed":
        for path in [world.folder / "new_summary.json", *sorted((world.folder / "new").glob("*_0.bin"))[:4]]:
            path.unlink()
        infer()
    assert mismatch_of(world.folder / "new") is None
    words = remarks([json.loads((world.folder / "new_summary.json").read_text())])
    left = {1: 4, 5: 5, 16: 12}[batch]
    assert (f"timed {left} of 12" in words) == (way == "resumed" and left < 12)


def mismatch_of(folder: Path):
    return find_mismatch(folder, json.loads(summary_of(folder).read_text()), read_settings(folder))


def test_a_summary_of_another_tool_says_that_it_has_no_record(world, main, coco):
    """ais_bench leaves a summary, and neither settings nor a record."""
    for name in ("all", "all_flip"):
        (world.results / name / "settings.json").unlink()
        world.edit(summary_of(world.results / name), lambda summary: (summary.pop("record"), summary.pop("seal")))
    speed, table, _ = result_of(world, main, coco)
    assert speed["remarks"] == ["no record"] and table.count("(no record)") == 2


def test_the_samples_are_drawn_anew_for_every_run():
    drawn = [run_record.draw(list(range(1000))) for _ in range(5)]
    assert all(len(set(one)) == 16 for one in drawn) and len(set(map(tuple, drawn))) == 5


@pytest.fixture()
def sensors(tmp_path, monkeypatch):
    """Files as Linux has them: what is set here is what the machine says."""
    monkeypatch.setattr(machine, "CPUS", tmp_path / "stat")
    monkeypatch.setattr(machine, "POWER_ZONES", tmp_path / "powercap")

    def write(busy: float, joules: List[float]) -> None:
        ticks = int(busy * os.sysconf("SC_CLK_TCK"))
        (tmp_path / "stat").write_text(f"cpu  {ticks} 0 0 999 999 0 0 0 0 0\ncpu0 1 2 3\n")
        for number, value in enumerate(joules):
            zone = tmp_path / "powercap" / f"intel-rapl:{number}"
            zone.mkdir(parents=True, exist_ok=True)
            for name, content in (("name", f"package-{number}"), ("energy_uj", int(1e6 * value)),
                                  ("max_energy_range_uj", 262143328850)):
                (zone / name).write_text(f"{content}\n")
    return write


def test_load_and_energy_are_those_of_the_time_between(sensors, monkeypatch):
    """Others took 5 of the 10 s of each of 2 CPUs; the counter of the second package has started anew."""
    clock = itertools.count(1000.0, 10.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine.os, "times", lambda: (1.0, 0.5, 2.0, 0.5, 99.0))
    sensors(100, [5, 262143])
    watch = MachineWatch("cpu")
    sensors(110, [25, 30])
    found = watch.stop()
    assert found["busy_with_others"] == 0.5 and found["gpus"] == []
    assert found["cpu_joules"] == pytest.approx(20 + 262143.328850 - 262143 + 30)
    summary = {"record": {"machines": [found], "crops": 4, "of": 4}}
    assert remarks([summary]) == ["50 % busy with others", f"{found['cpu_joules'] / 4:.2f} J per crop"]


def test_a_machine_that_tells_nothing_is_no_failure(sensors, monkeypatch):
    found = MachineWatch("NVIDIA T4").stop()
    assert (found["busy_with_others"], found["cpu_joules"], found["gpus"]) == (None, None, [])
    assert remarks([{"record": {"machines": [found], "crops": 4, "of": 4}}]) == []


def test_a_clock_that_is_set_during_a_run_is_seen(monkeypatch):
    watch = MachineWatch("cpu")
    monkeypatch.setattr(time, "time", lambda: watch.started - 3600)
    found = watch.stop()
    record = {"machines": [found], "settings": {"batch": 1}, "calls": [1], "batches": 1}
    assert "clock" in run_record._wrong_figures({"npu_compute_time_list": [1.0]}, record)
