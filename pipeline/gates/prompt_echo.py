"""``prompt_echo``: the model said its prompt again instead of answering it."""

from __future__ import annotations

from pipeline.gates.case import Case

SHARE = 0.8
"""Part of the prompt's words that must stand at the start of the text, word for word."""

FEWEST = 4
"""Fewer words than this may begin alike by chance."""


def prompt_echo(case: Case) -> bool:
    """Return whether the text opens with most of its prompt."""
    same = 0
    for mine, theirs in zip(case.words, case.prompt_words, strict=False):
        if mine != theirs:
            break
        same += 1
    return same >= FEWEST and same >= SHARE * len(case.prompt_words)
