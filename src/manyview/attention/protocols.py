"""Everything a method of global attention may do: its queries, keys and fill, and their defaults.

A method answers three questions for a layer: which queries are computed (`Queries`), which keys and values
they see (`Keys`), and what stands in, in the same softmax, for keys that were dropped (`Fill`).
`GlobalAttention` puts the three together. What a published method is called and which layer does what is
its `preset.Preset`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, ParamSpec, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .index_cache import moved
from .layout import TokenLayout

P = ParamSpec("P")
T = TypeVar("T")


@runtime_checkable
class AttentionParts(Protocol):
    """What a network's attention module offers to a method (see `models.blocks.BoundAttention`)."""

    @property
    def spatial_compressor(self) -> Any:
        """The weights' own convolution to descriptors (FlashVGGT's later release); None: they have none."""

    def queries(self, x: Tensor, rotation: Any = None, piece: int | None = None) -> Tensor: ...

    def keys_values(
        self, x: Tensor, rotation: Any = None, piece: int | None = None
    ) -> tuple[Tensor, Tensor]: ...

    def output(self, heads: Tensor) -> Tensor: ...


@dataclasses.dataclass(frozen=True)
class LayerRun:
    """What a method may use of the running forward pass.

    `frames_per_chunk` bounds temporaries to that many frames (None: no splitting, needed for gradients).
    `record(layer, q, k)`, if given, receives the queries and keys [B, heads, S*P, d] of layers with dense
    attention. `frame_features` [B, S, C] holds the mean token of every frame after the encoder, for methods
    that choose frames. `memory` lives as long as the forward pass and is shared by its layers: what was
    chosen once (frames, indices) is kept there under a name of the method. `kernels`: "plain", "norms" or
    "triton", for `kernels.fused`. `frame_order` [B, S] is the frame of the input at each place (None: as
    given).
    """

    layer: int = 0
    frames_per_chunk: int | None = None
    record: Callable[[int, Tensor, Tensor], None] | None = None
    frame_features: Tensor | None = None
    memory: dict[Any, Any] = dataclasses.field(default_factory=dict)
    kernels: str = "plain"
    frame_order: Int[Tensor, "batch frames"] | None = None

    def once(self, name: Hashable, make: Callable[[], T]) -> T:
        """What `make` returned the first time that `name` was asked for in this forward pass."""
        if name not in self.memory:
            self.memory[name] = make()
        kept: T = self.memory[name]
        return kept

    def features(self) -> Float[Tensor, "batch frames dim"]:
        """`frame_features`, detached; raises ValueError where the network provides none."""
        if self.frame_features is None:
            raise ValueError("frames are chosen by frame_features, which this forward pass does not provide")
        return self.frame_features.detach()


@dataclasses.dataclass(frozen=True)
class LayerInput:
    """The input of one global layer: its attention module and the normalised tokens of all frames.

    `tokens` is [B, S*P, C] in the order of `layout`; `rotation` rotates the tokens of one frame and repeats
    with the period of a frame (None: no positions).
    """

    attention: AttentionParts
    tokens: Float[Tensor, "batch tokens dim"]
    layout: TokenLayout
    rotation: Any
    run: LayerRun

    def chunk(self, tokens_per_frame: int) -> int | None:
        """Tokens that a projection handles at a time where a frame has `tokens_per_frame` of them."""
        frames = self.run.frames_per_chunk
        return None if frames is None else frames * tokens_per_frame

    def on_device(self, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `make` (see `index_cache.kept_for_later`) returns, on the device of the tokens.

        Brought there once a forward pass, whose layers share it. Arguments are hashable.
        """
        device = self.tokens.device
        name = (make, args, tuple(kwargs.items()), device)
        found: T = self.run.once(name, lambda: moved(make(*args, **kwargs), device))
        return found

    def queries(self) -> Float[Tensor, "batch heads tokens dim"]:
        """Queries of all tokens."""
        return self.attention.queries(self.tokens, self.rotation, self.chunk(self.layout.tokens_per_frame))

    def keys_values(self, positions: bool = True) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens [B, heads, S*P, d]; without `positions` keys are not rotated."""
        rotation = self.rotation if positions else None
        return self.attention.keys_values(self.tokens, rotation, self.chunk(self.layout.tokens_per_frame))

    def keys_values_of(
        self, frames: Int[Tensor, "batch chosen"], places: Int[Tensor, " places"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [B, heads, chosen * places, d] of some frames of each batch element.

        `places` are tokens within a frame (None: all), the same for each frame.
        """
        x = self.tokens.unflatten(1, (self.layout.frames, -1))
        rows = torch.arange(len(x), device=x.device)[:, None]
        if places is None:
            chosen, rotation = x[rows, frames], self.rotation
        else:
            chosen = x[rows[..., None], frames[..., None], places.to(x.device)]
            rotation = None if self.rotation is None else self.rotation.select(places)
        return self.attention.keys_values(chosen.flatten(1, 2), rotation, self.chunk(chosen.shape[2]))


@dataclasses.dataclass(frozen=True)
class KeySet:
    """Keys and values that all queries see.

    `log_weight` is added to the logits of a key (for a key that stands for n tokens: gain * log n; minus
    infinity hides padding). `kept` marks the tokens of the sequence that are themselves among the
    keys, which a fill needs so that nothing is counted twice; None where keys are not single tokens.
    `all_keys`, `all_values` are those of every token where a fill needs them, `keys_before_rope` the keys of
    every token without positions. `hidden` tokens are neither keys nor dropped: nothing stands for them.
    `dropped` counts the tokens that are neither kept nor hidden, so that a fill need not ask the device.
    `shapes_vary`: the number of keys differs from pass to pass, see `softmax.sdpa.attend`.
    """

    k: Float[Tensor, "batch heads keys dim"]
    v: Float[Tensor, "batch heads keys dim"]
    log_weight: Float[Tensor, "*sizes"] | None = None
    kept: Bool[Tensor, " tokens"] | None = None
    all_keys: Float[Tensor, "batch heads tokens dim"] | None = None
    all_values: Float[Tensor, "batch heads tokens dim"] | None = None
    keys_before_rope: Float[Tensor, "batch heads tokens dim"] | None = None
    hidden: Bool[Tensor, " tokens"] | None = None
    dropped: int = 0
    shapes_vary: bool = False


@dataclasses.dataclass(frozen=True)
class QuerySet:
    """Queries to compute and how their outputs become those of all tokens.

    `restore` maps outputs, which are as `q` is, to [B, heads, S*P, d]. Where heads differ in their number of
    queries, `q` is [1, 1, all of them, d], head after head; `lengths` says, on the device, how many each head
    has, and `longest` what none exceeds, as known without asking the device.
    """

    q: Float[Tensor, "batch heads queries dim"]
    restore: Callable[[Tensor], Tensor] = lambda heads: heads
    lengths: Int[Tensor, "all_batch all_heads"] | None = None
    longest: int = 0


class Part:
    """What queries, keys and fill have in common. Parts are frozen dataclasses: they compare as data."""

    @property
    def needs_frame_features(self) -> bool:
        """Whether frames are chosen by `LayerRun.frame_features`."""
        return False

    def check(self, queries: Queries, keys: Keys, fill: Fill) -> None:
        """Raises ValueError where this part cannot be combined with the others of its layer."""

    def extra(self, layout: TokenLayout, dim: int) -> float:
        """FLOPs of choosing or matching tokens, for the cost before a run."""
        return 0

    def working_bytes(self, layout: TokenLayout, dim: int, num_heads: int, element_bytes: int) -> int:
        """Bytes that are alive on a CPU beside queries, keys, values and output of a layer."""
        return 0

    def attention_flops(
        self, queries: float, keys: float, layout: TokenLayout, dim: int, head_dim: int
    ) -> float:
        """FLOPs of scores and weighted sums; asked of keys with `per_query`, and else of the fill."""
        return 4.0 * queries * keys * dim


class Queries(Part):
    """Which queries are computed? `every_token`: each token has one of its own, none are merged."""

    every_token: bool = False

    def reduce(self, layer: LayerInput) -> QuerySet:
        """The queries of a layer."""
        raise NotImplementedError

    def count(self, layout: TokenLayout) -> float:
        """How many queries of a head are computed, for the cost before a run."""
        raise NotImplementedError


class Keys(Part):
    """Which keys and values do queries see? All the same (`select`), or each its own (`attend_layer`).

    `every_token`: they are those of all tokens; with all queries, dense attention. `per_query`: queries see
    different keys, so that `attend_layer` runs, with all queries and no fill. `project_all`: the key set has
    `kept`, `all_keys` and `all_values`, and with `keys_before_rope` those too, which some fills need.
    `of_anchors`: what a frame gives is to depend on chosen frames and itself alone. `single_tokens`: each
    key is one token, `token_index` says which, and so single tokens can be left out (`visible_keys`).
    """

    of_anchors: bool = False
    single_tokens: bool = False
    every_token: bool = False
    per_query: bool = False
    project_all: bool = False
    keys_before_rope: bool = False

    def select(self, layer: LayerInput) -> KeySet:
        """The keys and values that all queries of a layer see."""
        raise NotImplementedError

    def token_index(self, layer: LayerInput) -> Int[Tensor, "batch keys"] | None:
        """Which tokens of the sequence are keys, where each key is one (`single_tokens`)."""
        return None

    def attend_layer(self, layer: LayerInput) -> Float[Tensor, "batch tokens dim"]:
        """Output of a layer (after the output projection) whose keys are `per_query`."""
        raise NotImplementedError

    def count(self, layout: TokenLayout) -> float:
        """How many keys a query sees, on average."""
        raise NotImplementedError

    def all_tokens(self, layout: TokenLayout) -> bool:
        """Whether every query sees the keys of all tokens."""
        return self.count(layout) >= layout.tokens

    def projected(self, layout: TokenLayout) -> float:
        """How many tokens are projected to keys and values."""
        return layout.tokens


class Fill(Part):
    """What stands in, in the same softmax, for keys that were dropped?"""

    def attend(self, layer: LayerInput, queries: QuerySet, keys: KeySet) -> Tensor:
        """Outputs [B, heads, queries, d]."""
        raise NotImplementedError

    def for_merged_queries(self) -> Fill:
        """The part of this fill that does not need a query of each token's own."""
        return self
