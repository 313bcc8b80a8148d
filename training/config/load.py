"""Read configuration files, apply ``--set`` overrides, and say precisely what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from training.config.sections import Config, DataConfig
from training.errors import UsageError

Loc = tuple[str | int, ...]
Tree = dict[str, Any]
Places = dict[Loc, str]
"""Where each key was set: a file and a line, or an override."""

LOCAL_DIR = "local-dir:"
_FOLDERS = [name for name, field in DataConfig.model_fields.items() if Path in get_args(field.annotation)]


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Return the checked configuration of a YAML file with overrides applied.

    A top-level ``extends: other.yaml`` (relative to the file that says so) is read first: sections are merged
    key by key, lists and values are replaced. Relative paths (``data.*``, local folders and weights of
    ``model``) start at the project root of the file that sets them: the folder that holds ``configs``, else
    the file's own folder. Overrides count as the file's. All are absolute in the result.

    Args:
        path: YAML file.
        overrides: ``a.b=v`` each, as given to ``--set``; v is read as YAML. Applied in order.

    Raises:
        UsageError: A file is missing or not YAML, files extend each other in a circle, a key is unknown or
            repeated, a value is out of range. Every fault is named with its place, key and value.
    """
    path = Path(path)
    tree, places = _read(path, ())
    for override in overrides:
        _apply(tree, override, places)
    _anchor(tree, _root(path))
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        faults = [_sentence(fault, places) for fault in error.errors()]
        raise UsageError("\n".join([f"{path} is not a valid configuration:", *faults])) from None


def dump_config(config: Config) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _read(path: Path, chain: tuple[Path, ...]) -> tuple[Tree, Places]:
    """Return a file's tree over that of the file it extends; ``chain`` holds the files that led here."""
    here = path.resolve()
    if here in chain:
        circle = " -> ".join(str(file) for file in (*chain[chain.index(here) :], here))
        raise UsageError(f"the configuration files extend each other in a circle: {circle}; cut it")
    tree, places = _parse(path, chain)
    base = tree.pop("extends", None)
    _anchor(tree, _root(path))
    if base is None:
        return tree, places
    if not isinstance(base, str):
        raise UsageError(f"{places[('extends',)]}: extends must name one file; it holds {base!r}")
    base_tree, base_places = _read(path.parent / Path(base).expanduser(), (*chain, here))
    return _merged(base_tree, tree), base_places | places


def _parse(path: Path, chain: tuple[Path, ...]) -> tuple[Tree, Places]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) or "no .yaml file"
        reason = f", which {chain[-1]} extends," if chain else ""
        raise UsageError(f"{path}{reason} does not exist; {path.parent}/ has {known}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    places: Places = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _walk(node, (), places, path)
        tree = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UsageError(f"{path} is not YAML: {where}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    if tree is not None and not isinstance(tree, dict):
        raise UsageError(f"{path} must hold the sections {', '.join(Config.model_fields)}; it holds {tree!r}")
    return tree or {}, places


def _walk(node: yaml.Node, loc: Loc, places: Places, path: Path) -> None:
    """Note the line of every key, and refuse repeated keys, of which YAML would keep the last in silence."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here = (*loc, key.value)
        place = f"{path}, line {key.start_mark.line + 1}"
        if here in places:
            dotted = ".".join(map(str, here))
            raise UsageError(f"{place}: {dotted} is set twice, before in {places[here]}; remove one")
        places[here] = place
        _walk(value, here, places, path)


def _merged(base: Tree, over: Tree) -> Tree:
    merged = dict(base)
    for key, value in over.items():
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = _merged(old, value)
        merged[key] = value
    return merged


def _apply(tree: Tree, override: str, places: Places) -> None:
    key, equals, raw = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {override!r} is not of the form a.b=value, e.g. train.batch_size=64")
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
    for loc in [loc for loc in places if loc[: len(parts)] == tuple(parts)]:
        del places[loc]
    places[tuple(parts)] = f"--set {override}"


def _root(path: Path) -> Path:
    folder = path.resolve().parent
    holder = next((parent for parent in (folder, *folder.parents) if parent.name == "configs"), None)
    return holder.parent if holder else folder


def _anchor(tree: Tree, root: Path) -> None:
    """Make paths absolute in place; anything of a wrong type is left for the validation."""
    data, model = tree.get("data"), tree.get("model")
    if isinstance(data, dict):
        for name in _FOLDERS:
            if isinstance(data.get(name), str):
                data[name] = str(root / Path(data[name]).expanduser())
    if not isinstance(model, dict):
        return
    towers, weights = model.get("towers"), model.get("pretrained")
    if isinstance(towers, str) and towers.startswith(LOCAL_DIR):
        model["towers"] = LOCAL_DIR + str(root / Path(towers.removeprefix(LOCAL_DIR)).expanduser())
    # Tags of open_clip have no slash, so a name with one is a file even where it is missing.
    if isinstance(weights, str) and ("/" in weights or (root / weights).is_file()):
        model["pretrained"] = str(root / Path(weights).expanduser())


def _sentence(fault: Any, places: Places) -> str:
    loc: Loc = tuple(part for part in fault["loc"] if part != "[key]")
    place = next((places[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in places), None)
    where = f"  {'.'.join(map(str, loc)) or 'the file'}" + (f" ({place})" if place else "")
    given = "" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})"
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key{given}; {_hint(loc)}"
    return f"{where}: {fault['msg'].removeprefix('Value error, ')}{given}"


def _hint(loc: Loc) -> str:
    """Return what may have been meant by an unknown key: the same name elsewhere, else the nearest one."""
    name, dotted = str(loc[-1]), ".".join(map(str, loc))
    known, everywhere = _known_keys(loc[:-1]), _dotted_keys(Config)
    same = [key for key in everywhere if key.rpartition(".")[2] == name]
    near = (
        same
        or difflib.get_close_matches(name, known, 1)
        or difflib.get_close_matches(dotted, everywhere, 1, 0.8)
        or _nearest_leaves(name, everywhere)
    )
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"known keys: {', '.join(known)}"


def _nearest_leaves(name: str, keys: Sequence[str]) -> list[str]:
    """Return the dotted keys whose last part is nearest to a name; empty where none is near."""
    leaves = difflib.get_close_matches(name, {key.rpartition(".")[2] for key in keys}, 1, 0.7)
    return [key for key in keys if key.rpartition(".")[2] in leaves]


def _dotted_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Return every key below a section, those of sections themselves included."""
    found = []
    for name, field in section.model_fields.items():
        found.append(prefix + name)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _dotted_keys(kind, f"{prefix}{name}.")
    return found


def _known_keys(loc: Loc) -> list[str]:
    section: Any = Config
    for part in loc:
        section = section.model_fields[str(part)].annotation
    return list(section.model_fields) if issubclass(section, BaseModel) else []
