"""What a gate looks at."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Case:
    """A generated text with what it answers.

    Attributes:
        text: The generated text.
        prompt: The prompt it answers, rendered.
        finish_reason: ``stop`` or ``length``.
        changed: Words that a manipulation put into the text or took out of it.
        image: File of the picture the text is about; None for texts about texts.
    """

    text: str
    prompt: str
    finish_reason: str
    changed: tuple[str, ...] = ()
    image: Path | None = None

    @functools.cached_property
    def words(self) -> list[str]:
        """Words of the text, case folded, without punctuation."""
        return WORD.findall(self.text.casefold())

    @functools.cached_property
    def prompt_words(self) -> list[str]:
        """Words of the prompt, in the same form."""
        return WORD.findall(self.prompt.casefold())
