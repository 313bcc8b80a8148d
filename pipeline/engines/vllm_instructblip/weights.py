"""Load a checkpoint tensor by tensor, and say which one is missing or has no place.

The names are those of ``transformers.InstructBlipForConditionalGeneration``, and versions 4 and 5 write the
same (``vision_model.*``, ``qformer.*``, ``query_tokens``, ``language_projection.*``, ``language_model.*``).
Version 4 also wrote two kinds of tables that follow from the configuration; they are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    PPMissingLayer,
    StageMissingLayer,
    WeightsMapper,
)

MAPPER = WeightsMapper(
    orig_to_new_substr={".rotary_emb.inv_freq": None},
    orig_to_new_suffix={".embeddings.position_ids": None},
)


def load_checkpoint(model: Any, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
    """Load the tensors into an InstructBLIP and return the names of the parameters that were set.

    vLLM's own check lets a linear layer's tensor be missing, takes a fused parameter for loaded when one of
    its parts was, and passes over any unexpected bias. With a quantised checkpoint, whose tensors have names
    by method, its check is all there is.

    Raises:
        ValueError: a tensor is missing or unexpected; the message names it.
    """
    loader = AutoWeightsLoader(model)
    if model.quant_config is not None:
        return loader.load_weights(weights, mapper=MAPPER)
    needed, allowed, elsewhere = _names(model)
    seen: set[str] = set()

    def known() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights:
            if MAPPER.map_name(name) is None:
                continue
            if name not in needed and name not in allowed and not name.startswith(elsewhere):
                raise ValueError(
                    f"the weights hold a tensor {name} that config.json does not call for; config and "
                    f"weights are not of the same model, download both again"
                )
            seen.add(name)
            yield name, tensor

    loaded = loader.load_weights(known(), mapper=MAPPER)
    missing = sorted(needed - seen)
    if missing:
        raise ValueError(
            f"the weights lack {len(missing)} tensors that config.json calls for, the first: {missing[0]}; "
            f"config and weights are not of the same model, download both again"
        )
    return loaded


def _names(model: Any) -> tuple[set[str], set[str], tuple[str, ...]]:
    """Return tensor names that must be there, that may be, and prefixes of what other ranks hold.

    A name that may be there is a second one of a tied parameter, such as the output layer's.
    """
    language: nn.Module = model.language_model
    fused: dict[str, list[str]] = getattr(language, "packed_modules_mapping", {})
    own = dict(model.named_parameters())
    every = dict(model.named_parameters(remove_duplicate=False))
    absent = (PPMissingLayer, StageMissingLayer)
    elsewhere = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, absent))
    needed = {part for name in own for part in _parts(name, fused)}
    return needed, set(every) - set(own), elsewhere


def _parts(name: str, fused: dict[str, list[str]]) -> list[str]:
    """Return the checkpoint's names of a parameter: several where vLLM keeps several tensors as one."""
    for whole, parts in fused.items():
        if name.startswith("language_model.") and f".{whole}." in name:
            return [name.replace(f".{whole}.", f".{part}.") for part in parts]
    return [name]
