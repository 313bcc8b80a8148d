"""Which shard a worker writes next, when others write the same table."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from pipeline.shards.claims import ClaimLost, Claims
from pipeline.shards.plan import Plan
from pipeline.shards.writer import committed_marker
from schemas.layout import shard_name

log = logging.getLogger(__name__)

SAY_EVERY_S = 60.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0


class ShardQueue:
    """Hands out the shards that are missing, each claimed; may be used from several threads.

    All workers walk the plan in the same order and pass over what others hold. At the end a worker comes back
    to those shards: it waits until they are committed, or takes them over when their worker is gone. So each
    worker that ends well ends with a finished table.
    """

    def __init__(
        self,
        plan: Plan,
        pending: Iterable[int],
        claims: Claims,
        elsewhere: Callable[[int], None] = lambda _shard: None,
    ) -> None:
        """Claim nothing yet.

        Args:
            plan: The table's plan.
            pending: Shards that are missing, in the order in which they are wanted.
            claims: Says who holds which shard.
            elsewhere: Called with each shard that another worker turns out to have committed.
        """
        self._plan, self._claims, self._elsewhere = plan, claims, elsewhere
        self._unseen = deque(pending)
        self._others: deque[int] = deque()
        self._claimed: list[int] = []
        self._handed: set[int] = set()
        self._given_up: set[int] = set()
        self._lock = threading.RLock()

    def take(self) -> int | None:
        """Return the next shard to write, or None when there is none that no other worker holds."""
        with self._lock:
            shard = next((shard for shard in self._claimed if shard not in self._handed), None)
            if shard is None:
                shard = self._claim()
            if shard is not None:
                self._handed.add(shard)
            return shard

    def following(self, shard: int) -> int | None:
        """Return the shard that ``take`` hands out after this one, claimed from now on, if there is one."""
        with self._lock:
            if shard not in self._claimed:
                return None
            place = self._claimed.index(shard) + 1
            return self._claimed[place] if place < len(self._claimed) else self._claim()

    def check(self, shard: int) -> None:
        """Do nothing as long as this worker holds a shard.

        Raises:
            ClaimLost: Another worker took it over.
        """
        if not self._claims.holds(shard_name(shard)):
            raise ClaimLost(f"shard {shard} was taken over by another worker")

    def finish(self, shard: int, *, given_up: bool = False) -> None:
        """Give a shard's claim back.

        Args:
            shard: A shard that ``take`` handed out.
            given_up: This worker will not try it again; otherwise it does while the shard is not committed.
        """
        with self._lock:
            self._claims.release(shard_name(shard))
            if shard in self._handed:
                self._handed.remove(shard)
                self._claimed.remove(shard)
                if committed_marker(self._plan.version, shard) is None:
                    if given_up:
                        self._given_up.add(shard)
                    else:
                        self._others.append(shard)

    @property
    def complete(self) -> bool:
        """Whether every shard is known to be committed."""
        with self._lock:
            return not (self._unseen or self._others or self._claimed or self._given_up)

    @property
    def left(self) -> int:
        """Number of shards that are not handed out and not known to be committed."""
        with self._lock:
            return len(self._unseen) + len(self._others) + len(self._claimed) - len(self._handed)

    def next(self, check: Callable[[], None]) -> int | None:
        """Return the next shard as ``take`` does, after waiting for one; None when all are committed.

        Args:
            check: Called while waiting; may raise to end it.
        """
        pause, said = SHORTEST_PAUSE_S, float("-inf")
        while True:
            check()
            shard = self.take()
            if shard is not None or not self.left:
                return shard
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                log.info("%s", self.waiting_for())
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE_S)

    def waiting_for(self) -> str:
        """Return a sentence about the shards that other workers hold."""
        with self._lock:
            first = self._others[0]
            held = self._claims.holder(shard_name(first))
            more = f" and {len(self._others) - 1} more" if len(self._others) > 1 else ""
            return f"{self._plan.table}: waiting for shard {first}{more}, held by {held}"

    def _claim(self) -> int | None:
        while self._unseen:
            if self._try(shard := self._unseen.popleft()):
                return shard
        for _ in range(len(self._others)):
            if self._try(shard := self._others.popleft()):
                return shard
        return None

    def _try(self, shard: int) -> bool:
        if not self._done(shard):
            if not self._claims.take(shard_name(shard)):
                self._others.append(shard)
            # Looked at again: between the first look and the claim its writer may have committed and gone.
            elif self._done(shard):
                self._claims.release(shard_name(shard))
            else:
                self._claimed.append(shard)
                return True
        return False

    def _done(self, shard: int) -> bool:
        done = committed_marker(self._plan.version, shard) is not None
        if done:
            self._elsewhere(shard)
        return done
