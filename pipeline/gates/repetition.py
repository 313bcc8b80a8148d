"""``repetition``: the text loops, as greedy decoding does when it falls into a rut."""

from __future__ import annotations

import regex

from pipeline.gates.case import Case

REPEATS = 3
"""A run of words that stands this often in a row counts as a loop."""

REPEATS_OF_ONE = 5
"""The same for a single word: "very, very, very" is still English."""

LONGEST = 12
"""Most words in a run."""

REPEATS_OF_CHARACTERS = 5
"""The same for a run of letters inside one word: scripts without spaces loop like this."""

_CHARACTERS = regex.compile(rf"(\p{{L}}{{2,20}}?)\1{{{REPEATS_OF_CHARACTERS - 1}}}")


def repetition(case: Case) -> bool:
    """Return whether a run of words stands several times in a row, or letters do inside a word."""
    long = {word for word in case.words if len(word) >= 2 * REPEATS_OF_CHARACTERS}
    return loops(case.words) or any(_CHARACTERS.search(word) for word in long)


def loops(words: list[str]) -> bool:
    """Return whether a run of one to ``LONGEST`` words stands several times in a row."""
    for size in range(1, LONGEST + 1):
        wanted = (REPEATS if size > 1 else REPEATS_OF_ONE) * size - size
        same = 0
        for word, before in zip(words[size:], words, strict=False):
            same = same + 1 if word == before else 0
            if same >= wanted:
                return True
    return False
