"""What signs of life tell of the workers at a table, and what is in them that cannot be trusted."""

from __future__ import annotations

import json
import time

from pipeline.__main__ import main
from pipeline.config import load_config
from pipeline.run import generate_table, prepare
from pipeline.shards.claims import Claims
from pipeline.shards.roster import Figures, at_work
from schemas.layout import CLAIMS_DIR
from tests.builders import write_echo_config, write_samples


def test_a_worker_shows_what_it_has_done_and_disappears_with_its_end(tmp_path):
    figures = Figures("run-7", "worker-2", device="3")
    with Claims(tmp_path / CLAIMS_DIR, figures=figures.as_dict) as claims:
        assert claims.take("shard-00004")
        figures.shard, figures.in_hand = 4, 3
        figures.add(rows=10, failed=1, tokens_out=120)
        time.sleep(0.05)
        claims.beat()
        (one,) = at_work(tmp_path)
        shown = {name: one.figures[name] for name in ("run", "name", "device", "shard", "in_hand")}
        assert shown == {"run": "run-7", "name": "worker-2", "device": "3", "shard": 4, "in_hand": 3}
        assert (one.figures["shards"], one.figures["rows"], one.figures["failed"]) == (1, 10, 1)
        assert one.pid == claims.me.pid and one.silent_s < 30
        # 13 rows in about 0.1 s by its own clock.
        assert one.rows_per_second == 13 / one.figures["seconds"]
    assert at_work(tmp_path) == []


def test_torn_files_and_those_of_older_programs_are_passed_over(tmp_path):
    folder = tmp_path / CLAIMS_DIR
    folder.mkdir()
    (folder / "worker-000000000001.json").write_text('{"worker": "0000')
    (folder / "worker-000000000002.json").write_text("[]")
    old = {"worker": "000000000003", "host": "node", "pid": 7, "lease_s": 300, "beat": 4}
    (folder / "worker-000000000003.json").write_text(json.dumps(old))
    (one,) = at_work(tmp_path)
    assert (one.worker, one.figures, one.rows_per_second) == ("000000000003", {}, 0.0)


def test_status_names_the_workers_of_a_table_and_none_after_their_end(tmp_path, capsys):
    out = tmp_path / "out"
    write_samples(out, 20)
    config = load_config(write_echo_config(tmp_path))
    work = prepare("captions", config, out)
    figures = Figures("run", "worker-1", shard=1, in_hand=2)
    with Claims(work.plan.version / CLAIMS_DIR, figures=figures.as_dict) as claims:
        claims.take("shard-00001")
        assert main(["status", "--out", str(out)]) == 0
        said = capsys.readouterr().out
        assert "captions: worker-1 (process" in said and "at shard 1" in said
        assert main(["status", "--out", str(out), "--json"]) == 0
        workers = json.loads(capsys.readouterr().out)["tables"]["captions"]["workers"]
        assert [one["figures"]["name"] for one in workers] == ["worker-1"]
    generate_table("captions", config, out)
    assert main(["status", "--out", str(out)]) == 0
    assert "worker-1" not in capsys.readouterr().out
