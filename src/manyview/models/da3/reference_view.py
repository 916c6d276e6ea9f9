"""Which view defines the world: chosen from class tokens, and put in front (arXiv 2511.10647)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...attention.layout import TokenLayout
from ...distributed.ranks import Ranks
from ..run_options import REFERENCE_VIEWS

_FEWEST = 3  # views among which is chosen; of fewer the first is the reference


@dataclasses.dataclass(frozen=True, eq=False)
class RestoredOrder:
    """Views in another order. `views` [B, S] is the view at each place; None: as they were given.

    With `ranks` they are those of the scene, and tensors are of this rank's frames.
    """

    views: Int[Tensor, "batch frames"] | None = None
    ranks: Ranks | None = None

    def apply(self, x: Tensor) -> Tensor:
        """`x` [B, S, ...] in this order."""
        return self._placed(x, self.views)

    def restore(self, x: Tensor) -> Tensor:
        """`x` [B, S, ...] in this order back in the order of the input."""
        return self._placed(x, None if self.views is None else self.views.argsort(1))

    def _placed(self, x: Tensor, views: Int[Tensor, "batch frames"] | None) -> Tensor:
        if views is None:
            return x
        if self.ranks is not None:
            return self.ranks.place(x, views)
        rows = torch.arange(len(x), device=x.device)[:, None]
        return x[rows, views]


class InOrder:
    """A recorder that is shown views in the order of the input; `order()` is that of the pass."""

    def __init__(self, recorder: Any, order: Callable[[], RestoredOrder | None], layout: TokenLayout) -> None:
        self._recorder, self._order, self._layout = recorder, order, layout

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._recorder, name)
        if name == "global_tokens":
            return lambda layer, tokens: found(layer, self._restored(tokens))
        if name == "global_attention":
            return lambda layer, *heads: found(layer, *(self._by_frame(x) for x in heads))
        return found

    def _restored(self, x: Tensor) -> Tensor:
        order = self._order()
        return x if order is None else order.restore(x)

    def _by_frame(self, heads: Float[Tensor, "batch heads tokens dim"]) -> Tensor:
        """Queries or keys of all tokens in order; those of chosen tokens as they are."""
        if heads.shape[2] != self._layout.tokens:
            return heads
        by_frame = heads.unflatten(2, (self._layout.frames, -1)).transpose(1, 2)
        return self._restored(by_frame).transpose(1, 2).flatten(2, 3)


def reference_first(
    class_tokens: Float[Tensor, "batch frames dim"],
    strategy: str = "saddle_balanced",
    ranks: Ranks | None = None,
) -> RestoredOrder:
    """The order with the reference view in front and the others as they were.

    With `ranks` class tokens are of this rank's frames, and the reference view is that of the scene.
    """
    batch, frames, _ = class_tokens.shape
    frames = frames if ranks is None else ranks.split.frames
    if strategy == "first" or frames < _FEWEST:
        return RestoredOrder()
    if ranks is not None:
        class_tokens = ranks.gather(class_tokens, 1).wait()
    chosen = reference_view(class_tokens, strategy)[:, None]
    place = torch.arange(frames, device=chosen.device).expand(batch, -1)
    views = torch.where(place == 0, chosen, place - (place <= chosen).to(place.dtype))
    return RestoredOrder(views, ranks)


def reference_view(
    class_tokens: Float[Tensor, "batch frames dim"], strategy: str = "saddle_balanced"
) -> Int[Tensor, " batch"]:
    """The reference view of each scene.

    Args:
        class_tokens: Class tokens of the views.
        strategy: One of `run_options.REFERENCE_VIEWS`. "first", "middle": by place. "saddle_balanced": the
            view whose similarity to the others, norm and variance over channels, each rescaled to [0, 1] over
            the views, are closest to one half. "saddle_sim_range": the view with the largest range of
            similarities.

    Raises:
        ValueError: Another strategy.
    """
    if strategy not in REFERENCE_VIEWS:
        raise ValueError(f"unknown reference view {strategy!r}: choose from {', '.join(REFERENCE_VIEWS)}")
    class_tokens = class_tokens.to(torch.promote_types(class_tokens.dtype, torch.float32))
    batch, frames, _ = class_tokens.shape
    if strategy in ("first", "middle") or frames < 2:
        place = frames // 2 if strategy == "middle" else 0
        return torch.full((batch,), place, device=class_tokens.device)
    length = class_tokens.norm(dim=-1)
    unit = class_tokens / length[..., None]
    similar = unit @ unit.transpose(1, 2)
    if strategy == "saddle_sim_range":
        similar = similar - torch.eye(frames, dtype=similar.dtype, device=similar.device)
        return (similar.amax(-1) - similar.amin(-1)).argmax(-1)
    metrics = torch.stack([(similar.sum(-1) - 1) / (frames - 1), length, unit.var(-1)])
    low, high = metrics.amin(-1, keepdim=True), metrics.amax(-1, keepdim=True)
    return ((metrics - low) / (high - low + 1e-8) - 0.5).abs().sum(0).argmin(-1)
