"""AlphaPose.patch: its form, and, where ALPHAPOSE_ROOT points at a clone of AlphaPose, what it does to the original."""
from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List

import pytest
from conftest import ROOT, done
from test_readme import run_script

PATCH = ROOT / "AlphaPose.patch"
COMMIT = "ddaf4b99327132f7617a768a75f7cb94870ed57c"
PULL_REQUEST = "38730779a991a7c3375dc94ac479076c86b8ef54", "21c3165b2abbc1e2bf44f6b587415432d0abafb5"  # 592: base, head
BESIDE_CUDA = {".cpp", ".cu"}  # what the pull request changes, beside one line of README.md
HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@$")
CONTEXT = 1  # lines on either side of a change


def read_hunks() -> Dict[str, List[List[str]]]:
    """Path -> the lines of each hunk, its heading first."""
    files: Dict[str, List[List[str]]] = {}
    for line in PATCH.read_text(encoding="utf-8").split("\n")[:-1]:
        if line.startswith("+++ "):
            hunks = files.setdefault(line[len("+++ b/"):], [])
        elif line.startswith("@@"):
            hunks.append([line])
        elif not line.startswith("--- "):
            hunks[-1].append(line)
    return files


ALL = [(path, hunk) for path, hunks in read_hunks().items() for hunk in hunks]
each_hunk = pytest.mark.parametrize("path, hunk", ALL, ids=[f"{path} {hunk[0]}" for path, hunk in ALL])


def changed(sign: str) -> List[str]:
    return [line[1:] for _, hunk in ALL for line in hunk[1:] if line[0] == sign]


def test_patch_is_plain_text():
    content = PATCH.read_bytes()
    assert content.isascii() and b"\r" not in content and content.endswith(b"\n")
    headers = [line for line in content.decode().split("\n") if line[:4] in ("--- ", "+++ ")]
    for before, after in zip(headers[::2], headers[1::2]):
        assert before == f"--- a/{after[len('+++ b/'):]}"
    assert not [line for line in changed("+") if line != line.rstrip() or "\t" in line or len(line) > 120]


def test_patch_changes_python_that_the_pull_request_leaves_alone():
    for path in read_hunks():
        assert Path(path).suffix == ".py" and Path(path).suffix not in BESIDE_CUDA
        assert path == "setup.py" or path.startswith(("alphapose/", "scripts/"))


@each_hunk
def test_hunk_has_the_lines_that_it_says_and_no_context_beyond_need(path, hunk):
    _, before, _, after = HUNK.match(hunk[0]).groups(default="1")
    signs = "".join(line[0] for line in hunk[1:])
    assert (signs.count(" ") + signs.count("-"), signs.count(" ") + signs.count("+")) == (int(before), int(after))
    runs = re.findall(" +", signs)
    assert re.fullmatch(f" {{0,{CONTEXT}}}[-+].*", signs) and re.fullmatch(f".*[-+] {{0,{CONTEXT}}}", signs)
    assert max(map(len, runs)) <= 2 * CONTEXT, "two changes so far apart are two hunks"


def test_patch_comments_nothing_out():
    removed = {line.strip() for line in changed("-")}
    for comment in (line.strip().lstrip("# ") for line in changed("+") if line.strip().startswith("#")):
        assert comment not in removed
        with pytest.raises(SyntaxError):
            ast.parse(comment)


@pytest.mark.parametrize("arguments, message", [
    (["demo"], "--dataroot is missing"),
    (["demo", "--dataroot", "x"], "--detections is missing"),
    (["../AlphaPoze", "--dataroot", "x", "--detections", "x"], "../AlphaPoze: no such folder"),
    (["demo", "--flip_shift", "smeared"], "--flip_shift is smeared, expected clean or original"),
    (["demo", "again"], "unexpected argument again"),
    (["demo", "--detektions", "x"], "unknown option --detektions"),
    (["demo", "--limit"], "--limit needs a value"),
    (["demo", "--dataroot", "x", "--detections", "x", "--flip_shift", "original", "--device", "cuda"],
     "the order of an overlapping copy is not defined there"),
    (["demo", "--dataroot", "x", "--detections", "x", "--checkpoint", "x.pth"], "x.pth: no such checkpoint"),
])
def test_script_refuses(arguments, message):
    process = run_script("scripts/reference.sh", *arguments)
    assert process.returncode == 2 and process.stderr.startswith("error: ") and message in process.stderr
    assert process.stderr.count("\n") == 1


def test_script_refuses_a_clone_of_something_else(coco, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path / "clone")], check=True)
    checkpoint = ROOT / "demo" / "fastpose_small.pth"
    process = run_script("scripts/reference.sh", str(tmp_path / "clone"), "--dataroot", str(coco), "--detections",
                         str(coco / "detections.json"), "--checkpoint", str(checkpoint), "--work",
                         str(tmp_path / "work"))
    assert process.returncode == 2 and f"git finds no commit {COMMIT} there" in process.stderr


@pytest.fixture(scope="module")
def clone() -> Path:
    if not os.environ.get("ALPHAPOSE_ROOT"):
        pytest.skip("ALPHAPOSE_ROOT does not name a clone of AlphaPose")
    return Path(os.environ["ALPHAPOSE_ROOT"]).absolute()


def git(*arguments: object, **options: object) -> bytes:
    return subprocess.run(["git", *map(str, arguments)], check=True, stdout=subprocess.PIPE, **options).stdout


@pytest.fixture(params=["pinned commit", "with pull request 592"])
def tree(request, clone, tmp_path) -> Path:
    """The pinned commit's sources as files."""
    folder = tmp_path / "tree"
    folder.mkdir()
    archive = git("-C", clone, "archive", COMMIT, "alphapose", "detector", "scripts", "setup.py")
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    if "592" in request.param:
        if subprocess.run(["git", "-C", clone, "cat-file", "-e", f"{PULL_REQUEST[1]}^{{tree}}"]).returncode:
            pytest.skip("the clone has no pull request 592: git fetch origin pull/592/head")
        difference = git("-C", clone, "diff", *PULL_REQUEST, "--", *(f"*{suffix}" for suffix in BESIDE_CUDA))
        apply_by_git(folder, difference)
    return folder


def apply_by_git(folder: Path, difference: bytes) -> None:
    git("-C", folder, "apply", "-", input=difference, env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)})


def test_patch_applies(tree):
    other = Path(shutil.copytree(tree, tree.parent / "other"))
    apply_by_git(tree, PATCH.read_bytes())
    if shutil.which("patch"):
        finished = subprocess.run(["patch", "-p1", "-i", PATCH], cwd=other, capture_output=True, text=True, check=True)
        assert "offset" not in finished.stdout and "fuzz" not in finished.stdout
        assert not subprocess.run(["diff", "-r", tree, other]).returncode
    for path in read_hunks():
        ast.parse((tree / path).read_text(encoding="utf-8"))


@pytest.fixture()
def checkpoint(tmp_path) -> Path:
    """Weights that anybody can make, of the golden data's recipe A."""
    torch = pytest.importorskip("torch")
    from test_fastpose import recipe_a

    from networks.fastpose import FastPose

    shapes = {key: list(value.shape) for key, value in FastPose().state_dict().items()}
    torch.save(recipe_a(shapes), tmp_path / "recipe_a.pth")
    return tmp_path / "recipe_a.pth"


def test_original_and_ours_agree(clone, own_coco, checkpoint, tmp_path):
    """The whole script, with either shift; the limits are those of compare.py's call and of reference.verdict."""
    work = tmp_path / "work"
    for shift in ("clean", "original"):
        text = done(run_script("scripts/reference.sh", str(clone), "--dataroot", str(own_coco), "--detections",
                               str(own_coco / "detections.json"), "--checkpoint", str(checkpoint), "--work", str(work),
                               "--limit", "2", "--flip_shift", shift))
        assert text.count("verdict: ours agrees with AlphaPose") == 2
        assert text.count("16 of 16 crops equal by sha256") == 2 and text.count("px: agree") == 2
    crops, keypoints = ([json.loads((work / f"original_{shift}" / name).read_text()) for shift in ("clean", "original")]
                        for name in ("captured.json", "exp/json/validate_gt_kpt.json"))
    assert crops[0]["crops"] == crops[1]["crops"] and keypoints[0] != keypoints[1]
    assert not git("-C", clone, "status", "--short", "--untracked-files=all", "--", "alphapose", "scripts", "setup.py")
