"""Blocks of a sequence as kernels read them: one list of tokens, and where each block's part of it lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class BlockTable:
    """Tokens to be merged (`sources`) and their destinations (`into`), block after block.

    A row of `blocks`: first place in `sources`, how many; first place in `into`, how many; slot of the first
    of `into`. The block's sources merge into its `into`, whose slots follow each other. `alone` are the
    tokens of the first slots, in no block. `slots` counts all; `most_sources` and `most_into` are those of
    the largest block.
    """

    sources: Int[Tensor, " sources"]
    into: Int[Tensor, " into"]
    blocks: Int[Tensor, "blocks five"]
    alone: Int[Tensor, " alone"]
    slots: int
    most_sources: int
    most_into: int

    def to(self, device: torch.device) -> BlockTable:
        """The table on a device."""
        moved = {n: getattr(self, n).to(device) for n in ("sources", "into", "blocks", "alone")}
        return dataclasses.replace(self, **moved)


def block_table(
    alone: Int[Tensor, " alone"], groups: Sequence[tuple[Int[Tensor, "_ _"], Tensor, Tensor]]
) -> BlockTable:
    """From groups of blocks of equal shape: their tokens, and the places in a block of `into` and `sources`.

    Slots are those alone, then block after block those of `into`.
    """
    rows, sources, into = [], [alone.new_zeros(0)], [alone.new_zeros(0)]
    source, first = 0, 0
    for tokens, stay, join in groups:
        sources.append(tokens[:, join].flatten())
        into.append(tokens[:, stay].flatten())
        for _ in range(len(tokens)):
            rows.append([source, len(join), first, len(stay), len(alone) + first])
            source, first = source + len(join), first + len(stay)
    return BlockTable(
        torch.cat(sources).int(),
        torch.cat(into).int(),
        torch.tensor(rows, dtype=torch.int32).view(-1, 5),
        alone,
        len(alone) + first,
        max((len(join) for _, _, join in groups), default=0),
        max((len(stay) for _, stay, _ in groups), default=0),
    )
