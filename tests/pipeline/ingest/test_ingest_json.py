"""Reading DGM4's JSON files: in pieces, and whatever they hold."""

from __future__ import annotations

import json
import time

import pytest

from pipeline.errors import UsageError
from pipeline.ingest import sources
from pipeline.ingest.helper import Helper
from pipeline.ingest.sources import Dgm4Json
from schemas.layout import current_version
from tests.pipeline.ingest.builder import ingest_rows, quarantine, row, run, samples, write_json


def write(tmp_path, content, name="train.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def read(path):
    """Return the row numbers that passed, and those that did not."""
    checked = list(Dgm4Json(path).check(0, Helper()))
    passed = [number for piece in checked for number in piece.table.column("source_row").to_pylist()]
    return sum(piece.rows for piece in checked), passed, [d[0] for piece in checked for d in piece.defects]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(sources, "PIECE_BYTES", 700)


TRICKY = 'He said "}, {" and },{ or } , { or \\ and [ ] , twice'


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), (" ,\n\t ", " : ")])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_file_read_in_pieces_gives_the_rows_of_the_whole(tmp_path, small_pieces, separators, indent):
    rows = [row(n, text=f"Plain text {n}") for n in range(60)]
    path = write(tmp_path, json.dumps(rows, separators=separators, indent=indent))
    assert len(sources._cut(path)) > 10
    assert read(path) == (60, list(range(60)), [])


@pytest.mark.parametrize("place", [0, 29, 59])
def test_text_that_looks_like_the_end_of_a_row_changes_nothing(tmp_path, small_pieces, place):
    rows = [row(n, text=TRICKY * (n == place) + f" {n}") for n in range(60)]
    assert read(write(tmp_path, json.dumps(rows))) == (60, list(range(60)), [])


def test_nested_objects_change_nothing(tmp_path, small_pieces):
    rows = [row(n, extra=[{"a": 1}, {"b": [{}, {}]}] * 9) for n in range(60)]
    assert read(write(tmp_path, json.dumps(rows))) == (60, list(range(60)), [])


def test_rows_that_are_not_objects_keep_their_numbers(tmp_path, small_pieces):
    rows = [row(n) if n % 7 else n for n in range(60)]
    assert read(write(tmp_path, json.dumps(rows)))[2] == list(range(0, 60, 7))


@pytest.mark.parametrize("tricky", [False, True])
def test_the_quarantine_finds_the_raw_row_again_in_any_piece(tmp_path, small_pieces, tricky):
    rows = [
        row(n, text=TRICKY if tricky and n == 30 else f"A {n}", id=n if n % 9 else str(n)) for n in range(60)
    ]
    ingest_rows(tmp_path, rows)
    bad = quarantine(tmp_path / "out")
    assert [each["source_row"] for each in bad] == list(range(0, 60, 9))
    assert [json.loads(each["raw"]) for each in bad] == rows[::9]


def test_a_second_process_gives_the_same_tables(tmp_path, small_pieces):
    rows = [row(n, "face_swap", id=n if n % 9 else None) for n in range(80)] * 2
    path = write_json(tmp_path / "train.json", rows)
    run(tmp_path / "one", path)
    big = path.with_name("big.json")
    big.write_bytes(bytes(20_000_000))
    with Helper([big]) as helper:
        from pipeline.ingest.run import Options, ingest

        ingest(Options(metadata=[path], out=tmp_path / "two", skip_images=True), helper)
    for table in ("samples", "quarantine"):
        assert current_version(tmp_path / "one", table).name == current_version(tmp_path / "two", table).name


def test_reading_goes_on_when_the_second_process_dies(tmp_path, small_pieces):
    big = tmp_path / "big.json"
    big.write_bytes(bytes(20_000_000))
    path = write_json(tmp_path / "train.json", [row(n) for n in range(80)])
    for moment in ("before the work", "during the work"):
        with Helper([big]) as helper:
            if moment == "before the work":
                kill_and_wait(helper)
                pieces = list(Dgm4Json(path).check(0, helper))
            else:
                reading = Dgm4Json(path).check(0, helper)
                pieces = [next(reading)]
                kill_and_wait(helper)
                pieces += reading
        assert [n for piece in pieces for n in piece.table.column("source_row").to_pylist()] == list(
            range(80)
        )


@pytest.mark.parametrize("fails_at", [None, 0, 7, 19])
def test_two_processes_do_every_call_once_and_in_order(tmp_path, fails_at):
    big = tmp_path / "big.json"
    big.write_bytes(bytes(20_000_000))
    with Helper([big]) as helper:
        numbers = helper.map_in_order(divmod, [(100, 0 if n == fails_at else 1) for n in range(20)])
        if fails_at is None:
            assert list(numbers) == [(100, 0)] * 20
            assert list(helper.map_in_order(pow, [(n, 2) for n in range(50)])) == [n * n for n in range(50)]
            assert list(helper.map_in_order(pow, [])) == []
        else:
            assert [next(numbers) for _ in range(fails_at)] == [(100, 0)] * fails_at
            with pytest.raises(ZeroDivisionError):
                next(numbers)


def kill_and_wait(helper):
    (process,) = helper._pool._processes.values()
    process.kill()
    process.join()
    # The pool notices in a thread of its own.
    while not helper._pool._broken:
        time.sleep(0.01)


@pytest.mark.parametrize("rows", [0, 1])
def test_short_files_are_read(tmp_path, rows):
    for number, white in enumerate(["", " ", "\n\t"]):
        content = f"{white}[{white}{','.join(json.dumps(row(n)) for n in range(rows))}{white}]{white}"
        summary = run(tmp_path / f"out{number}", write(tmp_path, content))
        assert summary["rows_read"] == summary["samples"] == rows


def test_a_byte_order_mark_is_skipped(tmp_path):
    assert read(write(tmp_path, b"\xef\xbb\xbf" + json.dumps([row(1)]).encode())) == (1, [0], [])
    assert read(write(tmp_path, json.dumps([row(1)]).encode("utf-16"))) == (1, [0], [])


def test_one_odd_number_costs_one_row(tmp_path):
    good = json.dumps(row(1))
    odd = [
        good.replace('"id": 1', f'"id": {value}')
        for value in ("NaN", "1e999", "9" * 5000, "-Infinity", "1.0")
    ]
    count, passed, failed = read(write(tmp_path, f"[{good}, {', '.join(odd)}]"))
    assert (count, passed, failed) == (6, [0], [1, 2, 3, 4, 5])


def test_of_equal_keys_the_last_counts(tmp_path):
    run(tmp_path / "out", write(tmp_path, f'[{json.dumps(row(1))[:-1]}, "text": "The last one"}}]'))
    assert samples(tmp_path / "out")[0]["text"] == "The last one"


def test_half_a_surrogate_pair_costs_one_row_and_is_kept_readable(tmp_path):
    run(tmp_path / "out", write(tmp_path, json.dumps([row(1, text="a \ud83d b"), row(2)])))
    (bad,) = quarantine(tmp_path / "out")
    assert bad["reason"] == "text_not_string"
    assert "\\ud83d" in bad["raw"]
    assert len(samples(tmp_path / "out")) == 1


def test_a_whole_pair_of_surrogate_escapes_is_one_character(tmp_path):
    run(tmp_path / "out", write(tmp_path, json.dumps([row(1, text="smile 😀")])))
    assert samples(tmp_path / "out")[0]["words"] == ["smile", "😀"]


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "empty"),
        ("  \n", "empty"),
        ('[{"id": 1, "te', "line 1.*cut off"),
        ('[\n{"id": 1},\n{"id": 2}', "line 3.*cut off"),
        ('[\n{"id": 1},\n{"id": }\n]', "line 3, column 8"),
        ('[{"id": 1},]', "line 1"),
        ('{"id": 1}', "JSON dict.*--format jsonl"),
        ('{"id": 1}\n{"id": 2}', "line 2"),
        ("17", "JSON int"),
        ("[" * 100_000, "nested too deeply|not valid JSON"),
        (b'[{"text": "caf\xe9"}]', "not utf-8 at byte 14"),
        ("[1] [2]", "line 1"),
        ("[[{}, {}]", "cut off"),
        (b"PK\x03\x04\x00\x00", "not"),
    ],
)
def test_a_file_that_is_not_a_list_is_refused_with_the_place(tmp_path, content, words):
    path = write(tmp_path, content)
    with pytest.raises(UsageError, match=words) as caught:
        run(tmp_path / "out", path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out" / "samples").exists()


def test_a_damage_late_in_a_large_file_is_found_with_its_line(tmp_path, small_pieces):
    lines = [json.dumps(row(n)) for n in range(60)]
    lines[50] = lines[50].replace('"text":', '"text"')
    path = write(tmp_path, "[" + ",\n".join(lines) + "]")
    with pytest.raises(UsageError, match="line 51"):
        run(tmp_path / "out", path)


def test_names_of_fields_can_be_mapped_in_json_too(tmp_path):
    foreign = row(5)
    foreign |= {"uid": foreign.pop("id"), "caption": foreign.pop("text"), "part": "test"}
    columns = {"id": "uid", "text": "caption", "split": "part"}
    summary = run(tmp_path / "out", write(tmp_path, json.dumps([foreign]), "data.json"), columns=columns)
    assert summary["by_split"] == {"train": 0, "val": 0, "test": 1}
