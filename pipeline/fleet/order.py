"""What a worker process is told to do, and what it says at its end: plain JSON, for pipes and for Ray."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pipeline.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TOO_MANY_FAILURES, EXIT_USAGE


@dataclass(frozen=True)
class Order:
    """What to write. Paths are absolute: a worker may start in another folder, on another machine.

    Attributes:
        table: ``captions`` or ``explanations``.
        config: YAML file of the configuration.
        out: Output folder.
        run: Name of the run that the worker belongs to.
        overrides: ``a.b=value`` each.
        image_root: Folder of the images, when they were moved since ingest.
        carry: Copy texts of older versions that were made from the same.
    """

    table: str
    config: str
    out: str
    run: str
    overrides: tuple[str, ...] = ()
    image_root: str | None = None
    carry: bool = True

    @classmethod
    def of(
        cls,
        table: str,
        config: Path | str,
        out: Path | str,
        run: str,
        *,
        overrides: tuple[str, ...] = (),
        image_root: Path | str | None = None,
        carry: bool = True,
    ) -> Self:
        """Return an order with absolute paths."""
        root = None if image_root is None else str(Path(image_root).absolute())
        where = str(Path(config).absolute()), str(Path(out).absolute())
        return cls(table, *where, run, tuple(overrides), root, carry)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Return the order of ``as_dict``."""
        return cls(**{**raw, "overrides": tuple(raw["overrides"])})


@dataclass(frozen=True)
class WorkerEnd:
    """How a worker ended.

    Attributes:
        name: Its name.
        exit_code: 0 and 4: the table is finished; 2: bad usage or input, which no other attempt changes;
            3: told to stop; anything else: it died. Negative: by that signal.
        message: What it said, or the end of its log where it could not say anything.
        host: Where it ran.
    """

    name: str
    exit_code: int
    message: str = ""
    host: str = ""
    tail: tuple[str, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {**asdict(self), "tail": list(self.tail)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        """Return the end of ``as_dict``."""
        return cls(**{**raw, "tail": tuple(raw["tail"])})

    @property
    def finished(self) -> bool:
        """Whether the table was finished when it ended."""
        return self.exit_code in (EXIT_OK, EXIT_TOO_MANY_FAILURES)

    @property
    def hopeless(self) -> bool:
        """Whether another attempt would end the same way."""
        return self.exit_code == EXIT_USAGE

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self.exit_code == EXIT_INTERRUPTED

    def __str__(self) -> str:
        how = f"signal {-self.exit_code}" if self.exit_code < 0 else f"exit code {self.exit_code}"
        return f"{self.name} ended with {how}" + (f": {self.message}" if self.message else "")
