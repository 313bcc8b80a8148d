"""What the detector says about one pair of image and text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thresholds:
    """Probabilities from which something is called so; the first three are argmax at one half.

    Attributes:
        fake: Of the pair being manipulated; above it.
        type: Of a manipulation type; above it.
        word: Of a word being manipulated; above it.
        box: Of any face manipulation, 1 less the product of both types' complements; from it on, a box is
            given.
    """

    fake: float = 0.5
    type: float = 0.5
    word: float = 0.5
    box: float = 0.3


@dataclass(frozen=True)
class Verdict:
    """The prediction for one pair.

    Attributes:
        p_fake: Probability that the pair is manipulated.
        is_fake: ``p_fake`` is above its threshold.
        types: Probability of face_swap, face_attribute, text_swap and text_attribute.
        box: The edited face, x1, y1, x2, y2 in pixels of the upright original, or None.
        image_size: Width and height of the upright original in pixels.
        words: Every word that was read, with the probability that it was manipulated.
        flagged: Positions in ``words`` of those above the threshold.
        words_not_read: Words after them that did not fit the model's text length.
        thresholds: What was called so.
    """

    p_fake: float
    is_fake: bool
    types: dict[str, float]
    box: Box | None
    image_size: tuple[int, int]
    words: tuple[tuple[str, float], ...]
    flagged: tuple[int, ...]
    words_not_read: int
    thresholds: Thresholds

    @property
    def named(self) -> tuple[str, ...]:
        """The manipulation types above the threshold, in the order of ``types``."""
        return tuple(name for name, p in self.types.items() if p > self.thresholds.type)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings, ready for JSON."""
        flagged = set(self.flagged)
        return {
            "p_fake": self.p_fake,
            "is_fake": self.is_fake,
            "types": dict(self.types),
            "box": None if self.box is None else list(self.box),
            "image_size": list(self.image_size),
            "words": [
                {"word": word, "p": p, "flagged": position in flagged}
                for position, (word, p) in enumerate(self.words)
            ],
            "words_not_read": self.words_not_read,
            "thresholds": asdict(self.thresholds),
        }
