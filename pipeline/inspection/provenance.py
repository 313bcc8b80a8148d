"""What made the tables: versions, fingerprint fields and prompts, as pairs of name and value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError
from pipeline.inspection.words import clip
from pipeline.prompts import load_prompt
from schemas import Table

# Shown elsewhere on the page, or of no use to a reader of it (paths of the machine that made the table).
_LEFT_OUT = {"table", "fields", "fingerprint", "schema_version", "shards", "planned", "image_root", "sources"}
_LEFT_OUT_OF_INGEST = {
    "samples",
    "text_manipulated",
    "original_text_coverage",
    "by_class",
    "by_split",
    "by_reason",
}

_HASH = re.compile("[0-9a-f]{40,64}")
_HEADLINE = ("engine", "kind", "model", "revision", "weights")


@dataclass(frozen=True)
class Provenance:
    """What made one table.

    Attributes:
        table: Name of the table.
        version: Name of its version.
        fingerprint: 64 hex digits that name what made the rows.
        rows: Its rows.
        shards: Committed shards that hold rows.
        headline: The settings a reader asks for first: which model, on which engine.
        facts: Further facts about the version (when it was made, totals of ingest).
        details: Everything that changes its texts; for ``samples``, counts of ingest in detail.
        skipped: Shards whose marker does not hold, each with the reason.
    """

    table: str
    version: str
    fingerprint: str
    rows: int
    shards: int
    headline: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    details: tuple[tuple[str, str], ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class PromptUse:
    """A prompt template that rows name.

    Attributes:
        prompt_id: What the rows carry.
        table: Table of the rows.
        rows: Number of rows.
        text: The template, or None when this checkout holds no file with these bytes.
    """

    prompt_id: str
    table: str
    rows: int
    text: str | None


def provenance(tables: Iterable[Table | None]) -> list[Provenance]:
    """Return what made each table that is there."""
    return [_of(table) for table in tables if table is not None]


def _of(table: Table) -> Provenance:
    info = {name: value for name, value in table.info.items() if name not in _LEFT_OUT}
    ingest = info.pop("ingest", None)
    if isinstance(ingest, dict):
        info |= {name: value for name, value in ingest.items() if name not in _LEFT_OUT_OF_INGEST}
    fields = table.info.get("fields")
    settings = tuple(_flat(fields)) if isinstance(fields, dict) else ()
    nested = {name: value for name, value in info.items() if isinstance(value, dict)}
    return Provenance(
        table=table.name,
        version=table.version.name,
        fingerprint=clip(str(table.info.get("fingerprint", ""))),
        rows=table.num_rows,
        shards=len(table.files),
        headline=tuple((name, _short(value)) for name, value in settings if name in _HEADLINE),
        facts=tuple(_in_words({name: value for name, value in info.items() if name not in nested})),
        details=(*_flat(nested), *settings),
        skipped=tuple(clip(reason, 500) for reason in table.skipped),
    )


def _flat(value: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, item in sorted(value.items()):
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield clip(f"{prefix}{name}", 200), _plain(item)


def _in_words(facts: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield facts for reading; settings are left as they are written in a configuration."""
    for name, value in sorted(facts.items()):
        count = isinstance(value, int) and not isinstance(value, bool)
        yield clip(name, 200).replace("_", " "), f"{value:,}" if count else _plain(value)


def _short(value: str) -> str:
    """Return a value with a long hash cut to the digits that tell it from others."""
    return f"{value[:16]}…" if _HASH.fullmatch(value) else value


def _plain(item: object) -> str:
    if item is None:
        return "none"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, list):
        return clip(", ".join(str(part) for part in item) or "none", 500)
    return clip(str(item), 500)


def prompt_uses(table: str, prompts: dict[str, int]) -> list[PromptUse]:
    """Return the prompts that the rows of a table name, with their text where this checkout has it.

    Args:
        table: Name of the table.
        prompts: ``prompt_id`` to rows.
    """
    return [
        PromptUse(clip(prompt_id, 200), table, rows, _text(prompt_id)) for prompt_id, rows in prompts.items()
    ]


def _text(prompt_id: str) -> str | None:
    name = prompt_id.rpartition(":")[0]
    # A path would read a file that the table names; only the templates that ship with the project are shown.
    if not name or "/" in name or "\\" in name or name.endswith(".txt"):
        return None
    try:
        prompt = load_prompt(name)
    except UsageError:
        return None
    return prompt.text.strip() if prompt.prompt_id == prompt_id else None
