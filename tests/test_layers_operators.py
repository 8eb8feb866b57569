"""Operators that one side computes otherwise: which, how, and the smallest network that shows it."""
from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from conftest import done
from layers_cases import change_weight, make_crops, node_of, onnx, options, rename_all, save

from layers.comparison import LayerComparison, compare_dumps, compare_graphs
from layers.graphs import find_layers, load_graph
from layers.net import Net
from layers.reproduction import write_reproduction

onnxruntime = pytest.importorskip("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def many_operators() -> onnx.ModelProto:
    """(N, 3, 64, 48) -> (N, 17, 16, 12), through every operator that faults are planted in."""
    rng, weights = np.random.default_rng(7), {}

    def weight(name: str, *shape: int) -> str:
        fan = np.prod(shape[1:]) if len(shape) > 1 else 10
        weights[name] = (rng.standard_normal(shape) / np.sqrt(fan / 2)).astype(np.float32)
        return name

    def make(kind: str, source: str, name: str, *reads: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(kind, [source, *reads], ["heatmaps" if name == "out" else f"{name}.y"], name=name,
                                **attributes)

    weights["norm.variance"] = rng.uniform(0.01, 1, 8).astype(np.float32)
    weights["twice"] = np.array([1, 1, 2, 2], np.float32)
    nodes = [
        make("Conv", "image", "stem", weight("stem.w", 8, 3, 3, 3), weight("stem.b", 8), strides=[2, 2], pads=[1] * 4),
        make("BatchNormalization", "stem.y", "norm", weight("norm.scale", 8), weight("norm.offset", 8),
             weight("norm.mean", 8), "norm.variance"),
        make("Relu", "norm.y", "stem_relu"),
        make("MaxPool", "stem_relu.y", "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        make("Conv", "pool.y", "wide", weight("wide.w", 32, 8, 3, 3), weight("wide.b", 32), pads=[1] * 4),
        make("DepthToSpace", "wide.y", "shuffle", blocksize=2, mode="CRD"),
        make("AveragePool", "shuffle.y", "mean", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        make("ConvTranspose", "mean.y", "up", weight("up.w", 8, 8, 4, 4), strides=[2, 2], pads=[1] * 4),
        make("LeakyRelu", "up.y", "up_leaky", alpha=0.1),
        make("Conv", "up_leaky.y", "down", weight("down.w", 8, 8, 3, 3), weight("down.b", 8), strides=[2, 2],
             pads=[1] * 4),
        make("Resize", "down.y", "resize", "", "twice", mode="linear", coordinate_transformation_mode="half_pixel"),
        make("Conv", "resize.y", "out", weight("out.w", 17, 8, 2, 2), weight("out.b", 17), strides=[2, 2])]
    image, output = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])
                     for name, shape in (("image", (3, 64, 48)), ("heatmaps", (17, "h", "w"))))
    graph = helper.make_graph(nodes, "many", [image], [output],
                              [numpy_helper.from_array(values, name) for name, values in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def attributes(node: str, **values: object) -> Callable[[onnx.ModelProto], None]:
    def plant(model: onnx.ModelProto) -> None:
        chosen = node_of(model, node)
        kept = [one for one in chosen.attribute if one.name not in values]
        del chosen.attribute[:]
        chosen.attribute.extend([*kept, *(helper.make_attribute(*one) for one in values.items())])
    return plant


def weights(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.ModelProto], None]:
    return lambda model: change_weight(model, name, change)


def behind(node: str, kind: str, *constants: float) -> Callable[[onnx.ModelProto], None]:
    """One more node behind another, which reads it and constants."""
    def plant(model: onnx.ModelProto) -> None:
        place = next(number for number, one in enumerate(model.graph.node) if one.name == node)
        names = [f"{node}.constant{number}" for number in range(len(constants))]
        model.graph.initializer.extend(numpy_helper.from_array(np.array(value, np.float32), name)
                                       for name, value in zip(names, constants))
        output = model.graph.node[place].output[0]
        model.graph.node[place].output[0] = f"{output}/sound"
        model.graph.node.insert(place + 1, helper.make_node(kind, [f"{output}/sound", *names], [output]))
    return plant


def fold_with(epsilon: float) -> Callable[[onnx.ModelProto], None]:
    """The BatchNormalization taken into the convolution before it, in float64."""
    def plant(model: onnx.ModelProto) -> None:
        of = {one.name: numpy_helper.to_array(one).astype(np.float64) for one in model.graph.initializer}
        scale = of["norm.scale"] / np.sqrt(of["norm.variance"] + epsilon)
        change_weight(model, "stem.w", lambda kernels: kernels * scale[:, None, None, None])
        change_weight(model, "stem.b", lambda bias: (bias - of["norm.mean"]) * scale + of["norm.offset"])
        model.graph.node.remove(node_of(model, "norm"))
        for name in ("scale", "offset", "mean", "variance"):
            model.graph.initializer.remove(next(one for one in model.graph.initializer if one.name == f"norm.{name}"))
        node_of(model, "stem_relu").input[0] = "stem.y"
    return plant


def fold_without_bias(model: onnx.ModelProto) -> None:
    """As `fold_with`, but the convolution's own bias stays as it was."""
    bias = next(numpy_helper.to_array(one) for one in model.graph.initializer if one.name == "stem.b")
    change_weight(model, "stem.b", np.zeros_like)
    fold_with(1e-5)(model)
    change_weight(model, "stem.b", lambda folded: folded + bias)


FAULTS = {  # what is planted -> where, and what the answer must say
    "DCR": (attributes("shuffle", mode="DCR"), "shuffle", "DepthToSpace with mode=DCR in place of CRD"),
    "moved padding": (attributes("up", pads=[0, 0, 2, 2]), "up", "pads=[0, 0, 2, 2] in place of [1, 1, 1, 1]"),
    "more padding": (attributes("up", pads=[2, 2, 2, 2]), "up", "pads=[2, 2, 2, 2] in place of [1, 1, 1, 1]"),
    "ceil_mode": (attributes("pool", ceil_mode=1), "pool", "MaxPool with ceil_mode=1 in place of 0"),
    "padding counted": (attributes("mean", count_include_pad=1), "mean", "count_include_pad=1 in place of 0"),
    "nearest": (attributes("resize", mode="nearest"), "resize", "Resize with mode=nearest in place of linear"),
    "corners": (attributes("resize", coordinate_transformation_mode="align_corners"), "resize",
                "coordinate_transformation_mode=align_corners in place of half_pixel"),
    "epsilon": (attributes("norm", epsilon=1e-3), "stem", "BatchNormalization with epsilon=0.001 in place of 1e-05"),
    "folded with another epsilon": (fold_with(1e-3), "stem", "epsilon=0.001 in place of 1e-05"),
    "bias not folded": (fold_without_bias, "stem", "folded into the kernels and not into the bias"),
    "no mean": (weights("norm.mean", np.zeros_like), "stem", "BatchNormalization without its mean"),
    "turned kernels": (weights("down.w", lambda kernels: kernels[:, :, ::-1, ::-1]), "down", "turned by 180 degrees"),
    "no bias": (weights("wide.b", np.zeros_like), "wide", "Conv without its bias"),
    "slope": (attributes("up_leaky", alpha=0.01), "up", "LeakyRelu with alpha=0.01 in place of 0.1"),
    "saturates": (behind("wide", "Clip", -1.5, 1.5), "wide", "values saturate at -1.5 and 1.5"),
    "doubled": (weights("up.w", lambda kernels: 2 * kernels), "up", "all values are multiplied by 2"),
}


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return make_crops()


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return save(many_operators(), tmp_path_factory.mktemp("sound") / "a.onnx")


def faulty(plant: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    model = many_operators()
    plant(model)
    return model


def dump(model: onnx.ModelProto, crops: np.ndarray, folder: Path) -> Path:
    """What a device would dump that computes `model` under the names of the sound network."""
    names = [one.tensor for one in find_layers(many_operators(), fused=False)]
    made = {name for node in model.graph.node for name in node.output}
    folder.mkdir()
    for name, values in Net(model, [name for name in names if name in made], "device").run(crops[:2]).items():
        np.save(folder / f"{name}.npy", values)
    return folder


def require_named(compared: LayerComparison, where: str, words: str) -> None:
    assert compared.first.layer.name == where
    assert words in compared.fault.sentence and compared.fault.left < 0.03


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("rename", [False, True], ids=["same names", "other names"])
def test_what_is_computed_otherwise_is_named_and_reproduced(fault, rename, sound, crops, tmp_path):
    plant, where, words = FAULTS[fault]
    model = faulty(plant)
    other = save(rename_all(model) if rename else model, tmp_path / "b.onnx")
    compared = compare_graphs(str(sound), str(other), crops, options(layer_limit=1e-4))
    require_named(compared, where, IN_ITS_GRAPH.get(fault, words))
    write_reproduction(tmp_path / "reproduction", compared.fault)
    require_reproduced(tmp_path / "reproduction")


def require_reproduced(folder: Path) -> None:
    """By ONNX Runtime itself: at most 5 nodes, the sound output but for rounding, and the other side's far from it."""
    model = load_graph(folder / "model.onnx")
    onnx.checker.check_model(model)
    assert len(model.graph.node) <= 5
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    result = session.run(None, {session.get_inputs()[0].name: np.load(folder / "input.npy")})[0]
    expected, got = np.load(folder / "expected.npy"), np.load(folder / "got.npy")
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    assert expected.shape != got.shape or np.abs(expected - got).max() > 1e-3


IN_ITS_GRAPH = {"saturates": "the other side's layer, changed, gives this side's result: without Clip"}
OF_NODES = {"epsilon": "norm", "no mean": "norm", "slope": "up_leaky"}  # dumps are of nodes, not of layers


@pytest.mark.parametrize("fault", [name for name in FAULTS if "fold" not in name])
def test_what_a_device_dumped_is_named(fault, sound, crops, tmp_path):
    plant, where, words = FAULTS[fault]
    folder = dump(faulty(plant), crops, tmp_path / "dumps")
    require_named(compare_dumps(str(sound), str(folder), crops, options(layer_limit=1e-4)),
                  OF_NODES.get(fault, where), words)


def test_a_fold_of_two_folded_files_is_named_by_its_channels(crops, tmp_path):
    files = [save(faulty(fold_with(epsilon)), tmp_path / f"{epsilon}.onnx") for epsilon in (1e-5, 1e-3)]
    compared = compare_graphs(*map(str, files), crops, options(layer_limit=1e-4))
    require_named(compared, "stem", "each channel has a scale and an offset of its own")


def test_a_reference_without_normalisation_is_told_from_one_of_another_epsilon(crops, sound, tmp_path):
    """The fault is in the file that kept the BatchNormalization."""
    compared = compare_graphs(str(save(faulty(fold_with(1e-5)), tmp_path / "a.onnx")),
                              str(save(faulty(attributes("norm", epsilon=1e-3)), tmp_path / "b.onnx")), crops,
                              options(layer_limit=1e-4))
    require_named(compared, "stem", "gives this side's result: BatchNormalization with epsilon=1e-05 in place of 0.001")


@pytest.mark.parametrize("name", ["stem.w", "wide.w", "up.w", "out.w"])
def test_what_no_kind_reproduces_has_no_name(name, sound, crops, tmp_path):
    """Noise in the weights: of dumps nothing is claimed, of two graphs that the weights differ, which they do."""
    noise = np.random.default_rng(1)
    model = faulty(weights(name, lambda values: values * (1 + 0.1 * noise.standard_normal(values.shape))))
    dumped = compare_dumps(str(sound), str(dump(model, crops, tmp_path / "dumps")), crops, options())
    assert dumped.fault.left is None and "none of the kinds tried" in dumped.fault.sentence
    graphs = compare_graphs(str(sound), str(save(model, tmp_path / "b.onnx")), crops, options())
    assert "the other side has other weights" in graphs.fault.sentence


def test_infinite_values_beyond_float16_are_named(sound, crops, tmp_path):
    model = many_operators()
    change_weight(model, "wide.w", lambda values: values * 2.0**15)
    folder = dump(model, crops, tmp_path / "dumps")
    values = np.load(folder / "wide.y.npy")
    np.save(folder / "wide.y.npy", np.where(np.abs(values) > 65504, np.copysign(np.inf, values), values))
    compared = compare_dumps(str(save(model, tmp_path / "a.onnx")), str(folder), crops, options())
    require_named(compared, "wide", "values beyond float16's 65504 became infinite")


def test_the_command_beside_the_reproduction_prints_both_distances(sound, compare_script, tmp_path):
    other = save(faulty(FAULTS["DCR"][0]), tmp_path / "b.onnx")
    finished, folder = compare_script(sound, other)
    assert finished.returncode == 1 and "DepthToSpace with mode=DCR in place of CRD" in finished.stdout
    assert "more bits do not help: the layer is another" in finished.stdout
    assert "keep_dtype" not in finished.stdout and "nodes_to_exclude" not in finished.stdout
    assert json.loads((folder.parent / "layers.json").read_text())["fault"]["proven"]
    command = next(line for line in (folder / "README.txt").read_text().splitlines() if "python3 -c" in line)
    shown = subprocess.run(["bash", "-c", command.strip()], cwd=folder, capture_output=True, text=True, timeout=120)
    assert "('expected.npy', 0.0)" in done(shown).replace("np.float32(0.0)", "0.0") and "got.npy" in shown.stdout
    finished, folder = compare_script(sound, sound)
    assert finished.returncode == 0 and not folder.exists()


@pytest.fixture()
def compare_script(prepared, small_cfg, main, tmp_path):
    def run(a: Path, b: Path):
        finished = main("compare_layers", a, b, "--input", prepared / "prep_data", "--cfg", small_cfg,
                        "--keep_budget", 0, "--output", tmp_path / "out")
        return finished, tmp_path / "out" / "reproduction"
    return run
