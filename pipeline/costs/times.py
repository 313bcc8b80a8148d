"""Where the time of a shard goes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Times:
    """Seconds by what they were spent on.

    Attributes:
        decode: The model idled because no picture was read (or no prompt prepared) yet. Pictures are read
            ahead in threads, so this is what the reading costs, not how long it takes.
        generate: Texts were generated, those that the gates asked for again included.
        gates: Gates looked at texts, CLIP included.
        write: Files were written and flushed, the marker included.
    """

    decode: float = 0.0
    generate: float = 0.0
    gates: float = 0.0
    write: float = 0.0

    @property
    def total(self) -> float:
        """The sum."""
        return self.decode + self.generate + self.gates + self.write

    @classmethod
    def sum(cls, times: Iterable[Times]) -> Times:
        """Return the sum of some shards' times."""
        each = list(times)
        return cls(**{name: sum(getattr(one, name) for one in each) for name in cls.__dataclass_fields__})

    def scaled(self, share: float) -> Times:
        """Return a share of the times."""
        return Times(**{name: seconds * share for name, seconds in asdict(self).items()})

    def as_dict(self) -> dict[str, float]:
        """Return the seconds by name, to milliseconds."""
        return {name: round(seconds, 3) for name, seconds in asdict(self).items()}


class ShardClock:
    """Divides the time of one shard, from its making on: call the methods in their order."""

    def __init__(self, engine: Any) -> None:
        """Begin with the generating; ``engine`` tells how long its model waited, if it reads pictures."""
        self._engine = engine
        self._waited = self._engine_waited()
        self._mark = time.monotonic()
        self._generating = 0.0

    def generated(self) -> None:
        """Note that all texts are there."""
        self._generating = self._lap()

    def judged(self, again: float) -> Times:
        """Note that the gates are done, of which it took ``again`` seconds to generate texts anew."""
        gates = self._lap() - again
        generating = self._generating + again
        # With shards computed together, the wait of the next one may fall into this one's time.
        decode = min(generating, max(0.0, self._engine_waited() - self._waited))
        return Times(decode=decode, generate=generating - decode, gates=max(0.0, gates))

    def written(self, times: Times) -> Times:
        """Note that the shard is committed; return its times with the writing."""
        return replace(times, write=self._lap())

    def _engine_waited(self) -> float:
        return float(getattr(self._engine, "waited_s", 0.0))

    def _lap(self) -> float:
        before, self._mark = self._mark, time.monotonic()
        return self._mark - before
