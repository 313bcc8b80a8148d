"""Claims: one holder at a time, taken over from the dead at once and from the silent after their lease."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.shards.claims import Claims


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "claims"


def elsewhere(claims: Claims) -> Claims:
    """Make a worker look as if it ran on another machine, where nobody can see whether it lives."""
    claims.me = replace(claims.me, kernel="another machine")
    return claims


def leave_claim(folder: Path, name: str, **changes: object) -> None:
    """Write the claim of a worker like this process with these changes."""
    folder.mkdir(exist_ok=True)
    worker = replace(Claims(folder).me, **changes)
    (folder / f"{name}.json").write_text(json.dumps(worker.as_dict()))


def ended_process() -> int:
    code = "import os; print(os.getpid())"
    return int(subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, check=True).stdout)


def test_a_claim_has_one_holder_until_it_is_given_back(folder):
    with Claims(folder) as first, Claims(folder) as second:
        assert first.take("a") and first.take("a")
        assert not second.take("a") and second.take("b")
        assert first.holds("a") and not second.holds("a")
        first.release("a")
        assert second.take("a")
        first.release("a")  # not its own any more: nothing happens
        assert second.holds("a") and (folder / "a.json").exists()
        assert f"process {os.getpid()} on" in first.holder("b")
    assert not folder.exists(), "the last one takes the folder away"


def test_what_a_process_that_ended_holds_is_taken_over_at_once(folder):
    leave_claim(folder, "a", pid=ended_process())
    with Claims(folder) as claims:
        assert claims.take("a")


def test_a_later_process_with_the_same_id_does_not_pass_for_the_holder(folder):
    leave_claim(folder, "a", started=1)
    leave_claim(folder, "b")  # the same process, another worker in it: it lives
    with Claims(folder) as claims:
        assert claims.take("a") and not claims.take("b")


def test_a_killed_process_that_nobody_has_reaped_counts_as_gone(folder):
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    started = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    leave_claim(folder, "a", pid=child.pid, started=started)
    with Claims(folder) as claims:
        assert not claims.take("a")
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert claims.take("a")
    child.wait()


def test_a_worker_elsewhere_keeps_its_claim_while_it_gives_signs_of_life(folder):
    with elsewhere(Claims(folder, 0.5)) as other, Claims(folder) as claims:
        assert other.take("a")
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert not claims.take("a")
            time.sleep(0.05)
        assert other.holds("a")


@pytest.mark.parametrize("days", [-30, 30])
def test_a_silent_worker_loses_its_claim_after_its_lease_whatever_the_clocks_say(folder, days):
    other = elsewhere(Claims(folder, 0.5))
    assert other.take("a")
    other._end.set()  # as if it was stopped: no signs of life, and no memory of having been away
    other._heart.join()
    for path in folder.iterdir():
        os.utime(path, (time.time() + days * 86400,) * 2)
    with Claims(folder) as claims:
        assert not claims.take("a")
        time.sleep(0.3)
        assert not claims.take("a")
        time.sleep(0.4)
        assert claims.take("a")
        # The worker that comes back sees it at its next row, and takes nothing away.
        assert not other.holds("a")
        other.close()
        assert claims.holds("a") and (folder / "a.json").exists()


def test_a_claim_that_cannot_be_read_is_waited_for_like_a_silent_worker(folder):
    folder.mkdir()
    (folder / "a.json").write_text("")
    with Claims(folder, 0.2) as claims:
        assert not claims.take("a")
        time.sleep(0.3)
        assert claims.take("a")


def test_of_many_that_see_a_dead_worker_one_takes_over(folder):
    pid = ended_process()
    for round_ in range(20):
        leave_claim(folder, f"shard-{round_}", pid=pid)
        crowd = [Claims(folder) for _ in range(6)]
        barrier = threading.Barrier(len(crowd))
        won: list[Claims] = []

        def take(claims, name, barrier=barrier, won=won):
            barrier.wait()
            if claims.take(name):
                won.append(claims)

        threads = [threading.Thread(target=take, args=(c, f"shard-{round_}")) for c in crowd]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        for claims in crowd:
            claims.close()
    assert not folder.exists()


def test_a_taker_that_died_halfway_is_taken_over_too(folder):
    pid = ended_process()
    leave_claim(folder, "a", pid=pid, worker="first")
    leave_claim(folder, "a-after-first", pid=pid, worker="second")
    with Claims(folder) as claims:
        assert claims.take("a")
        assert sorted(p.name for p in folder.iterdir()) == ["a.json", f"worker-{claims.me.worker}.json"]
    assert not folder.exists()


def test_what_dead_workers_left_is_cleared_by_one_that_holds_nothing(folder):
    leave_claim(folder, "a", pid=ended_process())
    (folder / ".tmp-0-a.json").write_text("")
    Claims(folder).clear()
    assert not folder.exists()


def test_a_folder_that_the_last_other_worker_took_away_is_made_again(folder):
    with Claims(folder) as claims, Claims(folder) as other:
        assert claims.take("a") and other.take("b")
        other.clear()
        assert not folder.exists()
        assert claims.take("c")
        claims.beat()
        assert not claims.holds("a") and claims.holds("c")
