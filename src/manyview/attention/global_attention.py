"""How tokens of different frames meet in one global layer: which queries, which keys, what fills in.

A network calls a `GlobalAttention` with its attention module and knows nothing of the method; a
method sees queries, keys, values and the token layout, and knows nothing of the network.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, Protocol, get_args

from jaxtyping import Float
from torch import Tensor

from .layout import TokenLayout
from .sdpa import attend

QueryChoice = Literal["all"]
KeyChoice = Literal["all", "own-frame"]
FillChoice = Literal["nothing"]


class AttentionParts(Protocol):
    """What a network's attention module offers to a method (see `models.blocks.Attention`)."""

    def queries(self, x: Tensor, rotation: Any = None, piece: int | None = None) -> Tensor: ...

    def keys_values(
        self, x: Tensor, rotation: Any = None, piece: int | None = None
    ) -> tuple[Tensor, Tensor]: ...

    def output(self, heads: Tensor) -> Tensor: ...


@dataclasses.dataclass(frozen=True)
class GlobalAttention:
    """One layer's answer to the three questions; prints, compares and hashes as data.

    `queries`: which are computed. `keys`: what they see: all tokens of all frames, or those of their
    own frame. `fill`: what stands in, in the same softmax, for keys that were dropped.
    """

    queries: QueryChoice = "all"
    keys: KeyChoice = "all"
    fill: FillChoice = "nothing"

    def __post_init__(self) -> None:
        for name, choices in (("queries", QueryChoice), ("keys", KeyChoice), ("fill", FillChoice)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(
                    f"{name} must be one of {', '.join(get_args(choices))}, not {getattr(self, name)!r}"
                )

    def __call__(
        self,
        attention: AttentionParts,
        tokens: Float[Tensor, "batch tokens dim"],
        layout: TokenLayout,
        rotation: Any,
        run: LayerRun,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Attention output (before LayerScale) for the normalised `tokens` of all frames."""
        if self.keys == "own-frame":
            return self._per_frame(attention, tokens, layout, rotation, run)
        piece = None if run.frame_piece is None else run.frame_piece * layout.tokens_per_frame
        q = attention.queries(tokens, rotation, piece)
        k, v = attention.keys_values(tokens, rotation, piece)
        run.observe(q, k)
        heads = attend(q, k, v)
        del q, k, v  # freed before the output projection makes another token tensor
        return attention.output(heads)

    @staticmethod
    def _per_frame(
        attention: AttentionParts, tokens: Tensor, layout: TokenLayout, rotation: Any, run: LayerRun
    ) -> Tensor:
        frames = tokens.reshape(-1, layout.tokens_per_frame, tokens.shape[-1])
        result = tokens.new_empty(frames.shape) if run.frame_piece else None
        if result is None:
            q = attention.queries(frames, rotation)
            k, v = attention.keys_values(frames, rotation)
            return attention.output(attend(q, k, v)).reshape(tokens.shape)
        for start in range(0, frames.shape[0], run.frame_piece or 1):
            part = frames[start : start + (run.frame_piece or 1)]
            k, v = attention.keys_values(part, rotation)
            result[start : start + part.shape[0]] = attention.output(
                attend(attention.queries(part, rotation), k, v)
            )
        return result.reshape(tokens.shape)

    def keys_per_query(self, layout: TokenLayout) -> int:
        """How many keys each query meets."""
        return layout.tokens if self.keys == "all" else layout.tokens_per_frame


@dataclasses.dataclass(frozen=True)
class LayerRun:
    """What a method may use of the running forward pass: the layer, a piece size and the recorder.

    `frame_piece` bounds temporaries to that many frames (None: no splitting, needed for gradients).
    """

    layer: int = 0
    frame_piece: int | None = None
    recorder: Any = None

    def observe(self, q: Tensor, k: Tensor) -> None:
        """Hand the queries and keys [B, heads, S*P, d] of a layer that joins frames to the recorder."""
        wanted = getattr(self.recorder, "global_attention", None)
        if wanted is not None:
            wanted(self.layer, q, k)
