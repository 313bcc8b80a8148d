"""Writing a table together with other workers: claim, write, and come back to what others left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipeline.engines import Engine, Result
from pipeline.generating import ShardReport, ShardsAhead
from pipeline.identity import identity, working_at
from pipeline.progress import Progress
from pipeline.shards.claims import ClaimLost, Claims
from pipeline.shards.plan import Plan
from pipeline.shards.queue import ShardQueue
from pipeline.shards.roster import Figures
from pipeline.shards.writer import committed_marker
from pipeline.stopping import StopRequest
from schemas.layout import CLAIMS_DIR

if TYPE_CHECKING:
    from pipeline.run import Work


class SharedWork:
    """The missing shards of a table, of which this worker writes those that no other one holds.

    It is a context: leaving it gives back what is claimed.

    Attributes:
        queue: Says which shard is next; of use to callers that hand shards out themselves.
        figures: What this worker has done so far.
    """

    def __init__(
        self,
        work: Work,
        pending: Sequence[int],
        progress: Progress,
        stop: StopRequest,
        check: Callable[[], None],
    ) -> None:
        """Claim nothing yet.

        Args:
            work: The prepared table.
            pending: Shards that are missing, in order.
            progress: Counts the rows, those of other workers too.
            stop: Through which a signal asks for a stop.
            check: Called before each row and while waiting; raises to end the work.
        """
        self._work, self._progress, self._check = work, progress, check
        me = identity()
        self.figures = Figures(me.run, me.worker, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        self._claims = Claims(
            work.plan.version / CLAIMS_DIR, work.job.config.lease_s, figures=self.figures.as_dict
        )
        self.queue = ShardQueue(work.plan, pending, self._claims, self._elsewhere)
        self._shards = ShardsAhead(work, self.queue.following, check)
        stop.before_exit.append(self._claims.close)

    def write_all(self, engine: Engine) -> Iterator[ShardReport]:
        """Write what is missing, wait for what others hold, and yield what became of each shard written here.

        Raises:
            StorageError: The disk is full or cannot be written.
        """
        while (shard := self.queue.next(self._check)) is not None:
            report = self.write(shard, engine)
            self.queue.finish(shard)
            if report is not None:
                yield report

    def write(self, shard: int, engine: Engine) -> ShardReport | None:
        """Write a shard that ``queue`` handed out; the caller gives it back with ``queue.finish``.

        Returns:
            What became of it; None when another worker took it over, because this one had stood still.
        """
        with working_at(table=self._work.plan.table, shard=shard):
            try:
                return self._write(shard, engine)
            finally:
                self.figures.shard, self.figures.in_hand = None, 0

    def _write(self, shard: int, engine: Engine) -> ShardReport | None:
        counted = [0, 0, 0]
        self.figures.shard = shard
        self._claims.tell()

        def on_result(result: Result) -> None:
            self._check()
            self.queue.check(shard)
            self.figures.in_hand += 1
            step = (1, result.tokens_out, int(result.failure is not None))
            self._count(*step)
            counted[:] = [total + new for total, new in zip(counted, step, strict=True)]

        try:
            report = self._shards.write(shard, engine, on_result)
        except BaseException as error:
            self._count(*(-number for number in counted))
            if isinstance(error, ClaimLost):
                if committed_marker(self._work.plan.version, shard) is not None:
                    self._elsewhere(shard)
                return None
            raise
        if report.skipped:
            # Another worker committed it meanwhile.
            self._count(self._work.plan.shard_size(shard) - counted[0], 0, 0)
        else:
            self._count(report.carried + report.shared, 0, 0)
            self.figures.add(
                report.rows + report.failed + report.quarantined, report.failed, report.tokens_out
            )
        return report

    def give_up(self) -> None:
        """Give up the rows an engine was asked for ahead of their turn."""
        self._shards.give_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_up()
        if self.queue.complete:
            self._claims.clear()
        else:
            self._claims.close()

    def _elsewhere(self, shard: int) -> None:
        self._count(self._work.plan.shard_size(shard), 0, 0)

    def _count(self, rows: int, tokens: int, failed: int) -> None:
        if rows:
            self._progress.update(rows, tokens=tokens, failed=failed)


def clear_claims(plan: Plan) -> None:
    """Remove what workers that were killed left in a table that is complete."""
    Claims(plan.version / CLAIMS_DIR).clear()
