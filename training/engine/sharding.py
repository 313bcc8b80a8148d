"""Fully sharded training (FSDP 2): every process keeps a slice of each weight.

``torch.distributed.fsdp.fully_shard`` is called directly, with the settings of Accelerate's FSDP plugin.
`Accelerator.prepare` takes one model and its optimizer; here two models are sharded alike, so that the
momentum encoder follows slice by slice without communication, and the optimizer is built over the slices.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils import _pytree as pytree

from training.distributed import world_size
from training.engine.optim import clean_name
from training.errors import UsageError
from training.model import Features, Fused, ModelOutput

log = logging.getLogger(__name__)

# FSDP finds the tensors of an output, whose gradients call the weights back, through this registry only.
for _kind in (Features, Fused, ModelOutput):
    pytree.register_dataclass(_kind)


def follow_launcher(accelerator: Accelerator) -> None:
    """Let processes on a CPU shard too, where the launcher asked for FSDP.

    Accelerate knows FSDP on accelerator cards only; on a CPU it would train whole models without a word.
    """
    asked = parse_flag_from_env("ACCELERATE_USE_FSDP")
    if asked and accelerator.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()


def shards(accelerator: Accelerator) -> bool:
    """Tell whether the run was launched with FSDP.

    Raises:
        UsageError: With settings that this trainer does not follow; each has a key of its own here.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return False
    plugin = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise UsageError("fsdp_config: set fsdp_version: 2, as in configs/accelerate/fsdp.yaml")
    if plugin.activation_checkpointing:
        raise UsageError(
            "fsdp_config: take out fsdp_activation_checkpointing and use --set model.checkpoint_blocks=true"
        )
    if isinstance(plugin.cpu_offload, CPUOffloadPolicy):
        raise UsageError("fsdp_config: fsdp_offload_params is not supported; use more processes instead")
    return True


def shard(accelerator: Accelerator, model: nn.Module, momentum: nn.Module) -> None:
    """Slice two models of the same structure in place; parameters become `DTensor` s of the same names.

    Weights are gathered and gradients reduced in float32, and autocast casts as it does without FSDP: so the
    losses do not depend on how a run was launched.

    Args:
        accelerator: Launched with FSDP.
        model: Trained.
        momentum: Runs without gradient.

    Raises:
        UsageError: The models have no block of a class that is to be wrapped.
    """
    # Outputs are views in part; no loss changes one in place, which is what the warning is about.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    plugin = accelerator.state.fsdp_plugin
    log.info("FSDP: each of %d processes holds a slice of every weight", world_size())
    mesh = init_device_mesh(accelerator.device.type, (world_size(),))
    names = set(plugin.transformer_cls_names_to_wrap or ())
    _shard_blocks(model, names, mesh, plugin.reshard_after_forward)
    _shard_blocks(momentum, names, mesh, True)
    # What stands outside the blocks stays gathered from forward to backward: the temperature is read between.
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    # No backward pass would ever slice this one again.
    fully_shard(momentum, mesh=mesh, reshard_after_forward=True)


def _shard_blocks(model: nn.Module, names: set[str], mesh: DeviceMesh, reshard: bool) -> None:
    blocks = [module for module in model.modules() if type(module).__name__ in names]
    if not blocks:
        raise UsageError(
            "fsdp_config: fsdp_transformer_layer_cls_to_wrap names no block of the model; set it to "
            "ResidualAttentionBlock,Block and fsdp_auto_wrap_policy to TRANSFORMER_BASED_WRAP"
        )
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=reshard)


@contextmanager
def gathered(model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """Keep the whole weights on every process for a while; does nothing to a model that is not sharded.

    A sharded forward pass needs all processes in step. In evaluation they have different numbers of batches
    and may be told to stop at different ones, so the weights are gathered once. No backward pass inside.
    """
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            again = unit is not model and accelerator.state.fsdp_plugin.reshard_after_forward
            unit.reshard()
            unit.set_reshard_after_forward(again, recurse=False)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with all its slices; every process must call this if it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather_tensors(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Return tensors as one process would have them; every process calls this with the same names in order.

    Gathered one at a time and kept on the CPU, so that no GPU ever holds the whole.

    Args:
        tensors: By name, sharded or not.
        keep: Whether this process wants them; empty otherwise.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keep:
            found[name] = full.cpu() if isinstance(tensor, DTensor) else full
    return found


def slice_tensors(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return this process's slices of whole tensors.

    Args:
        tensors: Whole ones by name, the same on every process.
        like: Tensors of the same names; those that are sharded say how.
    """
    return {name: _slice(tensor, like.get(name)) for name, tensor in tensors.items()}


def slice_optimizer(flat: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return this process's slices of a whole state of `flatten_optimizer`; step counters have none."""
    parameters = {clean_name(name): parameter for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    for entry, tensor in flat.items():
        name, _, key = entry.rpartition("/")
        found[entry] = tensor if key == "step" else _slice(tensor, parameters.get(name))
    return found


def _slice(tensor: Tensor, like: Tensor | None) -> Tensor:
    # A tensor of another shape is left whole for the reader's own check to name it.
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    own = tensor.to(like.device)
    # Every process has read the whole file, so nothing needs to be sent.
    return distribute_tensor(own, like.device_mesh, like.placements, src_data_rank=None)
