"""quantize.py as its user runs it: the file, its record, the search, what it refuses."""
from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, done, one_error
from layers_cases import change_weight, make_crops, onnx, save, small_graph, taking_bytes

from contract.bins import open_bins
from contract.errors import UserError
from layers.graphs import find_layers
from layers.net import Net
from pose.annotations import load_annotations
from quantization.bias import bias_corrections
from quantization.calibrate import calibrate
from quantization.crops import BoxRows, open_source, share_out
from quantization.decision import Decision, load_decision
from quantization.evaluation import Change, Validation
from quantization.graph import Graph, prepare
from quantization.keep import WORDS, choose_kept
from quantization.memory import Memory
from quantization.qdq import FORMS, to_qdq
from quantization.running import Network
from quantization.search import goal_of, search
from quantization.sheet import contact_sheet
from quantization.trials import Trials


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save(small_graph(), tmp_path_factory.mktemp("float") / "small.onnx")


@pytest.fixture()
def quantize(main, model, prepared, tmp_path):
    def run(*options: object, path: Path = model):
        return main("quantize", path, "--input", prepared / "prep_data", "--output", tmp_path / "int8.onnx", *options)

    return run


def test_a_model_and_bins_are_enough(quantize, model, prepared, small_cfg, main, tmp_path):
    printed = done(quantize())
    assert "| mse |" in printed and "goal: cosine of at least 0.998 with float32" in printed
    record = json.loads((tmp_path / "int8.onnx.json").read_text())
    decision = load_decision(tmp_path / "int8.onnx.json")
    assert decision.method == min(record["methods"], key=record["methods"].get)
    assert f"int8.onnx: {6 - len(decision.kept)} of 6 layers in int8" in printed
    done(main("infer", "--model", tmp_path / "int8.onnx", "--input", prepared / "prep_data", "--cfg", small_cfg,
              "--output", tmp_path, "--output_dirname", "dumps"))
    assert json.loads((tmp_path / "dumps/settings.json").read_text())["precision"] == "int8"
    assert record["change"]["cosine"] > 0.99 and record["ms"]["int8"] > 0
    # The file is what the decision says, of the prepared model.
    again = to_qdq(prepare(onnx.load(model), "again"), decision)
    assert Counterpart(again) == Counterpart(onnx.load(tmp_path / "int8.onnx"))


class Counterpart:
    """A graph by its nodes and weights, without what says where it came from."""

    def __init__(self, graph: onnx.ModelProto):
        self.content = [one.SerializeToString() for one in (*graph.graph.node, *graph.graph.initializer)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counterpart) and self.content == other.content


def test_what_is_there_is_kept_and_other_settings_make_it_anew(quantize, tmp_path):
    done(quantize("--keep", "last", "--method", "average"))
    made = (tmp_path / "int8.onnx").stat().st_mtime_ns
    assert "kept, of the same model" in done(quantize("--keep", "last", "--method", "average"))
    assert (tmp_path / "int8.onnx").stat().st_mtime_ns == made
    assert "6 of 6 layers in int8" in done(quantize("--keep", "--method", "average"))
    assert load_decision(tmp_path / "int8.onnx.json").kept == {}


def test_kept_layers_are_told_with_their_reasons(quantize, tmp_path):
    (tmp_path / "more.txt").write_text("deep\n")
    printed = done(quantize("--keep", "first", "last", "--keep_list", tmp_path / "more.txt"))
    assert "| stem | the first: reads the crop itself |" in printed and "| deep | asked for |" in printed
    assert set(load_decision(tmp_path / "int8.onnx.json").kept) == {"stem", "out", "deep"}


def test_a_bound_is_searched_for_and_shown(quantize, prepared, coco, tmp_path):
    printed = done(quantize("--validation", prepared / "prep_data", "--dataroot", coco, "--max_drop_oks", 1e-9,
                            "--report", tmp_path / "page.html"))
    assert "goal: OKS with float32 drops by at most 1e-09" in printed
    assert "standard error" in printed and "(taken)" in printed
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 1 and page.count("kept, taken") == 1 and "http" not in page
    assert page.count("data:image/jpeg;base64,") == 1


def test_a_bound_on_ap_that_is_kept_by_int8_alone_is_shown_too(quantize, prepared, coco, tmp_path):
    done(quantize("--validation", prepared / "prep_data", "--dataroot", coco, "--max_drop", 100, "--report",
                  tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "Search: AP drops by at most 100 points" in page and "0 (taken)" in page and "No layer." in page


def test_a_goal_that_is_not_reached_is_told(quantize, monkeypatch):
    monkeypatch.setattr("quantization.search.COSINE_GOAL", 1.1)
    assert "the goal was not reached. Taken is" in done(quantize("--method", "mse"))


def test_a_bound_on_oks_needs_no_annotations(quantize, tmp_path):
    done(quantize("--max_drop_oks", 1e-9))
    record = json.loads((tmp_path / "int8.onnx.json").read_text())
    assert record["change"]["oks"] is None and record["change"]["drop_oks"] is not None
    assert record["search"]["tried"][-1]["count"] > 0


@pytest.mark.parametrize("options, what", [
    (("--keep", "nowhere"), "--keep nowhere: no such layer"), (("--max_drop", 1), "--max_drop needs --validation"),
    (("--keep", "first", "--max_drop_oks", 1), "Give one of them"), (("--max_drop_oks", -1), "0 or more"),
    (("--max_drop_oks", "nan"), "0 or more"),
    (("--output", "/tmp"), "/tmp: is no file"), (("--report", "/dev/null"), "/dev/null: is no file"),
    (("--input", "/nowhere"), "/nowhere"), (("--boxes", "/nowhere.json"), "Photos need the --cfg"),
    (("--input", Path(__file__).parent), "Photos need the --cfg"),
    (("--keep", *[node for layer in find_layers(small_graph()) for node in layer.nodes if "relu" not in node
                  and node != "add"]), "nothing would be int8")])
def test_what_cannot_be_done_is_one_line(quantize, options, what, tmp_path):
    finished = quantize(*options)
    assert finished.returncode == 2 and what in finished.stderr and "Traceback" not in finished.stderr
    assert not list(tmp_path.glob("int8*"))


def test_odd_models_are_named(quantize, tmp_path):
    broken = small_graph()
    change_weight(broken, "left.w", lambda values: values * np.nan)
    assert "l holds values that are not finite" in one_error(quantize(path=save(broken, tmp_path / "nan.onnx")))
    done(quantize("--keep"))
    assert "is int8 already" in one_error(quantize("--output", tmp_path / "b.onnx", path=tmp_path / "int8.onnx"))
    dead = small_graph()
    change_weight(dead, "right.w", lambda values: values * 0)
    change_weight(dead, "right.b", lambda values: values * 0)
    finished = quantize("--keep", "--replace", path=save(dead, tmp_path / "dead.onnx"))
    assert "1 tensors are 0 on every crop (r)" in finished.stderr and "12 crops to calibrate on" in finished.stderr
    done(finished)


def test_other_models_and_bins_are_refused_in_one_line(quantize, model, tmp_path):
    one_pass = onnx.load(model)
    one_pass.graph.node[-1].name = "one_pass/decode/peaks"
    assert "pth2onnx.py CFG NAME_int8.onnx NAME_int8.onnx --one_pass" in one_error(
        quantize(path=save(one_pass, tmp_path / "one_pass.onnx")))
    half = onnx.load(model)
    half.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float16), "half"))
    assert "half.onnx: is float16. Give the float32" in one_error(quantize(path=save(half, tmp_path / "half.onnx")))
    of_bytes = save(taking_bytes(onnx.load(model)), tmp_path / "bytes.onnx")
    assert "takes uint8 bins, but those of" in one_error(quantize(path=of_bytes))
    value = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 3, 64, 48]) for name in ("image", "heatmaps")]
    no_layer = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["image"], ["heatmaps"])], "none", value[:1],
                                      value[1:])
    no_layer = onnx.helper.make_model(no_layer, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    assert "no layer that can be int8" in one_error(quantize(path=save(no_layer, tmp_path / "none.onnx")))
    assert not list(tmp_path.glob("int8*"))


# Runs quantize.py, saves the calibration after every 5 bins, and kills itself when it has saved its step number N.
STOPPER = """
import os, runpy, signal, sys
import quantization.quantizing
from quantization.memory import Memory
quantization.quantizing.SAVED_EVERY = 5
left, keep = int(sys.argv[1]), Memory.keep
def stop(*arguments):
    global left
    keep(*arguments)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
Memory.keep = stop
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("steps", [1, 3, 6, 13])  # in calibration, after it, among the methods, among the layers
def test_a_search_that_was_killed_continues(quantize, model, prepared, tmp_path, monkeypatch, steps):
    options = ("--max_drop_oks", 1e-9)
    stopped = [sys.executable, "-c", STOPPER, str(steps), "quantize.py", str(model), "--input",
               str(prepared / "prep_data"), "--output", str(tmp_path / "int8.onnx"), *map(str, options)]
    finished = subprocess.run(stopped, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    progress = tmp_path / "int8.onnx.progress"
    with progress.open("a") as file:
        file.write('["method mse", 0.0')  # as if the kill had come in the middle of a line
    found = dict(map(json.loads, progress.read_text().splitlines()[1:-1]))
    tried, distance = [], Trials.distance
    monkeypatch.setattr(Trials, "distance", lambda self, decision: tried.append(1) or distance(self, decision))
    done(quantize(*options))
    assert not progress.exists()
    assert len(tried) == 5 + 6 - sum(name.startswith(("method", "effect")) for name in found)
    continued = json.loads((tmp_path / "int8.onnx.json").read_text())
    done(quantize(*options, "--replace"))
    whole = json.loads((tmp_path / "int8.onnx.json").read_text())
    assert continued["ranges"] == whole["ranges"] and continued["methods"] == whole["methods"]
    layers = [record["search"]["layers"] for record in (continued, whole)]
    effects = [{layer["name"]: layer["effect"] for layer in one} for one in layers]
    assert effects[0] == effects[1] and len(effects[0]) == 6


def test_a_stopped_search_with_other_settings_begins_again(tmp_path):
    memory = Memory(tmp_path / "m.onnx", {"method": "mse"})
    assert memory.once("a", lambda: [1, 2]) == [1, 2]
    assert Memory(tmp_path / "m.onnx", {"method": "mse"}).once("a", pytest.fail) == [1, 2]
    other = Memory(tmp_path / "m.onnx", {"method": "minmax"})
    assert other.once("a", lambda: 3) == 3
    assert Memory(tmp_path / "m.onnx", {"method": "mse"}).found == {}
    (tmp_path / "m.onnx.progress").write_bytes(b"\xff\n")
    assert Memory(tmp_path / "m.onnx", {"method": "mse"}).found == {}


def test_photos_and_boxes_are_the_bins_of_preprocess(coco, small_cfg, prepared):
    bins, photos = open_bins(prepared / "prep_data", None), open_source(coco / "val2017", small_cfg,
                                                                        coco / "detections.json")
    assert isinstance(photos, BoxRows) and len(photos) == len(bins) == 12
    np.testing.assert_array_equal(photos.read(range(12)), bins.read(range(12)))


def test_the_sheet_shows_the_crops_in_their_colours(prepared):
    cv2 = pytest.importorskip("cv2")
    bins = open_bins(prepared / "prep_data", None)
    sheet = cv2.imdecode(np.frombuffer(contact_sheet(bins, 256), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(float)
    assert sheet.shape == (2 * 96, 8 * 72, 3)  # 12 crops of 64 x 48, 8 in a row
    crops = bins.read(range(12)).transpose(0, 2, 3, 1) + np.array([0.406, 0.457, 0.480])
    for number, crop in enumerate(255 * crops):
        y, x = number // 8 * 96, number % 8 * 72
        np.testing.assert_allclose(sheet[y:y + 96, x:x + 72].mean(axis=(0, 1)), crop.mean(axis=(0, 1)), atol=3)
    assert sheet[96:, 4 * 72 + 8:].mean() < 3  # there are no more


def test_crops_to_try_are_others_where_there_are_enough():
    for rows, apart in ((48, True), (40, False)):
        calibrated, tried = share_out(type("Rows", (list,), {"rows": [1] * rows})(range(rows)), 256)
        assert len(tried) == 16 and (not set(calibrated) & set(tried)) == apart


# Parts

def test_the_words_find_their_layers():
    helper = onnx.helper
    nodes = [helper.make_node("Conv", ["image", "w"], ["a"], name="stem"),
             helper.make_node("Relu", ["a"], ["b"], name="relu"),
             helper.make_node("Conv", ["b", "w"], ["c"], name="dw", group=3),
             helper.make_node("DepthToSpace", ["c"], ["d"], name="up", blocksize=2),
             helper.make_node("Conv", ["d", "w"], ["e"], name="head"),
             helper.make_node("Conv", ["e", "w"], ["heatmaps"], name="out")]
    weights = [onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("image", "heatmaps")]
    graph = Graph(helper.make_model(helper.make_graph(nodes, "words", values[:1], values[1:], weights)))
    found = {word: set(choose_kept(graph, FORMS["cpu"], [word])) for word in WORDS}
    assert found == {"first": {"stem"}, "depthwise": {"dw"}, "upsampled": {"head"}, "last": {"out"}}


def test_a_corrected_layer_has_the_mean_of_float32():
    crops, model = make_crops(), prepare(small_graph(), "test")
    ranges = {name: (one.lowest, max(one.highest, 1e-6)) for name, one in calibrate(model, [crops], "test").items()}
    graph = Graph(model)  # coarse weights: rounding shifts means where no number of them can average it out
    graph.replace("stem.w", np.where(np.abs(graph.values("stem.w")) < 0.2, 0.2, graph.values("stem.w") * 8))
    decision = Decision(ranges, {}, "minmax")
    corrected = Decision(ranges, {}, "minmax", bias=bias_corrections(model, decision, "tensorrt", [crops], "test"))
    assert set(corrected.bias) == {"stem", "left", "left2", "right", "deep", "out"}

    def means(one: onnx.ModelProto) -> np.ndarray:
        return Net(one, ["s0"], "test").run(crops)["s0"].mean(axis=(0, 2, 3))

    expected, before, after = (means(one) for one in (model, to_qdq(model, decision, "tensorrt"),
                                                      to_qdq(model, corrected, "tensorrt")))
    assert np.abs(before - expected).max() > 1e-3
    assert np.abs(after - expected).max() < np.abs(before - expected).max() / 20


def test_the_search_keeps_what_wins_most_for_its_time():
    """Three of ten layers do the damage; the worst of them costs too much for what it wins."""
    effects = {f"l{number}": 1e-6 for number in range(10)} | {"l3": 4e-3, "l5": 3e-3, "l7": 5e-3}
    times = dict.fromkeys(effects, (3.0, 1.0)) | {"l7": (40.0, 1.0)}
    trials = SimpleNamespace(effects=lambda method: effects, times=lambda method: times,
                             layers=[SimpleNamespace(name=name, op_type="Conv") for name in effects])

    def judge(kept):
        return Change(1, 1 - sum(effect for name, effect in effects.items() if name not in kept) / 2)

    found = search(trials, "mse", goal_of(None, None), judge)
    assert [layer.name for layer in found.layers[:3]] == ["l3", "l5", "l7"]
    assert set(found.kept) == {"l3", "l5"} and not found.chosen.passes  # the third would take back too much time
    effects["l7"] = 1e-6
    found = search(trials, "mse", goal_of(None, None), judge)
    assert set(found.kept) == {"l3"} and found.chosen.passes
    effects.update(l3=1e-6, l5=1e-6)
    assert search(trials, "mse", goal_of(None, None), judge).layers == []  # nobody had to be tried alone


def test_layers_for_another_device_are_priced_by_their_multiplications():
    crops, model = make_crops(), prepare(small_graph(), "test")
    times = Trials(model, "ascend", calibrate(model, [crops], "test"), crops, "test").times("minmax")
    weights = {weight.name: np.prod(weight.dims) for weight in model.graph.initializer}
    cells = {"stem": 32 * 24}  # the others give maps of a quarter
    expected = {name: weights[f"{name}.w"] * cells.get(name, 16 * 12) for name in times}
    slow = {name: pair[0] for name, pair in times.items()}
    assert slow == pytest.approx({name: count * slow["stem"] / expected["stem"] for name, count in expected.items()})
    assert all(pair == (pair[0], pair[0] / 2) for pair in times.values())


def test_no_set_is_taken_that_is_worse_than_a_smaller_one():
    """Two layers' errors make up for each other: with only one of them kept, the network is worse than without."""
    effects = {"a": 4e-2, "b": 3e-2, "c": 1e-9, "d": 1e-9}
    trials = SimpleNamespace(effects=lambda method: effects, times=lambda method: dict.fromkeys(effects, (9.0, 1.0)),
                             layers=[SimpleNamespace(name=name, op_type="Conv") for name in effects])
    cosines = {0: 0.99, 1: 0.95}
    found = search(trials, "mse", goal_of(None, None), lambda kept: Change(1, cosines.get(len(kept), 0.9)))
    assert [point.count for point in found.tried] == [0, 1] and found.chosen.count == 0  # a second is too expensive


def test_changes_are_measured_from_the_same_people(prepared, coco):
    rng = np.random.default_rng(0)
    heatmaps = rng.uniform(0.3, 1, (12, 17, 16, 12)).astype(np.float32)
    bins = open_bins(prepared / "prep_data", None)
    rows = {row.tobytes(): place for place, row in enumerate(bins.read(range(12)))}

    def infer(crops):
        return heatmaps[[rows[crop.tobytes()] for crop in crops]]

    validation = Validation(bins, load_annotations(coco), infer)
    same = validation.judge(infer)
    assert (same.cosine, same.moved, same.drop_oks, same.oks, same.drop_ap) == (
        pytest.approx(1), 0, 0, (0, 0), 0)
    other = validation.judge(lambda crops: infer(crops)[..., ::-1])
    assert other.moved > 0.9 and other.drop_oks > 0.1 and other.cosine < 0.99 and other.oks[1] > 0


def test_a_network_that_takes_bytes_and_has_a_fixed_batch(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 48, 3), np.uint8)
    model = prepare(taking_bytes(small_graph()), "bytes")
    ranges = calibrate(model, [pixels], "bytes")
    assert "bytes" not in ranges and "image" in ranges
    trials = Trials(model, "cpu", ranges, pixels, "bytes")
    trials.correct("minmax")
    assert trials.distance(trials.decide("minmax", {})) < 0.05
    static = prepare(small_graph(batch=2), "static")
    crops = make_crops()[:3]
    ranges = calibrate(static, [crops[:2], crops[2:]], "static")
    quantized = to_qdq(static, Trials(static, "cpu", ranges, crops, "static").decide("minmax", {}))
    assert Network(quantized.SerializeToString(), "static").infer(crops).shape == (3, 17, 16, 12)
    with pytest.raises(UserError, match="cannot run it on rows of"):
        Network(quantized.SerializeToString(), "static").infer(pixels)


def test_a_detector_takes_photos_and_its_coordinates_stay_float(coco, main, tmp_path):
    from detection.darknet import read_cfg, read_weights
    from detection.onnx_graph import build_onnx

    cfg = "configs/demo_yolov3_tiny.cfg"
    network = read_cfg(cfg)
    save(build_onnx(network, read_weights("demo/yolov3_demo.weights", network), None, 13), tmp_path / "yolo.onnx")
    printed = done(main("quantize", tmp_path / "yolo.onnx", "--input", coco / "val2017", "--cfg", cfg, "--method",
                        "minmax", "--keep"))
    decision = load_decision(tmp_path / "yolo_int8.onnx.json")
    model = onnx.load(tmp_path / "yolo_int8.onnx")
    assert len(decision.kept) == 2 and "the last" in printed
    heads = [node for node in model.graph.node if node.name in decision.kept]
    assert [node.op_type for node in heads] == ["Conv", "Conv"]
    readers = Graph(model).readers
    assert all(reader.op_type != "QuantizeLinear" for node in heads for reader in readers[node.output[0]])
