"""A short kill campaign of fixed seed; `make torture` runs the long one."""

from __future__ import annotations

from tests.torture.campaign import campaign, table_of
from tests.torture.world import JOBS


def test_a_short_kill_campaign_loses_and_repeats_nothing(tmp_path):
    tally = campaign(tmp_path, kills=25, seed=6)
    print(table_of(tally))
    assert tally.ok, tally.problems
    assert tally.total >= 25 and tally.during_resume >= 5
    assert {job for job, _ in tally.kills} == set(JOBS)
