"""The plain parts: all queries, all keys, the keys of the same frame, nothing filled in."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .layout import TokenLayout
from .protocols import Exchange, Fill, Keys, KeySet, LayerInput, Queries, QuerySet
from .softmax.sdpa import attend
from .softmax.weighted import attend_weighted


@dataclasses.dataclass(frozen=True)
class AllQueries(Queries):
    """Every token has a query."""

    every_token = True

    def reduce(self, layer: LayerInput) -> QuerySet:
        return QuerySet(layer.queries())

    def count(self, layout: TokenLayout) -> float:
        return layout.tokens

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange()


@dataclasses.dataclass(frozen=True)
class AllKeys(Keys):
    """Every token of every frame is seen: dense attention."""

    every_token = True
    single_tokens = True

    def select(self, layer: LayerInput) -> KeySet:
        return KeySet(*layer.keys_values())

    def token_index(self, layer: LayerInput) -> Int[Tensor, "batch keys"]:
        return torch.arange(layer.whole.tokens)[None].expand(len(layer.tokens), -1)

    def count(self, layout: TokenLayout) -> float:
        return layout.tokens

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange(tokens=whole.tokens)


@dataclasses.dataclass(frozen=True)
class SameFrameKeys(Keys):
    """A token sees its own frame only (AVGGT, arXiv 2512.02541: "G2F"): the layer acts frame by frame."""

    per_query = True

    def attend_layer(self, layer: LayerInput) -> Float[Tensor, "batch tokens dim"]:
        attention, rotation = layer.attention, layer.rotation
        frames = layer.tokens.reshape(-1, layer.layout.tokens_per_frame, layer.tokens.shape[-1])

        def attended(part: Tensor) -> Tensor:
            k, v = attention.keys_values(part, rotation)
            return attention.output(attend(attention.queries(part, rotation), k, v))

        chunk = layer.run.frames_per_chunk
        if chunk is None:
            return attended(frames).reshape(layer.tokens.shape)
        result = frames.new_empty(frames.shape)
        for start in range(0, len(frames), chunk):
            result[start : start + chunk] = attended(frames[start : start + chunk])
        return result.reshape(layer.tokens.shape)

    def count(self, layout: TokenLayout) -> float:
        return layout.tokens_per_frame

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange()


@dataclasses.dataclass(frozen=True)
class NoFill(Fill):
    """Dropped keys are gone."""

    def attend(self, layer: LayerInput, queries: QuerySet, keys: KeySet) -> Tensor:
        terms = (keys.log_weight, queries.lengths, queries.longest)
        return attend_weighted(queries.q, keys.k, keys.v, *terms, shapes_vary=keys.shapes_vary)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange()
