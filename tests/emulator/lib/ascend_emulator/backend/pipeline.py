"""The pipeline of the 2024 backend, which reads and writes the files itself: names, modes and formats of its own."""
from __future__ import annotations

import os
from typing import Any, List

import numpy as np

from . import console
from .tensors import BaseTensor, Tensor

PURE = {"pure_infer_data_zero": 0, "pure_infer_data_random": None}
ENDINGS = (".npy", ".bin", ".NPY", ".BIN")
FILE_MODE = 0o640


class infer_options:  # noqa: N801  its public name
    def __init__(self) -> None:
        self.output_dir = self.out_format = ""
        self.auto_dym_shape = self.auto_dym_dims = self.pure_infer_mode = False
        self.output_names: List[str] = []
        self.shapes_list: List[Any] = []


def run_files(session: Any, files_list: List[List[str]], options: infer_options, extra: List[Any]) -> None:
    """One execution a tuple of files; with n sessions, session i takes every n-th tuple from i on."""
    sessions = [session, *extra]
    if len({one.context for one in sessions}) != len(sessions):
        console.say(console.ERROR, "InferPipeline failed: cannot have session in same context")
        return
    for number, files in enumerate(files_list):
        one = sessions[number % len(sessions)]
        if one is not session:
            one._zero = session._zero
        arrays = [_read(path, options, tensor.realsize) for path, tensor in zip(files, one.get_inputs())]
        outputs = one.run([tensor.name for tensor in one.get_outputs()],
                          [BaseTensor(array.ctypes.data, array.nbytes) for array in arrays])
        for tensor in outputs:
            tensor.to_host()
        if options.output_dir:
            for index, tensor in enumerate(outputs):
                _write(_prefix(options.output_dir, files[0]) + str(index), options.out_format, np.array(tensor))
    for one in extra:
        session.sumary().exec_time_list += one.sumary().exec_time_list


def run_arrays(session: Any, names: List[str], inputs_list: List[List[BaseTensor]], shapes: Any, auto_shape: bool,
               auto_dims: bool) -> List[List[Tensor]]:
    results = [session.run(names, inputs) for inputs in inputs_list]
    for outputs in results:
        for tensor in outputs:
            tensor.to_host()
    return results


def _read(path: str, options: infer_options, size: int) -> np.ndarray:
    if options.pure_infer_mode:
        value = PURE.get(path, 0)
        return np.random.default_rng().integers(0, 255, size, np.uint8) if value is None else np.zeros(size, np.uint8)
    return np.ascontiguousarray(np.load(path)) if path.lower().endswith(".npy") else np.fromfile(path, np.uint8)


def _prefix(folder: str, path: str) -> str:
    """The name without one ending: dots in it are kept."""
    name = os.path.basename(path)
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), "")
    return f"{folder}/{name[:len(name) - len(ending)]}_"


def _write(path: str, form: str, array: np.ndarray) -> None:
    path += {"NPY": ".npy", "TXT": ".txt"}.get(form, ".bin")
    if os.path.exists(path):
        os.remove(path)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE), "wb") as file:
        if form == "NPY":
            np.save(file, array)
        elif form == "TXT":
            rows = array.reshape(-1, array.shape[-1])
            file.write("".join("".join(f"{value:g} " for value in row) + "\n" for row in rows).encode())
        else:
            array.tofile(file)
