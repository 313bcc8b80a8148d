"""``empty``: nothing was written that could be read."""

from __future__ import annotations

from pipeline.gates.case import Case


def empty(case: Case) -> bool:
    """Return whether the text has no letter."""
    return not any(character.isalpha() for character in case.text)
