"""Ways to damage a table on disk, each with what verification has to say about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.layout import current_version, marker_path
from schemas.marker import FileEntry, file_sha256
from schemas.reader import committed

TABLE = "explanations"
SHARD = 1
"""The shard that is damaged; it has a retry."""


def version(out: Path) -> Path:
    return current_version(out, TABLE)


def shard(out: Path):
    return committed(version(out), TABLE)[0][SHARD]


def data_file(out: Path, retry: int = 0) -> Path:
    return version(out) / shard(out).markers[retry].data.name


def ledger_file(out: Path) -> Path:
    return version(out) / shard(out).base.failure_data.name


def marker(out: Path, retry: int = 0) -> Path:
    return marker_path(version(out), SHARD, retry)


def edit_marker(out: Path, retry: int = 0, **changes) -> None:
    path = marker(out, retry)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def rewrite(out: Path, change: Callable[[pa.Table], pa.Table], retry: int = 0) -> None:
    """Replace a file of rows by other rows, under a marker that vouches for the new bytes."""
    path = data_file(out, retry)
    pq.write_table(change(pq.read_table(path)), path)
    content = json.loads(marker(out, retry).read_bytes())
    content["data"] |= {"size": path.stat().st_size, "sha256": file_sha256(path)}
    marker(out, retry).write_text(json.dumps(content))


def alien(table: pa.Table) -> pa.Table:
    return table.set_column(0, table.schema.field(0), [["alien", *table.column(0).to_pylist()[1:]]])


def other_accounts(out: Path) -> None:
    """Drop a row from the file and from its marker: what is there is consistent, but short of the plan."""
    rewrite(out, lambda table: table.slice(1))
    content = json.loads(marker(out).read_bytes())
    entry = FileEntry(**content["data"])
    edit_marker(
        out,
        planned=content["planned"] - 1,
        rows=entry.rows - 1,
        data=content["data"] | {"rows": entry.rows - 1},
    )


@dataclass(frozen=True)
class Damage:
    """A way to damage a table.

    Attributes:
        do: Damages the table in an output folder.
        file: Name of the file that is named; called before the damage is done.
        what: What is said about it.
        mend: What is said to mend it.
        shallow: Whether it is found without reading every file.
    """

    do: Callable[[Path], None]
    file: Callable[[Path], str]
    what: str
    mend: str
    shallow: bool = False


def _name(path: Callable[[Path], Path]) -> Callable[[Path], str]:
    return lambda out: path(out).name


def _marker(out: Path) -> str:
    return marker(out).name


_data = _name(data_file)

DAMAGE: dict[str, Damage] = {
    "flipped byte": Damage(
        lambda out: flip_a_byte(data_file(out)),
        _data,
        "its bytes are not those that were written (sha256 differs)",
        "shard",
    ),
    "flipped byte in the ledger": Damage(
        lambda out: flip_a_byte(ledger_file(out)), _name(ledger_file), "sha256 differs", "shard"
    ),
    "truncated file": Damage(
        lambda out: truncate(data_file(out)), _data, "bytes, its marker says", "shard", True
    ),
    "missing file": Damage(
        lambda out: ledger_file(out).unlink(), _marker, "which is not there", "shard", True
    ),
    "extra file": Damage(
        lambda out: (version(out) / "copy of shard 1.parquet").write_bytes(b"PAR1"),
        lambda out: "copy of shard 1.parquet",
        "no marker names this file",
        "file",
        True,
    ),
    "marker without data": Damage(
        lambda out: data_file(out).unlink(), _marker, "which is not there", "shard", True
    ),
    "marker outside the plan": Damage(
        lambda out: (version(out) / "shard-00099.marker.json").write_bytes(marker(out).read_bytes()),
        lambda out: "shard-00099.marker.json",
        "a marker of a shard outside the plan of 4",
        "file",
        True,
    ),
    "data without marker": Damage(
        lambda out: marker(out).unlink(),
        lambda out: "shard-00001-",
        "has not been written: this file lies there without a marker",
        "run",
        True,
    ),
    "wrong schema": Damage(
        lambda out: rewrite(out, lambda table: table.drop_columns(["flags"])),
        _data,
        "does not have the schema of explanations",
        "shard",
    ),
    "duplicate key": Damage(
        lambda out: rewrite(out, lambda table: table.take([0, 0, *range(2, len(table))])),
        _data,
        "the key stands in an earlier row too",
        "shard",
    ),
    "key outside the plan": Damage(
        lambda out: rewrite(out, alien), _data, "key 'alien' was not planned for it", "shard"
    ),
    "row count off": Damage(
        lambda out: rewrite(out, lambda table: table.slice(1)), _data, "rows, its marker says", "shard"
    ),
    "fewer keys than planned": Damage(
        other_accounts, _marker, "accounts for 9 keys, the plan has 10", "shard", True
    ),
    "torn marker": Damage(
        lambda out: marker(out).write_bytes(b'{"marker'), _marker, "not a valid marker", "shard", True
    ),
    "marker of another run": Damage(
        lambda out: edit_marker(out, fingerprint="f" * 64),
        _marker,
        "has fingerprint ffffffffffff, the version",
        "shard",
        True,
    ),
    "marker of another shard": Damage(
        lambda out: edit_marker(out, shard=3), _marker, "belongs to explanations shard 3", "shard", True
    ),
    "counts that do not add up": Damage(
        lambda out: edit_marker(out, planned=11), _marker, "its counts do not add up", "shard", True
    ),
    "flipped byte in a retry": Damage(
        lambda out: flip_a_byte(data_file(out, 1)), lambda out: data_file(out, 1).name, "sha256", "retry"
    ),
    "missing file of a retry": Damage(
        lambda out: data_file(out, 1).unlink(),
        lambda out: marker(out, 1).name,
        "which is not there",
        "retry",
        True,
    ),
    "key of another shard in a retry": Damage(
        lambda out: rewrite(out, alien, 1),
        lambda out: data_file(out, 1).name,
        "key 'alien' was not planned for it",
        "retry",
    ),
    "damaged version": Damage(
        lambda out: (version(out) / "version.json").write_text("{"),
        lambda out: version(out).name,
        "version.json: cannot be read",
        "by hand",
        True,
    ),
    "damaged plan": Damage(
        lambda out: (version(out) / "plan.parquet").write_bytes(b"PAR1"),
        lambda out: version(out).name,
        "the plan cannot be read",
        "by hand",
        True,
    ),
}

REMEDIES = {
    "run": "Run `python -m pipeline explanations` again",
    "shard": "`python -m pipeline repair --out {out}` moves shard 1 aside, then "
    "`python -m pipeline explanations` makes it again",
    "retry": "`python -m pipeline repair --out {out}` moves the retry aside, then "
    "`python -m pipeline retry-failed` makes it again",
    "file": "No reader opens it; `python -m pipeline repair --out {out}` moves it aside",
    "by hand": "Restore it from a backup, or move {name} away and run the command of the table again",
}
