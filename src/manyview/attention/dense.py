"""The plain answers: all queries, all keys, the own frame's keys, nothing filled in."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from .layout import TokenLayout
from .protocols import KeySet, LayerInput, QuerySet
from .softmax.extended import attend_extended


@dataclasses.dataclass(frozen=True)
class AllQueries:
    """Every token asks."""

    def reduce(self, layer: LayerInput) -> QuerySet:
        return QuerySet(layer.attention.queries(layer.tokens, layer.rotation, layer.piece))

    def count(self, layout: TokenLayout) -> float:
        return layout.tokens


@dataclasses.dataclass(frozen=True)
class AllKeys:
    """Every token of every frame is seen: dense attention."""

    def select(self, layer: LayerInput) -> KeySet:
        k, v = layer.attention.keys_values(layer.tokens, layer.rotation, layer.piece)
        return KeySet(k, v)

    def count(self, layout: TokenLayout) -> float:
        return layout.tokens

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens


@dataclasses.dataclass(frozen=True)
class SameFrameKeys:
    """A token sees its own frame only (AVGGT, arXiv 2512.02541: "G2F"): the layer acts frame by frame."""

    def select(self, layer: LayerInput) -> KeySet:
        raise TypeError("keys of the own frame differ from frame to frame: the layer runs frame by frame")

    def count(self, layout: TokenLayout) -> float:
        return layout.tokens_per_frame

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens


@dataclasses.dataclass(frozen=True)
class NoFill:
    """Dropped keys are gone."""

    def attend(self, queries: QuerySet, keys: KeySet, layer: LayerInput) -> Tensor:
        return attend_extended(
            queries.q, keys.k, keys.v, keys.log_weight, lengths=queries.lengths, kernels=layer.run.kernels
        )
