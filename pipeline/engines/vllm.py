"""The engine that runs checkpoints with vLLM, in a process of its own, fed row by row.

Rows go to that process as they are (a text and the path of a picture); it tokenises and decodes ahead in
threads and gives vLLM the next row whenever one is finished, so a long answer holds up no other row. Several
threads may generate at once and share the model; their rows are computed together.
"""

from __future__ import annotations

import itertools
import logging
import queue
from collections.abc import Iterator, Sequence

from pipeline.config.models import ModelConfig
from pipeline.engines.base import EngineDead, Failure, Request, Result, one_result_each
from pipeline.engines.checkpoint import checkpoint_folder
from pipeline.engines.vllm_errors import start_error
from pipeline.engines.vllm_lives import AGAIN, Lives
from pipeline.engines.vllm_options import check_usage, environment
from pipeline.engines.vllm_process import HostProcess, OnDeath, OnResults, StartFailed

log = logging.getLogger(__name__)


class VllmEngine:
    """Generates texts with vLLM; safe to share between threads.

    Rows of calls that overlap are computed together, those of the earlier call first.

    When vLLM's process dies it is started again and gets the rows that are not finished. When it dies of them
    a second time, the row that it dies of is looked for and becomes a failure, see
    ``pipeline.engines.isolation``.
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
        self._lives = Lives(self._start)

    def __str__(self) -> str:
        facts = self._lives.host.facts
        return (
            f"{facts['architecture']} on {facts['device']}, {facts['dtype']}, vLLM {self._build.version}, "
            f"up to {facts['max_model_len']} tokens"
        )

    @property
    def pid(self) -> int:
        """Process id of the process that vLLM runs in."""
        return self._lives.host.pid

    @property
    def waited_s(self) -> float:
        """Seconds in which the model had nothing to do because no row was prepared yet."""
        return self._lives.waited_s

    def generate(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Begin with the rows at once, and yield one result per request, as rows finish.

        Raises:
            EngineDead: vLLM's process dies whatever rows it gets, or it could not be started again.
        """
        return one_result_each(requests, Call(self._lives, requests))

    def close(self) -> None:
        """End vLLM's process and everything it started."""
        self._lives.close(EngineDead(f"the engine was closed while it was generating. {AGAIN}"))

    def _start(self, on_results: OnResults, on_death: OnDeath) -> HostProcess:
        model = {"config": self.config.model_dump_json(), "folder": str(self._folder)}
        env = environment(self.config, self._build)
        try:
            return HostProcess(env, model, on_results, on_death)
        except StartFailed as error:
            raise start_error(str(error), error.log, self.config, self._folder) from error


class Call(Iterator[Result]):
    """The results of one call of ``generate``."""

    _numbers = itertools.count()

    def __init__(self, lives: Lives, requests: Sequence[Request]) -> None:
        self._number = next(self._numbers)
        self._left = len(requests)
        self._events: queue.SimpleQueue[Result | EngineDead] = queue.SimpleQueue()
        self._lives = lives
        rows = {}
        for place, request in enumerate(requests):
            if request.prompt.strip():
                rows[self._number, place] = request
            else:
                why = Failure("empty_prompt", True, f"the prompt of {request.key!r} has no text")
                self._events.put(Result.failed(request.key, why))
        lives.open_call(self._number, rows, self._events.put)

    def __next__(self) -> Result:
        if not self._left:
            self.close()
            raise StopIteration
        event = self._events.get()
        if isinstance(event, EngineDead):
            self.close()
            self._events.put(event)  # for whoever asks again
            raise EngineDead(str(event))
        self._left -= 1
        return event

    def close(self) -> None:
        """Give up the rows that have no result."""
        self._lives.end_call(self._number)

    def __del__(self) -> None:
        self.close()
