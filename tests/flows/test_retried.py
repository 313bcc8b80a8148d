"""Flows and retries on one table: what a flow left failed is mended, and the next flow finds it done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.explanations import explanations
from flows.tables import TableHasTooManyFailures
from pipeline.config import load_config
from pipeline.retrying import retry_failed
from pipeline.shards.verify import verify
from schemas import open_table


def test_failures_of_a_flow_are_retried_and_the_next_flow_counts_them_mended(
    table: dict[str, str], api: Any
) -> None:
    out, outage = Path(table["out"]), ["models.chat.echo.outage_share=0.4"]
    state = explanations(**table, overrides=outage, return_state=True)
    error = state.result(raise_on_failure=False)
    assert state.is_failed() and isinstance(error, TableHasTooManyFailures)
    failed = error.summary["failed_total"]
    assert failed > 3

    summary = retry_failed("explanations", load_config(table["config"]), out)
    assert (summary.recovered, summary.failed_total, summary.exit_code) == (failed, 0, 0)

    state = explanations(**table, return_state=True)
    again = state.result()
    assert state.is_completed()
    assert (again["written"], again["skipped_existing"], again["failed_total"]) == (0, 24, 0)
    assert open_table(out, "explanations").num_rows == 24
    report = verify(out, deep=True)
    assert report.ok, report.problems
