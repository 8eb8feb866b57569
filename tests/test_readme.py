"""Every command that the documentation shows exists, with the flags it shows; both languages show the same ones."""
from __future__ import annotations

import ast
import contextlib
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from contract.errors import UserError

PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")])
TRANSLATED = [(page, page.with_name(page.name.replace(".zh-CN", ""))) for page in PAGES if ".zh-CN" in page.name]


def commands(page: Path) -> list:
    """The shell commands of a page's code blocks, continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith(("    ", "python3 ", "bash "))]
    return [shlex.split(line) for line in lines if line.startswith(("python3 ", "bash "))]


ALL = sorted({(page.name, shlex.join(command)) for page in PAGES for command in commands(page)})


def check_command(program: str, target: str, *arguments: str) -> None:
    """Fails where a script of ours is not there or does not take the flags; python3 and bash start them."""
    if program == "bash":
        assert (ROOT / target).exists()
        if re.search("run_(bs|trt)|reference", target):
            usage = subprocess.run(["bash", target, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
            assert {word for word in arguments if word.startswith("--")} <= set(re.findall(r"--\w+", usage.stdout))
        return
    if target == "-m":
        target, *arguments = arguments
    target = "compare" if target == "reid.check" else target  # which runs it
    if target in ("onnxsim", "ais_bench", "tests.emulator", "tests.tensorrt_emulator", "pytest"):
        return  # other people's command lines
    module = importlib.import_module(target.removesuffix(".py").replace("/", "."))
    with contextlib.suppress(UserError):  # of files that a page names and that are not there
        module.parse_args(list(arguments))  # argparse leaves with SystemExit for an unknown flag


@pytest.mark.parametrize("page, command", ALL, ids=[f"{page}: {command[:60]}" for page, command in ALL])
def test_command_exists_and_takes_its_flags(page, command):
    check_command(*shlex.split(command))


@pytest.mark.parametrize("chinese, english", TRANSLATED, ids=lambda page: page.name)
def test_languages_are_in_step(chinese, english):
    assert commands(chinese) == commands(english)
    for pattern in (r"^#+ ", r"^\|", r"^    \S"):  # headings, table rows, code
        count = [len(re.findall(pattern, page.read_text(encoding="utf-8"), re.M)) for page in (chinese, english)]
        assert count[0] == count[1], pattern


def test_links_lead_to_files():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_messages_of_troubleshooting_are_printed_somewhere():
    """The parts of a message between its names and numbers stand in some string of the code, or of a script."""
    sources = [path for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py")] if "tests" not in path.parts]
    texts = ["".join(piece.value if isinstance(piece, ast.Constant) else "\0" for piece in node.values)
             if isinstance(node, ast.JoinedStr) else node.value
             for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.JoinedStr) or isinstance(node, ast.Constant) and isinstance(node.value, str)]
    texts += [path.read_text(encoding="utf-8") for path in ROOT.glob("scripts/*.sh")]
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    for message in re.findall(r"^\| `(.+?)` [|o]", page, re.M):
        pieces = re.split(r"\.\.\.|\d[\d.]*|<\S+|>=\S+|cpu$|COCO's", message)
        assert any(all(piece.strip(" ,") in text for piece in pieces) for text in texts), message


def run_script(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "VIRTUAL_ENV": "active", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(["bash", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)


def test_demo_command_ends_with_a_row(tmp_path):
    pytest.importorskip("torch", reason="the demo exports its checkpoint with torch")
    command = ("scripts/run_bs4.sh", "cpu", "--demo", "--limit", "6", "--work", str(tmp_path / "work"))
    first, second = run_script(*command), run_script(*command)
    assert first.returncode == 0, first.stderr
    header, _, row = (line.split("|")[1:-1] for line in first.stdout.splitlines()[-3:])
    values = dict(zip(map(str.strip, header), map(str.strip, row)))
    assert values["batch"] == "4" and 0 <= float(values["AP"]) <= 1
    assert second.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert "kept, of the same checkpoint" in second.stdout and ".onnx: written" not in second.stdout


@pytest.mark.parametrize("arguments, message", [
    (["moon"], "unknown target moon, expected one of: cpu"),
    (["cpu", "--detektions", "x"], "unrecognized arguments: --detektions"),
    (["cpu", "--limit"], "--limit: expected one argument"),
])
def test_script_refuses(arguments, message):
    process = run_script("scripts/run_bs16.sh", *arguments)
    assert process.returncode == 2
    assert message in process.stderr
