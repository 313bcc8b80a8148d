"""Rows that a gate set aside are accounted for everywhere and are no part of the table."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.config import load_config
from pipeline.engines import get_engine
from pipeline.generating import begin_shard
from pipeline.run import generate_table, prepare
from pipeline.shards.status import table_status
from pipeline.shards.verify import verify
from pipeline.shards.writer import commit_shard
from schemas import TableError, open_table, schema_of
from tests.builders import write_echo_config, write_samples


@pytest.fixture
def config(tmp_path):
    return load_config(write_echo_config(tmp_path))


@pytest.fixture
def out(tmp_path, config):
    """Two of three shards are written as usual; of the other one, 3 of 10 rows are set aside."""
    write_samples(tmp_path / "out", 30)
    work = prepare("captions", config, tmp_path / "out")
    begun = begin_shard(work, 1, get_engine(work.job.model))
    answers = {result.key: result for result in begun.results}
    rows = [
        begun.division.finish(work.job.row(sample, answers[request.key], []), digest)
        for sample, request, digest in zip(begun.samples, begun.requests, begun.division.hashes, strict=True)
    ]
    table = pa.Table.from_pylist(rows, schema=schema_of("captions"))
    commit_shard(
        work.plan.version,
        "captions",
        1,
        fingerprint=work.plan.fingerprint,
        planned=begun.planned,
        rows=table.slice(3),
        quarantined=table.slice(0, 3),
    )
    summary = generate_table("captions", config, tmp_path / "out")
    assert (summary.written, summary.quarantined, summary.skipped_existing) == (20, 0, 10)
    return tmp_path / "out"


def test_they_are_read_as_a_part_of_their_own(out):
    rows, set_aside = open_table(out, "captions"), open_table(out, "captions", part="quarantined")
    assert (rows.num_rows, set_aside.num_rows) == (27, 3)
    keys, aside = (set(t.to_arrow().column("image_key").to_pylist()) for t in (rows, set_aside))
    assert (len(keys), len(aside)) == (27, 3) and not keys & aside
    assert aside | keys == set(open_table(out, "samples").to_polars()["image_key"])


def test_status_and_verify_count_them_and_a_damaged_file_of_theirs_is_found(out):
    status = table_status(out, "captions")
    assert (status.planned, status.rows, status.quarantined, status.shards_done) == (30, 27, 3, 3)
    report = verify(out, deep=True)
    assert report.ok, report.problems
    assert report.tables["captions"]["quarantined"] == 3
    file = open_table(out, "captions", part="quarantined").files[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    report = verify(out, deep=True)
    assert [(problem.where, problem.mend) for problem in report.problems] == [(str(file), "shard")]


@pytest.mark.parametrize("table", ["samples", "failures"])
def test_tables_that_no_gate_looks_at_have_no_such_part(out, table):
    with pytest.raises(TableError, match="captions and explanations also have 'quarantined'"):
        open_table(out, table, part="quarantined")
