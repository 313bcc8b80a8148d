"""A comparison as a document: sections of tables, sentences and a picture, as Markdown or as one page."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATE = "compare_page.html.jinja"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: The figure; empty for none.
        detail: Smaller, below it: an interval.
        strong: Stands out.
    """

    text: str = ""
    detail: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        title: Its first cell.
        cells: One per column.
        muted: A published row, which was measured elsewhere.
    """

    title: str
    cells: tuple[Cell, ...]
    muted: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a caption.

    Attributes:
        caption: What it shows, with the unit.
        columns: Headings, without that of the first column.
        rows: From top to bottom.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Picture:
    """A plot.

    Attributes:
        file: Name of the PNG beside the Markdown; empty where there is none.
        png: Its bytes, which the page carries.
        alt: What it shows, in words.
    """

    file: str
    png: bytes
    alt: str

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Section:
    """A part of the document.

    Attributes:
        title: Heading.
        tables: In order.
        sentences: A list below the tables.
        picture: Or None.
    """

    title: str
    tables: tuple[Table, ...] = ()
    sentences: tuple[str, ...] = ()
    picture: Picture | None = None


@dataclass(frozen=True)
class Document:
    """The whole.

    Attributes:
        title: Heading.
        facts: What was done, one line each.
        warnings: What is missing or failed.
        sections: In order.
        notes: How to read it.
    """

    title: str
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)


def to_page(document: Document) -> str:
    """Return one HTML page that needs nothing else: light, dark, narrow and in print."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(document=document)


def to_markdown(document: Document) -> str:
    """Return the document as Markdown; pictures are named, not carried."""
    lines = [f"# {document.title}", ""]
    lines += [f"- {fact}" for fact in document.facts]
    lines += [""] if document.facts else []
    for warning in document.warnings:
        lines += [f"**{warning}**", ""]
    for section in document.sections:
        lines += [f"## {section.title}", ""]
        for table in section.tables:
            lines += [*_table_lines(table), ""]
        lines += [f"- {sentence}" for sentence in section.sentences]
        lines += [""] if section.sentences else []
        if section.picture is not None and section.picture.file:
            lines += [f"![{section.picture.alt}]({section.picture.file})", ""]
    if document.notes:
        lines += ["## How to read this", "", *(f"- {note}" for note in document.notes), ""]
    return "\n".join(lines)


def _table_lines(table: Table) -> list[str]:
    lines = [table.caption, "", "| | " + " | ".join(table.columns) + " |"]
    lines.append("|---|" + "---:|" * len(table.columns))
    for row in table.rows:
        cells = [_cell_text(cell) for cell in row.cells]
        title = _escaped(row.title)
        lines.append(f"| {f'*{title}*' if row.muted else title} | " + " | ".join(cells) + " |")
    return lines


def _cell_text(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.strong and cell.text else cell.text
    # A line of its own would end the table.
    detail = cell.detail.replace("\n", "; ")
    return _escaped(f"{text} {detail}".strip())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
