"""Verdicts as text for people."""

from __future__ import annotations

from training.inference.inputs import Item
from training.inference.verdict import Verdict

NAMES = {
    "face_swap": "face swap",
    "face_attribute": "face edit",
    "text_swap": "text swap",
    "text_attribute": "text edit",
}
"""Short names of the manipulation types."""


def percent(p: float) -> str:
    """Return a probability in percent that rounds neither to certainty nor to impossibility."""
    return "> 99.9 %" if p >= 0.9995 else "< 0.1 %" if p < 0.0005 else f"{100 * p:.1f} %"


def describe(verdict: Verdict) -> str:
    """Return a verdict as a few lines; flagged words stand in square brackets."""
    called = "manipulated" if verdict.is_fake else "not manipulated"
    lines = [f"{called}, probability of a manipulation {percent(verdict.p_fake)}"]
    lines += [f"  {NAMES[name]:10} {percent(p):>8}" for name, p in verdict.types.items()]
    width, height = verdict.image_size
    if verdict.box is None:
        lines.append("  no edited face is predicted")
    else:
        corners = ", ".join(f"{value:.0f}" for value in verdict.box)
        lines.append(f"  edited face at x1, y1, x2, y2 = {corners} of {width} x {height} pixels")
    flagged = set(verdict.flagged)
    words = (f"[{word}]" if n in flagged else word for n, (word, _) in enumerate(verdict.words))
    lines.append(f"  {' '.join(words)}")
    if verdict.words_not_read:
        lines.append(f"  {not_read(verdict)}")
    return "\n".join(lines)


def one_line(item: Item, verdict: Verdict) -> str:
    """Return a verdict as one line of a list."""
    kinds = ", ".join(NAMES[name] for name in verdict.named) if verdict.is_fake else ""
    words = " ".join(verdict.words[n][0] for n in verdict.flagged)
    parts = [percent(verdict.p_fake), "manipulated" if verdict.is_fake else "not manipulated"]
    parts += [part for part in (kinds, words and f"words: {words}") if part]
    return f"{item.id}: {'; '.join(parts).strip()}"


def not_read(verdict: Verdict) -> str:
    """Return the sentence on words that did not fit."""
    plural = "words were" if verdict.words_not_read > 1 else "word was"
    return f"{verdict.words_not_read} more {plural} not read: they do not fit the model's text length"
