"""Input files: which, in which order, how many a run; and what is saved under which name."""
from __future__ import annotations

import math
import os
import re
from typing import Any, Iterator, List, Sequence

import numpy as np

from .log import detail, fail, logger
from .paths import Stat, open_new, open_to_read
from .report import Report

PURE, PADDING = "pure_infer_data", "padding_infer_fake_file"
PURE_ZERO, PURE_RANDOM = "pure_infer_data_zero", "pure_infer_data_random"
ENDINGS = (".npy", ".NPY", ".bin", ".BIN")
NPY = (".npy", ".NPY")
LARGEST_FILE = 4 << 30


def natural(path: str) -> List[Any]:
    """Runs of digits compare as numbers, the rest without case."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split("([0-9]+)", path)]


def list_folder(folder: str, new: bool) -> List[str]:
    """The .npy and .bin files in their order; the new generation refuses the folder for any illegal entry in it."""
    if not os.path.exists(folder):
        raise fail(f"dir:{folder} not exist")
    found = []
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if new:
            entry = Stat(path)
            if not entry.legal("read"):
                raise RuntimeError(f"input data:{path} is illegal")
            if entry.is_folder():
                continue
        if name.endswith(ENDINGS):
            found.append(path)
    if not found:
        raise fail(f"{folder} of input args not find valid file,valid file format:[*.npy *.NPY *.bin *.BIN]")
    return sorted(sorted(found), key=natural)


def chunks(items: Sequence[Any], size: int, padding: Any) -> Iterator[List[Any]]:
    """Lists of `size`, the last one padded."""
    for start in range(0, len(items), size):
        part = list(items[start:start + size])
        yield part + [padding] * (size - len(part))


def check_inputs(inputs: List[str], tensors: List[Any]) -> None:
    if os.path.isfile(inputs[0]):
        for number, path in enumerate(inputs):
            real = os.readlink(path) if os.path.islink(path) else path
            if not os.path.isfile(real) and not os.path.isfile(path):
                raise fail(f"Invalid input args.--input:{inputs} input[{number}]:{path} {real} not exist")
    elif os.path.isdir(inputs[0]):
        if len(inputs) != len(tensors):
            raise fail(f"Invalid args. args input dir num:{len(inputs)} not equal to model inputs num:{len(tensors)}")
        for path in inputs:
            real = os.readlink(path) if os.path.islink(path) else path
            if not os.path.isdir(real):
                raise fail(f"Invalid args. {real} of input args is not a real dir path")
    else:
        raise fail(f"Invalid args. {inputs[0]}  of --input is invalid")


def files_of(inputs: List[str], tensors: List[Any], new: bool) -> List[List[str]]:
    """The files of each model input."""
    check_inputs(inputs, tensors)
    if os.path.isfile(inputs[0]):
        per_input = len(inputs) // len(tensors)
        files = list(chunks(inputs, per_input, PADDING))
        detail.debug(f"create intensors list file type inlistcount:{len(inputs)} intensorcont:{len(tensors)} "
                     f"chunks:{per_input} files_size:{len(files)}")
        return files
    files = [list_folder(folder, new) for folder in inputs]
    detail.debug(f"create intensors list dictionary type inlistcount:{len(inputs)} intensorcont:{len(tensors)} "
                 f"files_size:{len(files)}")
    return files


def size_of(path: str) -> int:
    return np.load(path).nbytes if path.endswith(NPY) else os.path.getsize(path)


def group(inputs: List[str], tensors: List[Any], combine: bool, new: bool) -> List[List[List[str]]]:
    """[run][model input][slot of the batch] -> file; the size of the first file says how many make a batch."""
    files = files_of(inputs, tensors, new)
    if len(files) != len(tensors):
        raise fail(f"fileslist:{len(files)} intensor:{len(tensors)} not match")
    size, needed = size_of(files[0][0]), tensors[0].realsize
    if combine and (size == 0 or needed % size):
        raise fail(f"arg0 tensorsize: {needed} filesize: {size} not match")
    per_batch = needed // size if combine else 1
    if new and per_batch == 0:
        raise fail("files count per batch is zero")
    runs = math.ceil(len(files[0]) / per_batch)
    logger.info(f"get filesperbatch files0 size:{size} tensor0size:{needed} filesperbatch:{per_batch} runcount:{runs}")
    batches = [list(chunks(one, per_batch, PADDING)) for one in files]
    for run in range(runs):
        for number in range(len(tensors)):
            detail.debug(f"create infileslist i:{run} j:{number} runcount:{runs} lists:{batches[number][run]} "
                         f"filesPerPatch:{per_batch}")
    return [[batches[number][run] for number in range(len(tensors))] for run in range(runs)]


def pair_for_pipeline(inputs: List[str], tensors: List[Any]) -> List[Sequence[str]]:
    """One file a model input a run: the pipeline does not group."""
    files = files_of(inputs, tensors, new=True)
    if len(files) != len(tensors):
        logger.error(f"fileslist:{len(files)} intensor:{len(tensors)} not match")
        raise fail("fileslist and intensors not matched")
    for number, (one, tensor) in enumerate(zip(files, tensors)):
        size = size_of(one[0])
        if size != tensor.realsize and not (tensor.realsize == tensor.size and min(tensor.shape) <= 0):
            logger.error(f"tensor_num:{number} tensorsize:{tensor.realsize} filesize:{size} not match")
            raise fail("fileslist and intensors not matched")
    return list(zip(*files))


def content(path: str, new: bool) -> np.ndarray:
    """A .npy with its own type, anything else as bytes."""
    if path.endswith(NPY):
        return np.load(path)
    with open_to_read(path, LARGEST_FILE) if new else open(path, "rb") as file:
        return np.frombuffer(file.read(), np.int8)


def pure_data(size: int, kind: str) -> np.ndarray:
    return np.random.default_rng().integers(0, 256, size, np.uint8) if kind == "random" else np.zeros(size, np.uint8)


def batch_of(files: List[str], size: int, pure: str, combine: bool, new: bool) -> np.ndarray:
    """The files of a batch as one array; a padding slot repeats the first file."""
    parts = []
    for number, path in enumerate(files):
        detail.debug(f"get tensor from filepath:{path} i:{number} of all:{len(files)}")
        kind = {PURE: pure, PURE_ZERO: "zero", PURE_RANDOM: "random"}.get(path)
        if kind is not None:
            parts.append(pure_data(size, kind))
        elif path == PADDING:
            detail.debug(f"padding file use fileslist[0]:{files[0]}")
            parts.append(content(files[0], new))
        elif path is None or not os.path.exists(path):
            raise fail(f"filepath:{path} not valid")
        else:
            parts.append(content(path, new))
    if len(parts) == 1:
        return parts[0]
    whole = np.concatenate(parts)
    if combine and whole.nbytes != size:
        raise fail(f"ndata size:{whole.nbytes} not match {size}")
    return whole


def real_files(files: List[str]) -> List[str]:
    """For run_mode files, where the backend reads."""
    for path in files:
        if path == PURE:
            raise RuntimeError("not support pure infer")
        if path.endswith(NPY):
            raise RuntimeError(f"not support npy file:{path}")
    return [files[0] if path == PADDING else path for path in files]


def save(outputs: List[Any], folder: str, files: List[List[str]], args: Any, run: int, report: Report) -> None:
    """One file a slot and output, `<text before the first dot>_<output>`; nothing for padding slots."""
    axis, count = args.output_batchsize_axis, len(files[0])
    for number, tensor in enumerate(outputs):
        array = np.array(tensor)
        if axis >= array.ndim:
            raise fail(f"error i:{number} ndata.shape:{array.shape} len:{array.ndim} <= output_batchsize_axis:{axis}  "
                       "is invalid")
        if count != 1 and array.shape[axis] % count:
            gap = " " * 25 if args.new else ""
            raise fail(f"save out files error array shape:{array.shape} filesinfo:{files} files_count_perbatch:{count} "
                       f"ndata.shape{gap}{axis}:{array.shape[axis]}")
        for slot, part in enumerate(np.array_split(array, count, axis)):
            names, sample = [one[slot] for one in files], run * count + slot
            if names[0] == PADDING:
                detail.debug(f"sampleid:{sample} i:{number} infiles:{names} is padding fake file so continue")
                continue
            stem = os.path.basename(names[0]).split(".")[0]
            path = os.path.join(folder, f"{stem}_{number}.{args.outfmt.lower()}")
            detail.debug(f"save func: sampleid:{sample} i:{number} infiles:{names} outfile:{path} fmt:{args.outfmt} "
                         f"axis:{axis}")
            report.note_files(sample, names, path)
            write(path, part, args.new)


def write(path: str, array: np.ndarray, new: bool) -> None:
    with open_new(path, "wb") if new else open(path, "wb") as file:
        if path.endswith(".npy"):
            np.save(file, array)
        elif path.endswith(".txt"):
            form = "%f" if array.dtype.kind == "f" else "%d"
            for row in array.reshape(-1, array.shape[-1]):
                np.savetxt(file, row[:, None], fmt=form, newline=" ")
                file.write(b"\n")
        else:
            file.write(np.ascontiguousarray(array).tobytes())
