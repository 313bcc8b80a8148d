"""Errors that end a command with one clear sentence and an exit code."""

from __future__ import annotations


class TrainingError(Exception):
    """Something the user can put right; printed without a traceback, exit code 2."""


class UsageError(TrainingError):
    """A wrong flag, key or value."""


class DataError(TrainingError):
    """A table, a row or an image that cannot be used; the message names it and the remedy."""


class NonFiniteLoss(TrainingError):
    """A loss term or the gradient became NaN or infinite; raised before the optimizer step."""


class Interrupted(Exception):
    """The run was asked to stop and has saved itself; exit code 3."""
