"""The axes of an ablation: which values of which keys make which variants.

Sources: the tables "contribution of each module", "influence of text types in LMA" and "influence of HNP" of
the published ablation. There, "caption + explanation" equals "+ LMA", so MGCA and PMM are off in the rows of
LMA's texts; hard negatives are compared on the full model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import yaml

from training.config import Config
from training.errors import UsageError
from training.report.published import HNP, LMA_TEXT, MODULES, PublishedRow

NAMED = ("modules", "lma_text", "hnp", "mgca_mode")
"""Axes that are more than the values of one key."""

_FIXED = {
    "train.seed": "--seeds gives the seeds",
    "data.out": "all variants are compared on the same tables, those of --data",
    "name": "it changes nothing",
}
"""Keys that no axis varies, and why."""

_NO_LMA = ("loss.lma.text=none", "loss.lma.ied=0")
_NO_MGCA = ("loss.mgca.mode=none",)
_NO_PMM = ("loss.pmm.mode=none",)


@dataclass(frozen=True)
class Variant:
    """One row of an axis.

    Attributes:
        key: Short name, unique in its axis.
        title: As tables print it.
        overrides: ``a.b=v`` each, applied to the base configuration.
        published: The published row that it stands beside, if there is one.
    """

    key: str
    title: str
    overrides: tuple[str, ...] = ()
    published: PublishedRow | None = None


@dataclass(frozen=True)
class Axis:
    """Variants that differ in one respect.

    Attributes:
        name: As given on the command line.
        title: Heading of its table.
        variants: The first one is the reference.
        stepwise: Each variant adds something to the one before, so neighbours are compared too.
        given: What names it on the command line, with the values of a key.
    """

    name: str
    title: str
    variants: tuple[Variant, ...] = field(default_factory=tuple)
    stepwise: bool = False
    given: str = ""


def parse_axis(text: str, base: Config) -> Axis:
    """Return the axis that a command line names.

    Args:
        text: One of `NAMED`, or ``KEY=v1,v2,...`` with values in YAML's flow form.
        base: The configuration that variants change; what an axis varies must be switched on in it.

    Raises:
        UsageError: There is no such axis, an axis has fewer than two values, a value stands twice, or the
            base lacks what is to be varied.
    """
    return replace(_parsed(text, base), given=text)


def _parsed(text: str, base: Config) -> Axis:
    if "=" in text:
        return _of_key(text)
    if text == "modules":
        _needs_modules(base, text)
        return Axis(text, "Contribution of each module", _modules(), stepwise=True)
    if text == "lma_text":
        return Axis(text, "Auxiliary texts of LMA, without MGCA and PMM", _lma_text())
    if text == "hnp":
        if base.loss.pmm.mode != "infonce":
            raise UsageError(
                f"--axis hnp: hard negatives are mined by loss.pmm.mode=infonce; it is {base.loss.pmm.mode!r}"
            )
        return Axis(text, "Hard negative patches, on the full model", _hnp())
    if text == "mgca_mode":
        return Axis(text, "How guidance enters, on the full model", _mgca_modes())
    raise UsageError(
        f"--axis {text}: there is no such axis; choose {', '.join(NAMED)}, or KEY=v1,v2 of any key"
    )


def parse_axes(texts: Sequence[str], base: Config) -> tuple[Axis, ...]:
    """Return several axes, each named once.

    Raises:
        UsageError: As `parse_axis`, or an axis is given twice.
    """
    axes = tuple(parse_axis(text, base) for text in texts)
    names = [axis.name for axis in axes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--axis {twice} is given twice; give all its values in one")
    return axes


def _needs_modules(base: Config, axis: str) -> None:
    loss = base.loss
    off = [
        key
        for key, value in (
            ("loss.lma.text", loss.lma.text),
            ("loss.mgca.mode", loss.mgca.mode),
            ("loss.pmm.mode", loss.pmm.mode),
        )
        if value == "none"
    ]
    if off:
        raise UsageError(
            f"--axis {axis} takes modules away from the full model, but the configuration has {off[0]}=none; "
            "start from one with all modules, e.g. configs/training/dgm4.yaml"
        )


def _modules() -> tuple[Variant, ...]:
    without = {
        "baseline": ("baseline (L_DGM alone)", _NO_LMA + _NO_MGCA + _NO_PMM),
        "lma": ("+ LMA", _NO_MGCA + _NO_PMM),
        "lma_mgca": ("+ LMA + MGCA", _NO_PMM),
        "full": ("+ LMA + MGCA + PMM (full)", ()),
    }
    return tuple(Variant(key, title, off, MODULES[key]) for key, (title, off) in without.items())


def _lma_text() -> tuple[Variant, ...]:
    titles = {
        "none": "without LMA",
        "caption": "caption only",
        "explanation": "explanation only",
        "both": "caption + explanation",
    }
    # The released code's extra head reads explanations, so it goes where they go.
    no_head = {"none": ("loss.lma.ied=0",), "caption": ("loss.lma.ied=0",)}
    return tuple(
        Variant(
            key,
            title,
            (f"loss.lma.text={key}", *no_head.get(key, ()), *_NO_MGCA, *_NO_PMM),
            LMA_TEXT[key],
        )
        for key, title in titles.items()
    )


def _hnp() -> tuple[Variant, ...]:
    return (
        Variant("on", "hard negatives", ("loss.pmm.hnp=true",), HNP["on"]),
        Variant("off", "random negatives", ("loss.pmm.hnp=false",), HNP["off"]),
    )


def _mgca_modes() -> tuple[Variant, ...]:
    titles = {
        "none": "without MGCA",
        "distill": "guided attention as a target (distill)",
        "bias": "guidance in the forward pass (bias)",
        "supervise": "attention supervised with 0 and 1 (supervise)",
    }
    return tuple(Variant(mode, title, (f"loss.mgca.mode={mode}",)) for mode, title in titles.items())


def _of_key(text: str) -> Axis:
    key, _, raw = text.partition("=")
    key = key.strip()
    values = _values(text, raw)
    if not key or len(values) < 2:
        raise UsageError(
            f"--axis {text}: KEY=v1,v2 takes a configuration key and at least two values, e.g. "
            "loss.mgca.beta=1,2,4"
        )
    if key in _FIXED:
        raise UsageError(f"--axis {text}: {key} cannot be an axis: {_FIXED[key]}")
    if len(set(values)) < len(values):
        raise UsageError(f"--axis {text}: a value stands twice; remove one")
    return Axis(key, key, tuple(Variant(value, f"{key}={value}", (f"{key}={value}",)) for value in values))


def _values(text: str, raw: str) -> list[str]:
    """Return the values as they were written; a list or a quoted string may hold commas."""
    flow = f"[{raw}]"
    try:
        node = yaml.compose(flow, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"--axis {text}: the values are not YAML ({error}); quote them") from None
    found = node.value if isinstance(node, yaml.SequenceNode) else []
    return [flow[value.start_mark.index : value.end_mark.index].strip() for value in found]
