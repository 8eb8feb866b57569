"""What the tests of backends/tensorrt/ share: engines that the emulated builder makes, and models of other types."""
from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, Optional, Sequence, Tuple

import numpy as np
import onnx
from conftest import SMALL_INPUT, patch_heatmaps, patch_model, patch_weights

from backends.tensorrt.backend import Backend
from tests.tensorrt_emulator import emulated

Sizes = Tuple[int, int, int]
TOLERANCE = 2e-6


def build_engine(model: Path, output: Path, sizes: Sequence[Sizes] = (), record: Optional[str] = None,
               **machine: Any) -> Path:
    """An engine of an ONNX file, as a machine of this configuration builds it; a profile for each of `sizes`.

    record: a command, for an engine with a record beside it, as backends.tensorrt.build writes one.
    """
    with emulated(**machine):
        import tensorrt

        from backends.tensorrt import engine_record

        engine = build(tensorrt, model, sizes)
        output.write_bytes(engine)
        if record is not None:
            machine = engine_record.describe_machine(tensorrt, 0)
            engine_record.write(output, {**machine, "command": record, "precision": "fp32", "tf32": False})
    return output


def build(tensorrt: Any, model: Path, sizes: Sequence[Sizes] = ()) -> Any:
    """With whatever `tensorrt` is on the path."""
    flags = tensorrt.NetworkDefinitionCreationFlag
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0)
    parser = tensorrt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(model))
    config = builder.create_builder_config()
    tensor = network.get_input(0)
    for three in sizes:
        profile = builder.create_optimization_profile()
        profile.set_shape(tensor.name, *((size, *tensor.shape[1:]) for size in three))
        assert config.add_optimization_profile(profile) >= 0
    return builder.build_serialized_network(network, config)


def typed_model(path: Path, input_type: str = "FLOAT", output_type: str = "FLOAT", outputs: int = 1) -> Path:
    """`patch_model` of a symbolic batch with other types; an input of UINT8 is (N, H, W, 3), as bins of bytes are."""
    kinds, nodes, bytes_in = onnx.TensorProto, [], input_type == "UINT8"
    height, width = SMALL_INPUT
    shape = ["batch", height, width, 3] if bytes_in else ["batch", 3, height, width]
    nodes.append(onnx.helper.make_node("Cast", ["image"], ["floats"], to=kinds.FLOAT))
    if bytes_in:
        nodes.append(onnx.helper.make_node("Transpose", ["floats"], ["rows"], perm=[0, 3, 1, 2]))
    nodes.append(onnx.helper.make_node("Conv", ["rows" if bytes_in else "floats", "weights"], ["maps"],
                                       strides=[4, 4], kernel_shape=[4, 4]))
    names = ["output", *(f"more{number}" for number in range(1, outputs))]
    nodes += [onnx.helper.make_node("Cast", ["maps"], [name], to=getattr(kinds, output_type)) for name in names]
    image = onnx.helper.make_tensor_value_info("image", getattr(kinds, input_type), shape)
    results = [onnx.helper.make_tensor_value_info(name, getattr(kinds, output_type),
                                                  ["batch", 17, height // 4, width // 4]) for name in names]
    weights = onnx.numpy_helper.from_array(patch_weights(), "weights")
    graph = onnx.helper.make_graph(nodes, "typed", [image], results, [weights])
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)],
                                            ir_version=8).SerializeToString())
    return path


def make_engines(folder: Path) -> SimpleNamespace:
    """Of the default version: for batches of 4, and with a profile of 1 to 8."""
    static, symbolic = patch_model(folder / "m4.onnx", 4), patch_model(folder / "m.onnx")
    return SimpleNamespace(static=build_engine(static, folder / "m4.engine"), symbolic=symbolic,
                           profile=build_engine(symbolic, folder / "m.engine", [(1, 4, 8)]))


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.6, (count, 3, 64, 48)).astype(np.float32)


def assert_right(heatmaps: np.ndarray, crops: np.ndarray) -> None:
    assert heatmaps.dtype == np.float32 and len(heatmaps) == len(crops)
    np.testing.assert_allclose(heatmaps, patch_heatmaps(crops), atol=TOLERANCE)


@contextlib.contextmanager
def gpu(**config: Any) -> Iterator[Any]:
    """The emulated machine; nothing may be left open, or be done that the real one does not report."""
    with emulated(**config) as machine:
        yield machine
        assert machine.state.leaks() == {} and machine.notes == [] and machine.state.pageable == 0


@contextlib.contextmanager
def opened(engine: Path, **options: Any) -> Iterator[Backend]:
    with contextlib.closing(Backend(engine, **options)) as backend:
        yield backend
