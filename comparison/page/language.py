"""The page in another language. Every text of a page is a sentence of the dictionary, or is left as it is."""
from __future__ import annotations

import re
from html import escape, unescape
from typing import Callable, Dict, List, Mapping, Tuple

from comparison.page import chinese

ENGLISH = "en"
LANGUAGES: Dict[str, Dict[str, str]] = {ENGLISH: {}, "zh": chinese.WORDS}
LABELS = ("a", "b")  # {a} and {b} of a sentence are the user's words, of any length
BETWEEN = "; "  # sentences
GAP = re.compile(r"\{(\w+)\}")
TEXT_BETWEEN_TAGS = re.compile(r"(<[^>]*>)([^<]*)")
STAYS = ('translate="no"', "<style")  # the text after such a tag


def translate_page(page: str, words: Mapping[str, str]) -> str:
    """HTML of which every text and every aria-label is translated."""
    if not words:
        return page
    say = translator(words)

    def translated(found: re.Match) -> str:
        tag, text = found[1], found[2]
        tag = re.sub(r'aria-label="([^"]*)"', lambda label: f'aria-label="{_said(label[1], say)}"', tag)
        return tag + (text if any(mark in tag for mark in STAYS) else _said(text, say))

    return TEXT_BETWEEN_TAGS.sub(translated, page).replace('<html lang="en">', f'<html lang="{words["en"]}">')


def _said(text: str, say: Callable[[str], str]) -> str:
    inner = text.strip()
    return text.replace(inner, escape(say(unescape(inner)))) if inner else text


def translator(words: Mapping[str, str]) -> Callable[[str], str]:
    """The function that translates a text by `words`.

    What stands between semicolons is a sentence. Of one of the dictionary, {x} stands for one word, {a} and {b} for
    labels, and {X} for any text, which is translated in turn. That with most words of its own fits best.
    """
    patterns: List[Tuple[re.Pattern, str]] = [(pattern_of(sentence), sentence) for sentence in sorted(
        (sentence for sentence in words if GAP.search(sentence)), key=lambda one: -len(GAP.sub("", one)))]

    def say(text: str) -> str:
        if text in words:
            return words[text]
        if BETWEEN in text:
            return words[BETWEEN].join(map(say, text.split(BETWEEN)))
        for pattern, sentence in patterns:
            found = pattern.fullmatch(text)
            if found:
                parts = {name: say(part) if name.isupper() else part for name, part in found.groupdict().items()}
                return words[sentence].format(**parts)
        return text

    return say


def pattern_of(sentence: str) -> re.Pattern:
    parts = GAP.split(sentence)  # texts and names in turn
    return re.compile("".join(re.escape(part) if number % 2 == 0 else
                              f"(?P<{part}>{'.+?' if part in LABELS or part.isupper() else '[^ ]+?'})"
                              for number, part in enumerate(parts)))
