"""How tokens of different frames meet in one global layer: which queries, which keys, what fills in.

A network calls a `GlobalAttention` with its attention module and knows nothing of the method; a
method sees queries, keys, values and the token layout, and knows nothing of the network.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxtyping import Float
from torch import Tensor

from .dense import AllKeys, AllQueries, NoFill, SameFrameKeys
from .layout import TokenLayout
from .protocols import AttentionParts, Fill, Keys, LayerInput, LayerRun, Queries
from .softmax.sdpa import attend

__all__ = ["AttentionParts", "GlobalAttention", "LayerRun"]


@dataclasses.dataclass(frozen=True)
class GlobalAttention:
    """One layer's answer to the three questions; prints, compares and hashes as data.

    `queries`: which are computed. `keys`: what they see. `fill`: what stands in, in the same softmax, for
    keys that were dropped. The default is dense attention. Answers that do not go together are refused
    with a ValueError by the answer's own `check(attention)` where it has one.
    """

    queries: Queries = dataclasses.field(default_factory=AllQueries)
    keys: Keys = dataclasses.field(default_factory=AllKeys)
    fill: Fill = dataclasses.field(default_factory=NoFill)

    def __post_init__(self) -> None:
        for name, method in (("queries", "reduce"), ("keys", "select"), ("fill", "attend")):
            if not hasattr(getattr(self, name), method):
                raise ValueError(f"{getattr(self, name)!r} is no answer to the question of {name}")
        if isinstance(self.keys, SameFrameKeys) and (self.queries, self.fill) != (AllQueries(), NoFill()):
            raise ValueError("a layer cut to its own frames takes all queries and no fill")
        for answer in (self.queries, self.keys, self.fill):
            check = getattr(answer, "check", None)
            if check is not None:
                check(self)

    def __call__(
        self,
        attention: AttentionParts,
        tokens: Float[Tensor, "batch tokens dim"],
        layout: TokenLayout,
        rotation: Any,
        run: LayerRun,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Attention output (before LayerScale) for the normalised `tokens` of all frames."""
        if isinstance(self.keys, SameFrameKeys):
            return self._per_frame(attention, tokens, layout, rotation, run)
        layer = LayerInput(attention, tokens, layout, rotation, run)
        whole = getattr(self.keys, "attend_layer", None)
        if whole is not None:  # keys that differ from frame to frame are attended by their own rule
            return attention.output(whole(layer, self.queries, self.fill))
        queries = self.queries.reduce(layer)
        keys = self.keys.select(layer)
        if self.queries == AllQueries() and self.keys == AllKeys():
            run.observe(queries.q, keys.k)
        heads = self.fill.attend(queries, keys, layer)
        restore = queries.restore
        del queries, keys  # freed before the output projection makes another token tensor
        return attention.output(restore(heads))

    @staticmethod
    def _per_frame(
        attention: AttentionParts, tokens: Tensor, layout: TokenLayout, rotation: Any, run: LayerRun
    ) -> Tensor:
        frames = tokens.reshape(-1, layout.tokens_per_frame, tokens.shape[-1])
        result = tokens.new_empty(frames.shape) if run.frames_per_chunk else None
        if result is None:
            q = attention.queries(frames, rotation)
            k, v = attention.keys_values(frames, rotation)
            return attention.output(attend(q, k, v)).reshape(tokens.shape)
        for start in range(0, frames.shape[0], run.frames_per_chunk or 1):
            part = frames[start : start + (run.frames_per_chunk or 1)]
            k, v = attention.keys_values(part, rotation)
            result[start : start + part.shape[0]] = attention.output(
                attend(attention.queries(part, rotation), k, v)
            )
        return result.reshape(tokens.shape)

    @property
    def needs_frame_features(self) -> bool:
        """Whether an answer chooses frames by what they show."""
        return any(getattr(a, "needs_frame_features", False) for a in (self.queries, self.keys, self.fill))
