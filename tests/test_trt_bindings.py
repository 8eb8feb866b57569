"""The names and arguments that trt/ uses are those of TensorRT's and CUDA's real Python bindings, release by release.

Needs no GPU. The wheels come from the package index once and stay in pytest's cache.
"""
from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import pytest
from binding_cases import Api, Reader, Use, compile_libraries, describe, install, parameters, run_python, takes
from conftest import ROOT

TENSORRT = ("tensorrt-bindings==8.6.1", "tensorrt-cu12-bindings==10.0.1", "tensorrt-cu12-bindings==10.3.0",
            "tensorrt-cu12-bindings==10.16.1.11", "tensorrt-cu13-bindings==11.0.0.114",
            "tensorrt-cu13-bindings==11.4.0.106")
CUDA = {"cuda-python==12.2.1": "cuda.cudart", "cuda-bindings==12.9.2": "cuda.bindings.runtime",
        "cuda-bindings==13.0.1": "cuda.bindings.runtime"}
SOURCES = sorted((ROOT / "trt").glob("*.py"))

# What trt/ asks for with hasattr, or reaches only after it -> the releases that lack it, by their majors.
MAY_BE_ABSENT = {("", "IInt8EntropyCalibrator2"): {11}, ("", "IInt8MinMaxCalibrator"): {11},
                 ("IBuilderConfig", "int8_calibrator"): {11}, ("IBuilderConfig", "set_calibration_profile"): {11},
                 ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"): {11}}


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
    return describe("tensorrt_bindings.tensorrt", path=bindings["path"], libraries=bindings["libraries"])


def problems(api: Api, uses: List[Use]) -> List[str]:
    found = []
    for use in uses:
        members = api.get(use.owner, {})
        if use.member not in members:
            found.append(f"{use.place}: {use.owner or 'module'} has no {use.member}")
        elif use.arguments and members[use.member] and \
                not any(takes(signature, use.arguments) for signature in members[use.member]):
            found.append(f"{use.place}: {members[use.member]} is called with {use.arguments}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_what_trt_touches_exists(api, bindings, path):
    reader = Reader(path, "tensorrt", api)
    unknown = sorted(reader.unresolved())
    assert not unknown, f"annotate where these come from, so that they can be checked: {unknown}"
    absent = {key for key, majors in MAY_BE_ABSENT.items() if bindings["major"] in majors}
    assert not [key for key in MAY_BE_ABSENT if (key[1] in api.get(key[0], {})) == (key in absent)]
    assert problems(api, [use for use in reader.uses if (use.owner, use.member) not in absent]) == []
