"""The Prefect API that a command talks to: the one that is configured, or a temporary one of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    get_current_settings,
    temporary_settings,
)

from flows.local_server import LocalServer
from flows.safety import CLIENT_VARIABLE, SERVER_VARIABLE, client_settings, shown
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
        UsageError: The configured API does not answer, or does not let this process in.
        ServerFailed: The temporary server did not start.
    """
    url = configured_url()
    if url is not None:
        with get_client(sync_client=True) as client:
            error = client.api_healthcheck()
            if error is None:
                _let_in(client, url)
        if error is not None:
            where = shown(url)
            raise UsageError(
                f"the Prefect API at {where} does not answer ({type(error).__name__}: {error}). Start that "
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
        settings = {PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, **client_settings()}
        with temporary_settings(settings):
            yield
    except BaseException:
        server.stop()
        raise
    # Prefect sends the last logs and events when the interpreter ends; the server stays until then.


def _let_in(client: SyncPrefectClient, url: str) -> None:
    """Ask for something that an auth string guards; the health of a server it tells everybody.

    Raises:
        UsageError: The auth string is missing or wrong.
    """
    try:
        client.hello()
    except PrefectHTTPStatusError as error:
        if error.response.status_code != httpx.codes.UNAUTHORIZED:
            raise
        wrong = "missing" if get_current_settings().api.auth_string is None else "not the one of that server"
        raise UsageError(
            f"the Prefect API at {shown(url)} answers 401 Unauthorized: the auth string in "
            f"{CLIENT_VARIABLE} is {wrong}. Set {CLIENT_VARIABLE} to the value that the server has as "
            f"{SERVER_VARIABLE}"
        ) from None
