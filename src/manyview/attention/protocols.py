"""The vocabulary of the three questions: what an answer about queries, keys or fill receives and returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from .layout import TokenLayout


@runtime_checkable
class AttentionParts(Protocol):
    """What a network's attention module offers to a method (see `models.blocks.BoundAttention`)."""

    @property
    def spatial_compressor(self) -> Any:
        """FlashVGGT's learnt compressor of this layer, where the weights have one."""
        ...

    def queries(self, x: Tensor, rotation: Any = None, piece: int | None = None) -> Tensor: ...

    def keys_values(
        self, x: Tensor, rotation: Any = None, piece: int | None = None
    ) -> tuple[Tensor, Tensor]: ...

    def output(self, heads: Tensor) -> Tensor: ...


@dataclasses.dataclass(frozen=True)
class LayerRun:
    """What a method may use of the running forward pass.

    `frames_per_chunk` bounds temporaries to that many frames (None: no splitting, needed for gradients).
    `frame_features` [B, S, C] holds the mean token of every frame after the encoder, for methods that
    choose frames. `memory` lives as long as the forward pass and is shared by its layers: what was
    chosen once (frames, indices) is kept there under a name of the method. `kernels`: "plain" or
    "triton", for `kernels.fused`.
    """

    layer: int = 0
    frames_per_chunk: int | None = None
    recorder: Any = None
    frame_features: Tensor | None = None
    memory: dict[Any, Any] = dataclasses.field(default_factory=dict)
    kernels: str = "plain"

    def observe(self, q: Tensor, k: Tensor) -> None:
        """Hand the queries and keys [B, heads, S*P, d] of a layer that joins frames to the recorder."""
        wanted = getattr(self.recorder, "global_attention", None)
        if wanted is not None:
            wanted(self.layer, q, k)


@dataclasses.dataclass(frozen=True)
class LayerInput:
    """One global layer about to meet: its attention module and the normalised tokens of all frames.

    `tokens` is [B, S*P, C] in the order of `layout`; `rotation` turns the tokens of one frame and repeats
    with the period of a frame (None: no positions).
    """

    attention: AttentionParts
    tokens: Float[Tensor, "batch tokens dim"]
    layout: TokenLayout
    rotation: Any
    run: LayerRun

    @property
    def piece(self) -> int | None:
        """Tokens that a projection handles at a time."""
        return (
            None
            if self.run.frames_per_chunk is None
            else self.run.frames_per_chunk * self.layout.tokens_per_frame
        )


@dataclasses.dataclass(frozen=True)
class KeySet:
    """Keys and values that all queries see.

    `log_weight` is added to the logits of a key (for a key that stands for n tokens: gain * log n; minus
    infinity hides padding). `kept` marks the tokens of the sequence that are themselves among the
    keys, which a fill needs so that nothing is counted twice; None where keys are not single tokens.
    `all_keys`, `all_values` are those of every token where a fill needs them, `keys_before_rope` the keys of
    every token without positions.
    """

    k: Float[Tensor, "batch heads keys dim"]
    v: Float[Tensor, "batch heads keys dim"]
    log_weight: Float[Tensor, "*sizes"] | None = None
    kept: Bool[Tensor, " tokens"] | None = None
    kept_index: Int[Tensor, " kept"] | None = None
    all_keys: Float[Tensor, "batch heads tokens dim"] | None = None
    all_values: Float[Tensor, "batch heads tokens dim"] | None = None
    keys_before_rope: Float[Tensor, "batch heads tokens dim"] | None = None


@dataclasses.dataclass(frozen=True)
class QuerySet:
    """Queries to compute and how their outputs become those of all tokens.

    `restore` maps [B, heads, queries, d] to [B, heads, S*P, d]. `merged` says that a query stands for
    several tokens, so that no fill can single out its own key. Where heads differ in length, `lengths` says
    how many of a head's queries are real; the others are not computed.
    """

    q: Float[Tensor, "batch heads queries dim"]
    restore: Callable[[Tensor], Tensor] = lambda heads: heads
    merged: bool = False
    lengths: Int[Tensor, "batch heads"] | None = None


@runtime_checkable
class Queries(Protocol):
    """Answer to: which queries are computed?"""

    def reduce(self, layer: LayerInput) -> QuerySet: ...

    def count(self, layout: TokenLayout) -> float:
        """How many queries of a head are computed, for the cost before a run."""
        ...


@runtime_checkable
class Keys(Protocol):
    """Answer to: which keys and values do they see?"""

    def select(self, layer: LayerInput) -> KeySet: ...

    def count(self, layout: TokenLayout) -> float:
        """How many keys a query sees."""
        ...

    def projected(self, layout: TokenLayout) -> float:
        """How many tokens are projected to keys and values."""
        ...


@runtime_checkable
class Fill(Protocol):
    """Answer to: what stands in, in the same softmax, for what was dropped?"""

    def attend(self, queries: QuerySet, keys: KeySet, layer: LayerInput) -> Tensor:
        """Outputs [B, heads, queries, d]."""
        ...
