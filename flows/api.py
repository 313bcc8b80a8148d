"""The Prefect API that a command talks to: the one that is configured, or a temporary one of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)

from flows.local_server import LocalServer
from flows.settings import SERVER_START_TIMEOUT_S
from pipeline.errors import UsageError


def configured_url() -> str | None:
    """Return the API's URL from ``PREFECT_API_URL`` or the active Prefect profile, if there is one."""
    return get_current_settings().api.url or None


@contextlib.contextmanager
def prefect_api(meanwhile: Callable[[], None], check: Callable[[], None]) -> Iterator[None]:
    """Provide an API to the flows called inside.

    Args:
        meanwhile: Work to do while a temporary server starts, e.g. loading a model; called in any case.
        check: Called a few times a second while waiting, to stop by raising.

    Raises:
        UsageError: The configured API does not answer.
        ServerFailed: The temporary server did not start.
    """
    url = configured_url()
    if url is not None:
        with get_client(sync_client=True) as client:
            error = client.api_healthcheck()
        if error is not None:
            raise UsageError(
                f"the Prefect API at {url} does not answer ({type(error).__name__}: {error}). Start that "
                "server, or unset PREFECT_API_URL (`prefect profile use ephemeral`) to run on a temporary one"
            )
        meanwhile()
        yield
        return
    server = LocalServer()
    try:
        meanwhile()
        url = server.wait(SERVER_START_TIMEOUT_S, check)
        # Heartbeats tell a server about flows that died; this one dies with them.
        with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
    except BaseException:
        server.stop()
        raise
    # Prefect sends the last logs and events when the interpreter ends; the server stays until then.
