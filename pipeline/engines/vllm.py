"""The engine that runs checkpoints with vLLM, in a process of its own, fed row by row.

Rows go to that process as they are (a text and the path of a picture); it tokenises and decodes ahead in
threads and gives vLLM the next row whenever one is finished, so a long answer holds up no other row. Several
threads may generate at once and share the model; their rows are computed together.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.config.models import ModelConfig
from pipeline.engines.base import EngineDead, Failure, Request, Result, one_result_each
from pipeline.engines.checkpoint import checkpoint_folder
from pipeline.engines.vllm_errors import root_cause, start_error
from pipeline.engines.vllm_options import check_usage, environment
from pipeline.engines.vllm_process import HostProcess, StartFailed
from pipeline.errors import UsageError

log = logging.getLogger(__name__)

_AGAIN = "Nothing is lost: run the same command again to go on from the last finished shard"


class VllmEngine:
    """Generates texts with vLLM; safe to share between threads.

    Rows of calls that overlap are computed together, those of the earlier call first.

    When vLLM's process dies it is started again, once for each call of ``generate`` that it dies under, and
    gets the rows that are not finished; when it dies a second time, the call ends with ``EngineDead``.
    """

    begins_at_once = True

    def __init__(self, config: ModelConfig) -> None:
        """Start vLLM and load the model.

        Raises:
            UsageError: the configuration cannot work here, or vLLM does not start; with the remedy.
        """
        self.config = config
        self._build = check_usage(config)
        self._folder = checkpoint_folder(config)
        self._calls: dict[int, queue.SimpleQueue[Any]] = {}
        self._calls_lock = threading.Lock()
        self._starting = threading.Lock()
        self._closed = False
        self._waited_before = 0.0
        self._host = self._start()

    def __str__(self) -> str:
        facts = self._host.facts
        return (
            f"{facts['architecture']} on {facts['device']}, {facts['dtype']}, vLLM {self._build.version}, "
            f"up to {facts['max_model_len']} tokens"
        )

    @property
    def pid(self) -> int:
        """Process id of the process that vLLM runs in."""
        return self._host.pid

    @property
    def waited_s(self) -> float:
        """Seconds in which the model had nothing to do because no row was prepared yet."""
        return self._waited_before + self._host.waited_s

    def generate(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Begin with the rows at once, and yield one result per request, as rows finish.

        Raises:
            EngineDead: vLLM's process died twice, or it could not be started again.
        """
        return one_result_each(requests, Call(self, requests))

    def close(self) -> None:
        """End vLLM's process and everything it started."""
        self._closed = True
        with self._starting:
            self._host.close()
        self._announce_death(self._host)

    def open_call(self, call: Call) -> HostProcess:
        """Note who gets the results of a call, and return the process that is to compute it."""
        with self._calls_lock:
            self._calls[call.number] = call.events
        return self._host

    def end_call(self, call: Call) -> None:
        """Forget a call; what vLLM has of it is given up."""
        with self._calls_lock:
            known = self._calls.pop(call.number, None)
        if known is not None and call.todo:
            self._host.send(("cancel", call.number))

    def start_again(self, dead: HostProcess) -> HostProcess:
        """Return a running process in place of a dead one, which another thread may have replaced already."""
        with self._starting:
            if self._closed:
                raise EngineDead(f"the engine was closed while it was generating. {_AGAIN}")
            if self._host is dead:
                dead.close()
                log.warning(
                    "vLLM died (%s); starting it again for the rows that are not finished", _why(dead)
                )
                self._waited_before += dead.waited_s
                try:
                    self._host = self._start()
                except UsageError as error:
                    raise EngineDead(
                        f"vLLM died and could not be started again: {error}. {_AGAIN}"
                    ) from error
            return self._host

    def _start(self) -> HostProcess:
        model = {"config": self.config.model_dump_json(), "folder": str(self._folder)}
        env = environment(self.config, self._build)
        try:
            return HostProcess(env, model, self._deliver, self._announce_death)
        except StartFailed as error:
            raise start_error(str(error), error.log, self.config, self._folder) from error

    def _deliver(self, results: list[tuple[tuple[int, int], Result]]) -> None:
        with self._calls_lock:
            for (call, place), result in results:
                # A call that was given up has no queue any more.
                if (events := self._calls.get(call)) is not None:
                    events.put((place, result))

    def _announce_death(self, host: HostProcess) -> None:
        with self._calls_lock:
            for events in self._calls.values():
                events.put(host)


class Call(Iterator[Result]):
    """The results of one call of ``generate``.

    Attributes:
        number: Of the call, unique in this process.
        todo: Rows without a result, by their place among the requests.
        events: What happens to them: (place, result), or the process that died.
    """

    _numbers = itertools.count()

    def __init__(self, engine: VllmEngine, requests: Sequence[Request]) -> None:
        self.number = next(self._numbers)
        self.todo: dict[int, Request] = {}
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._engine = engine
        self._deaths = 0
        for place, request in enumerate(requests):
            if not request.prompt.strip():
                why = Failure("empty_prompt", True, f"the prompt of {request.key!r} has no text")
                self.events.put((place, Result.failed(request.key, why)))
            self.todo[place] = request
        self._host = engine.open_call(self)
        self._submit()

    def __next__(self) -> Result:
        while self.todo:
            if self._host.dead.is_set() and self.events.empty():
                # It was dead before this call was known to the engine, so nobody told.
                self._survive()
            event = self.events.get()
            if event is self._host:
                self._survive()
            elif not isinstance(event, HostProcess):
                place, result = event
                del self.todo[place]
                return result
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Give up the rows that have no result."""
        self._engine.end_call(self)

    def __del__(self) -> None:
        self.close()

    def _survive(self) -> None:
        """Have the rows computed by another process after theirs died, the first time."""
        self._deaths += 1
        if self._deaths > 1:
            self._host.close()
            raise EngineDead(
                f"vLLM died a second time with {len(self.todo)} rows unfinished ({_why(self._host)}). "
                f"{_AGAIN}; if one row is the cause, engine: transformers finds it"
            )
        self._host = self._engine.start_again(self._host)
        self._submit()

    def _submit(self) -> None:
        rows = [((self.number, place), row) for place, row in self.todo.items() if row.prompt.strip()]
        self._host.send(("rows", rows))


def _why(host: HostProcess) -> str:
    return root_cause(host.why, []) or host.last_words()
