"""The page that compare.py writes: whole in itself, with what it promises, and drawn by a browser."""
from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import done

from comparison.page.figures import bars, histogram, intervals

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")
LIGHT, DARK = 1, 0  # of Chromium's preferredColorScheme


class Page(HTMLParser):
    """Collects the addresses that a page names, and sees that its elements are closed in order."""

    VOID = {"meta", "br", "link", "img"}

    def __init__(self, content: str):
        super().__init__()
        self.addresses, self.open, self.kinds, self.words = [], [], [], []
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.kinds.append(tag)
        self.addresses += [value for name, value in attributes if name in ("href", "src", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.kinds.append(tag)
        self.addresses += [value for name, value in attributes if name in ("href", "src")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page(inferred, coco, script, tmp_path_factory) -> Path:
    """The page of two results of which one person differs, with photographs, and a name that HTML has to escape."""
    folder = tmp_path_factory.mktemp("report")
    other = Path(shutil.copytree(inferred / "results" / "all", folder / "other"))
    wrong = other / "000000000005_0.bin"
    np.fromfile(wrong, np.float32)[::-1].tofile(wrong)
    path = folder / "page.html"
    finished = script("compare.py", inferred / "results" / "all", f"<b>&npu={other}", "--manifest",
                      inferred / "prep_data" / "manifest.json", "--dataroot", coco, "--explain", "--report", path,
                      "--bootstrap", 50)
    assert finished.returncode == 1, finished.stderr
    return path


def test_the_page_needs_nothing_but_itself(page):
    content = page.read_text()
    parsed = Page(content)
    assert parsed.addresses and all(address.startswith("data:image/jpeg;base64,") for address in parsed.addresses)
    assert not re.search(r"https?:|@import|url\(", content) and "script" not in parsed.kinds
    assert 'name="viewport"' in content and "prefers-color-scheme: dark" in content and "@media print" in content


def test_the_page_says_what_was_found(page):
    words = " ".join(Page(page.read_text()).words)
    assert "<b>&npu DIFFERS from all, first at the tensors" in words and "only a few people wrong" in words
    assert "rows 5" in words and "row 5, photograph" in words
    for heading in ("Limits", "Causes tested", "Tensors", "Joints", "People", "COCO score", "Settings and hashes"):
        assert heading in words
    assert len(set(re.findall(r"\b[0-9a-f]{64}\b", words))) >= 4  # two folders, a manifest, and the model's in settings


def test_hashes_tell_the_dumps_apart(page):
    found = re.findall(r'"([^"]*(?:all|other))": "([0-9a-f]{64})"', " ".join(Page(page.read_text()).words))
    assert len(found) == 2 and found[0][1] != found[1][1]


def test_every_worst_person_is_on_its_photograph(page):
    content = page.read_text()
    pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1].astype(int)
                for data in re.findall(r"image/jpeg;base64,([^\"]+)", content)]
    assert len(pictures) == content.count("<image ") == 12
    for picture in pictures:
        assert (np.abs(picture - (44, 123, 229)).max(axis=2) < 60).sum() > 10  # the blue of a


def test_without_photographs_the_page_has_numbers_only(inferred, main, tmp_path):
    folder = inferred / "results" / "all"
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    np.fromfile(other / "000000000005_0.bin", np.float32)[::-1].tofile(other / "000000000005_0.bin")
    assert main("compare", folder, other, "--report", tmp_path / "page.html").returncode == 1
    page = (tmp_path / "page.html").read_text()
    assert "<image" not in page and "people who differ" in page


def test_results_that_agree_have_no_people_who_differ(inferred, main, prepared, tmp_path):
    dumps = inferred / "results" / "all"
    done(main("compare", dumps, f"again={dumps}", "--manifest", prepared / "prep_data/manifest.json", "--report",
              tmp_path / "page.html"))
    assert "people who differ" not in (tmp_path / "page.html").read_text()


def lengths(figure: str) -> list:
    return [float(length) for length in re.findall(r'width="([\d.]+)" height="[\d.]+" class="bar"', figure)]


def test_bars_are_as_long_as_their_values():
    found = lengths(bars(["one", "two", "three"], [0.25, 0.5, 1], 1, "{:.2f}", "test"))
    assert found[0] * 4 == pytest.approx(found[2], abs=0.3) and found[1] * 2 == pytest.approx(found[2], abs=0.3)


def test_a_histogram_counts_every_value_once():
    values = np.concatenate([np.zeros(5), 10 ** np.random.default_rng(0).uniform(-9, 2, 500)])
    assert sum(map(int, re.findall(r": (\d+)</title>", histogram(values, "test")))) == 505
    assert "All 3 values are 0" in histogram(np.zeros(3), "test")


def test_intervals_lie_about_their_zero():
    figure = intervals({"AP": (0.0, [-0.1, 0.1]), "AR": (0.05, None)}, "test")
    zero, low = re.findall(r'<line x1="([\d.]+)"', figure)
    high = re.findall(r'x2="([\d.]+)"', figure)[1]
    assert (float(low) + float(high)) / 2 == pytest.approx(float(zero), abs=0.1)


@pytest.mark.skipif(BROWSER is None, reason="no chromium to draw the page with")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_a_browser_draws_it_wide_and_narrow_light_and_dark(page, tmp_path, width, scheme):
    shot = tmp_path / "shot.png"
    subprocess.run([BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2400",
                    f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}", page.as_uri()],
                   check=True, capture_output=True, timeout=120)
    image = cv2.imread(str(shot))
    assert image.shape == (2400, width, 3)
    corner = image[-1, 0].astype(int)
    assert (corner > 200).all() if scheme == LIGHT else (corner < 60).all()
    # Nothing sticks out to the right: the margin there is the page's own colour all the way down.
    assert (np.abs(image[:, -4:].astype(int) - corner).max(axis=(1, 2)) < 8).mean() > 0.99
    assert (np.abs(image.astype(int) - corner).max(axis=2) > 60).mean() > 0.02  # and something is drawn
