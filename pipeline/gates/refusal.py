"""``refusal``: the model declined to answer, or spoke about itself, in English or Chinese."""

from __future__ import annotations

import functools
import re
from importlib import resources

from pipeline.gates.case import Case

_SPACE = re.compile(r"\s+")
_APOSTROPHES = str.maketrans("’ʼ`´", "''''")


def refusal(case: Case) -> bool:
    """Return whether the text holds a phrase of ``refusals.txt`` that it does not quote from its prompt."""
    text = plain(case.text)
    opening, anywhere = phrases()
    found = [phrase for phrase in opening if text.startswith(phrase)]
    found += [phrase for phrase in anywhere if phrase in text]
    return bool(found) and any(phrase not in plain(case.prompt) for phrase in found)


@functools.cache
def phrases() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the phrases that count at the start of a text, and those that count anywhere."""
    lines = resources.files("pipeline.gates").joinpath("refusals.txt").read_text(encoding="utf-8")
    listed = [line for line in map(str.strip, lines.splitlines()) if line and not line.startswith("#")]
    opening = tuple(plain(line[1:]) for line in listed if line.startswith("^"))
    return opening, tuple(plain(line) for line in listed if not line.startswith("^"))


def plain(text: str) -> str:
    """Return a text case folded, with one kind of apostrophe and single spaces, from its first letter on."""
    folded = _SPACE.sub(" ", text.casefold().translate(_APOSTROPHES))
    return folded.lstrip(" \"'“”‘*#-–—.,:;!，。：")
