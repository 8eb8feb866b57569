"""The page that compare.py writes: whole in itself, with what it promises, and drawn by a browser."""
from __future__ import annotations

import base64
import datetime
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from compare_cases import left_in_english
from conftest import done

from comparison.causes import CAUSES
from comparison.finding import STATUSES
from comparison.gates import LIMITS
from comparison.levels import features
from comparison.page.figures import bars, histogram, intervals
from comparison.page.language import GAP, LANGUAGES, translate_page
from comparison.page.page import is_seen
from pose.skeleton import COCO17

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")
LIGHT, DARK = 1, 0  # of Chromium's preferredColorScheme


class Page(HTMLParser):
    """What a page holds: addresses that it names, the kinds of its elements, which are seen to be closed in order, its
    words, those of them that are in no folded part, and those that may be translated; `folded` has the summaries."""

    VOID = {"meta", "br", "link", "img"}

    def __init__(self, content: str):
        super().__init__()
        self.addresses, self.open, self.kinds, self.words, self.seen, self.own, self.folded = [], [], [], [], [], [], []
        self.cells, self.language = [], ""
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.kinds.append(tag)
        self.addresses += [value for name, value in attributes if name in ("href", "src", "data", "action")]
        self.language = given["lang"] if tag == "html" else self.language
        if tag not in self.VOID:
            self.open.append((tag, given))
        if tag in ("td", "th"):
            self.cells.append((given.get("class", ""), ""))

    def handle_startendtag(self, tag, attributes):
        self.kinds.append(tag)
        self.addresses += [value for name, value in attributes if name in ("href", "src")]

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        around = [tag for tag, _ in self.open]
        self.words.append(data)
        if "style" in around:
            return
        is_folded = any(tag == "details" and "open" not in given for tag, given in self.open)
        if "summary" in around and is_folded:
            self.folded.append(data)
        elif not is_folded:
            self.seen.append(data)
        if not any(given.get("translate") == "no" for _, given in self.open):
            self.own.append(data)
        if "td" in around:
            self.cells[-1] = self.cells[-1][0], data


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
    assert "only a few people wrong" in words and "rows 5" in words and "row 5, photo" in words
    for heading in ("Limits not kept", "Causes that explain", "Tensors", "Joints", "People", "COCO score",
                    "Settings and hashes"):
        assert heading in words
    assert len(set(re.findall(r"\b[0-9a-f]{64}\b", words))) >= 4  # two folders, a manifest, and the model's in settings


def test_the_verdict_and_both_sides_come_first(page):
    seen = Page(page.read_text()).seen
    start = seen.index("<b>&npu DIFFERS from all")
    said = " ".join(seen[start:])
    assert re.match(r".* all\s+:\s+cosine similarity of all values together is 0\.\d+, expected at least 0\.9999 "
                    r".*causes: found: only a few people wrong ", said)
    for row in ("AP", "difference of AP", "crops/s, model alone", "crops/s, with files", "device", "precision", "date"):
        assert said.index(f" {row} ") < said.index("Limits not kept")


def test_speeds_and_dates_are_those_of_the_summaries(page, inferred):
    told = json.loads((inferred / "results" / "all_summary.json").read_text())
    seen = Page(page.read_text()).seen
    assert seen[seen.index("crops/s, model alone") + 1] == f"{told['throughput']:.1f}"
    assert seen[seen.index("crops/s, with files") + 1] == f"{told['end_to_end']['people_per_second']:.1f}"
    started = datetime.datetime.fromtimestamp(told["end_to_end"]["started"])
    assert seen[seen.index("date") + 1] == f"{started:%Y-%m-%d %H:%M}"


def test_what_agrees_is_folded(page, agreeing):
    differing, same = (Page(path.read_text()) for path in (page, agreeing))
    assert {"Settings and hashes"} < {*differing.folded} and not {"Joints", "COCO score"} & {*differing.folded}
    assert any(one.startswith("Causes tried that do not") for one in differing.folded)
    assert {"Joints", "People", "Tensors", "Settings and hashes"} <= {*same.folded}
    assert "yes" not in same.seen and "yes" in same.words and "NO" not in same.words


def test_numbers_are_not_broken_and_tables_scroll_by_themselves(page):
    content = page.read_text()
    cells = Page(content).cells
    numbers = [kind for kind, content in cells if re.fullmatch(r"[-+<>=]*\s?[\d.]+([-+e.\d ]*)", content)]
    assert len(numbers) > 30 and {*numbers} == {"number"} and ".number { white-space: nowrap; }" in content
    assert content.count("<table>") == content.count('<div class="wide"><table>') > 3


def test_every_figure_has_data_and_a_caption(page, agreeing):
    for path in (page, agreeing):
        figures = re.findall(r"<figure>(.*?)</figure>", path.read_text())
        assert figures and all(re.match(r"<figcaption>[^<]+</figcaption>", figure) for figure in figures)
        assert all(('class="bar"' in figure) == ("<svg" in figure) for figure in figures)


def test_in_chinese_no_word_is_left_in_english(page, main, inferred, coco, tmp_path):
    for other, verdict in ((page.parent / "other", "不一致"), (inferred / "results" / "all", "一致")):
        main("compare", f"A={inferred / 'results' / 'all'}", f"B={other}", "--manifest",
             inferred / "prep_data" / "manifest.json", "--dataroot", coco, "--explain", "--bootstrap", 50, "--report",
             tmp_path / "page.html", "--language", "zh")
        parsed = Page((tmp_path / "page.html").read_text())
        assert parsed.language == "zh-CN" and f"B 与 A {verdict}" in parsed.seen and len(parsed.own) > 80
        assert not [one for one in parsed.own if left_in_english(re.sub(r"\w+\.onnx|cpu|fp32", "", one))]


def test_the_dictionary_has_every_cause_limit_and_joint():
    words = LANGUAGES["zh"]
    fixed = [*(cause.TITLE for cause in CAUSES.values()), *STATUSES, *COCO17.joints,
             *(limit.meaning for name, limit in LIMITS.items() if name not in features.LIMITS)]
    assert not [one for one in fixed if one not in words]
    for sentence, said in words.items():
        assert {*GAP.findall(sentence)} == {*GAP.findall(said)}, sentence


def test_words_of_the_user_stay(tmp_path):
    """A label that is a word of the page, and signs that HTML escapes."""
    page = '<html lang="en"><p translate="no">cosine</p><p>x &lt;y&gt; agrees with nose</p><p>cosine</p>'
    assert translate_page(page, LANGUAGES["zh"]) == (
        '<html lang="zh-CN"><p translate="no">cosine</p><p>x &lt;y&gt; 与 nose 一致</p><p>余弦</p>')
    assert translate_page(page, LANGUAGES["en"]) == page


def test_hashes_tell_the_dumps_apart(page):
    found = re.findall(r'"([^"]*(?:all|other))": "([0-9a-f]{64})"', " ".join(Page(page.read_text()).words))
    assert len(found) == 2 and found[0][1] != found[1][1]


def test_who_differs_is_on_the_photo_and_nobody_else(page):
    content = page.read_text()
    pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1].astype(int)
                for data in re.findall(r"image/jpeg;base64,([^\"]+)", content)]
    assert len(pictures) == content.count("<image ") == 1  # the others do not differ
    for picture in pictures:
        assert (np.abs(picture - (44, 123, 229)).max(axis=2) < 60).sum() > 10  # the blue of a


def test_without_photographs_the_page_has_numbers_only(inferred, main, tmp_path):
    folder = inferred / "results" / "all"
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    np.fromfile(other / "000000000005_0.bin", np.float32)[::-1].tofile(other / "000000000005_0.bin")
    assert main("compare", folder, other, "--report", tmp_path / "page.html").returncode == 1
    page = (tmp_path / "page.html").read_text()
    assert "<image" not in page and "people who differ" in page


@pytest.fixture(scope="module")
def agreeing(inferred, coco, script, tmp_path_factory) -> Path:
    dumps, path = inferred / "results" / "all", tmp_path_factory.mktemp("agreeing") / "page.html"
    done(script("compare.py", dumps, f"again={dumps}", "--manifest", inferred / "prep_data/manifest.json", "--dataroot",
                coco, "--report", path, "--bootstrap", 50))
    return path


def test_results_that_agree_have_no_people_who_differ(agreeing):
    assert "people who differ" not in agreeing.read_text()


def test_nobody_at_0_pixels_is_among_those_who_differ_most():
    assert [is_seen({"input_pixels_max": pixels}) for pixels in (0, 0.049, 0.06, 3)] == [False, False, True, True]


def lengths(figure: str) -> list:
    return [float(length) for length in re.findall(r'width="([\d.]+)" height="[\d.]+" class="bar"', figure)]


def test_bars_are_as_long_as_their_values():
    found = lengths(bars(["one", "two", "three"], [0.25, 0.5, 1], 1, "{:.2f}", "test"))
    assert found[0] * 4 == pytest.approx(found[2], abs=0.3) and found[1] * 2 == pytest.approx(found[2], abs=0.3)


def test_a_histogram_counts_every_value_once():
    values = np.concatenate([np.zeros(5), 10 ** np.random.default_rng(0).uniform(-9, 2, 500)])
    assert sum(map(int, re.findall(r">(\d+) from [^<]*</title>", histogram(values, "test")))) == 505


def test_what_is_0_throughout_gets_no_axes():
    for figure in (histogram(np.zeros(3), "test"), bars("abc", [0, 0, 0], 0, "{}", "test"),
                   intervals({name: (0.0, [0.0, 0.0]) for name in "abc"}, "test")):
        assert figure == "<p>All 3 values are 0.</p>"


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
