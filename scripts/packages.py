"""Which packages of a requirements file this Python lacks, one per line; wrong versions are refused with what to run.

    python3 scripts/packages.py requirements.txt

For scripts/setup.sh, with nothing installed yet.
"""
from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

# Where it is not the name for pip.
IMPORTED_AS = {"opencv-python-headless": "cv2", "PyYAML": "yaml", "pytest-xdist": "xdist"}
# What brings cv2: to install one beside another would leave a mixture of both.
OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless", "opencv-python-headless")
LINE = re.compile(r"([\w.-]+)(\[[\w,]+\])?([<>=!~][^#\s]*)?")
BAD_INPUT = 2


class Requirement(NamedTuple):
    """A line of a requirements file: opencv-python-headless>=4.5.5,<5, or ray[data]>=2.40."""

    name: str
    extras: str
    versions: str

    @property
    def module(self) -> str:
        return IMPORTED_AS.get(self.name, self.name)


def read_requirements(path: Path) -> Iterator[Requirement]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            yield from read_requirements(path.parent / line[len("-r "):].strip())
        elif line.strip() and not line.startswith("#"):
            yield Requirement(*LINE.findall(line)[0])


def numbers(version: str) -> tuple:
    """2.13.0+cpu -> (2, 13, 0)"""
    return tuple(map(int, re.findall(r"\d+", version.split("+")[0])))


def installed_version(requirement: Requirement) -> Optional[str]:
    """Of what is importable; None where nothing tells."""
    if requirement.module != "cv2":
        try:
            return metadata.version(requirement.name)
        except metadata.PackageNotFoundError:  # built from source, or of the system's packages
            return None
    return getattr(importlib.import_module("cv2"), "__version__", None)


def fits(version: str, limits: str) -> bool:
    """Lower and upper bounds alone: an exact version is what was tested, not what is needed."""
    for limit in limits.split(","):
        if limit.startswith(">=") and numbers(version) < numbers(limit[2:]) or \
                limit.startswith("<") and numbers(version) >= numbers(limit[1:]):
            return False
    return True


def problem_of(requirement: Requirement) -> Optional[str]:
    """What is wrong with a package that is importable, and the one command that puts it right."""
    version = installed_version(requirement)
    if version and not fits(version, requirement.versions):
        name = next((name for name in OPENCV if has(name)), requirement.name) if requirement.module == "cv2" else \
            requirement.name
        return f"{name} is {version}, expected {requirement.versions}. Run: {pip(name + requirement.versions)}"
    if requirement.name == "pycocotools":
        try:
            importlib.import_module("pycocotools.mask")
        except (ImportError, ValueError, AttributeError) as error:  # as numpy says it, release by release
            return (f"pycocotools does not go with numpy {metadata.version('numpy')} ({error}). Run: "
                    + pip("--force-reinstall", "--no-deps", "--no-cache-dir", f"pycocotools{requirement.versions}"))
    return None


def note_of(requirement: Requirement) -> Optional[str]:
    """Said of another version than the one tested."""
    version = installed_version(requirement) if requirement.versions.startswith("==") else None
    if version and numbers(version) != numbers(requirement.versions[2:]):
        return (f"note: {requirement.name} {version} is used as it is; tested is {requirement.versions[2:]}. Exports "
                "are compared with it, so an ONNX file that is written is right")
    return None


def has(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def pip(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


def main() -> int:
    requirements = list(dict.fromkeys(read_requirements(Path(sys.argv[1]))))  # two files may name the same
    here = [requirement for requirement in requirements if importlib.util.find_spec(requirement.module)]
    problems = [problem for problem in map(problem_of, here) if problem]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        return BAD_INPUT
    for note in filter(None, map(note_of, here)):
        print(note, file=sys.stderr)
    for requirement in requirements:
        if requirement not in here:
            print(f"{requirement.name}{requirement.extras}{requirement.versions}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
