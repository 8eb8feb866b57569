"""The backends by name, and how one is opened. A backend's folder is called its room here.

A room is a folder: `options.py` says what it runs, needs and takes, and `backend.py` is imported when it is asked for
and not before, so that no machine needs the packages of another.
"""
from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from contract.backend import Backend, check_backend
from contract.errors import UserError
from contract.files import PathLike
from contract.room import Room
from contract.spec import Spec, Tensors

# --backend -> the room's package. Of several that run a file, the first does where no --backend is given.
ROOMS = {"onnxruntime": "backends.onnxruntime", "pytorch": "backends.pytorch", "tensorrt": "backends.tensorrt",
         "openvino": "backends.openvino", "ncnn": "backends.ncnn", "caffe": "backends.caffe", "acl": "ascend"}


def room(name: str) -> Room:
    """What the backend called `name` declares about itself."""
    return importlib.import_module(f"{ROOMS[name]}.options").ROOM


def backend_of(model: PathLike) -> str:
    """The backend that runs a model file, chosen by the file's suffix."""
    suffix = Path(model).suffix
    for name in ROOMS:
        if suffix in room(name).suffixes:
            return name
    known = ", ".join(f"{', '.join(room(name).suffixes)} ({name})" for name in ROOMS)
    raise UserError(f"{model}: its name does not tell what runs it. Give --backend, or a file of {known}")


def add_flags(parser: Any) -> None:
    """Add a flag for every option of any backend to a parser or a group. Its help names the backends that take it."""
    for flag in _all_flags():
        takers = {name: room(name).flags[flag] for name in ROOMS if flag in room(name).flags}
        first = dict(next(iter(takers.values())))
        if "choices" in first:
            first["choices"] = tuple(dict.fromkeys(word for taker in takers.values() for word in taker["choices"]))
        first["help"] = "; ".join(f"{name}: {taker['help']}" for name, taker in takers.items())
        parser.add_argument(f"--{flag}", **first)


def given_flags(args: argparse.Namespace) -> Dict[str, Any]:
    """The flags of backends that the user gave."""
    return {flag: getattr(args, flag) for flag in _all_flags() if getattr(args, flag) is not None}


def _all_flags() -> List[str]:
    """Those of all rooms, each once."""
    return list(dict.fromkeys(flag for name in ROOMS for flag in room(name).flags))


def import_backend(name: str) -> Any:
    """The room's module with the class Backend. Raises UserError where its packages are not installed."""
    try:
        return importlib.import_module(f"{ROOMS[name]}.backend")
    except ModuleNotFoundError as error:
        raise UserError(f"--backend {name} needs the Python package {error.name}, which is not installed. Install it "
                        f"({room(name).install}), or choose another of {', '.join(ROOMS)}") from None


def is_emulated(name: str) -> bool:
    """Whether what the room called `name` runs on is an emulator of the tests."""
    return getattr(import_backend(name), "is_emulated", bool)()


def open_backend(name: str, model: PathLike, device: Optional[str] = None, spec: Union[Spec, Tensors, None] = None,
                 **flags: Any) -> Backend:
    """Load `model` in the room called `name`. `device` None is the room's own default; `spec` describes the network to
    rooms whose model files do not. Raises UserError for one of `flags` that the room does not take."""
    for flag, value in flags.items():
        takers = [other for other in ROOMS if flag in room(other).flags]
        if name not in takers:
            raise UserError(f"--{flag}: the {name} backend has no such option; it is for {', '.join(takers)}. Leave it "
                            "out, or choose another --backend")
        words = room(name).flags[flag].get("choices")
        if words and value not in words:
            raise UserError(f"--{flag} {value}: the {name} backend takes {', '.join(words)}")
    if room(name).needs_spec and spec is None:
        raise UserError(f"{model}: the {name} backend needs the --cfg of this model")
    return import_backend(name).Backend(model, device=device, spec=spec, **flags)


def open_model(name: str, model: PathLike, spec: Union[Spec, Tensors], device: Optional[str] = None,
               **flags: Any) -> Backend:
    """As `open_backend`; refuses a model whose shapes or dtype are not those of `spec`."""
    backend = open_backend(name, model, device, spec, **flags)
    check_backend(backend, model, spec)
    return backend
