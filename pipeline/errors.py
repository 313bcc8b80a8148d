"""Errors that are meant for the user, each with the exit code its command ends with."""

from __future__ import annotations

EXIT_OK = 0
EXIT_BROKEN = 1
"""Neither the user's doing nor an interruption: a bug, or a part of the system that went away."""
EXIT_USAGE = 2
EXIT_INTERRUPTED = 3
EXIT_TOO_MANY_FAILURES = 4


class PipelineError(Exception):
    """A message for the user: it names the file, the row or the value, and the remedy."""

    exit_code = EXIT_USAGE


class UsageError(PipelineError):
    """Bad usage or bad input."""


class FingerprintMismatch(UsageError):
    """The table on disk was made with another configuration; mixing them is refused.

    Attributes:
        changed: Field name to (value on disk, value now).
    """

    def __init__(self, message: str, changed: dict[str, tuple[object, object]]) -> None:
        super().__init__(message)
        self.changed = changed


class Interrupted(PipelineError):
    """Stopped by a signal; everything committed stands and the same command resumes."""

    exit_code = EXIT_INTERRUPTED


class TooManyFailures(PipelineError):
    """More rows failed than the configuration allows; all rows are accounted for."""

    exit_code = EXIT_TOO_MANY_FAILURES
