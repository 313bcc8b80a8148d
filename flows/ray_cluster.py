"""Connecting to a Ray cluster, or starting one of this machine that lasts as long as a run."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL
from prefect_ray import RayTaskRunner

from pipeline.config.workers import RayConfig
from pipeline.errors import EXIT_BROKEN, PipelineError, UsageError

log = logging.getLogger(__name__)

ANSWER_S = 5.0
"""Seconds in which the address of a cluster has to take a connection."""

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}

# One attempt, which takes 40 s where something else listens; by itself Ray would make 20.
_ELSEWHERE = {"RAY_gcs_server_port_wait_time_s": "1"}

# Ray binds to loopback only where it believes that no cluster of several machines is possible. Its tasks are
# the nicest of processes by default; those of a run have nobody to give way to.
_OWN = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}

_TOKEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


class ClusterFailed(PipelineError):
    """A cluster of this machine did not start, e.g. because it is too busy; another attempt may do."""

    exit_code = EXIT_BROKEN


@contextmanager
def cluster(config: RayConfig) -> Iterator[RayTaskRunner]:
    """Connect to the cluster that a configuration names; without a name start one, on loopback only.

    What workers print is not copied to the terminal: their logs are in their task runs.

    Raises:
        UsageError: There is no cluster at the address, or it does not let this process in.
        ClusterFailed: None could be started.
    """
    address = config.address
    with _environment(temporary=address is None):
        # Not before: parts of Ray read the environment while they are imported.
        import ray

        # Says that authentication is on, which is as it should be.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        logging.getLogger("prefect.task_runner.ray").setLevel(logging.WARNING)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
        if address is None:
            # Else Ray would join a cluster that RAY_ADDRESS names.
            options |= {"address": "local", "include_dashboard": False}
            log.info("starting a Ray cluster on this machine, which ends with the run")
        elif address == "auto":
            options["address"] = address
        else:
            _check_answers(address)
        runner = RayTaskRunner(address=None if address in (None, "auto") else address, init_kwargs=options)
        try:
            with _signals_stay_ours():
                runner.__enter__()
        except Exception as error:  # Ray raises plain ones, e.g. when a node does not start in time
            with contextlib.suppress(Exception):
                ray.shutdown()
            raise _unusable(address, error) from error
        try:
            yield runner
        finally:
            runner.__exit__(None, None, None)


def check_api_reaches(addresses: list[str]) -> None:
    """Refuse task runs on other machines when Prefect's API is for this one only: they could not begin.

    Args:
        addresses: IP addresses of the nodes that task runs may be placed on.

    Raises:
        UsageError: One of them is another machine, and the API is at a loopback address.
    """
    host = urlsplit(PREFECT_API_URL.value() or "").hostname or ""
    others = sorted({address for address in addresses if not _is_here(address)})
    if others and (host == "localhost" or host.startswith("127.")):
        raise UsageError(
            f"the Ray nodes {', '.join(others)} are other machines, and the Prefect API at {host} is "
            "reachable from this one only, so no task run could begin there. Start a server that all reach "
            "and name it: PREFECT_API_URL=http://HOST:4200/api"
        )


@contextmanager
def _environment(*, temporary: bool) -> Iterator[None]:
    wanted = _QUIET | (_OWN if temporary else _ELSEWHERE)
    if temporary:
        if not any(os.environ.get(name) for name in _TOKEN):
            # Else Ray would keep one in the home folder for ever.
            wanted[_TOKEN[0]] = secrets.token_hex(32)
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _signals_stay_ours() -> Iterator[None]:
    # Ray takes SIGTERM for a crash of the process and aborts it, past Python's handlers.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _check_answers(address: str) -> None:
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
        if not host or not port:
            raise ValueError("not HOST:PORT")
        with socket.create_connection((host, port), timeout=ANSWER_S):
            pass
    except (OSError, ValueError) as error:
        raise _unusable(address, error) from error


def _unusable(address: str | None, error: Exception) -> PipelineError:
    # Between the two lines Ray puts a traceback.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    what = " ... ".join(dict.fromkeys((lines[0], lines[-1])))
    if address is None:
        return ClusterFailed(
            f"no Ray cluster could be started on this machine ({what}); what it logged is in /tmp/ray. The "
            "same command tries again; ray.address names a cluster that runs already"
        )
    return UsageError(
        f"ray.address {address!r}: no Ray cluster can be used there ({what}). Start one with `ray start "
        "--head` and name its address (auto on one of its nodes, HOST:6379, or ray://HOST:10001), or leave "
        "the address out; if the cluster asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
    )


def _is_here(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
