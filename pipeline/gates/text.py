"""Flags that the text alone shows."""

from __future__ import annotations

import re

REPEATS = 3
"""A run of words that stands this often in a row counts as a loop."""

_WORD = re.compile(r"\w+")


def flags_of(text: str, prompt: str, finish_reason: str) -> list[str]:
    """Return the flags of a generated text, in the order of ``schemas.vocabulary.FLAGS``.

    Args:
        text: The generated text.
        prompt: The prompt it answers.
        finish_reason: ``stop`` or ``length``.
    """
    words = [word.lower() for word in _WORD.findall(text)]
    found = {
        "empty": not any(character.isalpha() for character in text),
        "truncated": finish_reason == "length",
        "prompt_echo": echoes(words, [word.lower() for word in _WORD.findall(prompt)]),
        "repetition": loops(words),
    }
    return [flag for flag, raised in found.items() if raised]


def echoes(words: list[str], prompt: list[str], *, share: float = 0.8) -> bool:
    """Return whether the text opens with most of its prompt, word for word.

    Args:
        words: Words of the text.
        prompt: Words of the prompt.
        share: Part of the prompt's words that must stand at the start of the text.
    """
    same = 0
    for mine, theirs in zip(words, prompt, strict=False):
        if mine != theirs:
            break
        same += 1
    return same >= 4 and same >= share * len(prompt)


def loops(words: list[str], *, longest: int = 12) -> bool:
    """Return whether a run of one to ``longest`` words stands three times in a row.

    A single word must stand five times: "very, very, very" is still English.
    """
    for size in range(1, longest + 1):
        repeats = REPEATS if size > 1 else 5
        for start in range(len(words) - size * repeats + 1):
            run = words[start : start + size]
            if all(words[start + k * size : start + (k + 1) * size] == run for k in range(1, repeats)):
                return True
    return False
