"""Division that never yields NaN."""

from __future__ import annotations


def ratio(part: float, whole: float) -> float:
    """Return part / whole, 0.0 when ``whole`` is 0."""
    return float(part) / float(whole) if whole else 0.0


def harmonic(precision: float, recall: float) -> float:
    """Return 2 P R / (P + R), 0.0 when both are 0."""
    return ratio(2 * precision * recall, precision + recall)
