"""Episodes until enough processes were killed, and the table of what came of it."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.torture.episode import CROWD, MOMENT, STEPS, Episode, Tally
from tests.torture.world import JOBS, RETRY, World

# After an fsync is before the next call, so it is no place of its own.
PLACES = [(call, after) for call in STEPS for after in (False, True) if (call, after) != ("fsync", True)]
WHERE = [f"{'after' if after else 'before'} {call}" for call, after in PLACES] + [MOMENT, CROWD]


def campaign(folder: Path, kills: int, seed: int, tell: Callable[[str], None] = print) -> Tally:
    """Kill runs until there were enough kills; stops early when something is wrong.

    Args:
        folder: An empty folder; the output folder of an episode with a problem stays in it.
        kills: Kills to reach.
        seed: Decides every choice; the moments in time still vary with the machine.
        tell: Called with a line now and then.
    """
    rng, tally = random.Random(seed), Tally()
    world = World(folder)
    waiting: dict[str, list[tuple[str, bool] | str]] = {job: [] for job in JOBS}
    started = time.monotonic()
    while tally.total < kills and tally.ok:
        job = JOBS[tally.episodes % len(JOBS)]
        episode = Episode(world, job, f"episode-{tally.episodes}", rng, tally)
        for _ in range(rng.randint(4, 9)):
            if not waiting[job]:
                # Each place once before any comes again.
                # A retry makes no version, which is what renames are for.
                places = [(call, after) for call, after in PLACES if job != RETRY or call != "rename"]
                waiting[job] = [*places, MOMENT, MOMENT, CROWD]
                rng.shuffle(waiting[job])
            place = waiting[job].pop()
            if place == MOMENT:
                episode.kill_at_a_moment()
            elif place == CROWD:
                episode.kill_in_a_crowd()
            elif isinstance(place, tuple) and not episode.kill_at(*place):
                waiting[job].insert(0, place)  # the run ended before: again in a later episode
            if tally.total >= kills or episode.over:
                break
        episode.finish()
        if tally.ok:
            shutil.rmtree(episode.out)
        tell(f"{tally.total} of {kills} kills, {tally.episodes} tables, {time.monotonic() - started:.0f} s")
    return tally


def table_of(tally: Tally) -> str:
    """Return the tally as a table in Markdown."""
    lines = [f"| killed | {' | '.join(JOBS)} |", f"|---|{'---:|' * len(JOBS)}"]
    for where in WHERE:
        counts = (str(tally.kills[job, where]) for job in JOBS)
        lines.append(f"| {where} | {' | '.join(counts)} |")
    totals = (str(sum(n for (j, _), n in tally.kills.items() if j == job)) for job in JOBS)
    lines.append(f"| all | {' | '.join(totals)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{tally.total} kills, {tally.during_resume} of them in runs that resumed after a kill; "
            f"{tally.torn} markers torn on top.",
            f"{tally.episodes} tables finished and compared: rows lost {tally.lost}, duplicated "
            f"{tally.duplicated}, other problems {len(tally.problems)}; {tally.leftovers} leftover "
            "files that no reader opens.",
        ]
    )
