"""Explanations: what was changed in a manipulated text, or what an unmanipulated one says.

Source: section "Generation" of the method. The original and the manipulated text stand side by side where the
original is known; else the annotated words are marked. Neither is ever shown to the detector at inference.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipeline.engines.base import Request, Result
from pipeline.gates import Case
from pipeline.gates.misses_change import changed_words
from pipeline.jobs.base import Job, Row
from pipeline.prompts import Prompt

MARK = "**"


class ExplanationsJob(Job):
    """Ask the chat model about each sample's text."""

    table = "explanations"
    key = "sample_id"
    columns = (
        "sample_id",
        "split",
        "text",
        "words",
        "original_text",
        "fake_text_pos",
        "text_swap",
        "text_attribute",
    )
    together = "text"

    def request(self, sample: Row, image_root: Path) -> Request:
        """Return the chat message about a sample."""
        prompt = self._prompt(sample)
        message = prompt.render(
            text=sample["text"],
            original_text=sample["original_text"] or "",
            marked_text=marked(sample["words"], sample["fake_text_pos"]),
        )
        return Request(key=sample["sample_id"], prompt=message, seed=self.model.generation.seed)

    def case(self, sample: Row, request: Request, result: Result) -> Case:
        """Return what the gates look at, with the changed words of a manipulated text."""
        return dataclasses.replace(super().case(sample, request, result), changed=self.compared_with(sample))

    def compared_with(self, sample: Row) -> tuple[str, ...]:
        """Return the changed words of a manipulated text."""
        if not _manipulated(sample):
            return ()
        return tuple(changed_words(sample["words"], sample["fake_text_pos"], sample["original_text"]))

    def row(self, sample: Row, result: Result, flags: list[str]) -> Row:
        """Return a row of ``explanations``."""
        prompt = self._prompt(sample)
        return {
            "sample_id": sample["sample_id"],
            "split": sample["split"],
            "kind": "manipulation" if _manipulated(sample) else "description",
            "explanation": result.text,
            **self.generated(prompt, result, flags),
        }

    def _prompt(self, sample: Row) -> Prompt:
        if not _manipulated(sample):
            return self.prompts["description"]
        return self.prompts["pair" if sample["original_text"] is not None else "marked"]


def _manipulated(sample: Row) -> bool:
    return bool(sample["text_swap"] or sample["text_attribute"])


def marked(words: list[str], positions: list[int]) -> str:
    """Return the text with each manipulated run of words between two asterisks.

    Args:
        words: Words of the text.
        positions: Indexes of the manipulated words; neighbours share one pair of marks.
    """
    fake = set(positions)
    out = []
    for index, word in enumerate(words):
        opening = MARK if index in fake and index - 1 not in fake else ""
        closing = MARK if index in fake and index + 1 not in fake else ""
        out.append(f"{opening}{word}{closing}")
    return " ".join(out)
