"""Less memory for a step: what happens inside a block is computed again for its gradient."""

from __future__ import annotations

import functools

from torch.utils.checkpoint import checkpoint

from ..models.encoder import DinoEncoder
from ..models.vggt.model import VGGT


def recompute_blocks(model: VGGT) -> None:
    """Keep only what enters the blocks of encoder and trunk; results and gradients stay the same.

    Without gradients nothing changes. The global layers' attention runs again too, so it must not draw
    anything that it does not keep in the pass' memory.
    """
    trunk = model.aggregator
    encoder = trunk.patch_embed.blocks if isinstance(trunk.patch_embed, DinoEncoder) else ()
    for block in (*encoder, *trunk.frame_blocks, *trunk.global_blocks):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
