"""The process vLLM runs in: ``python -m pipeline.engines.vllm_host FD PARENT``, started by ``vllm_process``.

vLLM lives here and not in the process that writes the tables, because a fault of the device, a signal or a
request that trips a kernel ends the process it happens in. Its scheduler and, on one device, the model run in
this process too; with tensor parallel vLLM starts workers of its own, in this process's group.

Messages in, pickled over one socket: the model first, then ``("rows", [(number, request), ...])``,
``("cancel", call)`` and ``("in_flight", most)``. Messages out: ``("ready", facts)`` or ``("refused",
error)``, then ``("results", [(number, result), ...])`` with ``("waited", seconds)``, the time so far in which
the model idled while rows were being prepared, and ``("dying", why)`` before an end that was seen coming.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Imports of vLLM, torch and our own engine modules stand inside functions: a worker process that vLLM starts
# imports this module again.

Number = tuple[int, int]
"""Which row: the call it belongs to, and its place in that call."""


def main(argv: list[str]) -> None:
    """Serve one parent until it goes away."""
    connection, parent = Connection(int(argv[0])), int(argv[1])
    os.set_inheritable(connection.fileno(), False)
    os.dup2(2, 1)  # what libraries print is log
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="watch-parent").start()
    model = connection.recv()
    try:
        host = Host(connection, **model)
    except BaseException as error:
        traceback.print_exc()
        connection.send(("refused", _one_text(error)))
        _end()
    connection.send(("ready", host.facts()))
    threading.Thread(target=host.listen, daemon=True, name="listen").start()
    try:
        host.run()
    except BaseException as error:
        traceback.print_exc()
        host.send(("dying", _one_text(error)))
        _end()


class Host:
    """vLLM's engine with its rows: fed whenever a place is free, results sent as they finish."""

    def __init__(self, connection: Connection, config: str, folder: str) -> None:
        """Load the model.

        Args:
            connection: To the parent.
            config: The ``ModelConfig`` as JSON.
            folder: The checked checkpoint folder.
        """
        from pipeline.config.models import ModelConfig
        from pipeline.engines.installed import installed_build
        from pipeline.engines.vllm_feed import Feed
        from pipeline.engines.vllm_options import engine_arguments, rows_in_flight
        from pipeline.engines.vllm_rows import Rows

        self._connection = connection
        self._sending = threading.Lock()
        model = ModelConfig.model_validate_json(config)
        build = installed_build()
        assert build is not None, "the parent checked that vLLM is installed"
        if model.kind == "instructblip":
            from pipeline.engines.vllm_instructblip import register

            register()
        self._engine = _load(engine_arguments(model, Path(folder), build))
        self._rows = Rows(Path(folder), model, self._engine)
        self._most = rows_in_flight(model, self._engine.vllm_config.scheduler_config.max_num_seqs)
        ahead = max(64, 4 * model.decode_threads)
        self._feed: Feed[Any, Any] = Feed(lambda row: self._rows.prepare(row[1]), model.decode_threads, ahead)
        self._flying: dict[str, tuple[Number, str, int]] = {}
        self._cancelled: set[int] = set()
        self._to_cancel: queue.SimpleQueue[int] = queue.SimpleQueue()

    def facts(self) -> dict[str, Any]:
        """Return what the parent may want to say about the model."""
        model = self._engine.model_config
        return {
            "architecture": model.architecture,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": self._engine.vllm_config.device_config.device_type,
            "max_model_len": model.max_model_len,
            "in_flight": self._most,
        }

    def send(self, message: tuple[str, Any]) -> None:
        """Send a message; a parent that is gone ends this process."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            _end()

    def listen(self) -> None:
        """Take the parent's messages, in a thread of its own, until the parent goes away."""
        try:
            while True:
                kind, content = self._connection.recv()
                if kind == "rows":
                    self._feed.add(content)
                elif kind == "in_flight":
                    self._most = content
                else:
                    self._to_cancel.put(content)
                    self._feed.wake()
        except (EOFError, OSError):
            _end()

    def run(self) -> None:
        """Feed, step and answer, for ever."""
        while True:
            self._cancel()
            self._admit()
            if self._flying:
                self._answer(self._engine.step())

    def _admit(self) -> None:
        """Give vLLM the rows that are ready, as far as there is room; without any in flight, wait for one."""
        refused: list[Any] = []
        while len(self._flying) < self._most:
            item = self._feed.take(wait=not self._flying and not refused)
            if item is None:
                break
            (number, request), ready = item
            if number[0] in self._cancelled:
                continue
            failure = self._add(number, request.key, ready)
            if failure is not None:
                refused.append((number, (request.key, failure, getattr(ready, "tokens_in", 0))))
        self._send_failures(refused)

    def _add(self, number: Number, key: str, ready: Any) -> Any:
        """Give vLLM a row; return the failure of one that it cannot have."""
        from pipeline.engines.base import Failure
        from pipeline.engines.vllm_rows import Refused

        if isinstance(ready, Refused):
            return ready.failure
        if isinstance(ready, Exception):
            why = f"the row could not be prepared: {type(ready).__name__}: {ready}"
            return Failure("engine_error", False, why)
        name = f"{number[0]}-{number[1]}"
        try:
            self._engine.add_request(name, ready.prompt, ready.sampling)
        except Exception as error:  # vLLM checks requests by raising
            return Failure("engine_error", True, f"vLLM refused the row: {type(error).__name__}: {error}")
        self._flying[name] = (number, key, ready.tokens_in)
        return None

    def _answer(self, outputs: list[Any]) -> None:
        from pipeline.engines.base import Failure

        results, failed = [], []
        for output in outputs:
            if not output.finished or output.request_id not in self._flying:
                continue
            number, key, tokens_in = self._flying.pop(output.request_id)
            (text,) = output.outputs
            if text.finish_reason in ("stop", "length"):
                results.append((number, self._rows.result(key, list(text.token_ids), tokens_in)))
            else:
                why = f"vLLM ended the row with {text.finish_reason!r} after {len(text.token_ids)} tokens"
                failed.append((number, (key, Failure("engine_error", False, why), tokens_in)))
        if results:
            self.send(("results", results))
            self.send(("waited", self._feed.waited.seconds))
        self._send_failures(failed)

    def _send_failures(self, failed: list[Any]) -> None:
        from pipeline.engines.base import Result

        if failed:
            self.send(("results", [(number, Result.failed(*parts)) for number, parts in failed]))

    def _cancel(self) -> None:
        while True:
            try:
                call = self._to_cancel.get_nowait()
            except queue.Empty:
                return
            self._cancelled.add(call)
            self._feed.drop(partial(_of_call, call))
            names = [name for name, (number, _, _) in self._flying.items() if number[0] == call]
            self._engine.abort_request(names)
            for name in names:
                del self._flying[name]


def _of_call(call: int, row: tuple[Number, Any]) -> bool:
    return row[0][0] == call


def _load(arguments: dict[str, Any]) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    # The context chooses vLLM's defaults for offline work: more rows and tokens in a step than for a server.
    engine = LLMEngine.from_engine_args(EngineArgs(**arguments), usage_context=UsageContext.LLM_CLASS)
    # They would warn that there is no tokenizer to take an end token from, which ours come with, and with
    # every picture that the number of threads stays as it is.
    for noisy in ("vllm.renderers.base", "vllm.v1.worker.cpu_worker"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    executor = engine.model_executor
    if arguments["tensor_parallel_size"] > 1:
        # A step that waits for a dead worker would wait for ever.
        executor.register_failure_callback(_end)
    return engine


def _watch(parent: int) -> None:
    """End with the parent even when somebody else holds its end of the socket, e.g. a process it forked."""
    while os.getppid() == parent:
        time.sleep(1)
    _end()


def _end() -> None:
    """End this process and the workers that vLLM started, at once."""
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _one_text(error: BaseException) -> str:
    """Return an exception and what it was raised from, innermost last, as one text."""
    texts = []
    here: BaseException | None = error
    while here is not None:
        texts.append(f"{type(here).__name__}: {here}")
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
    return "\ncaused by ".join(texts)


if __name__ == "__main__":
    main(sys.argv[1:])
