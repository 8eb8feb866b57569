"""End to end through the scripts as their users run them, on a data set and a model made by the tests."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import (
    SMALL_HEATMAP,
    SWAP,
    bins_in,
    done,
    dumps_in,
    make_coco,
    one_error,
    patch_heatmaps,
    patch_model,
    read_score,
    tree,
)

from contract.manifest import load_manifest
from pose import photos


def detected(coco: Path) -> tuple:
    return "--dataroot", coco, "--detections", coco / "detections.json"


def test_dumps_are_what_the_model_gives_for_the_bins(inferred):
    for suffix in ("", "_flip"):
        rows = bins_in(inferred / f"prep_data{suffix}", (3, 64, 48))
        heatmaps = dumps_in(inferred / "results" / f"all{suffix}", (17, *SMALL_HEATMAP))
        np.testing.assert_allclose(heatmaps, patch_heatmaps(rows), rtol=0, atol=1e-5)
    normal, mirrored = (bins_in(inferred / name, (3, 64, 48)) for name in ("prep_data", "prep_data_flip"))
    np.testing.assert_array_equal(mirrored, normal[..., ::-1])


def test_bins_are_in_the_order_of_the_detections(coco, prepared):
    rows = json.loads((coco / "detections.json").read_text())
    manifest = load_manifest(prepared / "prep_data" / "manifest.json")
    assert manifest["image_id"].tolist() == [row["image_id"] for row in rows]
    assert manifest["bbox_xywh"].tolist() == [row["bbox"] for row in rows]
    assert manifest.settings["mirrored"] is False
    assert load_manifest(prepared / "prep_data_flip" / "manifest.json").settings["mirrored"] is True


def test_shuffled_detections_give_the_same_bins_in_another_order(coco, prepared, small_cfg, main, tmp_path):
    rows = json.loads((coco / "detections.json").read_text())
    order = np.random.default_rng(0).permutation(len(rows))
    (tmp_path / "shuffled.json").write_text(json.dumps([rows[index] for index in order]))
    done(main("preprocess", "--dataroot", coco, "--cfg", small_cfg, "--detections", tmp_path / "shuffled.json",
              "--output", tmp_path / "a", "--output_flip", tmp_path / "b"))
    expected = bins_in(prepared / "prep_data", (3, 64, 48))
    np.testing.assert_array_equal(bins_in(tmp_path / "a", (3, 64, 48)), expected[order])


@pytest.fixture()
def score(coco, inferred, main):
    """Postprocess the dumps in a folder with `inferred`'s manifest, unless options say otherwise."""

    def run(output: Path, dumps: Path = None, *options: object) -> SimpleNamespace:
        dumps = dumps or inferred / "results" / "all"
        manifest = ("--manifest", inferred / "prep_data" / "manifest.json")
        done(main("postprocess", "--dataroot", coco, "--dump_dir", dumps, "--dump_dir_flip", f"{dumps}_flip",
                  "--output", output, *(() if "--detections" in options or "--manifest" in options else manifest),
                  *options))
        return read_score(output)

    return run


def same_keypoints(one: SimpleNamespace, other: SimpleNamespace) -> bool:
    return one.results == other.results and one.metrics == other.metrics


@pytest.mark.parametrize("batch, workers", [(4, 1), (5, 7), (100, 2)])
def test_bins_of_several_people_give_the_same_result(coco, small_cfg, small_model, main, score, tmp_path, batch,
                                                     workers):
    options = (*detected(coco), "--cfg", small_cfg, "--batch", batch, "--workers", workers)
    done(main("preprocess", *options, "--output", tmp_path / "a", "--output_flip", tmp_path / "a_flip"))
    for suffix in ("", "_flip"):
        done(main("infer", "--model", small_model, "--cfg", small_cfg, "--input", tmp_path / f"a{suffix}", "--output",
                  tmp_path, "--output_dirname", f"dumps{suffix}"))
    assert len(list((tmp_path / "dumps").glob("*_0.bin"))) == -(-12 // batch)
    assert same_keypoints(score(tmp_path / "score", tmp_path / "dumps", "--manifest", tmp_path / "a" / "manifest.json"),
                          score(tmp_path / "expected"))


@pytest.mark.parametrize("batch", [1, 5, 16])
def test_models_of_one_batch_write_no_padding(inferred, small_cfg, main, tmp_path, batch):
    model = patch_model(tmp_path / "static.onnx", batch)
    done(main("infer", "--model", model, "--cfg", small_cfg, "--input", inferred / "prep_data", "--output", tmp_path,
              "--output_dirname", "static"))
    rows = bins_in(inferred / "prep_data", (3, 64, 48))
    np.testing.assert_allclose(dumps_in(tmp_path / "static", (17, *SMALL_HEATMAP)), patch_heatmaps(rows), atol=1e-5)
    summary = json.loads((tmp_path / "static_summary.json").read_text())
    assert summary["end_to_end"]["people"] == len(rows) == 12
    assert len(summary["npu_compute_time_list"]) == -(-12 // batch)


def test_the_summary_has_ais_benchs_keys(shared, inferred):
    recording = json.loads((shared / "golden" / "ais_bench" / "new" / "01_bs1_5files.json").read_text())
    theirs = json.loads(recording["summaries"][0]["raw"] if "raw" in recording["summaries"][0]
                        else next(value for value in recording["summaries"][0].values()
                                  if isinstance(value, str) and value.startswith("{")))
    ours = json.loads((inferred / "results" / "all_summary.json").read_text())
    assert {"filesinfo", "args", "NPU_compute_time", "throughput", "npu_compute_time_list", "pid"} <= \
        ours.keys() & theirs.keys()
    assert theirs["NPU_compute_time"].keys() <= ours["NPU_compute_time"].keys()
    assert ours["filesinfo"]["0"].keys() == theirs["filesinfo"]["0"].keys()


def test_dumps_as_ais_bench_leaves_them_have_no_settings(inferred, score, tmp_path):
    expected = score(tmp_path / "expected")
    for suffix in ("", "_flip"):
        shutil.copytree(inferred / "results" / f"all{suffix}", tmp_path / f"bs16{suffix}",
                        ignore=shutil.ignore_patterns("settings.json"))
    run = score(tmp_path / "score", tmp_path / "bs16")
    assert same_keypoints(run, expected) and run.dumps == [None, None]


def test_the_manifest_is_rebuilt_from_the_detections(coco, inferred, small_cfg, score, tmp_path):
    expected = score(tmp_path / "expected")
    options = ("--detections", coco / "detections.json", "--cfg", small_cfg)
    assert same_keypoints(score(tmp_path / "one", None, *options), expected)
    for suffix in ("", "_flip"):  # dumps of bins that came without a manifest say nothing about them
        shutil.copytree(inferred / "results" / f"all{suffix}", tmp_path / f"bs16{suffix}",
                        ignore=shutil.ignore_patterns("settings.json"))
    assert same_keypoints(score(tmp_path / "two", tmp_path / "bs16", *options), expected)


def test_bins_without_a_manifest_can_be_inferred(work, small_cfg, small_model, main):
    (work / "prep_data" / "manifest.json").unlink()
    done(main("infer", "--model", small_model, "--cfg", small_cfg, "--input", work / "prep_data", "--output", work,
              "--output_dirname", "bare"))
    assert tree(work / "results" / "all").items() - tree(work / "bare").items() == \
        {("settings.json", tree(work / "results" / "all")["settings.json"])}


def test_limit_takes_the_first_photographs_and_scores_no_others(coco, small_cfg, small_model, main, tmp_path):
    done(main("preprocess", *detected(coco), "--cfg", small_cfg, "--limit", 2, "--output", tmp_path / "a",
              "--output_flip", tmp_path / "a_flip"))
    manifest = load_manifest(tmp_path / "a" / "manifest.json")
    assert sorted(set(manifest["image_id"].tolist())) == [3, 14] and len(manifest) == 8
    done(main("infer", "--model", small_model, "--cfg", small_cfg, "--input", tmp_path / "a", "--output", tmp_path,
              "--output_dirname", "dumps"))
    annotations = json.loads((coco / "annotations" / "person_keypoints_val2017.json").read_text())["annotations"]
    perfect = perfect_dumps(annotations, manifest)
    for number, heatmap in enumerate(perfect):
        heatmap.tofile(tmp_path / "dumps" / f"{number:012d}_0.bin")
    done(main("postprocess", "--dataroot", coco, "--dump_dir", tmp_path / "dumps", "--manifest",
              tmp_path / "a" / "manifest.json", "--output", tmp_path / "score"))
    run = read_score(tmp_path / "score")
    assert run.metrics["AR50"] == pytest.approx(1)  # of the two photographs; 2 / 3 if all three were scored


def perfect_dumps(annotations: list, manifest) -> np.ndarray:
    """Heatmaps whose peaks are where the annotations are, as near as a heatmap can say it. The detections of
    `make_coco` come in the order of its annotations."""
    height, width = SMALL_HEATMAP
    heatmaps = np.zeros((len(manifest), 17, height, width), np.float32)
    for person, (x1, y1, x2, y2) in enumerate(manifest["crop_xyxy"].astype(float)):
        joints = np.array(annotations[person]["keypoints"]).reshape(17, 3)
        x = ((joints[:, 0] - (x1 + x2) / 2) * width / (x2 - x1) + width / 2).round().astype(int)
        y = ((joints[:, 1] - (y1 + y2) / 2) * width / (x2 - x1) + height / 2).round().astype(int)
        heatmaps[person, np.arange(17), y.clip(0, height - 1), x.clip(0, width - 1)] = 1
    return heatmaps


def test_annotated_boxes_and_limit_go_together(coco, small_cfg, main, tmp_path):
    done(main("preprocess", "--dataroot", coco, "--cfg", small_cfg, "--gt_boxes", "--limit", 1, "--output",
              tmp_path / "a", "--output_flip", tmp_path / "b"))
    manifest = load_manifest(tmp_path / "a" / "manifest.json")
    assert set(manifest["image_id"].tolist()) == {3} and manifest.settings["boxes"] == "ground_truth"


def test_a_limit_without_people_is_refused(tmp_path, small_cfg, main):
    coco = make_coco(tmp_path / "coco", 2, 1)
    rows = json.loads((coco / "detections.json").read_text())
    (coco / "detections.json").write_text(json.dumps(rows[1:]))
    finished = main("preprocess", *detected(coco), "--cfg", small_cfg, "--limit", 1, "--output", tmp_path / "a",
                    "--output_flip", tmp_path / "b")
    assert "--limit" in one_error(finished) and not (tmp_path / "a").exists()


def test_no_photograph_is_opened_after_preprocessing(tmp_path, small_cfg, inferred, coco, main, score):
    expected = score(tmp_path / "expected")
    shutil.copytree(coco / "annotations", tmp_path / "bare" / "annotations")
    done(main("postprocess", "--dataroot", tmp_path / "bare", "--dump_dir", inferred / "results" / "all",
              "--dump_dir_flip", inferred / "results" / "all_flip", "--manifest",
              inferred / "prep_data" / "manifest.json", "--output", tmp_path / "score"))
    assert same_keypoints(read_score(tmp_path / "score"), expected)


def test_each_photograph_is_decoded_once(coco, small_cfg, main, monkeypatch, tmp_path):
    opened, read_photograph = [], photos.read_photograph
    monkeypatch.setattr(photos, "read_photograph", lambda path: opened.append(path.name) or read_photograph(path))
    done(main("preprocess", *detected(coco), "--cfg", small_cfg, "--output", tmp_path / "a", "--output_flip",
              tmp_path / "b"))
    assert sorted(opened) == sorted(path.name for path in (coco / "val2017").iterdir())


def test_keypoints_are_cocos_result_format(score, tmp_path):
    for result in score(tmp_path).results:
        assert set(result) == {"bbox", "image_id", "area", "score", "category_id", "keypoints"}
        assert isinstance(result["image_id"], int) and len(result["keypoints"]) == 51 and len(result["bbox"]) == 4


def test_who_is_left_and_in_what_order_follows_the_rules(inferred, score, tmp_path):
    """The records of postprocess.py from its dumps, by loops."""
    manifest = load_manifest(inferred / "prep_data" / "manifest.json")
    normal, mirrored = (dumps_in(inferred / "results" / name, (17, *SMALL_HEATMAP)) for name in ("all", "all_flip"))
    mirrored = mirrored[:, SWAP, :, ::-1]
    fused = (normal + np.concatenate([mirrored[..., :1], mirrored[..., :-1]], axis=3)) / np.float32(2)
    people = []
    for person, heatmap in enumerate(fused):
        scores = [float(joint.max()) for joint in heatmap]
        counted = [value for value in scores if value > 0.2]
        score_of = (sum(counted) / len(counted) if counted else 0) * float(np.float32(manifest["score"][person]))
        people.append((int(manifest["image_id"][person]), score_of, scores))
    run = score(tmp_path)
    assert run.people["after_nms"] == len(run.results) <= len(people)
    order = [(3, 14, 25).index(result["image_id"]) for result in run.results]
    assert order == sorted(order)
    for result in run.results:
        image_id, expected, scores = min(people, key=lambda person: abs(person[1] - result["score"]))
        assert (result["image_id"], result["score"]) == (image_id, pytest.approx(expected, rel=1e-6))
        np.testing.assert_allclose(result["keypoints"][2::3], scores, rtol=1e-6)


def test_soft_nms_is_an_option(score, tmp_path):
    assert score(tmp_path, None, "--nms", "soft").settings["nms"] == "soft"
