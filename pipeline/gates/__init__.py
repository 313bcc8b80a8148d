"""Gates: checks of a generated text that leave a flag on its row.

One file per gate, named as its flag. Those that look at the text alone are listed here; the one that looks at
the picture too costs a model and is in ``image_mismatch``.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.gates.case import Case
from pipeline.gates.empty import empty
from pipeline.gates.misses_change import misses_change
from pipeline.gates.prompt_echo import prompt_echo
from pipeline.gates.refusal import refusal
from pipeline.gates.repetition import repetition
from pipeline.gates.truncated import truncated
from pipeline.gates.wrong_language import wrong_language

__all__ = ["GATES_VERSION", "TEXT_GATES", "Case", "flags_of"]

GATES_VERSION = 3
"""Goes up when a gate starts to judge differently: it is part of the fingerprint of every generated table."""

TEXT_GATES: dict[str, Callable[[Case], bool]] = {
    "empty": empty,
    "truncated": truncated,
    "prompt_echo": prompt_echo,
    "repetition": repetition,
    "wrong_language": wrong_language,
    "refusal": refusal,
    "misses_change": misses_change,
}
"""Flag to gate, in the order of ``schemas.vocabulary.FLAGS``."""


def flags_of(case: Case) -> list[str]:
    """Return the flags that the text raises, in the order of ``schemas.vocabulary.FLAGS``."""
    return [flag for flag, gate in TEXT_GATES.items() if gate(case)]
