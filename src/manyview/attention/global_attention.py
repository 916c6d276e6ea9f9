"""One global layer of a network: queries, keys and fill, and their cost.

A network calls a `GlobalAttention` with its attention module and knows nothing of the method; a
method sees queries, keys, values and the token layout, and knows nothing of the network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..distributed.ranks import Ranks
from .dense import AllKeys, AllQueries, NoFill, SameFrameKeys
from .layout import TokenLayout
from .protocols import AttentionParts, Exchange, Fill, Keys, KeySet, LayerInput, LayerRun, Queries
from .softmax.ring import ring_attend


@dataclasses.dataclass(frozen=True)
class GlobalAttention:
    """The three parts of one layer's attention; prints, compares and hashes as data.

    The default is dense attention. Raises ValueError for parts that cannot be combined.
    """

    queries: Queries = dataclasses.field(default_factory=AllQueries)
    keys: Keys = dataclasses.field(default_factory=AllKeys)
    fill: Fill = dataclasses.field(default_factory=NoFill)

    def __post_init__(self) -> None:
        for name, kind in (("queries", Queries), ("keys", Keys), ("fill", Fill)):
            part = getattr(self, name)
            if not isinstance(part, kind):
                raise ValueError(f"{name} must be an instance of {kind.__name__}, not {part!r}")
        if self.keys.per_query and not (self.queries.every_token and self.fill == NoFill()):
            raise ValueError(f"{type(self.keys).__name__} takes queries=AllQueries() and fill=NoFill()")
        for part in (self.queries, self.keys, self.fill):
            part.check(self.queries, self.keys, self.fill)

    def __call__(
        self,
        attention: AttentionParts,
        tokens: Float[Tensor, "batch tokens dim"],
        layout: TokenLayout,
        rotation: Any,
        run: LayerRun,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Attention output (before LayerScale) for the normalised `tokens` of all frames."""
        layer = LayerInput(attention, tokens, layout, rotation, run)
        if self.keys.per_query:
            return self.keys.attend_layer(layer)
        if run.ranks is None:
            queries = self.queries.reduce(layer)
            keys = self.keys.select(layer)
        elif run.ranks.ring and self == DENSE:
            return attention.output(ring_attend(layer.queries(), *layer.keys_values(), run.ranks))
        else:  # keys travel while queries are projected
            joining = _joining(self.keys.select(layer), run.ranks)
            queries = self.queries.reduce(layer)
            keys = joining()
            del joining  # it holds this rank's keys
        if run.record is not None and self.queries.every_token and self.keys.every_token:
            run.record(run.layer, queries.q, keys.k)
        heads = self.fill.attend(layer, queries, keys)
        restore = queries.restore
        del queries, keys  # freed before the output projection makes another token tensor
        return attention.output(restore(heads))

    @property
    def needs_frame_features(self) -> bool:
        """Whether a part chooses frames by what they show."""
        return any(part.needs_frame_features for part in (self.queries, self.keys, self.fill))

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        """What the three parts need of other ranks where several share a scene of the layout `whole`."""
        parts = (self.queries, self.keys, self.fill)
        return sum((part.exchange(whole, num_heads, dim) for part in parts), Exchange())

    def attention_flops(self, layout: TokenLayout, dim: int, head_dim: int) -> float:
        """FLOPs of scores and weighted sums, two per multiply-add."""
        part = self.keys if self.keys.per_query else self.fill
        queries, keys = self.queries.count(layout), self.keys.count(layout)
        return part.attention_flops(queries, keys, layout, dim, head_dim)

    def extra_flops(self, layout: TokenLayout, dim: int) -> float:
        """FLOPs of choosing or matching tokens; what is both queries and keys counts once."""
        once = isinstance(self.queries, Keys) and self.queries == self.keys
        return self.queries.extra(layout, dim) + (0 if once else self.keys.extra(layout, dim))


def _joining(keys: KeySet, ranks: Ranks) -> Callable[[], KeySet]:
    """Starts to bring the keys of the other ranks; what it returns waits for them."""
    first, split = keys.joined, ranks.split
    own = keys.k.shape[2] - first
    sizes = keys.sizes or tuple(own // split.count * count for count in split.counts)
    joined = first + sum(sizes)
    if joined == first:
        return lambda: keys

    def joining(x: Tensor, dim: int) -> Callable[[], Tensor]:
        arriving = ranks.gather(x.narrow(dim, first, own), dim, sizes)
        if not first:
            return arriving.wait
        return lambda: torch.cat([x.narrow(dim, 0, first), arriving.wait()], dim)

    parts = {"k": joining(keys.k, 2), "v": joining(keys.v, 2)}
    weight = keys.log_weight
    if weight is not None and weight.shape[-1] == keys.k.shape[2] != joined:
        parts["log_weight"] = joining(weight, -1)

    def wait() -> KeySet:
        arrived: dict[str, Any] = {name: wait_for() for name, wait_for in parts.items()}
        return dataclasses.replace(keys, joined=joined, **arrived)

    return wait


DENSE = GlobalAttention()
SAME_FRAME = GlobalAttention(keys=SameFrameKeys())
