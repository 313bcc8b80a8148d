"""Where log lines go: to the terminal, and those of ``pipeline`` also to the run that they belong to."""

from __future__ import annotations

import logging
import sys

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler
from tqdm import tqdm

from pipeline.logs import JsonLines, wanted_format

_PREFECT = ("prefect", "prefect.flow_runs", "prefect.task_runs", "prefect.extra", "prefect.server")
"""Loggers to which Prefect gives handlers of their own."""


class _RunLogs(APILogHandler):
    """Sends records to the API, if they come from inside a flow or task run."""

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
            super().emit(record)


class _Noise(logging.Filter):
    """Drops lines of Prefect that say nothing here.

    The end of a shard's task is in the shard's own line; the page that "View at" names is not served by a
    temporary server.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.name == "prefect.task_runs":
            return not message.startswith(("Finished in state Completed", "Finished in state Cancelled"))
        return not message.startswith("View at ")


class _BesideTheBar(logging.Filter):
    """Lets every record pass, and moves a progress bar out of its way first."""

    def filter(self, record: logging.LogRecord) -> bool:
        for bar in list(getattr(tqdm, "_instances", ())):
            bar.clear(nolock=True)
        return True


def pipeline_logs_to_runs() -> None:
    """Show what ``pipeline`` and ``flows`` log in the pages of the run, as Prefect shows its own loggers.

    Where JSON lines are asked for (``DGM4_LOG_FORMAT``), the terminal gets those.
    """
    if wanted_format() == "json":
        for logger in (logging.getLogger(), *map(logging.getLogger, _PREFECT)):
            for handler in logger.handlers:
                if isinstance(handler, logging.StreamHandler) and not isinstance(handler, APILogHandler):
                    handler.setFormatter(JsonLines())
    for name in ("pipeline", "flows"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not any(isinstance(handler, _RunLogs) for handler in logger.handlers):
            logger.addHandler(_RunLogs())
    _add_filter("prefect.task_runs", _Noise)


def quiet_terminal(*, pages: bool) -> None:
    """Prepare the terminal's log for a command: nothing of Prefect's own housekeeping, no torn progress bar.

    Args:
        pages: Whether the API has pages to look at; a temporary server has none.
    """
    logging.getLogger("prefect.events").setLevel(logging.ERROR)
    if not pages:
        _add_filter("prefect.flow_runs", _Noise)
    if sys.stderr.isatty():
        for handler in logging.getLogger().handlers:
            if not any(isinstance(known, _BesideTheBar) for known in handler.filters):
                handler.addFilter(_BesideTheBar())


def _add_filter(name: str, kind: type[logging.Filter]) -> None:
    logger = logging.getLogger(name)
    if not any(isinstance(known, kind) for known in logger.filters):
        logger.addFilter(kind())
