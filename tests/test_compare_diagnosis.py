"""compare.py --explain on real photographs and real weights: each fault is planted, and is the one that is named."""
from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Dict, Optional

import numpy as np
import pytest
from compare_cases import (
    BATCH,
    DECODING_FAULTS,
    FAULTS,
    PEOPLE,
    SWAPPED,
    Bench,
    fused_keypoints,
    left_in_english,
    older_weights,
)
from conftest import IMAGENET_MEAN, IMAGENET_STD, ROOT, done, one_error, write_config

from comparison.causes import CAUSES
from comparison.causes.diagnosis import conclude
from comparison.causes.rerun import Rerun, open_rerun
from comparison.compare import Comparison, compare
from comparison.finding import CONSISTENT, FOUND, NOT_TESTED, REPRODUCED, Finding
from comparison.gates import choose_limits
from comparison.limits import Verdict
from comparison.page.language import LANGUAGES, translator
from comparison.results import Options, open_results, parse_result, read_results
from contract.files import write_json
from pose.heatmaps import flip_back, shift_clean
from pose.people import load_people, spec_of

IN_CHINESE = translator(LANGUAGES["zh"])


@pytest.fixture(scope="session")
def bench(shared, tmp_path_factory, script) -> Bench:
    folder = tmp_path_factory.mktemp("diagnosis")
    cfg = write_config(folder / "cfg.yaml", (256, 192), (64, 48), "TYPE: Ultralight", MEAN=IMAGENET_MEAN,
                       STD=IMAGENET_STD)
    detections = json.loads((shared / "golden" / "detections.json").read_text())
    (folder / "detections.json").write_text(json.dumps(detections[:PEOPLE]))
    model = shared / "models" / "ultralight_simplepose.onnx"
    done(script("preprocess.py", "--dataroot", shared / "data" / "coco_mini", "--output", folder / "prep",
                "--output_flip", folder / "prep_flip", "--cfg", cfg, "--detections", folder / "detections.json"))
    for suffix in ("", "_flip"):
        done(script("infer.py", "--model", model, "--input", f"{folder}/prep{suffix}", "--output", folder,
                    "--output_dirname", f"real{suffix}", "--cfg", cfg, "--batchsize", BATCH))
        (folder / f"real{suffix}" / "settings.json").unlink()  # as ais_bench leaves dumps: nothing says what made them
    crops, dumps, flipped = (np.stack([np.fromfile(path, np.float32).reshape(shape)
                                       for path in sorted((folder / name).glob("*.bin"))])
                             for name, shape in (("prep", (3, 256, 192)), ("real", (17, 64, 48)),
                                                 ("real_flip", (17, 64, 48))))
    return Bench(folder, shared / "data" / "coco_mini", model, crops, dumps, flipped)


@pytest.fixture(scope="session")
def rerun(bench) -> Rerun:
    """The model that made the reference, opened once: what it makes of faulty crops is the same for every fault."""
    manifest = load_people(bench.folder / "prep" / "manifest.json")
    return open_rerun(str(bench.model), bench.folder / "prep", spec_of(manifest), bench.dataroot)


@pytest.fixture()
def explain(bench):
    """Compare two results with --explain; the exit code and the findings."""

    def run(a: object, b: object, rerun: Optional[Rerun] = None):
        manifest = load_people(bench.folder / "prep" / "manifest.json")
        options = Options(spec_of(manifest), choose_limits("fp16", [], None, None), "clean", 0, 0, 2)
        results = [parse_result(str(text)) for text in (a, b)]
        open_results(results, manifest)
        read_results(results, options, None)
        comparison = compare(*results, options, True, rerun)
        assert sorted(finding.cause for finding in comparison.findings) == sorted(CAUSES)
        for sentence in (comparison.conclusion, *(finding.evidence for finding in comparison.findings)):
            assert not left_in_english(IN_CHINESE(re.sub(r"/\S+|\b[cn]pu\b", "B", sentence))), sentence
        return int(not comparison), comparison.findings

    return run


@pytest.fixture(scope="module")
def confusion():
    """Fault -> what was planted and what was named; written as a table to $CONFUSION_TABLE, for docs/compare.md."""
    rows: Dict[str, tuple] = {}
    yield rows
    if os.environ.get("CONFUSION_TABLE"):
        lines = ["| fault planted | cause | named | falsely claimed |", "| --- | --- | --- | --- |"]
        lines += [f"| {fault} | {cause or '-'} | {', '.join(names) or '-'} | {len(set(names) - {cause})} |"
                  for fault, (cause, names) in rows.items()]
        Path(os.environ["CONFUSION_TABLE"]).write_text("\n".join(lines) + "\n")


def named(findings: list) -> list:
    return [finding.cause for finding in findings if finding.status == FOUND]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_the_one_that_is_named(fault, bench, explain, rerun, confusion):
    cause, change = FAULTS[fault]
    code, findings = explain(bench.folder / "real", bench.plant(fault.replace(" ", "_"), change(bench)), rerun)
    confusion[fault] = cause, named(findings)
    assert code == 1
    assert named(findings) == ([cause] if cause else []), findings


def test_the_documented_confusion_table_has_every_fault():
    for page in ("compare.md", "compare.zh-CN.md"):
        rows = (ROOT / "docs" / page).read_text().splitlines()
        for fault, (cause, _) in {**FAULTS, **DECODING_FAULTS}.items():
            assert f"| {fault} | {cause or '-'} | {cause or '-'} | 0 |" in rows, f"{page}: {fault}"


@pytest.mark.parametrize("fault", DECODING_FAULTS)
def test_a_fault_between_heatmaps_and_keypoints_is_named(fault, bench, explain, confusion, tmp_path):
    cause, make = DECODING_FAULTS[fault]
    write_json(tmp_path / "b.json", make(bench))
    code, findings = explain(f"cpu={bench.folder / 'real'},{bench.folder / 'real_flip'}", tmp_path / "b.json")
    confusion[fault] = cause, named(findings)
    assert code == 1
    assert named(findings) == [cause], findings


@pytest.mark.parametrize("fault", ["all joints exchanged", "keypoints half a cell off", "joint scores halved",
                                   "few people's keypoints"])
def test_two_keypoints_files_tell_what_needs_no_heatmaps(fault, bench, explain, tmp_path):
    cause, make = DECODING_FAULTS[fault]
    write_json(tmp_path / "a.json", fused_keypoints(bench, shift_clean(flip_back(bench.flipped))))
    write_json(tmp_path / "b.json", make(bench))
    code, findings = explain(tmp_path / "a.json", tmp_path / "b.json")
    assert code == 1
    assert named(findings) == [cause], findings


def test_where_the_dumps_agree_the_fault_is_after_them(bench, explain, tmp_path):
    """Both sides complete: the same dumps, keypoints of one made without the shift."""
    write_json(tmp_path / "a.json", fused_keypoints(bench, shift_clean(flip_back(bench.flipped))))
    write_json(tmp_path / "b.json", fused_keypoints(bench, flip_back(bench.flipped)))
    dumps = f"{bench.folder / 'real'},{bench.folder / 'real_flip'}"
    code, findings = explain(f"cpu={dumps},{tmp_path / 'a.json'}", f"npu={dumps},{tmp_path / 'b.json'}")
    assert (code, named(findings)) == (1, ["flip_shift"])
    assert "npu" in findings[0].evidence and "no shift by one column" in findings[0].evidence
    assert {finding.evidence for finding in findings if finding.cause in ("flat", "transposed")} == {
        "the dumps agree, so it is nothing before them"}


def test_nothing_is_named_where_nothing_is_wrong(bench, explain, rerun, confusion):
    """The same dumps, and what float16 leaves of them."""
    for name, dumps in (("same", bench.dumps), ("float16", bench.dumps.astype(np.float16))):
        code, findings = explain(bench.folder / "real", bench.plant(name, dumps), rerun)
        confusion[f"none: {name} dumps"] = "-", named(findings)
        assert (code, named(findings)) == (0, [])
        assert {(finding.status, finding.evidence) for finding in findings} == {(NOT_TESTED, "the results agree")}


def test_scores_of_people_are_compared(bench, explain, tmp_path):
    """Two keypoints files that differ in nothing else."""
    people = fused_keypoints(bench, shift_clean(flip_back(bench.flipped)))
    write_json(tmp_path / "a.json", people)
    write_json(tmp_path / "b.json", [{**person, "score": 0.9 * person["score"]} for person in people])
    code, findings = explain(tmp_path / "a.json", tmp_path / "b.json")
    assert (code, named(findings)) == (1, ["person_scores"]) and "= 0.9 times" in findings[0].evidence


def test_faults_of_the_mirrored_dumps_are_named(bench, explain, rerun):
    """Dumps of mirrored bins that were never mirrored, and BGR in the mirrored bins alone."""
    never = f"{bench.folder / 'real'},{bench.plant('never_mirrored', bench.dumps)}"
    swapped = f"{bench.folder / 'real'},{bench.plant('bgr_mirrored', bench.infer(bench.crops[:, ::-1, :, ::-1]))}"
    for planted, cause in ((never, "mirrored"), (swapped, "bgr")):
        code, findings = explain(f"{bench.folder / 'real'},{bench.folder / 'real_flip'}", planted, rerun)
        assert (code, named(findings)) == (1, [cause]), findings[0]


def rounded(values: np.ndarray, step: np.ndarray) -> np.ndarray:
    return (np.rint(values / step) * step).astype(np.float32)


def test_noise_is_not_taken_for_a_cause(bench, explain):
    noise = np.random.default_rng(0).standard_normal(bench.dumps.shape).astype(np.float32)
    code, findings = explain(bench.folder / "real", bench.plant("noise", bench.dumps + np.float32(0.1) * noise))
    assert (code, named(findings)) == (1, [])


@pytest.mark.parametrize("causes, change", [
    ({"scaled"}, lambda dumps: dumps / dumps.max(axis=(2, 3), keepdims=True)),  # all peaks are 1, and nothing is flat
    ({"function"}, lambda dumps: np.maximum(dumps, np.float32(0.1))),  # few values are left, which are no grid
    ({"function"}, lambda dumps: np.log1p(np.exp(4 * dumps))),
    ({"layout"}, lambda dumps: np.roll(dumps.reshape(PEOPLE, -1), -37, axis=1).reshape(dumps.shape)),
    ({"joint_order"}, lambda dumps: dumps[:, [*range(16), 15]]),
    ({"left_right", "mirrored"}, lambda dumps: dumps[:, SWAPPED, :, ::-1]),
    ({"activation", "file_order"}, lambda dumps: np.roll(1 / (1 + np.exp(-dumps)), 1, axis=0)),
    ({"storage"}, lambda dumps: rounded(dumps, dumps.max(axis=(0, 2, 3), keepdims=True) / 7)),
    ({"storage", "file_order"}, lambda dumps: rounded(dumps, np.float32(1 / 31))[::-1]),
    ({"storage", "scaled"}, lambda dumps: np.rint(np.clip(dumps, 0, 1) * 255)),
    ({"storage", "left_right"}, lambda dumps: rounded(
        dumps, dumps.max(axis=(1, 2, 3), keepdims=True) / 31)[:, SWAPPED]),
], ids=["of highest value 1", "of at least 0.1", "softplus", "from value 37 on", "an ankle twice", "two: turned back",
        "two: a sigmoid, files shifted", "4 bits for each joint", "two: 6 bits, files reversed",
        "two: bytes, times 255", "two: 6 bits for each person, left and right exchanged"])
def test_heatmaps_alone_tell(causes, change, bench, explain):
    code, findings = explain(bench.folder / "real", bench.plant("heatmaps", change(bench.dumps)))
    assert (code, set(named(findings))) == (1, causes), findings[:2]


def test_what_leaves_more_than_the_gate_is_not_all_and_is_not_found(bench, explain):
    noise = np.random.default_rng(0).standard_normal(bench.dumps.shape).astype(np.float32)
    code, findings = explain(bench.folder / "real", bench.plant(
        "noisy", np.roll(bench.dumps, 1, axis=0) + np.float32(8e-4) * noise))
    order = next(finding for finding in findings if finding.cause == "file_order")
    assert (code, named(findings), order.status) == (1, [], CONSISTENT)
    assert order.unexplained < REPRODUCED and "is outside the gate, so it is not all" in order.evidence


def test_two_causes_that_explain_as_much_are_both_told():
    """And one that leaves far less, or nothing, stands alone."""
    def conclusion(*left: float) -> str:
        findings = conclude([Finding(cause, FOUND, "", one) for cause, one in zip(("offset", "cropping"), left)])
        limit = Verdict("cosine", "tensors", 0.9, ">=", 0.9999, False, "", "")
        return Comparison("a", "b", [limit], {}, findings).conclusion

    offset, cropping = (CAUSES[cause].TITLE for cause in ("offset", "cropping"))
    assert conclusion(0.01, 0.02) == f"causes: one of these, which cannot be told apart: {offset}; {cropping}"
    for left in ((0.005, 0.02), (0.0005, 0.0012)):
        assert conclusion(*left) == f"causes: found: {offset}"


def test_two_faults_at_once_are_found_together(bench, explain, rerun):
    bgr = bench.infer(bench.crops[:, ::-1])
    code, findings = explain(bench.folder / "real", bench.plant("pair", bgr[:, SWAPPED]), rerun)
    assert (code, set(named(findings))) == (1, {"bgr", "left_right"})
    assert {finding.evidence for finding in findings[:2]} == {findings[0].evidence}


@pytest.mark.parametrize("words, change", [
    ("big-endian", lambda dumps: dumps.byteswap()),
    ("Read from byte 3 on they would be finite", lambda dumps: np.roll(
        dumps.reshape(PEOPLE, -1).view(np.uint8), -1, axis=1).view(np.float32).reshape(dumps.shape))],
    ids=["byte order", "byte 1"])
def test_bytes_that_are_no_values_are_refused_and_the_right_reading_is_named(words, change, bench, main):
    planted = bench.plant("bytes", change(bench.dumps))
    message = one_error(main("compare", bench.folder / "real", planted, "--explain"))
    assert words in message and "overflow" not in message


@pytest.mark.parametrize("cause, change", [
    ("joint_order", lambda joints: joints[:, [1, 0, 2]]), ("resampling", lambda joints: joints * (0.5, 0.5, 1)),
    ("activation", lambda joints: np.concatenate([joints[:, :2], joints[:, 2:] ** 2], axis=1)),
    ("offset", lambda joints: joints + (7, -4, 0))], ids=["x and y", "half the photo", "scores squared", "moved"])
def test_keypoints_alone_tell(cause, change, bench, explain, tmp_path):
    people = fused_keypoints(bench, shift_clean(flip_back(bench.flipped)))
    write_json(tmp_path / "a.json", people)
    write_json(tmp_path / "b.json", [{**person, "keypoints": change(
        np.reshape(person["keypoints"], (17, 3))).ravel().tolist()} for person in people])
    code, findings = explain(tmp_path / "a.json", tmp_path / "b.json")
    assert (code, named(findings)) == (1, [cause]), findings[0]


def test_float16_saturation_is_named(bench, explain, confusion):
    """A model whose heatmaps reach beyond 65504, written as float16 by a device that saturates."""
    large = bench.plant("large", bench.dumps * np.float32(1e5))
    saturated = bench.plant("saturated", np.minimum(bench.dumps * np.float32(1e5), np.finfo(np.float16).max)
                            .astype(np.float16))
    code, findings = explain(large, saturated)
    confusion["saturated at 65504"] = "saturation", named(findings)
    assert (code, named(findings)) == (1, ["saturation"])
    assert "65504" in findings[0].evidence


def test_overflow_to_infinity_is_explained_and_nothing_is_measured(bench, main, tmp_path):
    dumps = bench.dumps.astype(np.float16)
    dumps[[4, 9], 3] = np.inf
    finished = main("compare", bench.folder / "real", bench.plant("infinite", dumps), "--explain", "--json",
                    tmp_path / "out.json")
    message = one_error(finished)
    assert f"2 of {PEOPLE} dumps" in message and "000000000004_0.bin, 000000000009_0.bin" in message
    assert "float16" in message and not (tmp_path / "out.json").exists()


def test_the_side_that_the_model_does_not_reproduce_is_the_wrong_one(bench, main, tmp_path):
    """The reference may be the one at fault. By the command, with all that it takes."""
    wrong = bench.plant("bgr_reference", bench.infer(bench.crops[:, ::-1]))
    finished = main("compare", wrong, bench.folder / "real", "--manifest", bench.folder / "prep" / "manifest.json",
                    "--explain", "--model", bench.model, "--input", bench.folder / "prep", "--dataroot", bench.dataroot,
                    "--bootstrap", 0, "--json", tmp_path / "out.json")
    assert finished.returncode == 1, finished.stderr
    assert "causes: found: colours in the order B, G, R" in finished.stdout
    pair = json.loads((tmp_path / "out.json").read_text())["pairs"][0]
    first = pair["diagnosis"][0]
    assert (first["cause"], first["status"]) == ("bgr", FOUND) and "for a" in first["evidence"]
    assert sorted(finding["cause"] for finding in pair["diagnosis"]) == sorted(CAUSES)


def test_without_a_model_faults_of_the_input_are_not_claimed(bench, explain):
    planted = bench.plant("bgr_alone", bench.infer(bench.crops[:, ::-1]))
    code, findings = explain(bench.folder / "real", planted)
    assert (code, named(findings)) == (1, [])
    assert {finding.cause for finding in findings if finding.status == NOT_TESTED} == {
        "bgr", "colour", "normalisation", "uint8", "cropping", "jpeg", "precision", "person_scores", "weights"}


def test_a_model_of_neither_side_is_said_to_be_so(bench, explain, rerun):
    onnx = pytest.importorskip("onnx")
    older_weights(bench)
    model = onnx.load(bench.folder / "older.onnx")
    last = [weights for weights in model.graph.initializer if len(weights.dims) == 4][-1]
    last.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(last), last.name))
    onnx.save(model, bench.folder / "neither.onnx")
    planted = bench.plant("bgr_neither", bench.infer(bench.crops[:, ::-1]))
    code, findings = explain(bench.folder / "real", planted, open_rerun(
        str(bench.folder / "neither.onnx"), bench.folder / "prep", rerun.bins.spec))
    assert (code, named(findings)) == (1, [])
    assert "gives neither" in next(finding.evidence for finding in findings if finding.cause == "bgr")
