"""Failed rows are tried again, alone, and merged without touching a good row."""

from __future__ import annotations

import hashlib
import json

import pytest

from pipeline.__main__ import main
from pipeline.config import load_config
from pipeline.errors import FingerprintMismatch
from pipeline.retrying import Choice, retry_failed
from pipeline.run import generate_table
from pipeline.shards.status import table_status
from pipeline.shards.verify import verify
from schemas import open_table
from schemas.layout import current_version, list_attempts, marker_path
from schemas.reader import committed
from tests.builders import write_echo_config, write_samples

ROWS, SHARDS = 90, 9


@pytest.fixture
def config(tmp_path):
    return write_echo_config(tmp_path)


@pytest.fixture
def out(tmp_path, config):
    """Explanations in nine shards: some keys fail in every attempt, more of them while memory is short."""
    write_samples(tmp_path / "out", ROWS)
    generate_table("explanations", load_config(config, settings(0.3)), tmp_path / "out")
    return tmp_path / "out"


def settings(outage, lasting=0.05):
    return [
        f"models.chat.echo.outage_share={outage}",
        f"models.chat.echo.failure_share={lasting}",
        "explanations.max_failed_share=0.2",
    ]


def retry(out, config, outage=0.0, **choice):
    choice = Choice(**choice)
    return retry_failed("explanations", load_config(config, settings(outage)), out, choice=choice)


def failures(out):
    rows = open_table(out, "failures").to_polars().sort("key").to_dicts()
    return {row["key"]: row for row in rows}


def rows(out):
    return open_table(out, "explanations").to_polars().sort("sample_id")


def digests(out):
    version = current_version(out, "explanations")
    files = [path for path in version.iterdir() if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def counted(failed):
    classes = [row["error_class"] for row in failed.values()]
    return {name: classes.count(name) for name in sorted(set(classes))}


def test_a_retry_ends_in_the_rows_of_a_run_without_failures_and_touches_no_good_row(out, config, tmp_path):
    before, good, failed = digests(out), rows(out), failures(out)
    lasting = counted(failed)["engine_error"]
    assert counted(failed)["out_of_memory"] > 15 and lasting > 0
    summary = retry(out, config)
    assert summary.retried == len(failed) == summary.recovered + summary.failed
    assert (summary.failed, summary.failed_total, summary.left) == (lasting, lasting, 0)
    assert summary.by_class["out_of_memory"]["recovered"] == len(failed) - lasting
    assert summary.by_class["engine_error"] == {"retried": lasting, "recovered": 0}
    assert before.items() <= digests(out).items()
    assert good.equals(rows(out).join(good.select("sample_id"), on="sample_id", how="semi"))

    write_samples(tmp_path / "fine", ROWS)
    generate_table("explanations", load_config(config, settings(0.0)), tmp_path / "fine")
    assert rows(out).equals(rows(tmp_path / "fine"))


def test_every_reader_sees_the_first_attempt_and_the_retries_as_one_table(out, config):
    retry(out, config, outage=0.1)
    retry(out, config)
    failed = failures(out)
    table = open_table(out, "explanations")
    assert table.num_rows == len(rows(out)) == ROWS - len(failed)
    assert max(len(attempts) for attempts in list_attempts(table.version).values()) == 3
    status = table_status(out, "explanations")
    assert (status.shards_done, status.rows, status.failures) == (SHARDS, table.num_rows, len(failed))
    report = verify(out, deep=True)
    assert report.ok and not report.leftovers, (report.problems, report.leftovers)
    assert report.tables["explanations"]["rows"] == table.num_rows
    assert report.tables["explanations"]["failures"] == len(failed)
    again = generate_table("explanations", load_config(config, settings(0.0)), out)
    assert (again.written, again.skipped_existing, again.failed_total) == (0, ROWS, len(failed))


def test_the_ledger_counts_attempts_and_keeps_what_was_not_tried(out, config):
    first = failures(out)
    assert {row["attempts"] for row in first.values()} == {1}
    summary = retry(out, config, outage=0.3, classes=("out_of_memory",))
    second = failures(out)
    assert second.keys() == first.keys() and summary.recovered == 0
    for key, row in second.items():
        tried = row["error_class"] == "out_of_memory"
        assert row["attempts"] == 1 + tried
        assert (row["last_attempt"] > first[key]["last_attempt"]) == tried
        assert row == first[key] or tried
    assert summary.left == counted(first)["engine_error"]


def test_permanent_failures_are_tried_only_when_asked_for(out, config):
    version = current_version(out, "explanations")
    shards = [shard for shard in committed(version, "explanations")[0] if shard.ledger is not None]
    make_permanent(version, shards[0])
    permanent = shards[0].failures
    total = len(failures(out))
    assert retry(out, config, outage=0.3).retried == total - permanent
    assert retry(out, config, outage=0.3, permanent=True).retried == total


def make_permanent(version, shard):
    """Rewrite a shard's ledger as if every failure in it were permanent."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from schemas.marker import file_sha256

    path = version / shard.ledger.name
    ledger = pq.read_table(path)
    place = ledger.schema.get_field_index("permanent")
    changed = ledger.set_column(place, ledger.schema.field(place), pa.array([True] * len(ledger)))
    pq.write_table(changed, path)
    marker = marker_path(version, shard.number)
    content = json.loads(marker.read_bytes())
    content["failure_data"] |= {"size": path.stat().st_size, "sha256": file_sha256(path)}
    marker.write_text(json.dumps(content))


def test_a_damaged_retry_counts_as_not_done_and_is_made_again(out, config):
    retry(out, config)
    good = rows(out)
    version = current_version(out, "explanations")
    shard = next(s for s in committed(version, "explanations")[0] if s.retries and s.retries[0].rows)
    (version / shard.retries[0].data.name).unlink()
    assert len(rows(out)) == len(good) - shard.retries[0].rows
    assert len(rows(out)) + len(failures(out)) == ROWS
    (problem,) = verify(out).problems
    assert problem.where.endswith(".retry-01.marker.json") and problem.mend == "retry"
    summary = retry(out, config)
    assert summary.recovered == shard.retries[0].rows
    assert rows(out).equals(good)
    report = verify(out, deep=True)
    assert report.ok, report.problems


def test_retries_of_an_attempt_that_was_made_anew_do_not_count(out, config):
    retry(out, config)
    version = current_version(out, "explanations")
    shard = next(s for s in committed(version, "explanations")[0] if s.retries)
    (version / shard.base.data.name).unlink()
    summary = generate_table("explanations", load_config(config, settings(0.3)), out)
    assert summary.written + summary.failed == 10
    anew = committed(version, "explanations")[0][shard.number]
    assert anew.retries == () and anew.failures == shard.base.failures
    report = verify(out, deep=True)
    assert report.ok, report.problems
    assert any(".retry-01.marker.json" in name for name in report.leftovers)
    retry(out, config)
    assert len(rows(out)) + len(failures(out)) == ROWS and verify(out, deep=True).ok


def test_other_settings_are_refused_with_the_field_and_both_values(out, config):
    with pytest.raises(FingerprintMismatch, match="generation.max_new_tokens: 64 on disk, 9 now") as caught:
        retry_failed(
            "explanations",
            load_config(config, [*settings(0.0), "models.chat.generation.max_new_tokens=9"]),
            out,
        )
    assert "settings of their version only" in str(caught.value)


def command(capsys, config, out, *more, outage=0.0):
    capsys.readouterr()
    flags = [part for value in settings(outage) for part in ("--set", value)]
    code = main(["retry-failed", "--config", str(config), "--out", str(out), *flags, "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_the_command_reports_every_table_and_ends_with_4_above_the_threshold(out, config, capsys):
    code, result = command(capsys, config, out, outage=0.3)
    assert code == 4 and list(result["tables"]) == ["explanations"]
    assert (result["retried"], result["recovered"]) == (result["failed"], 0)
    code, result = command(capsys, config, out, "--class", "out_of_memory", outage=0.3)
    assert code == 4 and result["left"] > 0
    code, result = command(capsys, config, out)
    assert code == 0 and result["recovered"] > 0
    assert result["failed_total"] == len(failures(out))
    assert main(["export", "--out", str(out), "--table", "explanations", "--to", str(out / "e.parquet")]) == 0
    assert f"{ROWS - result['failed_total']} rows" in capsys.readouterr().out


def test_usage_errors_name_what_is_there(tmp_path, config, capsys):
    write_samples(tmp_path / "new", 9)
    arguments = ["retry-failed", "--config", str(config), "--out", str(tmp_path / "new")]
    assert main(arguments) == 2
    assert "no captions or explanations here yet" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, "--class", "bad_luck"])
    assert exit_.value.code == 2
    assert "image_missing, image_unreadable" in capsys.readouterr().err.replace("'", "")


def test_the_bill_of_a_retry_counts_what_was_shared_and_written(out, config):
    result = retry(out, config)
    version = current_version(out, "explanations")
    markers = [json.loads(path.read_bytes()) for path in version.glob("*.retry-*.marker.json")]
    assert result.bill["keys"] == sum(marker["stats"]["retried"] for marker in markers) > 0
    assert result.bill["shared"] == sum(marker["stats"]["shared"] for marker in markers)
    files = {
        entry["name"]
        for marker in markers
        for entry in marker.values()
        if isinstance(entry, dict) and "name" in entry
    }
    assert result.bill["bytes"] == sum((version / name).stat().st_size for name in files) > 0
    assert result.bill["seconds"]["generate"] + result.bill["seconds"]["write"] > 0
