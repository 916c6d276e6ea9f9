"""Between trunk and heads: keep of each tapped layer only what a head reads, then run heads in pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .dense_head import FeatureTapMaps
from .layers import in_slices
from .precision import PLAIN, Compute, ConvertedWeights
from .run_options import RunOptions
from .transfer import CudaCopies, in_slices_to_host

_INT_MAX = 2**31 - 1


@runtime_checkable
class FeatureTapSizes(Protocol):
    """What is read: outputs of the pairs `taps`, and special tokens of the last of `pairs`."""

    @property
    def special_tokens(self) -> int: ...
    @property
    def taps(self) -> tuple[int, int, int, int]: ...
    @property
    def pairs(self) -> int: ...


class FeatureTaps:
    """Reads taps as the trunk makes them, of the pairs `taps` (None: those of `config`).

    Of patches it keeps the heads' projections, in the precision of the run; of special tokens only
    the last layer's, the first `kept` of a frame. Projections are made in the options' `head_dtype` (None:
    that of the head's weights), `head_frames_per_chunk` frames at a time. Everything else a layer produced
    can be freed at once.
    """

    def __init__(
        self,
        config: FeatureTapSizes,
        heads: Mapping[str, FeatureTapMaps],
        options: RunOptions,
        kept: int = 1,
        taps: tuple[int, int, int, int] | None = None,
    ) -> None:
        self._heads, self._options, self._kept = heads, options, kept
        self._special, self._taps = config.special_tokens, taps or config.taps
        self._last = config.pairs - 1
        self.layers = {*(self._taps if heads else ()), self._last}
        self._projected: dict[str, list[Tensor]] = {name: [] for name in heads}
        self.special_tokens: Tensor | None = None

    def __call__(
        self, layer: int, frame_tokens: Tensor, global_tokens: Tensor, compute: Compute = PLAIN
    ) -> None:
        if layer == self._last:
            parts = (tokens[:, :, : self._kept] for tokens in (frame_tokens, global_tokens))
            self.special_tokens = torch.cat(tuple(parts), dim=-1)
        if layer not in self._taps:
            return
        frame, across = frame_tokens.flatten(0, 1), global_tokens.flatten(0, 1)
        for name, head in self._heads.items():
            projected = self._projected[name]
            while len(projected) < 4 and self._taps[len(projected)] == layer:
                projected.append(self._project(head, len(projected), frame, across, compute))

    @property
    def camera_tokens(self) -> Tensor | None:
        """The first special token of every frame, [B, S, 2 C]."""
        return None if self.special_tokens is None else self.special_tokens[:, :, 0]

    def take(self, name: str) -> list[Tensor]:
        """Projected taps of one head, each [B*S, patches, width]; they are no longer kept here."""
        return self._projected.pop(name)

    def _project(
        self, head: FeatureTapMaps, index: int, frame: Tensor, across: Tensor, compute: Compute
    ) -> Tensor:
        dtype = self._options.head_dtype or head.dtype

        def project(part: slice) -> Tensor:
            halves = (frame[part, self._special :], across[part, self._special :])
            both = self.joined(index, *halves, dtype, compute)
            return head.project(both, index, compute).to(frame.dtype)

        return in_slices(project, len(frame), self._options.head_frames_per_chunk)[0]

    def joined(
        self, index: int, frame: Tensor, across: Tensor, dtype: torch.dtype, compute: Compute
    ) -> Tensor:
        """What a head reads of tap `index`, in `dtype`: the outputs of both blocks side by side."""
        return torch.cat([frame, across], dim=-1).to(dtype)


def run_dense_head(
    head: FeatureTapMaps,
    taps: list[Tensor],
    grid: tuple[int, int],
    shape: Sequence[int],
    options: RunOptions,
    weights: ConvertedWeights | None = None,
    on_host: bool = False,
    **wanted: bool,
) -> tuple[Tensor, ...]:
    """Outputs of a dense head, each [B, S, ...], for images of `shape` [B, S, 3, H, W], as `options` say.

    `weights`: converted weights that several passes share (None: kept for this call). `on_host`: the outputs
    are wanted in host memory, and have arrived there. `wanted` asks the head for outputs that it leaves out
    by default.
    """
    channels_last = options.channels_last
    if channels_last is None:
        channels_last = taps[0].device.type == "cpu" and not torch.is_grad_enabled()
    compute = Compute.for_heads(options, weights)
    dtype = options.head_dtype or head.dtype
    size = (shape[-2], shape[-1])

    def run(part: slice) -> Sequence[Tensor] | Tensor:
        return head((tap[part].to(dtype) for tap in taps), grid, size, channels_last, compute, **wanted)

    frames, device = len(taps[0]), taps[0].device
    # PyTorch resizes maps with channels last by 32-bit offsets on CUDA, and wrongly beyond them.
    most = max(1, _INT_MAX // head.largest_map(grid, size))
    piece = min(options.head_frames_per_chunk or frames, most)
    if on_host and device.type == "cuda":
        outputs = in_slices_to_host(run, frames, piece, CudaCopies(device))
    else:
        outputs = in_slices(run, frames, piece)
    return tuple(output.unflatten(0, shape[:2]) for output in outputs)
