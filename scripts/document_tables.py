"""Write the tables and codes of schemas/ into docs/contracts.md, between its two `generated` comments.

.venv/bin/python scripts/document_tables.py            rewrite the file
.venv/bin/python scripts/document_tables.py --check    exit 1 when it is out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa

from schemas.tables import TABLES, key_of
from schemas.vocabulary import ERROR_CLASSES, FLAGS, QUARANTINE_REASONS

CONTRACTS = Path(__file__).resolve().parent.parent / "docs" / "contracts.md"
BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
CODES = {
    "Reasons in `quarantine`": QUARANTINE_REASONS,
    "Error classes in `failures`": ERROR_CLASSES,
    "Flags of generated texts": FLAGS,
}


def tables_as_markdown() -> str:
    """Return one section per table and per closed list of codes, from the declarations in ``schemas``."""
    parts = [_table_section(name, schema) for name, schema in TABLES.items()]
    parts += [_code_section(title, codes) for title, codes in CODES.items()]
    return "\n\n".join(parts)


def updated(text: str) -> str:
    """Return the document with its generated part written anew.

    Raises:
        ValueError: The document lacks the two comments, in this order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{CONTRACTS}: needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables_as_markdown()}\n\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Rewrite the document, or with ``--check`` only compare it."""
    text = CONTRACTS.read_text("utf-8")
    new = updated(text)
    if "--check" in arguments:
        if new != text:
            print(f"{CONTRACTS}: out of date; run python scripts/document_tables.py")
        return int(new != text)
    CONTRACTS.write_text(new, "utf-8")
    return 0


def _table_section(name: str, schema: pa.Schema) -> str:
    rows = ["| column | type | null | meaning |", "|---|---|---|---|"]
    for field in schema:
        meaning = field.metadata[b"description"].decode().replace("|", r"\|")
        rows.append(
            f"| `{field.name}` | {_type_name(field.type)} | {'yes' if field.nullable else ''} | {meaning} |"
        )
    key = ", ".join(f"`{column}`" for column in key_of(name))
    return "\n".join([f"### `{name}`", "", f"Key: {key}.", "", *rows])


def _code_section(title: str, codes: dict[str, str]) -> str:
    rows = [f"| `{code}` | {meaning} |" for code, meaning in codes.items()]
    return "\n".join([f"### {title}", "", "| code | meaning |", "|---|---|", *rows])


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_fixed_size_list(kind):
        return f"{kind.list_size} x {kind.value_type}"
    if pa.types.is_list(kind):
        return f"list of {kind.value_type}"
    return re.sub(r"\[(.*)\]", r" (\1)", str(kind))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
