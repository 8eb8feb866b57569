"""The rooms of backends, and how one is opened by name.

A room is a folder of its own with a `backend.py`, which is imported when it is asked for and not before, so that no
machine needs the packages of another.
"""
from __future__ import annotations

import argparse
import importlib
import inspect
from typing import Any, Dict, Optional

from contract.backend import Backend, check_backend
from contract.errors import UserError
from contract.files import PathLike
from contract.spec import Spec

ROOMS = {"acl": "ascend.backend", "caffe": "backends.caffe.backend", "ncnn": "backends.ncnn.backend",
         "onnxruntime": "backends.onnxruntime.backend",
         "pytorch": "backends.pytorch.backend", "tensorrt": "backends.tensorrt.backend"}
OPTIONS = ("precision", "provider", "cuda_graph")  # of one room or another, as `add_options` names them


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of OPTIONS. None is a room's own default, and the only value that a room without the option takes."""
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16"), help="of pytorch, which takes fp32 if None; "
                        "other models have theirs built in")
    parser.add_argument("--provider", choices=("cpu", "cuda", "tensorrt"), help="of onnxruntime, which takes cpu if "
                        "None")
    parser.add_argument("--cuda_graph", action=argparse.BooleanOptionalAction, help="of pytorch on CUDA and tensorrt: "
                        "replay a captured graph; they do where they can if None")


def given_options(args: argparse.Namespace) -> Dict[str, Any]:
    """Those of OPTIONS that the user gave."""
    return {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}


def import_room(name: str) -> Any:
    try:
        return importlib.import_module(ROOMS[name])
    except ModuleNotFoundError as error:
        raise UserError(f"--backend {name} needs the Python package {error.name}, which is not installed. "
                        f"Install it, or choose another of {', '.join(ROOMS)}") from None


def open_backend(name: str, model: PathLike, device: Optional[str] = None, config: Any = None,
                 **options: Any) -> Backend:
    """Load `model` in the room called `name`. `device` None is the room's own default; `config` describes the network
    to rooms whose model files do not. Raises UserError for one of `options` that the room has not."""
    room = import_room(name)
    for option in options:
        if option not in inspect.signature(room.Backend).parameters:
            raise UserError(f"--{option}: the {name} backend has no such option. Leave it out, or choose another "
                            "--backend")
    return room.Backend(model, device=device, config=config, **options)


def is_emulated(name: str) -> bool:
    """Whether what the room called `name` runs on is an emulator of the tests."""
    return getattr(import_room(name), "is_emulated", bool)()


def open_pose_backend(name: str, model: PathLike, spec: Spec, device: Optional[str] = None,
                      **options: Any) -> Backend:
    """As `open_backend`, for a model of bins: refuses one whose shapes or dtype are not those of `spec`."""
    backend = open_backend(name, model, device, spec, **options)
    check_backend(backend, model, spec)
    return backend
