"""Who imports whom, what --help needs, what names are taken, and how long a function may be: read from the sources."""
from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Iterator, List, Set

import pytest
from conftest import ROOT

from contract.arguments import HelpFormatter

OUTPUTS = {"data", "models", "runs", "results", "prep_data", "prep_data_flip"}  # what a clone fills, ignored by git
SOURCES = sorted(path for path in ROOT.rglob("*.py")
                 if not {part for part in path.relative_to(ROOT).parts if part[0] == "."} and
                 path.relative_to(ROOT).parts[0] not in OUTPUTS)
SCRIPTS = sorted(ROOT.glob("*.py"))
ROOMS = sorted(path.parent for pattern in ("backends/*/backend.py", "ascend/backend.py") for path in ROOT.glob(pattern))
OURS = {path.stem for path in SCRIPTS} | {path.relative_to(ROOT).parts[0] for path in SOURCES if path.parent != ROOT}
DEVICE_PACKAGES = ("torch", "torchvision", "onnxruntime", "onnx", "onnxsim", "tensorrt", "cuda", "acl", "ais_bench",
                   "aclruntime", "ncnn", "openvino", "pnnx")
# Real packages that a top-level folder or module of ours would hide.
REAL_PACKAGES = {*DEVICE_PACKAGES, "numpy", "cv2", "yaml", "tqdm", "pycocotools", "pytest", "PIL", "scipy",
                 "polygraphy", "detector", "trackers", "alphapose", "models", "datasets", "utils", "common", "test",
                 "distributed"}
TORCH_HOMES = ("networks/", "backends/pytorch/", "pth2onnx.py", "detection/export.py", "demo/", "benchmarks/gpu.py",
               "benchmarks/benign_pairs.py", "tests/")
PATH_SETTERS = ("tests", "benchmarks")  # these put the root on the path before they import from it
MAX_FUNCTION_LINES = 60


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, top_level_only: bool = False) -> List[str]:
    """Full names of the modules that a file imports, also inside functions."""
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def packages(path: Path, **options: bool) -> Set[str]:
    return {module.split(".")[0] for module in imports(path, **options)}


def standard_library() -> Set[str]:
    known = getattr(sys, "stdlib_module_names", None)  # Python 3.10 or newer
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = {path.name.split(".")[0] for path in (*folder.iterdir(), *folder.glob("lib-dynload/*"))}
    return set(known or files | set(sys.builtin_module_names))


def sources_in(folder: str) -> List[Path]:
    return [path for path in SOURCES if path.is_relative_to(ROOT / folder)]


@pytest.mark.parametrize("path", sources_in("pose"), ids=name)
def test_pose_needs_numpy_and_opencv_alone(path):
    more = {"score.py": {"pycocotools"}}.get(path.name, set())
    assert packages(path) - standard_library() <= {"numpy", "cv2", "pose", "contract", "networks"} | more
    assert ours_in(path) & {f"networks.{network.stem}" for network in sources_in("networks")} <= {"networks.registry"}


@pytest.mark.parametrize("path", sources_in("contract"), ids=name)
def test_the_contract_knows_nothing_of_poses_and_devices(path):
    more = {"onnx_file.py": {"onnx"}, "progress.py": {"tqdm"}, "spec.py": {"yaml"}}.get(path.name, set())
    assert packages(path) - standard_library() <= {"numpy", "contract"} | more


def ours_in(path: Path) -> Set[str]:
    """Modules of the project that a file imports: contract.errors, ascend.atc."""
    return {".".join(module.split(".")[:2]) for module in imports(path) if module.split(".")[0] in OURS}


def package_of(room: Path) -> str:
    return name(room).replace("/", ".")


def needed_by_backend(room: Path) -> Set[Path]:
    """A room's backend.py and the modules of the room that it imports; a room may also hold stages of its own."""
    needed, new = set(), {room / "backend.py"}
    while new:
        needed |= new
        modules = {module for path in new for module in imports(path)}
        new = {path for path in sources_in(name(room)) for module in modules
               if f"{module}.".startswith(f"{package_of(room)}.{path.stem}.")} - needed
    return needed


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_backends_know_nothing_of_folders(room):
    """A backend takes rows and gives rows; which files they are from and for is the stages' to know."""
    for path in needed_by_backend(room):
        outside = {module for module in imports(path)
                   if module.split(".")[0] in OURS and not module.startswith(package_of(room) + ".")}
        known = {".".join(module.split(".")[:2]) for module in outside} - networks_of(room)
        assert {module.split(".")[0] for module in known} <= {"contract"}, name(path)
        assert not known & {"contract.bins", "contract.dumps", "contract.manifest"}, name(path)


def networks_of(room: Path) -> Set[str]:
    """The room of PyTorch builds the networks itself."""
    return {f"networks.{path.stem}" for path in sources_in("networks")} if room.name == "pytorch" else set()


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_rooms_know_no_other_room_and_no_stage(room):
    allowed = ("contract", package_of(room)) + (("networks",) if room.name == "pytorch" else ())
    for path in sources_in(name(room)):
        for module in imports(path):
            assert module.split(".")[0] not in OURS or f"{module}.".startswith(tuple(f"{one}." for one in allowed)) or \
                (path.name, module) == ("job.py", "jobs.job.Job"), f"{name(path)}: {module}"


def test_rooms_are_loaded_by_name_alone():
    """Nothing names a room in an import: backends/rooms.py loads it when it is asked for."""
    names = tuple(f"{package_of(room)}." for room in ROOMS)
    for path in SOURCES:
        if not path.is_relative_to(ROOT / "tests") and not any(path.is_relative_to(room) for room in ROOMS) and \
                path.relative_to(ROOT).parts[0] != "benchmarks":
            assert not [module for module in imports(path) if module.startswith(names)], name(path)


def test_networks_know_errors_and_files_of_the_contract():
    for path in sources_in("networks"):
        known = {module for module in ours_in(path) if module.startswith(("contract.", "pose."))}
        more = {"contract.backend", "contract.export", "contract.locks", "contract.onnx_file"} \
            if path.name.endswith("onnx_export.py") or path.name == "one_pass_export.py" else set()
        assert known <= {"contract.errors", "contract.files", "contract.pixels"} | more, name(path)
        assert path.name != "registry.py" or not packages(path) & set(DEVICE_PACKAGES)


def test_ray_is_imported_by_the_cluster_alone():
    for path in SOURCES:
        if not path.is_relative_to(ROOT / "cluster") and not path.is_relative_to(ROOT / "tests"):
            assert not packages(path) & {"ray", "fsspec", "pyarrow"}, name(path)


def test_torch_is_imported_where_it_belongs():
    assert any("torch" in packages(path) for path in sources_in("networks"))
    for path in SOURCES:
        if not name(path).startswith(TORCH_HOMES):
            assert not packages(path) & {"torch", "torchvision"}, name(path)


@pytest.mark.parametrize("path", [path for path in SOURCES
                                  if name(path).split("/")[0] not in ("tests", "benchmarks", "demo")], ids=name)
def test_no_stage_is_imported(path):
    """Stages meet in files, and what two of them need is in pose/."""
    assert not packages(path) & {script.stem for script in SCRIPTS}


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_scripts_import_no_device_package_at_the_top(path):
    assert not packages(path, top_level_only=True) & set(DEVICE_PACKAGES)


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> dict:
    """An environment in which no device package can be imported, and an attempt is told."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {DEVICE_PACKAGES!r}:
            print("ATTEMPT", name, file=sys.stderr)
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
""")
    return {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}


def test_the_bare_environment_is_bare(bare):
    for package in ("torch", "onnx"):
        finished = subprocess.run([sys.executable, "-c", f"import {package}"], env=bare, capture_output=True, text=True)
        assert finished.returncode != 0 and f"ATTEMPT {package}" in finished.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_help_needs_no_device_package(path, bare, tmp_path):
    finished = subprocess.run([sys.executable, str(path), "--help"], env=bare, cwd=tmp_path, capture_output=True,
                              text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("usage:") and finished.stderr == ""


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_help_shows_defaults_and_flags_have_underscores(path, bare):
    text = subprocess.run([sys.executable, str(path), "--help"], env=bare, capture_output=True, text=True).stdout
    flags = {word.strip("[],") for word in text.split() if word.strip("[],").startswith("--")}
    assert not [flag for flag in flags if "-" in flag.replace("--no-", "--", 1)[2:]]  # --no-NAME is argparse's
    assert "(default: " in " ".join(text.split()) and "None" not in text


def test_defaults_that_say_nothing_are_not_shown():
    parser = argparse.ArgumentParser(formatter_class=HelpFormatter)
    parser.add_argument("--limit", help="first")
    parser.add_argument("--replace", action="store_true", help="second")
    parser.add_argument("--extra", action="append", default=[], help="third")
    parser.add_argument("--batch", default=0, help="fourth")
    assert re.findall(r"\(default: (.*)\)", parser.format_help()) == ["0"]
    users = [name(path) for path in SOURCES if "ArgumentDefaultsHelpFormatter" in path.read_text(encoding="utf-8")]
    assert users == ["contract/arguments.py", "tests/test_layering.py"]


@pytest.mark.parametrize("backend, package", [("onnxruntime", "onnxruntime"), ("pytorch", "torch"),
                                              ("tensorrt", "cuda-python")])
def test_a_backend_whose_package_is_missing_says_so(prepared, small_cfg, small_model, bare, tmp_path, backend, package):
    finished = subprocess.run([sys.executable, str(ROOT / "infer.py"), "--backend", backend, "--model", small_model,
                               "--input", prepared / "prep_data", "--cfg", small_cfg, "--output", tmp_path,
                               "--output_dirname", "a"], env=bare, capture_output=True, text=True)
    assert finished.returncode == 2
    lines = [line for line in finished.stderr.splitlines() if not line.startswith("ATTEMPT")]
    assert len(lines) == 1 and f" {package}," in lines[0] and "Install" in lines[0]


def test_top_level_names_hide_nothing():
    names = {path.stem if path.is_file() else path.name for path in ROOT.iterdir()
             if path.suffix == ".py" or path.is_dir() and any(path.glob("*.py"))}
    assert names >= OURS - {"tests"} and not names & (REAL_PACKAGES | standard_library())
    for path in SOURCES:  # a module is at the top of the path when its folder's script is run
        assert path.parent == ROOT or path.stem not in ("utils", "common"), name(path)


def functions(path: Path) -> Iterator[ast.AST]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_are_short(path):
    for function in functions(path):
        assert function.end_lineno - function.lineno < MAX_FUNCTION_LINES, f"{name(path)}: {function.name}"


def array_functions(body: List[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """Public functions and methods with an array in their signature."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from array_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            hints = [argument.annotation for argument in node.args.args + node.args.kwonlyargs] + [node.returns]
            if any("ndarray" in ast.unparse(hint) for hint in hints if hint):
                yield node


@pytest.mark.parametrize("path", sources_in("pose") + sources_in("detection"), ids=name)
def test_public_functions_say_the_shapes_of_their_arrays(path):
    """Each docstring names at least one, such as (N, K, 2), (N,) or (..., w)."""
    for function in array_functions(ast.parse(path.read_text(encoding="utf-8")).body):
        docstring = ast.get_docstring(function) or ""
        assert re.search(r"\((\w+,|\w[\w ]*, |\.\.\.)[^()]*\)", docstring), f"{name(path)}: {function.name}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_dangerous_is_called(path):
    """No eval, no shell, no unpickling of more than tensors, no YAML that builds objects."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert called not in ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.load")
            assert keywords.get("shell", "False") == "False", f"{name(path)}:{node.lineno}"
            assert called != "torch.load" or keywords.get("weights_only") == "True", f"{name(path)}:{node.lineno}"


@pytest.mark.parametrize("path", [path for path in SOURCES if name(path).split("/")[0] not in PATH_SETTERS
                                  and name(path) != "contract/script.py"], ids=name)  # which is there for that
def test_nothing_runs_at_import(path):
    """Modules hold imports, definitions and constants; scripts end with their main guard."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert is_docstring or isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign,
                                                 ast.AnnAssign, ast.If)), f"{name(path)}:{node.lineno}"
        assert not isinstance(node, ast.If) or "__name__" in ast.unparse(node.test) or \
            "TYPE_CHECKING" in ast.unparse(node.test), f"{name(path)}:{node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_sources_say_nothing_that_python_3_9_cannot_read(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
