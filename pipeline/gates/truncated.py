"""``truncated``: the text was cut at the token limit."""

from __future__ import annotations

from pipeline.gates.case import Case


def truncated(case: Case) -> bool:
    """Return whether the engine ended the text, not the model."""
    return case.finish_reason == "length"
