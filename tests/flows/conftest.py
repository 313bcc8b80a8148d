"""One Prefect server for the flow tests of a process, and a small table to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.local_server import LocalServer
from tests.flows.building import make_table


@pytest.fixture(scope="session")
def api_url() -> Iterator[str]:
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    server = LocalServer()
    yield server.wait(300)
    # What Prefect still wants to send must go out while there is somebody to take it.
    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)
    server.stop()


@pytest.fixture
def api(api_url: str) -> Iterator[Any]:
    """A client of the server that the flows of the test run on."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    # Without heartbeats, whose end Prefect waits a second for.
    settings = {PREFECT_API_URL: api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def table(tmp_path: Path) -> dict[str, str]:
    return make_table(tmp_path)
