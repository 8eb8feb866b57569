"""The names and arguments that the room uses are those of TensorRT's and CUDA's real Python bindings, by release.

Needs no GPU. The wheels come from the package index once and stay in pytest's cache.
"""
from __future__ import annotations

from pathlib import Path
from typing import List

import pytest
from binding_cases import Api, Reader, Use, compile_libraries, cuda_uses, describe, install, run_python, takes
from conftest import ROOT

TENSORRT = ("tensorrt-bindings==8.6.1", "tensorrt-cu12-bindings==10.0.1", "tensorrt-cu12-bindings==10.3.0",
            "tensorrt-cu12-bindings==10.16.1.11", "tensorrt-cu13-bindings==11.0.0.114",
            "tensorrt-cu13-bindings==11.4.0.106")
CUDA = {"cuda-python==12.2.1": "cuda.cudart", "cuda-bindings==12.9.2": "cuda.bindings.runtime",
        "cuda-bindings==13.0.1": "cuda.bindings.runtime"}
SOURCES = sorted((ROOT / "backends" / "tensorrt").glob("*.py"))

# What backends/tensorrt/ asks for with hasattr, or reaches only after it -> the releases that lack it, by their majors.
MAY_BE_ABSENT = {("", "IInt8EntropyCalibrator2"): {11}, ("", "IInt8MinMaxCalibrator"): {11},
                 ("PreviewFeature", "PROFILE_SHARING_0806"): {11},
                 ("ILayer", "precision"): {11}, ("ILayer", "set_output_type"): {11},
                 ("BuilderFlag", "OBEY_PRECISION_CONSTRAINTS"): {11},
                 ("IBuilderConfig", "int8_calibrator"): {11}, ("IBuilderConfig", "set_calibration_profile"): {11},
                 ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"): {11},
                 ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"): {8}}


def major(wheel: str) -> int:
    return int(wheel.split("==")[1].split(".")[0])


@pytest.fixture(scope="session")
def cache(pytestconfig) -> Path:
    return pytestconfig.cache.mkdir("binding_wheels")


@pytest.fixture(scope="module", params=TENSORRT)
def bindings(request, cache, tmp_path_factory) -> dict:
    """Where the real bindings of one TensorRT are, as keywords of run_python; `import tensorrt` is them."""
    wheel = install(request.param, cache)
    package = tmp_path_factory.mktemp("tensorrt")
    (package / "tensorrt.py").write_text("from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n")
    libraries = compile_libraries(package / "lib", str(major(request.param)))
    return {"path": (package, wheel, ROOT), "libraries": libraries, "major": major(request.param)}


@pytest.fixture(scope="module")
def api(bindings) -> Api:
    return describe("tensorrt", path=bindings["path"], libraries=bindings["libraries"])


def problems(api: Api, uses: List[Use]) -> List[str]:
    found = []
    for use in uses:
        members = api.get(use.owner, {})
        if use.member not in members:
            found.append(f"{use.place}: {use.owner or 'the module'} has no {use.member}")
        elif use.arguments and not any(takes(signature, use.arguments) for signature in members[use.member]):
            found.append(f"{use.place}: {use.owner}.{use.member} is called with {use.arguments}, and takes "
                         f"{members[use.member] or 'nothing that it tells'}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_what_trt_touches_exists(api, bindings, path):
    reader = Reader(path, "tensorrt", api)
    unknown = sorted(reader.unresolved())
    assert not unknown, f"annotate where these come from, so that they can be checked: {unknown}"
    absent = {key for key, majors in MAY_BE_ABSENT.items() if bindings["major"] in majors}
    assert problems(api, [use for use in reader.uses if (use.owner, use.member) not in absent]) == []


def test_the_list_of_what_may_be_absent_is_true(api, bindings):
    for (owner, member), majors in MAY_BE_ABSENT.items():
        assert (member in api.get(owner, {})) == (bindings["major"] not in majors), f"{owner}.{member}"


def test_enough_is_found(api):
    """The reader does follow variables, fields and results; without that the test above would hold of nothing."""
    used = {(use.owner, use.member) for path in SOURCES for use in Reader(path, "tensorrt", api).uses}
    assert {("Builder", "build_serialized_network"), ("IBuilderConfig", "add_optimization_profile"),
            ("ITimingCache", "serialize"), ("OnnxParser", "parse_from_file"), ("IOptimizationProfile", "set_shape"),
            ("Runtime", "deserialize_cuda_engine"), ("ICudaEngine", "get_tensor_shape"),
            ("IExecutionContext", "execute_async_v3"), ("IExecutionContext", "set_tensor_address")} <= used


@pytest.mark.parametrize("source, complaint", [
    ("engine.create_execution_context().set_input_shape('image')", "called with (1, ())"),
    ("engine.create_execution_context().set_shapes((1, 3))", "has no set_shapes"),
    ("engine.create_execution_context().execute_async_v3(handle=0)", "called with (0, ('handle',))"),
    ("tensorrt.BuilderFlag.FP99", "has no FP99"), ("tensorrt.Runtime()", "called with (0, ())"),
    ("tensorrt.ILogger.__init__(1, 2)", "called with (1, ())"), ("tensorrt.nothing", "the module has no nothing")])
def test_a_wrong_use_is_found(api, tmp_path, source, complaint):
    (tmp_path / "wrong.py").write_text(f"def wrong(engine: tensorrt.ICudaEngine):\n    return {source}\n")
    assert complaint in " ".join(problems(api, Reader(tmp_path / "wrong.py", "tensorrt", api).uses))


def test_what_cannot_be_followed_is_told(api, tmp_path):
    (tmp_path / "wrong.py").write_text("def wrong(context):\n    return context.set_tensor_address('image', 0)\n")
    assert list(Reader(tmp_path / "wrong.py", "tensorrt", api).unresolved()) == [("set_tensor_address", "wrong.py:2")]


def test_abilities_are_those_of_the_version(bindings):
    print_both = """
import tensorrt
from backends.tensorrt.calibration_table import version_of
from backends.tensorrt.precision import abilities_of, abilities_of_version
print(abilities_of(tensorrt), abilities_of_version(version_of(tensorrt.__version__)), sep="\\n")
assert not abilities_of(tensorrt).half_flag or tensorrt.BuilderFlag.FP16 and tensorrt.BuilderFlag.INT8
"""
    both = run_python(print_both, path=bindings["path"], libraries=bindings["libraries"]).splitlines()
    assert both[0] == both[1]


def test_our_logger_and_calibrators_are_real_ones(bindings):
    """Their methods are overridden with signatures of ours, and their own __init__ is called as the bindings want."""
    make = """
import numpy, tensorrt
from pathlib import Path
from backends.tensorrt import cuda, bindings
from backends.tensorrt.calibrator import Calibration, make_calibrator
logger = bindings.make_logger(tensorrt)
logger.log(tensorrt.ILogger.ERROR, "a text")
assert logger.text() == "a text"
try:
    tensorrt.Builder(logger)
except TypeError:  # which backends.tensorrt.builder catches: the library gave none
    pass
for method, name in (("entropy", "ENTROPY_CALIBRATION_2"), ("minmax", "MINMAX_CALIBRATION")):
    if hasattr(tensorrt, "IInt8EntropyCalibrator2"):
        calibrator = make_calibrator(tensorrt, Calibration(Path("no table"), method, None, [], 4, {}), 0)
        assert calibrator.get_algorithm() == getattr(tensorrt.CalibrationAlgoType, name)
        assert calibrator.get_batch_size() == 4 and calibrator.get_batch(["image"]) is None
        assert calibrator.read_calibration_cache() is None and calibrator.error is None
"""
    run_python(make, path=bindings["path"], libraries=bindings["libraries"])


@pytest.fixture(scope="module", params=CUDA)
def cuda(request, cache) -> dict:
    """The runtime module of one cuda-python."""
    path = (install(request.param, cache), ROOT)
    return {"path": path, "api": describe(CUDA[request.param], path=path), "module": CUDA[request.param]}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_what_trt_calls_of_cuda_exists(cuda, path):
    names, calls = cuda_uses(path)
    assert not names - {member for members in cuda["api"].values() for member in members}
    for name, count in calls:
        assert any(takes(line, (count, ())) for line in cuda["api"][""][name]), f"{name} is called with {count}"


def test_a_machine_without_a_driver_is_one_line(cuda):
    gate = """
from contract.errors import UserError
from backends.tensorrt import cuda
try:
    cuda.open_device(0)
except UserError as error:
    print(cuda.runtime().__name__, error)
"""
    line = run_python(gate, path=cuda["path"])
    if not line:
        pytest.skip("this machine has a GPU")
    assert line.startswith(cuda["module"]) and len(line.splitlines()) == 1
