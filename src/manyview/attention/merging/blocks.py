"""Blocks of a sequence within which tokens are merged."""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Int
from torch import Tensor

from ...kernels.merge_table import BlockTable, block_table


@dataclasses.dataclass(frozen=True)
class MergeBlocks:
    """Blocks of equal shape, within which tokens are merged.

    `tokens` are places in the sequence; `into` (the destinations) and `sources` are places within a block,
    together all of it. The `merged` sources with the best match are merged into it, the others stay.
    """

    tokens: Int[Tensor, "blocks size"]
    into: Int[Tensor, " into"]
    sources: Int[Tensor, " sources"]
    merged: int

    @property
    def slots(self) -> int:
        """Tokens of a block that remain."""
        return len(self.into) + len(self.sources) - self.merged


@dataclasses.dataclass(frozen=True)
class MergePlan:
    """A sequence cut into blocks; tokens in no block (`alone`) pass through first, in order."""

    alone: Int[Tensor, " alone"]
    blocks: tuple[MergeBlocks, ...]

    @property
    def slots(self) -> int:
        """Length of the short sequence."""
        return len(self.alone) + sum(len(b.tokens) * b.slots for b in self.blocks)

    def matching_flops(self, dim: int) -> float:
        """Two per multiply-add of the similarities, over all heads together of width `dim`."""
        return sum(2.0 * len(b.tokens) * len(b.into) * len(b.sources) * dim for b in self.blocks)

    @property
    def fusable(self) -> bool:
        """Whether kernels take it: all sources are merged, and blocks fit one dimension of a launch."""
        all_merged = all(b.merged == len(b.sources) for b in self.blocks)
        return all_merged and sum(len(b.tokens) for b in self.blocks) < 65_536

    def table(self, device: torch.device) -> BlockTable:
        """The blocks as kernels read them, made once a device."""
        if device not in self._tables:
            parts = [(b.tokens, b.into, b.sources) for b in self.blocks]
            self._tables[device] = block_table(self.alone, parts).to(device)
        return self._tables[device]

    @functools.cached_property
    def _tables(self) -> dict[torch.device, BlockTable]:
        return {}
