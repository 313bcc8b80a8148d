"""``python -m tests.torture``: the kill campaign; prints its table and writes it to benchmarks/results/."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def main(argv: list[str] | None = None) -> int:
    """Run the campaign.

    Returns:
        0 when nothing was lost, duplicated or wrong, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="processes to kill (default 200)")
    parser.add_argument("--seed", type=int, help="of the campaign's choices (default: the time)")
    parser.add_argument("--to", type=Path, help="folder of the results (default: %(default)s)", default=None)
    args = parser.parse_args(argv)
    seed = int(time.time()) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    # Readers warn of each marker that was torn on purpose.
    logging.disable(logging.WARNING)
    from tests.torture.campaign import campaign, table_of

    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    tally = campaign(folder, args.kills, seed, lambda line: print(line, flush=True))
    seconds = time.monotonic() - started
    command = f"python -m tests.torture --kills {args.kills} --seed {seed}"
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    device = f"{os.cpu_count()} cores, {system}"
    text = f"`{command}`, {seconds:.0f} s on {device}:\n\n{table_of(tally)}\n"
    print(f"\n{text}")
    for problem in tally.problems:
        print(f"problem: {problem}", file=sys.stderr)
    to = args.to or RESULTS / f"torture-{datetime.now(UTC):%Y-%m-%d}"
    to.mkdir(parents=True, exist_ok=True)
    (to / "torture.md").write_text(text)
    facts = {
        "command": command,
        "seconds": round(seconds),
        "device": device,
        "kills": {f"{job}, {where}": count for (job, where), count in sorted(tally.kills.items())},
        **{name: getattr(tally, name) for name in ("total", "during_resume", "torn", "episodes")},
        **{name: getattr(tally, name) for name in ("lost", "duplicated", "leftovers", "problems")},
    }
    (to / "torture.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"written to {to}")
    if tally.ok:
        shutil.rmtree(folder)
        return 0
    print(f"the tables with problems are in {folder}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
