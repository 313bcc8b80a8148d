"""Prompt templates: versioned files, filled with values that are never read as template code."""

from __future__ import annotations

import difflib
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template, TemplateError, UndefinedError

from pipeline.errors import UsageError

FOLDER = Path(__file__).parent

# Plain text for a model, so no HTML escaping. The newline that editors put at the end of a file is dropped.
_ENVIRONMENT = Environment(undefined=StrictUndefined, autoescape=False)


@dataclass(frozen=True)
class Prompt:
    """A template with its identity.

    Attributes:
        id: Name of the file without ``.txt``, e.g. ``caption-v1``.
        text: The template, unrendered.
        sha: sha256 of the file's bytes, hex.
    """

    id: str
    text: str
    sha: str

    @property
    def prompt_id(self) -> str:
        """What generated rows carry: ``<template id>:<first 8 hex digits of sha>``."""
        return f"{self.id}:{self.sha[:8]}"

    def render(self, **values: str) -> str:
        """Return the template with its variables replaced; values pass through untouched.

        Raises:
            UsageError: the template names a variable that is not in ``values``.
        """
        try:
            return _compiled(self.text).render(values)
        except UndefinedError as error:
            names = ", ".join(sorted(values)) or "none"
            raise UsageError(f"prompt template {self.id}: {error}; the variables here are: {names}") from None


@functools.cache
def load_prompt(name: str) -> Prompt:
    """Return a template by its id, or from a ``.txt`` file of the user's own.

    Raises:
        UsageError: there is no such template, it is empty or not UTF-8, or its syntax is wrong.
    """
    path = Path(name) if name.endswith(".txt") else FOLDER / f"{name}.txt"
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except OSError as error:
        raise UsageError(f"prompt template {name!r} cannot be read: {_remedy(name, error)}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"prompt template {path} is not UTF-8: {error}") from None
    if not text.strip():
        raise UsageError(f"prompt template {path} is empty; write the instruction into it")
    try:
        _compiled(text)
    except TemplateError as error:
        raise UsageError(f"prompt template {path}, line {getattr(error, 'lineno', '?')}: {error}") from None
    return Prompt(path.stem, text, hashlib.sha256(raw).hexdigest())


@functools.cache
def _compiled(text: str) -> Template:
    return _ENVIRONMENT.from_string(text)


def _remedy(name: str, error: OSError) -> str:
    if name.endswith(".txt"):
        return str(error)
    known = sorted(p.stem for p in FOLDER.glob("*.txt"))
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known ids: {', '.join(known)}; own files end in .txt"
