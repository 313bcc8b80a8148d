"""The flow run that this code is part of: its name, and whether Prefect tries it again."""

from __future__ import annotations

import contextlib
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRunPolicy
from prefect.context import FlowRunContext
from prefect.states import Failed, State

from pipeline.errors import EXIT_TOO_MANY_FAILURES, EXIT_USAGE, PipelineError
from pipeline.identity import identity

RETRIES = 2
"""Attempts after the first one that a flow run gets when it broke, e.g. because its engine died for good."""

RETRY_DELAY_S = 60.0
"""Seconds before each of these attempts."""


STATES = {"BadInput": EXIT_USAGE, "TooManyFailures": EXIT_TOO_MANY_FAILURES}
"""Names of failed states that no other attempt changes, and the exit codes that they stand for."""


def run_name() -> str:
    """Return the flow run's id, or outside of one the process's own name of its run."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return identity().run
    return str(context.flow_run.id)


def rename_flow_run(name: str) -> None:
    """Name the flow run, e.g. after the version that it writes, which only the prepared table knows."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with contextlib.suppress(Exception):  # a name is not worth a run
        with get_client(sync_client=True) as client:
            client.set_flow_run_name(context.flow_run.id, name)
        context.flow_run.name = name


def no_further_attempts() -> None:
    """Keep Prefect from trying this flow run again: it would fail with the same, e.g. with bad input."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or not context.flow_run.empirical_policy.retries:
        return
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, empirical_policy=FlowRunPolicy(retries=0))


def failed(error: PipelineError) -> State[Any]:
    """Return the final state of a flow run that ends with an error.

    It is named after what no other attempt changes, ``BadInput`` or ``TooManyFailures``, and Prefect then
    does not try again.
    """
    name = next((name for name, code in STATES.items() if code == error.exit_code), None)
    if name is None:
        return Failed(message=str(error), data=error)
    no_further_attempts()
    return Failed(name=name, message=str(error), data=error)
