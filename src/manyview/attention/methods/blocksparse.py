"""Block-sparse global attention, "Faster VGGT" (arXiv 2509.07120): query blocks see their best key blocks.

Training-free, in every global layer. What the paper says, and where it is here:

1. Patch queries and keys, in sequence order, are averaged over blocks of 128 and 64 tokens; the softmax of
   the means' scores, per head, is sorted (`BlockSparseKeys.choose`).
2. A query block sees max(floor((1 - sparsity) blocks), the fewest blocks whose shares reach tau) of the key
   blocks, and always the special tokens of all frames; special tokens' queries see everything
   (`attend_layer`).

What is left out, and how we read the rest: docs/methods/blocksparse.md.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..global_attention import GlobalAttention
from ..layout import TokenLayout
from ..preset import Preset
from ..protocols import Exchange, Keys, LayerInput
from ..softmax.sdpa import attend
from ..softmax.weighted import attend_weighted

_GATHERED = 1 << 24  # numbers of gathered keys that exist at once


_GATHERED_CPU = 1 << 20  # on CPUs small chunks that fit the cache are faster


@dataclasses.dataclass(frozen=True)
class BlockSparseKeys(Keys):
    """Steps 1 and 2; a last block may be shorter. Scores are patches² / (query_block key_block) per head."""

    sparsity: float = 0.5
    tau: float = 0.9
    query_block: int = 128
    key_block: int = 64

    def __post_init__(self) -> None:
        if not (0 <= self.sparsity <= 1 and 0 <= self.tau <= 1):
            raise ValueError(f"sparsity and tau are shares from 0 to 1, got {self.sparsity} and {self.tau}")
        if min(self.query_block, self.key_block) < 1:
            raise ValueError(f"blocks hold at least one token, got {self.query_block} and {self.key_block}")

    per_query = True

    def attend_layer(self, layer: LayerInput) -> Float[Tensor, "batch tokens dim"]:
        return layer.attention.output(self._heads(layer))

    def _heads(self, layer: LayerInput) -> Float[Tensor, "batch heads tokens dim"]:
        layout, special = layer.layout, layer.layout.special_tokens
        q, (k, v) = layer.queries(), layer.keys_values()
        shape = (layout.frames, layout.tokens_per_frame)
        q_frames, k_frames, v_frames = (x.unflatten(2, shape) for x in (q, k, v))
        patch_q, patch_k, patch_v = (
            x[:, :, :, special:].flatten(2, 3) for x in (q_frames, k_frames, v_frames)
        )
        always = [x[:, :, :, :special].flatten(2, 3) for x in (k_frames, v_frames)]
        seen: Tensor = self._blocks(patch_q, patch_k, patch_v, always, layer.run.kernels)
        seen = seen.unflatten(2, (layout.frames, -1))
        if not special:
            return seen.flatten(2, 3)
        specials = attend(q_frames[:, :, :, :special].flatten(2, 3), k, v).unflatten(2, (layout.frames, -1))
        return torch.cat([specials, seen], 3).flatten(2, 3)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange(refused="every block of queries chooses among the keys of all frames")

    def count(self, layout: TokenLayout) -> float:
        """Keys of a query on average; `tau` may add to it, depending on the input."""
        blocks = math.ceil(layout.frames * layout.patches_per_frame / self.key_block)
        kept = max(1, math.floor((1 - self.sparsity) * blocks)) / blocks * layout.patches_per_frame
        patch_query = layout.frames * (layout.special_tokens + kept)
        share = layout.special_tokens / layout.tokens_per_frame
        return share * layout.tokens + (1 - share) * patch_query

    @torch.no_grad()
    def choose(
        self, q: Float[Tensor, "items queries dim"], k: Float[Tensor, "items keys dim"]
    ) -> tuple[Int[Tensor, "items query_blocks key_blocks"], Int[Tensor, "items query_blocks"]]:
        """Key blocks from best to worst for each query block, and how many of them it sees."""
        pooled_q, pooled_k = _means(q, self.query_block), _means(k, self.key_block)
        share = (pooled_q @ pooled_k.transpose(1, 2) / q.shape[-1] ** 0.5).float().softmax(-1)
        share, order = share.sort(dim=-1, descending=True, stable=True)
        blocks = order.shape[-1]
        needed = blocks if self.tau == 1 else (share.cumsum(-1) < self.tau).sum(-1) + 1
        floor = max(1, math.floor((1 - self.sparsity) * blocks))
        return order, torch.as_tensor(needed, device=q.device).clamp(floor, blocks).expand(order.shape[:2])

    def _blocks(self, q: Tensor, k: Tensor, v: Tensor, always: list[Tensor], kernels: str) -> Tensor:
        """Patch outputs [batch, heads, patches, dim]; query blocks with like numbers of keys go together."""
        batch, heads, tokens, dim = q.shape
        order, counts = self.choose(q.flatten(0, 1), k.flatten(0, 1))
        q_blocks = _cut(q.flatten(0, 1), self.query_block)
        k_blocks, v_blocks = (_cut(x.flatten(0, 1), self.key_block) for x in (k, v))
        k_always, v_always = (x.flatten(0, 1) for x in always)
        wholes = torch.arange(k_blocks.shape[1] * self.key_block, device=q.device) < tokens
        wholes = wholes.unflatten(0, (-1, self.key_block))
        rank = counts.flatten().argsort(descending=True, stable=True)
        if q.is_meta or self.tau == 0:  # as many blocks as `sparsity` keeps, known without asking the device
            sizes = [max(1, math.floor((1 - self.sparsity) * order.shape[-1]))] * len(rank)
        else:
            sizes = counts.flatten()[rank].tolist()
        budget = _GATHERED_CPU if q.device.type == "cpu" else _GATHERED
        parts, start = [], 0
        while start < len(sizes):
            most = sizes[start]  # of the blocks left, the first has the most keys
            width = (most * self.key_block + k_always.shape[1]) * dim
            chosen = rank[start : start + max(1, budget // width)]
            start += len(chosen)
            item, block = chosen // order.shape[1], chosen % order.shape[1]
            seen = order[item, block, :most]
            real = torch.arange(most, device=q.device) < counts[item, block][:, None]
            keys = torch.cat([k_always[item], k_blocks[item[:, None], seen].flatten(1, 2)], 1)
            values = torch.cat([v_always[item], v_blocks[item[:, None], seen].flatten(1, 2)], 1)
            hidden = None
            if sizes[start - 1] < most or tokens % self.key_block:
                hidden = _hide(real[..., None] & wholes[seen], k_always.shape[1])
            part = q_blocks[item, block][:, None]
            parts.append(attend_weighted(part, keys[:, None], values[:, None], hidden, shapes_vary=True))
        back = rank.argsort()
        whole = torch.cat(parts)[back].reshape(batch, heads, -1, dim)
        return whole[:, :, :tokens]


@dataclasses.dataclass(frozen=True)
class BlockSparse(Preset):
    """Block-sparse keys in every layer."""

    name = "blocksparse"
    paper = "Faster VGGT (arXiv 2509.07120)"
    about = "each block of queries sees the best blocks of keys"

    sparsity: float = 0.5
    tau: float = 0.9
    query_block: int = 128
    key_block: int = 64

    def __post_init__(self) -> None:
        self.layers(1)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        keys = BlockSparseKeys(self.sparsity, self.tau, self.query_block, self.key_block)
        return (GlobalAttention(keys=keys),) * depth


def _hide(real: Bool[Tensor, "blocks seen key_block"], always: int) -> Float[Tensor, "blocks one keys"]:
    weight = torch.zeros(real.shape[0], real[0].numel(), device=real.device)
    weight.masked_fill_(~real.flatten(1), float("-inf"))
    return F.pad(weight, (always, 0))[:, None]


def _cut(x: Float[Tensor, "items tokens dim"], size: int) -> Float[Tensor, "items blocks size dim"]:
    """Consecutive blocks, the last filled up with zeros."""
    blocks: Tensor = F.pad(x, (0, 0, 0, -x.shape[1] % size)).unflatten(1, (-1, size))
    return blocks


def _means(x: Float[Tensor, "items tokens dim"], size: int) -> Float[Tensor, "items blocks dim"]:
    blocks = _cut(x, size)
    filled = torch.full((blocks.shape[1], 1), float(size), device=x.device, dtype=x.dtype)
    filled[-1] = x.shape[1] - (blocks.shape[1] - 1) * size
    return blocks.sum(2) / filled
