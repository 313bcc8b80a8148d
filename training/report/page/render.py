"""Fills the page's templates.

Everything goes into one file without any outside request and without a script. A Content-Security-Policy that
names the hash of the page's own style holds the browser to it: were a text of the data ever taken for markup,
it could neither run nor load anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent
STYLES = ("base.css", "plots.css", "gallery.css", "print.css")

LABELS = {
    "orig": "original",
    "none": "none",
    "face_swap": "face swap",
    "face_attribute": "face attribute",
    "text_swap": "text swap",
    "text_attribute": "text attribute",
}
CODES = {"orig": "O", "face_swap": "FS", "face_attribute": "FA", "text_swap": "TS", "text_attribute": "TA"}


def render_page(context: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        context: What `training.report.page.build` collects; every string in it is escaped.
    """
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("page.html.jinja")
    # The style is the only value that is not escaped, and it holds no data.
    return template.render(**context, policy=policy, style=Markup(style))  # noqa: S704


def label(fake_cls: str) -> str:
    """Return a class in words: ``face_swap&text_swap`` -> ``face swap + text swap``."""
    return " + ".join(LABELS.get(part, part) for part in fake_cls.split("&"))


def code(fake_cls: str) -> str:
    """Return a class in letters: ``face_swap&text_swap`` -> ``FS+TS``."""
    return "+".join(CODES.get(part, part) for part in fake_cls.split("&"))


def percent(value: float, digits: int = 0) -> str:
    """Return a fraction in percent."""
    return f"{100 * value:.{digits}f}%"


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun in the right form: ``1 row``, ``2,000 rows``."""
    return f"{number:,}\N{NO-BREAK SPACE}{noun if number == 1 else noun + 's'}"


def shade(count: int, row: Sequence[int]) -> int:
    """Return the shade of a cell, 0 to 10, by its share of its row; what is not nothing has a shade."""
    whole = sum(row)
    return max(1, round(10 * count / whole)) if count and whole else 0


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["zip"] = zip
    environment.filters |= {
        "label": label, "code": code, "percent": percent, "quantity": quantity, "shade": shade,
    }  # fmt: skip
    return environment


@functools.cache
def _style() -> str:
    text = "\n".join((FOLDER / name).read_text("utf-8") for name in STYLES)
    if "</" in text:
        raise ValueError(f"{STYLES}: must not hold '</', which could end the element it stands in")
    return text
