"""Block-sparse attention in every global layer."""

from __future__ import annotations

import dataclasses

from ..block_sparse import BlockSparseKeys
from ..global_attention import GlobalAttention


@dataclasses.dataclass(frozen=True)
class BlockSparse:
    """Block-sparse global attention (arXiv 2509.07120): see `BlockSparseKeys`.

    Block sizes are the paper's; it names no single `sparsity` and `tau`, so those defaults are ours.
    """

    sparsity: float = 0.5
    tau: float = 0.9
    query_block: int = 128
    key_block: int = 64

    def __post_init__(self) -> None:
        self._keys()

    def _keys(self) -> BlockSparseKeys:
        return BlockSparseKeys(self.sparsity, self.tau, self.query_block, self.key_block)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        """One answer per global layer."""
        return (GlobalAttention(keys=self._keys()),) * depth
