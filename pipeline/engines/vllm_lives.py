"""The lives of vLLM's process: which rows it gets, who waits for them, and what happens when it dies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from pipeline.engines.base import EngineDead, Failure, Request, Result
from pipeline.engines.batching import BatchSize
from pipeline.engines.isolation import Isolation, Orders
from pipeline.engines.vllm_errors import ran_out_of_memory, root_cause
from pipeline.engines.vllm_host import Number
from pipeline.engines.vllm_process import HostProcess, OnDeath, OnResults

log = logging.getLogger(__name__)

AGAIN = "Nothing is lost: run the same command again to go on from the last finished shard"


class Start(Protocol):
    """Starts processes."""

    def __call__(self, on_results: OnResults, on_death: OnDeath) -> HostProcess:
        """Start a process and load the model; raises ``UsageError`` when that fails."""
        ...


class Lives:
    """One process of vLLM after the other; may be used from several threads.

    Attributes:
        host: The present process, which may have died.
    """

    def __init__(self, start: Start) -> None:
        """Start the first process.

        Raises:
            UsageError: It does not start.
        """
        self._start = start
        # A call that the garbage collector finds is ended in whatever thread runs, perhaps with the lock.
        self._lock = threading.RLock()
        self._calls: dict[int, Callable[[Result | EngineDead], None]] = {}
        self._requests: dict[Number, Request] = {}
        self._isolation: Isolation[Number] = Isolation()
        # Rows to run that wait for the next process; None while there is one.
        self._waiting: list[Number] | None = None
        self._closed = False
        self._waited_before = 0.0
        self._why, self._memory = "", False
        with self._lock:  # in case it dies before it has its name here
            self.host = start(self._deliver, self._after_death)
        self._size = BatchSize(self.host.facts["in_flight"])
        self._finished = 0

    @property
    def waited_s(self) -> float:
        """Seconds in which the model had nothing to do because no row was prepared yet."""
        with self._lock:
            return self._waited_before + self.host.waited_s

    def open_call(
        self, call: int, rows: dict[Number, Request], deliver: Callable[[Result | EngineDead], None]
    ) -> None:
        """Have rows computed; ``deliver`` gets the results, or why there are none, in another thread."""
        with self._lock:
            if self._closed:
                deliver(EngineDead(f"the engine is closed. {AGAIN}"))
                return
            self._calls[call] = deliver
            self._requests |= rows
            self._send(self._isolation.add(rows).run)
            died_idle = self.host.dead.is_set() and self._waiting is None
        if died_idle:
            self._after_death(self.host, counts=False)

    def end_call(self, call: int) -> None:
        """Forget a call; what vLLM has of it is given up."""
        with self._lock:
            if self._calls.pop(call, None) is None:
                return
            mine = [number for number in self._requests if number[0] == call]
            for number in mine:
                del self._requests[number]
            if mine:
                self.host.send(("cancel", call))
                self._carry_out(self._isolation.drop(lambda number: number[0] == call))

    def close(self, why: EngineDead) -> None:
        """End the process; calls that are open get ``why``."""
        with self._lock:
            self._closed = True
            self.host.close()
            self._end_all(why)

    def _deliver(self, results: Iterable[tuple[Number, Result]]) -> None:
        with self._lock:
            for number, result in results:
                if self._requests.pop(number, None) is None:
                    continue  # of a call that was given up
                self._calls[number[0]](result)
                self._carry_out(self._isolation.done(number, computed=result.failure is None))
                self._finished += 1
                if self._finished >= self._size.now:
                    self._finished = 0
                    self._grow()

    def _after_death(self, dead: HostProcess, *, counts: bool = True) -> None:
        """Replace a dead process, and give the new one what is to be run next.

        Args:
            dead: The process.
            counts: Whether it may have died of its rows; not when it had none.
        """
        with self._lock:
            if self._closed or self.host is not dead or self._waiting is not None or not self._requests:
                return
            self._why, self._memory = _why(dead), ran_out_of_memory(dead.why)
            if self._memory:
                self._size.shrink(self._size.now)
            orders = self._isolation.died() if counts else Orders(self._isolation.unfinished)
            if orders.give_up:
                self._end_all(
                    EngineDead(
                        f"vLLM died again and again, whatever rows it was given, with {len(self._requests)} "
                        f"rows unfinished ({self._why}). {AGAIN}"
                    )
                )
                return
            self._fail(orders.failed)
            if not self._requests:
                return  # the next call finds it dead
            self._waiting = orders.run
            log.warning("vLLM died (%s); starting it again, with %d rows first", self._why, len(orders.run))
        dead.close()
        threading.Thread(target=self._start_again, daemon=True, name="vllm-start").start()

    def _start_again(self) -> None:
        try:
            host = self._start(self._deliver, self._after_death)
        except Exception as error:  # whatever it is: somebody waits for an answer
            with self._lock:
                self._waiting = None
                self._end_all(
                    EngineDead(f"vLLM died ({self._why}) and could not be started again: {error}. {AGAIN}")
                )
            return
        with self._lock:
            waiting, self._waiting = self._waiting or [], None
            if self._closed:
                host.close()
                return
            self._waited_before += self.host.waited_s
            self.host = host
            if self._size.now < self._size.most:
                host.send(("in_flight", self._size.now))
            self._send(waiting)
            died_at_once = host.dead.is_set()
        if died_at_once:
            self._after_death(host)

    def _carry_out(self, orders: Orders[Number]) -> None:
        self._fail(orders.failed)
        self._send(orders.run)

    def _send(self, numbers: list[Number]) -> None:
        if self._waiting is not None:
            self._waiting += numbers
            return
        rows = [(number, self._requests[number]) for number in numbers if number in self._requests]
        if rows:
            self.host.send(("rows", rows))

    def _fail(self, numbers: list[Number]) -> None:
        for number in numbers:
            request = self._requests.pop(number, None)
            if request is None:
                continue
            what = f"vLLM died each time it had this row, the last time alone ({self._why})"
            failure = Failure("out_of_memory" if self._memory else "engine_error", False, what)
            log.warning("row %r: %s", request.key, what)
            self._calls[number[0]](Result.failed(request.key, failure))

    def _grow(self) -> None:
        before = self._size.now
        self._size.grow()
        if self._size.now != before:
            self.host.send(("in_flight", self._size.now))

    def _end_all(self, why: EngineDead) -> None:
        for deliver in list(self._calls.values()):
            deliver(why)
        self._calls.clear()
        self._requests.clear()
        self._isolation = Isolation()


def _why(host: HostProcess) -> str:
    return root_cause(host.why, []) or host.last_words()
