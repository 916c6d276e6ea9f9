"""Between trunk and heads: keep of each tapped layer only what a head reads, then run heads in pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .dense_head import TapMaps
from .precision import use_linears


@runtime_checkable
class TapSizes(Protocol):
    """What is read: outputs of the pairs `taps`, and special tokens of the last of `pairs`."""

    @property
    def special_tokens(self) -> int: ...
    @property
    def taps(self) -> tuple[int, int, int, int]: ...
    @property
    def pairs(self) -> int: ...


class TapStore:
    """Reads taps as the trunk makes them.

    Of patches it keeps the heads' projections, in the precision of the run; of special tokens only
    the last layer's, the first `kept` of a frame. Projections are made in `dtype` (None: that of the head's
    weights). Everything else a layer produced can be freed at once.
    """

    def __init__(
        self,
        config: TapSizes,
        heads: Mapping[str, TapMaps],
        piece: int | None,
        kept: int = 1,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._heads, self._piece, self._kept, self._dtype = heads, piece, kept, dtype
        self._special, self._taps = config.special_tokens, config.taps
        self._last = config.pairs - 1
        self.layers = {*(config.taps if heads else ()), self._last}
        self._projected: dict[str, list[Tensor]] = {name: [] for name in heads}
        self.special_tokens: Tensor | None = None

    def __call__(self, layer: int, frame_tokens: Tensor, global_tokens: Tensor) -> None:
        if layer == self._last:
            parts = (tokens[:, :, : self._kept] for tokens in (frame_tokens, global_tokens))
            self.special_tokens = torch.cat(tuple(parts), dim=-1)
        if layer not in self._taps:
            return
        frame, across = frame_tokens.flatten(0, 1), global_tokens.flatten(0, 1)
        for name, head in self._heads.items():
            projected = self._projected[name]
            while len(projected) < 4 and self._taps[len(projected)] == layer:
                projected.append(self._project(head, len(projected), frame, across))

    @property
    def camera_tokens(self) -> Tensor | None:
        """The first special token of every frame, [B, S, 2 C]."""
        return None if self.special_tokens is None else self.special_tokens[:, :, 0]

    def take(self, name: str) -> list[Tensor]:
        """Projected taps of one head, each [B*S, patches, width]; they are no longer kept here."""
        return self._projected.pop(name)

    def _project(self, head: TapMaps, index: int, frame: Tensor, across: Tensor) -> Tensor:
        pieces = slices(len(frame), self._piece)
        result: Tensor | None = None
        for part in pieces:
            both = torch.cat([frame[part, self._special :], across[part, self._special :]], dim=-1)
            projected = head.project(both.to(self._dtype or head.norm.weight.dtype), index).to(frame.dtype)
            if len(pieces) == 1:
                return projected
            if result is None:
                result = projected.new_empty(len(frame), *projected.shape[1:])
            result[part] = projected
        assert result is not None
        return result


def run_dense_head(
    head: TapMaps,
    taps: list[Tensor],
    grid: tuple[int, int],
    image_size: tuple[int, int],
    batch_frames: tuple[int, int],
    piece: int | None,
    dtype: torch.dtype | None = None,
    channels_last: bool | None = None,
) -> tuple[Tensor, ...]:
    """Outputs of a dense head, each [B, S, ...], computed `piece` frames at a time.

    Convolutions run in `dtype` (None: that of the weights), in the memory order of tokens if `channels_last`
    (None: on a CPU without gradients).
    """
    if channels_last is None:
        channels_last = taps[0].device.type == "cpu" and not torch.is_grad_enabled()
    with use_linears():
        dtype = dtype or head.norm.weight.dtype
        return _in_pieces(
            lambda part: head((tap[part].to(dtype) for tap in taps), grid, image_size, channels_last),
            len(taps[0]),
            batch_frames,
            piece,
        )


def _in_pieces(
    run: Callable[[slice], tuple[Tensor, ...] | Tensor],
    frames: int,
    batch_frames: tuple[int, int],
    piece: int | None,
) -> tuple[Tensor, ...]:
    pieces = slices(frames, piece)
    results: list[Tensor] = []
    for part in pieces:
        out = run(part)
        out = out if isinstance(out, tuple) else (out,)
        if len(pieces) == 1:
            results = list(out)
            break
        results = results or [o.new_empty(frames, *o.shape[1:]) for o in out]
        for whole, o in zip(results, out, strict=True):
            whole[part] = o
    return tuple(r.unflatten(0, batch_frames) for r in results)


def slices(total: int, piece: int | None) -> list[slice]:
    """`total` cut into consecutive slices of `piece`."""
    step = piece or total
    return [slice(start, start + step) for start in range(0, total, step)]
