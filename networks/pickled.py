"""Says what is in a checkpoint that torch.load cannot read. The pickle is read, and nothing in it is run."""
from __future__ import annotations

import collections
import io
import json
import pickle
import shlex
import zipfile
from typing import Any, List, NamedTuple, Optional, Tuple

from contract.files import PathLike

LEGACY_PICKLES = 3  # magic number, protocol and machine stand before the content of a file of torch before 1.6
HARMLESS = ("torch", "collections", "numpy")  # modules that a state_dict names too
REBUILT = "torch._utils._rebuild_"  # how a pickle names a tensor
NESTED = 3  # dictionaries around a state_dict, at most
MOST_BYTES = 64 << 20  # of the pickle, which holds no numbers
NAMED = 8  # keys or classes in an error
BEGINNINGS = ((b"<", "an HTML page, as a download that asks a question leaves it"),
              (b"version https://git-lfs", "a pointer of Git LFS (git lfs pull fetches the file)"))


class Content(NamedTuple):
    """`value` has stand-ins in the place of tensors and of objects; `classes` are what it names besides tensors."""
    value: Any
    classes: List[str]


class StandIn:
    """Stands for an object of the pickle. It accepts all calls and does nothing."""
    name = ""

    def __new__(cls, *arguments: Any, **named: Any) -> StandIn:
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **named: Any):
        pass

    def ignore(self, *arguments: Any) -> None:
        pass

    __setstate__ = append = extend = add = __setitem__ = ignore


class Reader(pickle.Unpickler):
    """Of all that the pickle names, imports and calls only OrderedDict."""

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(file)
        self.classes: List[str] = []

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module.split(".")[0] not in HARMLESS and f"{module}.{name}" not in self.classes:
            self.classes.append(f"{module}.{name}")
        return type(name, (StandIn,), {"name": f"{module}.{name}"})

    def persistent_load(self, identifier: Any) -> Any:
        """A tensor's numbers; before torch 1.6 also a class, with its source."""
        return identifier[1] if identifier[0] == "module" else StandIn()


def damaged_entry(path: PathLike) -> Optional[str]:
    """The part of a zip whose checksum differs, which torch.load does not look at; None where all agree.

    A checksum of 0 was not written (torch.serialization.set_crc32_options).
    """
    if not zipfile.is_zipfile(path):
        return None
    name = "directory"
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename
                with archive.open(entry) as file:
                    while entry.CRC and file.read(1 << 20):
                        pass
    except Exception:  # zipfile's, zlib's, or what damaged sizes lead to
        return name
    return None


def refusal(path: PathLike) -> str:
    """Why the file is not a state_dict, and, where it holds one, the command that saves it."""
    with open(path, "rb") as file:
        start = file.read(64).lstrip()
    what = next((what for beginning, what in BEGINNINGS if start.startswith(beginning)), None)
    if what:
        return f"it is {what}"
    try:
        return describe(path, read_content(path))
    except Exception:  # a damaged pickle raises whatever its bytes happen to ask for
        return "the file is cut short, damaged or of another kind"


def read_content(path: PathLike) -> Content:
    """Raises whatever the file makes pickle or zipfile raise."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith("constants.pkl") for name in names):
                return Content(None, ["torch.jit.ScriptModule"])
            with archive.open(next(name for name in names if name.endswith("data.pkl"))) as file:
                reader = Reader(io.BytesIO(file.read(MOST_BYTES)))
            return Content(reader.load(), reader.classes)
    with open(path, "rb") as file:
        for _ in range(LEGACY_PICKLES):
            Reader(file).load()
        reader = Reader(file)
        return Content(reader.load(), reader.classes)


def describe(path: PathLike, content: Content) -> str:
    value, classes = content
    if value is None and classes:
        return "it is a TorchScript archive. Save the state_dict of the network it was made from"
    if isinstance(value, StandIn) and value.name.startswith(REBUILT):
        return "it holds a tensor"
    if isinstance(value, StandIn):
        return (f"it holds a complete network, {value.name}, whose code would have to run. Where that code is, and if "
                f"you trust the file: {command(path, '.state_dict()')}")
    if not isinstance(value, dict):
        return f"it holds a {type(value).__name__}"
    keys, inner = [key for key in value if isinstance(key, str)], largest_inner(value)
    extra = f" and, besides tensors, {listed(classes)}" if classes else ""
    save = f". If you trust the file: {command(path, inner[0])}, then give what that writes" if inner[1] else ""
    return f"it is a dictionary with the keys {listed(keys)}{extra}{save}"


def largest_inner(value: dict, depth: int = NESTED) -> Tuple[str, int]:
    """How the dictionary of the most tensors is reached, and their number."""
    found = [("", sum(isinstance(item, StandIn) for item in value.values()))]
    for key, item in value.items():
        if isinstance(item, dict) and isinstance(key, str) and depth:
            way, count = largest_inner(item, depth - 1)
            found.append((f"[{quoted(key)}]{way}", count))
    return max(found, key=lambda pair: pair[1])


def command(path: PathLike, way: str) -> str:
    output = f"{str(path).rpartition('.')[0] or path}_state_dict.pth"
    code = (f"import torch; torch.save(torch.load({quoted(str(path))}, map_location=\"cpu\", weights_only=False){way}, "
            f"{quoted(output)})")
    return shlex.join(["python3", "-c", code])


def quoted(text: str) -> str:
    """As a string of Python that a shell takes between single quotes."""
    return json.dumps(text, ensure_ascii=False)


def listed(names: List[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
