"""News texts as runs of words: which were manipulated, and which words of the original they replaced."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import NamedTuple

MOST_WORDS = 300
"""Words of one text that the page shows; the news texts of DGM4 have up to about 70."""

MOST_CHARACTERS = 4000
"""Characters of one text that the page shows."""

KINSHIP = 0.35
"""Below this share of common words two texts are different stories, and marking differences says nothing."""

# C0 controls except tab and newline, DEL, C1 controls: not allowed in HTML text, and invisible.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Run(NamedTuple):
    """Neighbouring words of a text.

    Attributes:
        text: The words.
        marked: They were manipulated (news text) or replaced (original text).
    """

    text: str
    marked: bool


def news_runs(words: Sequence[str], positions: Collection[int]) -> list[Run]:
    """Return a news text as runs of manipulated and of other words.

    Args:
        words: The words of the text.
        positions: 0-based indexes of the manipulated words.
    """
    fake = set(positions)
    return _runs(words, [index in fake for index in range(len(words))])


def original_runs(original: str, words: Sequence[str]) -> list[Run]:
    """Return the original text as runs of words that the manipulation replaced and of words it kept.

    When the two texts have little in common, nothing is marked: the whole text was replaced.

    Args:
        original: The text before the manipulation.
        words: The words of the manipulated text.
    """
    before = original.split()
    matcher = difflib.SequenceMatcher(None, before[:MOST_WORDS], list(words[:MOST_WORDS]), autojunk=False)
    replaced = [True] * min(len(before), MOST_WORDS)
    for start, _, size in matcher.get_matching_blocks():
        replaced[start : start + size] = [False] * size
    if matcher.ratio() < KINSHIP:
        replaced = [False] * len(replaced)
    return _runs(before, replaced)


def _runs(words: Sequence[str], marked: Sequence[bool]) -> list[Run]:
    runs: list[Run] = []
    room, shown = MOST_CHARACTERS, 0
    pairs = zip(words[:MOST_WORDS], marked[:MOST_WORDS], strict=True)
    for mark, group in groupby(pairs, key=lambda pair: pair[1]):
        if room <= 0:
            break
        texts = [word for word, _ in group]
        text = " ".join(texts)
        runs.append(Run(clip(text, room), mark))
        room -= len(text)
        shown += len(texts)
    if len(words) > shown:
        runs.append(Run(f"… ({len(words) - shown:,} more words)", False))
    return runs


def clip(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text without control characters, and cut when it is too long to be looked at."""
    if len(text) > most:
        text = f"{text[:most]}… ({len(text) - most:,} more characters)"
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
