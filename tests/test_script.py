"""How scripts end: the exit code and the one line of each way, also while they are still importing."""
from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_layering import SOURCES, name

from contract.errors import printable
from contract.tables import format_table

ENDS = {  # what main does -> exit code and a part of the one line, empty where nothing may be said
    "pass": (0, ""), "return 1": (1, ""), "raise UserError('no such bins')": (2, "error: no such bins"),
    "open('/nowhere/at/all')": (2, "error: /nowhere/at/all: No such file or directory"),
    "raise MemoryError": (2, "not enough memory"), "raise OSError(28, 'No space left on device')": (2, "No space left"),
    "raise UserError('a\\x1b[2Jb\\nc')": (2, "error: a\\x1b[2Jb\\nc"),
    "print('caf\\udce9')": (0, ""), "open('caf\\udce9' * 200)": (2, "File name too long"),
    "'caf\\udce9'.encode()": (2, "Rename that file"), "import numpi": (2, "numpi"), "1 / 0": (70, "ZeroDivisionError"),
    "raise KeyError('x')": (70, "traceback is in"), "raise SystemExit(3)": (3, ""),
    "os.kill(os.getpid(), signal.SIGINT)": (130, "interrupted"), "raise BrokenPipeError": (141, ""),
    "os.kill(os.getpid(), signal.SIGTERM)": (143, "terminated"), "os.kill(os.getpid(), signal.SIGHUP)": (129, "term")}


def run(script: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=60,
                          **options)


@pytest.fixture()
def script(tmp_path):
    """A script of a project that holds this contract/, with a `main` of this text."""
    (tmp_path / "contract").symlink_to(ROOT / "contract")

    def write(main: str, imports: str = "") -> Path:
        path = tmp_path / "stage.py"
        path.write_text(f"from contract.script import exit_code\n{imports}\nimport os, signal, sys, tempfile, time\n"
                        f"from contract.errors import UserError\ndef main():\n    {main}\nif __name__ == '__main__':\n"
                        "    sys.exit(exit_code(main))\n")
        return path

    return write


@pytest.mark.parametrize("main", ENDS)
def test_each_end_has_its_code_and_at_most_one_line(script, main, tmp_path):
    code, line = ENDS[main]
    finished = run(script(main), env={**os.environ, "TMPDIR": str(tmp_path)})
    assert finished.returncode == code and line in finished.stderr
    assert finished.stderr.count("\n") == (1 if line else 0) and "Traceback" not in finished.stderr
    kept = list(tmp_path.glob("*traceback.txt"))
    assert len(kept) == (code == 70)
    if kept:
        assert str(kept[0]) in finished.stderr and "Traceback" in kept[0].read_text()


def test_closed_and_full_outputs(script):
    path = script("print('x' * 100000)")
    for redirection, code in (("| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", 141), ("> /dev/full", 2),
                              ("2> /dev/full", 0), (">&-", 0), ("2>&-", 0)):
        finished = subprocess.run(["bash", "-c", f"{sys.executable} {path} {redirection}"], capture_output=True,
                                  text=True, timeout=60)
        assert finished.returncode == code, redirection
        assert ("where its output goes: No space left" in finished.stderr) == (redirection == "> /dev/full")
        assert finished.stderr.count("\n") <= 1
    path = script("print('help'); raise SystemExit(0)")  # as argparse ends
    finished = subprocess.run(["bash", "-c", f"{sys.executable} {path} > /dev/full"], capture_output=True, text=True)
    assert finished.returncode == 2 and "where its output goes: No space left" in finished.stderr


@pytest.mark.parametrize("stage", ["preprocess.py", "infer.py", "postprocess.py", "detect.py", "compare.py",
                                   "pth2onnx.py", "bench.py", "-m ascend.ais_bench", "-m detection.export",
                                   "-m backends.tensorrt.build"])
def test_a_python_without_packages_is_told_in_one_line_which_python_has_them(stage):
    command = [sys.executable, "-S", "-E", *stage.split()]  # without site-packages
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 2 and finished.stderr.count("\n") == 1, finished.stderr
    assert re.match(r"error: this needs the Python package \w+, which", finished.stderr)
    assert ".venv/bin/python3" in finished.stderr


def test_an_optional_package_is_named_with_its_requirements(script, tmp_path):
    (tmp_path / "requirements-bench.txt").write_text("-r requirements.txt\nmatplotlib>=3.5  # the plot\n")
    finished = run(script("raise ModuleNotFoundError('No module', name='matplotlib')"))
    assert finished.returncode == 2 and "-m pip install -r requirements-bench.txt" in finished.stderr


def test_what_cannot_be_imported_of_the_project_is_a_defect(script):
    finished = run(script("pass", "from contract.errors import nothing"))
    assert finished.returncode == 70 and "traceback is in" in finished.stderr


def test_ctrl_c_during_imports_is_silent(script, tmp_path):
    (tmp_path / "slow.py").write_text("import time\nprint('importing', flush=True)\ntry:\n    time.sleep(60)\n"
                                      "except KeyboardInterrupt:\n    raise ImportError('numpy.core failed')\n")
    with subprocess.Popen([sys.executable, str(script("pass", "import slow"))], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130


def test_what_is_printed_cannot_steer_the_terminal(script):
    finished = run(script(r"print('a\x1b[2Jb\n照片\rc')"))
    assert finished.stdout == "a\\x1b[2Jb\n照片\\rc\n"


def test_a_cell_cannot_end_its_row():
    assert format_table(["name"], [["a|b\n| 1.0 |"]]).splitlines()[2:] == [r"| a\|b\n\| 1.0 \| |"]


@pytest.mark.parametrize("number, code", [("SIGINT", 130), ("SIGTERM", 143)])
def test_what_a_library_makes_of_a_signal_is_the_signal(script, number, code):
    """pybind11 turns it into an ImportError when it comes while a module is imported, others into errors of theirs."""
    finished = run(script(f"""
    try:
        os.kill(os.getpid(), signal.{number})
    except KeyboardInterrupt as error:
        raise ImportError('initialization failed') from error"""))
    assert finished.returncode == code and "Run the same command again" in finished.stderr


def test_sigterm_cleans_up_and_a_second_one_does_not_stop_that(script, tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    path = script("""
    with tempfile.TemporaryDirectory():
        print('working', flush=True)
        try:
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)""")
    with subprocess.Popen([sys.executable, str(path)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, "TMPDIR": str(folder)}) as process:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and errors == "terminated. Run the same command again to continue.\n"
    assert not list(folder.iterdir())


def test_a_program_that_uses_the_project_keeps_its_own_handlers(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"import sys, signal\nsys.path.insert(0, {str(ROOT)!r})\nimport contract.script\n"
                    "assert sys.excepthook is sys.__excepthook__\n"
                    "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n")
    assert run(path).returncode == 0


def test_printable_leaves_text_of_any_language_alone():
    assert printable("a 照片 é\x1b]0;x\x07\r\n\x9b1m\u202e") == "a 照片 é\\x1b]0;x\\x07\\r\\n\\x9b1m\\u202e"


# What no user starts: setup.sh runs one before anything is installed, run.py the other to end what outlives it.
HELPERS = {"scripts/packages.py", "jobs/watcher.py"}
SCRIPTS = [path for path in SOURCES if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks")
           and name(path) not in HELPERS
           and '\nif __name__ == "__main__"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_every_script_imports_the_handler_first(path):
    imports = [node for node in ast.parse(path.read_text(encoding="utf-8")).body
               if isinstance(node, (ast.Import, ast.ImportFrom)) and getattr(node, "module", "") != "__future__"]
    assert getattr(imports[0], "module", "") == "contract.script", "from contract.script import exit_code comes first"
    assert "sys.exit(exit_code(main))" in path.read_text(encoding="utf-8")
