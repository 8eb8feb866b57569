"""Rows and codes of the reference: each has its test, its explanation and its line in the documentation."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator

import pytest
from conftest import ROOT

from ascend.codes import ACL, ATC, ATC_FAMILIES

NOT_DETECTABLE = {18}  # the profiler of ais_bench, which nothing here starts
PAGES = pytest.mark.parametrize("page", ["ascend.md", "ascend.zh-CN.md"])


@pytest.fixture()
def reference(shared) -> str:
    return (shared / "reference" / "ascend.md").read_text(encoding="utf-8")


def section(text: str, number: str) -> str:
    return re.search(rf"^#+ {number}\.? (.*?)(?=^##)", text, re.DOTALL | re.MULTILINE).group(1)


def table(text: str) -> Iterator[list]:
    """Cells of the rows that begin with a number or a code."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and re.match(r"E?[A-Z]?\d", cells[0]):
            yield cells


def codes(text: str) -> set:
    """E10035-40, or E10035 to E10040, is six of them."""
    found = set()
    for letters, first, last in re.findall(r"\b(E[A-Z]?|)(\d{4,6})(?:(?:-| to | 到 )(?:E[A-Z]?)?(\d+))?", text):
        last = first[:len(first) - len(last)] + last
        found |= {f"{letters}{number:0{len(first)}}" for number in range(int(first), int(last) + 1)}
    return found


def test_each_row_of_what_goes_wrong_is_provoked(reference):
    rows = {int(cells[0]) for cells in table(section(reference, "9"))}
    tested = {int(number) for path in Path(__file__).parent.glob("test_ascend_*.py")
              for number in re.findall(r"\brow\((\d+), ", path.read_text(encoding="utf-8"))}
    assert rows == set(range(1, 19)) and tested == rows - NOT_DETECTABLE


@PAGES
def test_codes_of_the_reference_are_explained_and_shown(reference, page):
    atc = codes("".join(cells[0] + " " for cells in table(section(reference, "1.4"))))
    acl = codes("".join(f"{cells[0]} {cells[3]} " for cells in table(section(reference, "5.7"))))
    assert len(atc) > 40 and len(acl) > 50
    assert {code for code in atc if code not in ATC and code[:2] not in ATC_FAMILIES} == set()
    assert acl - set(map(str, ACL)) == set()
    shown = codes((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert atc | acl <= shown
