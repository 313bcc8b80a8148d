"""The runs of an ablation: every distinct variant with every seed, each trained once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.ablation.axes import Axis, Variant
from training.ablation.code import code_version
from training.config import Config, changed_keys, load_config
from training.data.plan import plan_rows
from training.engine.files import write_json
from training.errors import DataError, UsageError

STAMP = "ablation.json"
"""File in a run's folder: what the run was started with."""

_LONGEST = 80


@dataclass(frozen=True)
class PlannedRun:
    """One training of one variant.

    Attributes:
        variant: Name of the distinct variant, the same for all its seeds.
        seed: ``train.seed``.
        config: Resolved, with that seed.
        folder: RUN.
    """

    variant: str
    seed: int
    config: Config
    folder: Path

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.folder.name


@dataclass(frozen=True)
class Plan:
    """Everything that is to be trained and compared.

    Attributes:
        axes: With their variants.
        names: For each axis, the distinct variant behind each of its rows, by the row's key.
        runs: Seed by seed, so that a stopped ablation has whole comparisons.
        seeds: ``train.seed`` of the runs of each variant.
        data: What `data_fingerprint` says.
    """

    axes: tuple[Axis, ...]
    names: dict[str, dict[str, str]]
    runs: tuple[PlannedRun, ...]
    seeds: tuple[int, ...]
    data: dict[str, str]


def make_plan(
    config: Path, overrides: Sequence[str], axes: Sequence[Axis], seeds: int, data: Path, split: str, to: Path
) -> Plan:
    """Resolve every variant and name the runs.

    Variants with the same resolved configuration are one, whichever axes they stand in.

    Args:
        config: The base configuration file.
        overrides: Of ``--set``.
        axes: From `parse_axes`.
        seeds: How many, from the base's ``train.seed`` upwards.
        data: Folder of the tables.
        split: Split that is evaluated.
        to: Folder of the ablation.

    Raises:
        UsageError: A value of an axis is not valid, or two variants of one axis are the same.
        DataError: The tables cannot be used.
    """
    base = load_config(config, overrides)
    chosen: dict[str, tuple[str, ...]] = {}
    names: dict[str, dict[str, str]] = {}
    for axis in axes:
        rows: dict[str, str] = {}
        for variant in axis.variants:
            name = variant_name(base, load_config(config, [*overrides, *variant.overrides]))
            same = next((key for key, other in rows.items() if other == name), None)
            if same is not None:
                raise UsageError(
                    f"--axis {axis.name}: {same} and {variant.key} give the same configuration; leave one out"
                )
            rows[variant.key] = name
            chosen.setdefault(name, variant.overrides)
        names[axis.name] = rows
    numbers = tuple(range(base.train.seed, base.train.seed + seeds))
    given = [*overrides, f"data.out={json.dumps(str(data.expanduser().resolve()))}"]
    runs = [
        PlannedRun(
            name,
            seed,
            load_config(config, [*given, *changes, f"train.seed={seed}"]),
            to / "runs" / f"{name}-seed{seed}",
        )
        for seed in numbers
        for name, changes in chosen.items()
    ]
    splits = (*base.data.train_splits, base.data.val_split, split)
    return Plan(tuple(axes), names, tuple(runs), numbers, data_fingerprint(data, splits))


def variant_name(base: Config, changed: Config) -> str:
    """Return a name made of the keys that a variant changes, fit for a folder; ``base`` when none."""
    before, after = flat(base), flat(changed)
    differing = [key for key in sorted(after) if before[key] != after[key]]
    if not differing:
        return "base"
    written = "_".join(f"{key.removeprefix('loss.')}={_plain(after[key])}" for key in differing)
    name = re.sub(r"[^A-Za-z0-9._=+-]+", "-", written)
    if name != written or len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 9]}-{hashlib.sha256(written.encode()).hexdigest()[:8]}"
    return name


def flat(config: Config) -> dict[str, Any]:
    """Return every value by its dotted key."""
    return _flat(config.model_dump(mode="json"), "")


def data_fingerprint(out: Path, splits: Sequence[str]) -> dict[str, str]:
    """Return a hash per table over its committed shards: version, names and sizes.

    Raises:
        UsageError: Unknown split.
        DataError: There are no samples, or a table is damaged.
    """
    files = plan_rows(out, splits).files
    return {table: "none" if shards is None else _digest(shards) for table, shards in sorted(files.items())}


def stamp(run: PlannedRun, data: Mapping[str, str]) -> None:
    """Note in the run's folder what it is started with.

    Raises:
        UsageError: The folder cannot be written.
    """
    code = code_version()
    codes = [each for each in noted_codes(run) if each["code"] != code["code"]]
    tree = {"config": run.config.model_dump(mode="json"), "data": dict(data), "code": [*codes, code]}
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        write_json(run.folder / STAMP, tree)
    except OSError as error:
        raise UsageError(f"{run.folder} cannot be written: {error.strerror}; choose another --to") from None


def noted_codes(run: PlannedRun) -> list[dict[str, str | None]]:
    """Return the versions of the code that a run was started and gone on with, as far as noted."""
    try:
        found = json.loads((run.folder / STAMP).read_text(encoding="utf-8")).get("code", [])
    except (OSError, ValueError, AttributeError):
        return []
    return [each for each in found if isinstance(each, dict) and "code" in each]


def check_stamps(plan: Plan) -> None:
    """Refuse to go on with runs that were started with something else.

    Raises:
        UsageError: A run's configuration differs; the keys are named with both values.
        DataError: The tables changed since, or a stamp is damaged.
    """
    for run in plan.runs:
        path = run.folder / STAMP
        if not path.is_file():
            continue
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            config, data = stored["config"], stored["data"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}); remove {run.folder} to train it anew") from None
        if changed := changed_keys(config, run.config) + _validations(config, run.config):
            raise UsageError(
                f"{run.folder} was started with another configuration ({'; '.join(changed)}): change it "
                "back, or choose another --to"
            )
        tables = [name for name in plan.data if data.get(name) != plan.data[name]]
        if tables:
            raise DataError(
                f"{run.folder} was started before the {', '.join(tables)} table changed; all runs of a "
                "comparison need the same rows: choose another --to"
            )


def _validations(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Tell of a changed ``train.eval_every``: a run may go on with it, but its best checkpoint is another."""
    before, after = stored["train"].get("eval_every"), config.train.eval_every
    return [] if before == after else [f"train.eval_every: {before!r} -> {after!r}"]


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _plain(value: Any) -> str:
    return json.dumps(value).strip('"') if not isinstance(value, list) else "+".join(map(_plain, value))


def _digest(shards: Sequence[Path]) -> str:
    facts = [(shard.parent.name, shard.name, shard.stat().st_size) for shard in shards]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def title_of(plan: Plan, name: str) -> str:
    """Return the title of a distinct variant: that of the first row it stands in."""
    rows: list[tuple[Axis, Variant]] = [(axis, row) for axis in plan.axes for row in axis.variants]
    return next(row.title for axis, row in rows if plan.names[axis.name][row.key] == name)


def merged(earlier: Plan, now: Plan) -> Plan:
    """Return a plan with the axes and runs of both; what both have is taken from ``now``."""
    names = {axis.name for axis in now.axes}
    kept = [axis for axis in earlier.axes if axis.name not in names]
    folders = {run.folder for run in now.runs}
    return Plan(
        (*kept, *now.axes),
        {axis.name: earlier.names[axis.name] for axis in kept} | now.names,
        (*now.runs, *(run for run in earlier.runs if run.folder not in folders)),
        tuple(sorted({*earlier.seeds, *now.seeds})),
        now.data,
    )


def check_numbers(seeds: int, jobs: int, draws: int) -> None:
    """Refuse numbers that no ablation can have.

    Raises:
        UsageError: Names the flag and the value.
    """
    for flag, value, least in (("--seeds", seeds, 1), ("--jobs", jobs, 1), ("--bootstrap", draws, 0)):
        if value < least:
            raise UsageError(f"{flag} {value}: at least {least} is needed")
