"""The page's template, styles and script, and the function that fills them.

Everything goes into one file without any outside request. A Content-Security-Policy that names the hashes of
the page's own style and script holds the browser to it: were a text of the data ever taken for markup, it
could neither run nor load anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from schemas.vocabulary import ERROR_CLASSES, FAKE_CLS, FLAGS, MANIPULATION_TYPES, SPLITS

FOLDER = Path(__file__).parent
STYLES = ("base.css", "overview.css", "gallery.css", "print.css")
SCRIPTS = ("gallery.js",)

LABELS = {
    "orig": "original",
    "face_swap": "face swap",
    "face_attribute": "face attribute",
    "text_swap": "text swap",
    "text_attribute": "text attribute",
}


def render_page(context: Mapping[str, Any]) -> bytes:
    """Return the page as UTF-8.

    Args:
        context: What ``pipeline.inspection.report`` collects; every string in it is escaped.
    """
    style, script = _joined(STYLES), _joined(SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_source(style)}'; script-src '{_source(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    html = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            **context,
            policy=policy,
            # The only two values that are not escaped, and neither holds data.
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
        )
    )
    return html.encode()


def label(fake_cls: str) -> str:
    """Return a class in words: ``face_swap&text_swap`` -> ``face swap + text swap``."""
    return " + ".join(LABELS.get(part, part) for part in fake_cls.split("&"))


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun in the right form: ``1 sample``, ``2,000 samples``."""
    return f"{number:,}\N{NO-BREAK SPACE}{noun if number == 1 else noun + 's'}"


def percent(part: int, whole: int) -> str:
    """Return a share in percent; only nothing reads 0% and only the whole reads 100%."""
    if not part or not whole:
        return "0%"
    share = 100 * part / whole
    if share < 0.1:
        return "<0.1%"
    if part < whole and share > 99.9:
        return ">99.9%"
    return f"{share:.1f}%" if share < 99.95 and share != round(share) else f"{share:.0f}%"


def width(part: int, whole: int, full: float = 100.0) -> float:
    """Return the length of a bar for a share; one that is not nothing can be seen."""
    return max(1.0, full * part / whole) if part and whole else 0.0


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"label": label, "quantity": quantity, "percent": percent, "width": width}
    environment.globals |= {
        "flag_meanings": FLAGS,
        "error_meanings": ERROR_CLASSES,
        "all_splits": SPLITS,
        "all_classes": FAKE_CLS,
        "all_types": MANIPULATION_TYPES,
    }
    return environment


@functools.cache
def _joined(names: tuple[str, ...]) -> str:
    text = "\n".join((FOLDER / name).read_text("utf-8") for name in names)
    if "</" in text:
        raise ValueError(f"{names}: must not hold '</', which could end the element it stands in")
    return text


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
