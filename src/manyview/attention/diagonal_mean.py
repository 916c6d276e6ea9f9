"""What stands in for dropped keys: a token's own key, and the mean of all that were dropped (AVGGT)."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .layout import TokenLayout
from .protocols import KeySet, QuerySet
from .softmax.extended import attend_together, extended_width

if TYPE_CHECKING:
    from .global_attention import GlobalAttention


@dataclasses.dataclass(frozen=True)
class DiagonalMean:
    """In the same softmax: each dropped token's own key, and one mean key and value of all dropped tokens.

    Source: AVGGT (arXiv 2512.02541), step 3. The own key is absent where the token is among the kept
    keys. `gain` adds gain * log(number dropped) to the logit of the mean (0: the literal reading).
    `mean_before_positions` averages keys that were not turned; the mean then has no position.
    """

    diagonal: bool = True
    mean: bool = True
    gain: float = 0.0
    mean_before_positions: bool = False

    def check(self, layer: GlobalAttention) -> None:
        """Refuse keys that do not tell what was dropped."""
        if not getattr(layer.keys, "project_all", False):
            raise ValueError(
                "the diagonal and the mean need keys that were subsampled with project_all, "
                f"not {type(layer.keys).__name__}"
            )
        if self.mean_before_positions and not getattr(layer.keys, "unturned", False):
            raise ValueError("a mean before positions needs keys selected with unturned")
        if self.diagonal and type(layer.queries).__name__ != "AllQueries":
            raise ValueError(
                "merged queries stand for several tokens and have no key of their own: use diagonal=False"
            )

    def attention_flops(
        self, queries: float, keys: float, layout: TokenLayout, dim: int, head_dim: int
    ) -> float:
        """Scores and weighted sums with the terms' extra keys and channels, for the cost before a run."""
        if keys >= layout.tokens or not (self.diagonal or self.mean):
            return 4.0 * queries * keys * dim
        width = extended_width(head_dim, self.mean and self.gain != 0, self.diagonal)
        return 4.0 * queries * (keys + self.mean + self.diagonal) * dim * width / head_dim

    def attend(self, queries: QuerySet, keys: KeySet, layout: TokenLayout) -> Tensor:
        assert keys.kept is not None and keys.all_keys is not None and keys.all_values is not None
        dropped = ~keys.kept
        count = int(dropped.sum())
        if count == 0 or not (self.diagonal or self.mean):
            return attend_together(queries.q, keys.k, keys.v, lengths=queries.lengths)
        k, v, weight, own_logit, own_value = keys.k, keys.v, None, None, None
        if self.mean:
            share = dropped.to(v.dtype) / count
            source = keys.unturned_keys if self.mean_before_positions else keys.all_keys
            assert source is not None
            k = torch.cat([k, torch.einsum("bhnd,n->bhd", source, share)[:, :, None]], 2)
            v = torch.cat([v, torch.einsum("bhnd,n->bhd", keys.all_values, share)[:, :, None]], 2)
            if self.gain != 0:
                weight = torch.zeros(k.shape[2], device=k.device, dtype=k.dtype)
                weight[-1] = self.gain * math.log(count)
        if self.diagonal:
            own = (queries.q * keys.all_keys).sum(-1, dtype=_at_least_single(k.dtype)) / k.shape[-1] ** 0.5
            own_logit = own.masked_fill(keys.kept, float("-inf"))
            own_value = keys.all_values
        return attend_together(queries.q, k, v, weight, own_logit, own_value, queries.lengths)


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
