"""The emulated TensorRT: versions, shapes and profiles, the builder, and that it has no name the real one lacks."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Iterator

import numpy as np
import pytest
from binding_cases import compile_libraries, describe, install, run_python
from conftest import ROOT, patch_model

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from nvidia_cases import Gpu, program  # noqa: E402

from tests.tensorrt_emulator import emulated, environment, load  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return patch_model(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture()
def gpu(model) -> Iterator[Gpu]:
    with program(model) as one:
        yield one


def test_what_gives_no_error_is_noted(gpu):
    gpu.set_up()
    other = gpu.call("cudaStreamCreateWithFlags", 1)
    assert gpu.execute() and gpu.execute(other)
    assert gpu.context.execute_async_v3(0)
    thread = threading.Thread(target=gpu.execute)
    thread.start()
    thread.join()
    text = "; ".join(gpu.machine.notes)
    assert "still runs on another stream" in text and "default stream" in text and "another thread" in text


def test_shapes_are_asked_for_and_forgotten_with_the_profile(model):
    with program(model, ((1, 4, 8), (2, 2, 16))) as gpu:
        assert not gpu.execute() and "shape of ['image']" in gpu.messages[-1]
        assert gpu.context.infer_shapes() == ["image"] and tuple(gpu.context.get_tensor_shape("output"))[0] == -1
        assert not gpu.context.set_input_shape("image", (9, 3, 64, 48))
        gpu.set_up(8)
        assert tuple(gpu.context.get_tensor_shape("output")) == (8, 17, 16, 12)
        assert gpu.context.set_optimization_profile_async(1, int(gpu.stream))
        assert gpu.context.infer_shapes() == ["image"]
        assert gpu.context.set_input_shape("image", (16, 3, 64, 48))
        assert not gpu.context.set_optimization_profile_async(2, int(gpu.stream))
        with pytest.raises(TypeError):
            gpu.context.set_input_shape("image", tuple(np.int64(size) for size in (8, 3, 64, 48)))


@pytest.mark.parametrize("version, shared", [("8.6.1", False), ("10.3.0", True), ("11.4.0", True)])
def test_who_may_share_a_profile(model, version, shared):
    with program(model, tensorrt=version) as gpu:
        second = gpu.engine.create_execution_context()
        assert (second.active_optimization_profile == 0) == shared
        assert second.set_optimization_profile_async(0, int(gpu.stream)) == shared
        del gpu.context
        assert gpu.engine.create_execution_context().active_optimization_profile == 0


def test_a_gpu_without_memory_gives_no_context(model):
    with program(model, memory_mb=2) as gpu:
        contexts = [gpu.engine.create_execution_context() for _ in range(2)]
        assert contexts[-1] is None and "OutOfMemory" in gpu.messages[-1]
        assert gpu.code("cudaMalloc", 1 << 21) == 2


def test_without_a_gpu_the_device_count_fails_and_a_runtime_is_a_trap():
    with emulated(devices=0):
        import tensorrt
        from cuda.bindings import runtime

        assert runtime.cudaGetDeviceCount() == (35, None) and runtime.cudaMalloc(4) == (35, None)
        with pytest.raises(TypeError, match="factory function returned nullptr"):
            tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.INTERNAL_ERROR))
        with pytest.raises(BaseException, match="segmentation fault"):
            tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR)).deserialize_cuda_engine(b"")


class Built(SimpleNamespace):
    """The emulated builder and what it needs, as a program makes them."""


def builder(model: Path, flags: int) -> Built:
    import tensorrt

    texts: list = []
    logger = type("Log", (tensorrt.ILogger,), {"log": lambda _, severity, text: texts.append(text)})()
    one = tensorrt.Builder(logger)
    network = one.create_network(flags)
    parser = tensorrt.OnnxParser(network, logger)
    return Built(trt=tensorrt, builder=one, network=network, parser=parser, config=one.create_builder_config(),
                 texts=texts, parsed=parser.parse(model.read_bytes()))


def test_a_network_of_8_needs_its_flag_and_10_does_not(model):
    for version, flags, parsed in (("8.6.1", 0, False), ("8.6.1", 1, True), ("10.3.0", 0, True), ("11.4.0", 0, True)):
        with emulated(tensorrt=version):
            built = builder(model, flags)
            assert built.parsed == parsed and built.parser.num_errors == (not parsed)


def test_a_build_that_is_asked_wrongly_gives_none(model):
    with emulated():
        built = builder(model, 0)
        assert built.builder.build_serialized_network(built.network, built.config) is None
        assert "no optimization profile" in built.texts[-1]
        profile = built.builder.create_optimization_profile()
        assert built.config.add_optimization_profile(profile) == -1
        shapes = [(size, 3, 64, 48) for size in (4, 2, 8)]
        with pytest.raises(ValueError):
            profile.set_shape("image", *shapes)
        typed = builder(model, 1 << int(built.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        profile.set_shape("image", *sorted(shapes))
        assert typed.config.add_optimization_profile(profile) == 0
        typed.config.set_flag(typed.trt.BuilderFlag.FP16)
        assert typed.builder.build_serialized_network(typed.network, typed.config) is None
        assert "strongly typed" in typed.texts[-1]


def test_a_logger_whose_base_was_not_made_is_refused():
    with emulated():
        import tensorrt

        with pytest.raises(TypeError, match="__init__"):
            tensorrt.Runtime(type("Log", (tensorrt.ILogger,), {"__init__": lambda self: None})())


def test_the_modules_are_not_there_by_accident():
    folders = [str(path) for path in (ROOT / "tests" / "tensorrt_emulator").glob("site_*")]
    folders += [str(ROOT / "tests" / "tensorrt_emulator" / "lib")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    finished = subprocess.run([sys.executable, "-c", "import tensorrt"], env=env, capture_output=True, text=True)
    assert finished.returncode == 1 and "this is the TensorRT emulator of the tests, not TensorRT" in finished.stderr


def test_a_process_says_what_it_left_open(tmp_path):
    code = "from cuda import cudart; cudart.cudaMalloc(4); cudart.cudaStreamCreateWithFlags(1)"
    env = environment(layout="old", trace=str(tmp_path / "trace"))
    finished = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "still open: {'Stream': 1, 'device memory': 1}" in finished.stderr
    assert json.loads((tmp_path / "trace").read_text())["leaks"] == {"Stream": 1, "device memory": 1}


ENUMS = """
import json
import tensorrt_bindings.tensorrt as real
enums = {name: value for name, value in vars(real).items() if hasattr(value, "__members__")}
print(json.dumps({name: {key: int(one) for key, one in value.__members__.items()} for name, value in enums.items()}))
"""
# What stands for the inside of an object and is not for programs.
INSIDE = {"INetworkDefinition": {"typed"}, "ICudaEngine": {"profile", "bytes_of", "may_take"},
          "IHostMemory": set(dir(bytes)), "Dims": set(dir(tuple))}


@pytest.mark.parametrize("wheel", ["tensorrt-bindings==8.6.1", "tensorrt-cu12-bindings==10.3.0",
                                   "tensorrt-cu13-bindings==11.4.0.106"])
def test_it_has_no_name_that_the_real_bindings_lack(wheel, pytestconfig, tmp_path):
    """And its enumerations have the same values."""
    version = wheel.split("==")[1]
    where = {"path": (install(wheel, pytestconfig.cache.mkdir("binding_wheels")),),
             "libraries": compile_libraries(tmp_path / "lib", version.split(".")[0])}
    real, values = describe("tensorrt_bindings.tensorrt", **where), json.loads(run_python(ENUMS, **where))
    with emulated(tensorrt=version):
        for name, value in vars(load("modules").tensorrt()).items():
            if name in values:
                assert {key: int(one) for key, one in value.__members__.items()}.items() <= values[name].items(), name
            elif isinstance(value, type):
                own = {member for one in value.__mro__[:-1] for member in vars(one) if not member.startswith("_")}
                assert own - {"device", "log"} - INSIDE.get(name, set()) <= set(real[name]), name


def test_a_process_says_that_it_is_an_emulation():
    finished = subprocess.run([sys.executable, "-c", "import tensorrt"], env=environment(), capture_output=True,
                              text=True)
    assert finished.returncode == 0 and "*** EMULATION ***" in finished.stderr
