"""Everything a method of global attention may do: its queries, keys and fill, and their defaults.

A method answers three questions for a layer: which queries are computed (`Queries`), which keys and values
they see (`Keys`), and what stands in, in the same softmax, for keys that were dropped (`Fill`).
`GlobalAttention` puts the three together. What a published method is called and which layer does what is
its `preset.Preset`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable
from typing import Any, ParamSpec, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..distributed.ranks import ChosenFrames, Pending, Ranks
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
    given). `ranks`: the frames are some of those of a scene that several ranks share, whose layout is
    `whole`; `frame_features` and `frame_order` are then of all frames of the scene.
    """

    layer: int = 0
    frames_per_chunk: int | None = None
    record: Callable[[int, Tensor, Tensor], None] | None = None
    frame_features: Tensor | None = None
    memory: dict[Any, Any] = dataclasses.field(default_factory=dict)
    kernels: str = "plain"
    frame_order: Int[Tensor, "batch frames"] | None = None
    ranks: Ranks | None = None
    whole: TokenLayout | None = None

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
    with the period of a frame (None: no positions). Where several ranks share a scene these are the tokens
    of one rank's frames: what is chosen among frames is chosen by `whole`.
    """

    attention: AttentionParts
    tokens: Float[Tensor, "batch tokens dim"]
    layout: TokenLayout
    rotation: Any
    run: LayerRun

    @property
    def whole(self) -> TokenLayout:
        """The layout of all frames of the scene: `layout`, unless several ranks share it."""
        return self.run.whole or self.layout

    def own(self, x: Tensor, dim: int = -1) -> Tensor:
        """This rank's part of what belongs to all frames, or all tokens, of the scene along `dim`."""
        ranks = self.run.ranks
        if ranks is None:
            return x
        each = x.shape[dim] // self.whole.frames
        return x.narrow(dim, ranks.split.first * each, ranks.split.count * each)

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

        `places` are tokens within a frame (None: all), the same for each frame. Frames are counted in the
        scene; where several ranks share it, each gets them all (`KeySet.joined`).
        """
        x = self.tokens.unflatten(1, (self.layout.frames, -1))
        if self.run.ranks is not None:
            return self._keys_values_over_ranks(x, self.run.ranks, self.chosen(frames), places)
        rows = torch.arange(len(x), device=x.device)[:, None]
        if places is None:
            chosen, rotation = x[rows, frames], self.rotation
        else:
            chosen = x[rows[..., None], frames[..., None], places.to(x.device)]
            rotation = None if self.rotation is None else self.rotation.select(places)
        return self.attention.keys_values(chosen.flatten(1, 2), rotation, self.chunk(chosen.shape[2]))

    def chosen(self, frames: Int[Tensor, "batch chosen"]) -> ChosenFrames:
        """How `Ranks.take` brings `frames` of the scene; made once a forward pass."""
        ranks = self.run.ranks
        assert ranks is not None
        # The tensor is kept beside, so that no other can have its id.
        made = self.run.once(("chosen frames", id(frames)), lambda: (ranks.choose(frames), frames))
        return made[0]

    def taken(self, x: Float[Tensor, "batch heads own dim"], frames: Int[Tensor, "batch chosen"]) -> Pending:
        """Of keys or values of this rank's tokens those of `frames` of the scene [B, heads, tokens, d]."""
        ranks, chosen = self.run.ranks, self.chosen(frames)
        assert ranks is not None
        by_frame = x.unflatten(2, (self.layout.frames, -1)).transpose(1, 2)
        return _by_token(ranks.join(by_frame[chosen.rows, chosen.frames], chosen))

    def _keys_values_over_ranks(
        self,
        x: Float[Tensor, "batch own tokens dim"],
        ranks: Ranks,
        chosen: ChosenFrames,
        places: Int[Tensor, " places"] | None,
    ) -> tuple[Tensor, Tensor]:
        """Every rank projects the chosen frames that it has, as a batch of frames."""
        count, rotation = len(chosen.rows), self.rotation
        rows, frames = (i if count else i.new_zeros(1) for i in (chosen.rows, chosen.frames))
        if places is None:
            own = x[rows, frames]
        else:
            own = x[rows[:, None], frames[:, None], places.to(x.device)]
            rotation = None if rotation is None else rotation.select(places)
        step = self.run.frames_per_chunk or len(own)
        pieces = [self.attention.keys_values(part, rotation) for part in own.split(step)]
        k, v = (torch.cat(parts)[:count] for parts in zip(*pieces, strict=True))
        arriving = [_by_token(ranks.join(part, chosen)) for part in (k, v)]
        return arriving[0].wait(), arriving[1].wait()


def _by_token(frames: Pending) -> Pending:
    """[B, frames, heads, tokens, d] as [B, heads, frames * tokens, d]."""
    return Pending(lambda: frames.wait().transpose(1, 2).flatten(2, 3))


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

    Where several ranks share a scene the first `joined` keys are the same on all ranks, and the others are
    those that this rank has, `sizes` by rank (None: in proportion to the frames); `GlobalAttention` joins
    them. `log_weight` then belongs to the keys as they are, or to the joined ones. `kept`, `hidden` and what
    is of every token stay those of the rank's own tokens; `dropped` counts those of the scene.
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
    joined: int = 0
    sizes: tuple[int, ...] | None = None


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


@dataclasses.dataclass(frozen=True)
class Exchange:
    """What a part of a layer, or all parts, need of the frames of other ranks.

    Attributes:
        tokens: Tokens of the whole scene whose keys and values every rank gets.
        numbers: Further numbers of 4 bytes that it gets, of the whole scene; of a sum twice its numbers.
        frames_together: So many frames, counted from the first, must be on one rank.
        refused: Why the part cannot run over several ranks; a clause.
    """

    tokens: float = 0
    numbers: float = 0
    frames_together: int = 1
    refused: str | None = None

    def __add__(self, other: Exchange) -> Exchange:
        return Exchange(
            self.tokens + other.tokens,
            self.numbers + other.numbers,
            math.lcm(self.frames_together, other.frames_together),
            self.refused or other.refused,
        )


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

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        """What this part needs of other ranks where several share a scene of the layout `whole`.

        A part that answers follows three rules: what it chooses among frames, and every decision on which
        an exchange depends, follows from `LayerInput.whole`, the same on all ranks; keys are those of its
        own frames (`KeySet.joined`); and whatever else it needs comes by `LayerRun.ranks`.
        """
        return Exchange(refused=f"{type(self).__name__} does not say what it needs of other ranks")


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
        """Which tokens of the scene are keys, in rising order, where each key is one (`single_tokens`)."""
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
