"""torch.compile of the transformer blocks.

Block by block instead of the whole model: the blocks hold nearly all of the work and repeat, so a kind is
compiled once for all its layers, names in checkpoints stay, and FSDP gathers weights between compiled parts.
"""

from __future__ import annotations

from open_clip.transformer import ResidualAttentionBlock

from training.model import AsapModel
from training.model.attention import Block

# Each kind of block is compiled with and without gradient, attention scores and training mode.
_VARIANTS = 64


def compile_blocks(model: AsapModel, backend: str = "inductor") -> None:
    """Compile the blocks of a model in place, when they first run.

    Texts have another length in every batch: what reads them takes any length from the start and is never
    compiled again for one. The image tower is compiled per batch size.

    Args:
        model: Before it is sharded or wrapped.
        backend: Of torch.compile.
    """
    images = {id(module) for module in model.towers.visual.modules()}
    for module in model.modules():
        if isinstance(module, ResidualAttentionBlock | Block):
            module.compile(backend=backend, dynamic=id(module) not in images, recompile_limit=_VARIANTS)
