"""Arithmetic with estimates that have an interval."""

from __future__ import annotations

import math

Interval = dict[str, float]
"""``estimate``, ``low`` and ``high``; low <= estimate <= high."""


def scaled(value: Interval, factor: float) -> Interval:
    """Return a multiple, factor >= 0."""
    return {bound: number * factor for bound, number in value.items()}


def added(*values: Interval) -> Interval:
    """Return the sum of independent quantities: their distances to the bounds add as squares."""
    estimate = sum(value["estimate"] for value in values)
    below = math.sqrt(sum((value["estimate"] - value["low"]) ** 2 for value in values))
    above = math.sqrt(sum((value["high"] - value["estimate"]) ** 2 for value in values))
    return {"estimate": estimate, "low": max(0.0, estimate - below), "high": estimate + above}


def certain(number: float) -> Interval:
    """Return a quantity without uncertainty."""
    return {"estimate": number, "low": number, "high": number}


def measured_once(number: float) -> Interval:
    """Return a quantity of which nothing but one measurement is known: from half of it to twice."""
    return {"estimate": number, "low": number / 2, "high": number * 2}


def rounded(value: Interval, digits: int | None = None) -> Interval:
    """Return the interval with rounded bounds."""
    return {bound: round(number, digits) for bound, number in value.items()}
