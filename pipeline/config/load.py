"""Read a configuration file, apply ``--set`` overrides, and say precisely what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.gates import LOCAL_DIR
from pipeline.config.models import RunConfig
from pipeline.errors import UsageError

Loc = tuple[str | int, ...]


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Return the checked configuration of a YAML file with overrides applied.

    Relative model folders and prompt files start at the project root: the folder that holds ``configs`` when
    the file lies in a folder of that name, else the file's own folder. They are absolute in the result.

    Args:
        path: YAML file.
        overrides: ``a.b=v`` each, as given to ``--set``; v is read as YAML, so ``8``, ``true`` and ``[1, 2]``
            are a number, a boolean and a list. Applied in order.

    Raises:
        UsageError: the file is missing or not YAML, a key is unknown or repeated, a value is out of range.
            Every fault is named with file, line, key, value and, for unknown keys, the nearest known one.
    """
    path = Path(path)
    tree, lines = _parse(path)
    for override in overrides:
        _apply(tree, override)
    root = _root(path)
    _absolute_paths(tree, root)
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        faults = [_sentence(fault, lines) for fault in error.errors()]
        raise UsageError("\n".join([f"{path} is not a valid configuration:", *faults])) from None


def engine_overrides(
    path: Path | str, overrides: Sequence[str], tables: Sequence[str], engine: str | None
) -> list[str]:
    """Return ``overrides`` with ``--engine NAME`` turned into one more for the model of each table.

    Args:
        path: YAML file.
        overrides: As for ``load_config``; which model a table uses may be among them.
        tables: ``captions``, ``explanations`` or both.
        engine: Name of an engine; None adds nothing.

    Raises:
        UsageError: as ``load_config``.
    """
    if engine is None:
        return list(overrides)
    config = load_config(path, overrides)
    names = dict.fromkeys(config.job(table).model for table in tables)
    return [*overrides, *(f"models.{name}.engine={engine}" for name in names)]


def _root(path: Path) -> Path:
    folder = path.resolve().parent
    return folder.parent if folder.name == "configs" else folder


def _parse(path: Path) -> tuple[dict[str, Any], dict[Loc, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(sorted(str(p) for p in path.parent.glob("*.yaml"))) or "no .yaml file"
        raise UsageError(f"{path} does not exist; {path.parent}/ has {known}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Loc, int] = {}
        if node is not None:
            _walk(node, (), lines, path)
        tree = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UsageError(f"{path} is not YAML: {where}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise UsageError(
            f"{path} must hold the sections {', '.join(RunConfig.model_fields)}; it holds {tree!r}"
        )
    return tree, lines


def _walk(node: yaml.Node, loc: Loc, lines: dict[Loc, int], path: Path) -> None:
    """Note the line of every key, and refuse repeated keys, of which YAML would keep the last in silence."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*loc, key.value)
            line = key.start_mark.line + 1
            if here in lines:
                dotted = ".".join(map(str, here))
                raise UsageError(f"{path} sets {dotted} twice, in lines {lines[here]} and {line}; remove one")
            lines[here] = line
            _walk(value, here, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*loc, index), lines, path)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, raw = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {override!r} is not of the form a.b=value, e.g. models.glm.batch_size=4")
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {override!r}: the value is not YAML ({error}); quote it") from None
    here = tree
    for part in parts[:-1]:
        if here.get(part) is None:
            here[part] = {}
        here = here[part]
        if not isinstance(here, dict):
            raise UsageError(f"--set {override!r}: {part} holds {here!r}, not a section")
    here[parts[-1]] = value


def _absolute_paths(tree: dict[str, Any], root: Path) -> None:
    """Anchor local model folders and prompt files; anything of a wrong type is left for the validation."""
    models = tree.get("models")
    for model in models.values() if isinstance(models, dict) else ():
        if isinstance(model, dict) and isinstance(model.get("path"), str) and model["path"].strip():
            folder = root / Path(model["path"]).expanduser()
            # A revision says hub id, unless such a folder is there.
            if model.get("revision") is None or folder.is_dir():
                model["path"] = str(folder)
    for name in ("captions", "explanations"):
        job = tree.get(name)
        _absolute_clip(job, root)
        prompts = job.get("prompts") if isinstance(job, dict) else None
        if not isinstance(prompts, dict):
            continue
        for use, template in prompts.items():
            if isinstance(template, str) and template.endswith(".txt"):
                prompts[use] = str(root / Path(template).expanduser())


def _absolute_clip(job: Any, root: Path) -> None:
    """Anchor the CLIP gate's folder and weights file; open_clip's names and tags are no paths of ours."""
    gates = job.get("gates") if isinstance(job, dict) else None
    clip = gates.get("clip") if isinstance(gates, dict) else None
    if not isinstance(clip, dict):
        return
    for key in ("model", "pretrained"):
        given = clip.get(key)
        bare = given.removeprefix(LOCAL_DIR) if isinstance(given, str) else ""
        if bare.strip():
            path = root / Path(bare).expanduser()
            if path.exists() or bare != given:
                clip[key] = str(path)


def _sentence(fault: Any, lines: dict[Loc, int]) -> str:
    loc: Loc = tuple(part for part in fault["loc"] if part != "[key]")
    line = next((lines[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in lines), None)
    where = f"  {'.'.join(map(str, loc)) or 'the file'}" + (f" (line {line})" if line else "")
    if fault["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: missing; {_description(loc)}"
    message = fault["msg"].removeprefix("Value error, ")
    given = "" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})"
    return f"{where}: {message}{given}"


def _known_keys(loc: Loc) -> list[str]:
    section = _section(loc)
    return list(section.model_fields) if section else []


def _description(loc: Loc) -> str:
    section = _section(loc[:-1])
    field = section.model_fields.get(str(loc[-1])) if section else None
    return f"set it ({field.description})" if field and field.description else "set it"


def _section(loc: Loc) -> type[BaseModel] | None:
    """Follow a location through the model classes; a key of a dict of sections counts as one step."""
    here: Any = RunConfig
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(part))
            here = _without_none(field.annotation) if field else None
        else:
            here = next((a for a in get_args(here) if isinstance(a, type) and issubclass(a, BaseModel)), None)
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _without_none(annotation: Any) -> Any:
    """Return the section of an optional one; anything else as it is."""
    parts = get_args(annotation)
    return parts[0] if len(parts) == 2 and parts[1] is type(None) else annotation
