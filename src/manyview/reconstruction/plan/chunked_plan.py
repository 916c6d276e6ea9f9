"""Memory of a run in chunks: anchors solved once, then chunks of views attached, results on disk."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from ...attention.methods.anchors import AnchorKeys
from ...errors import MemoryLimitError
from ...files.array_file import Shapes
from ...models.run_options import RunOptions
from ..result.arrays import array_shapes
from .machine import Machine
from .preflight import Preflight, Request, format_gib, run_options_candidates

_CHUNKS = (64, 32, 16, 8, 4, 2, 1)
# Pages of files of images and results that are in memory at a time.
_MAPPED = 8 << 20


def preflight_chunks(
    request: Request, machine: Machine, chunk: int | None = None, flops_per_s: float | None = None
) -> Preflight:
    """The run in chunks of `chunk` views, or of as many as fit (at most 64). Raises MemoryLimitError."""
    sizes = _CHUNKS if chunk is None else (chunk,)
    for views in sizes:
        for options in run_options_candidates(request):
            peak = long_peak_bytes(request, views, options, machine.device)
            if peak <= machine.usable_bytes:
                seconds = request.seconds(machine, flops_per_s)
                return Preflight(request, machine, options, peak, seconds, views, disk_bytes(request))
    remedy = "fewer anchors, smaller images or --precision bf16"
    raise MemoryLimitError(
        f"{request.views} views in chunks of {sizes[-1]} need about {format_gib(peak)} beside the weights, "
        f"and {machine.name} has {format_gib(machine.free_bytes)} free; use "
        + (remedy if sizes[-1] == 1 else f"a smaller --chunk, {remedy}")
    )


def long_peak_bytes(
    request: Request, chunk: int, options: RunOptions, device: torch.device | None = None
) -> int:
    """Expected peak beside the weights: the anchors' own pass or a chunk's, with the anchors' K/V."""
    layers = [layer.keys for layer in request.plan.layers if isinstance(layer.keys, AnchorKeys)]
    most = max((keys.frames for keys in layers), default=1)
    # Anchors evenly in time are not nested: each number of them brings its own.
    each = {keys.frames for keys in layers if keys.choice == "even"} - {most}
    anchors = min(request.views, most + sum(each) + 1)
    frame = 2 * request.layout.tokens_per_frame * request.config.dim * request.dtype.itemsize
    memory = sum(min(keys.frames, request.views) * frame for keys in layers)
    joined = math.ceil(2.5 * min(most, request.views) * frame)  # K/V of a layer, widened for the frame itself
    choosing = selection_chunk(request.layout.tokens_per_frame, options)
    passes = [dataclasses.replace(request, views=n) for n in (anchors, min(chunk, request.views))]
    peak = max(part.peak_bytes(options, device, shared=True) for part in passes)
    if request.plan.needs_frame_features:
        some = dataclasses.replace(request, views=min(choosing, request.views))
        peak = max(peak, some.peak_bytes(options, device, encoder_only=True, shared=True))
    # What anchors are chosen by, with the copies that the choice makes.
    features = request.views * request.config.dim * 4 * (4 if request.plan.needs_frame_features else 0)
    return memory + joined + features + peak + _MAPPED


def selection_chunk(tokens_per_frame: int, options: RunOptions) -> int:
    """Frames per encoder pass while anchors are chosen: enough to keep a device busy."""
    most = max(1, 8192 // tokens_per_frame)
    return min(options.frames_per_chunk or most, most)


def result_shapes(request: Request, masked: bool = False) -> Shapes:
    """Types and shapes of the arrays of the result."""
    heads = (*request.heads, "masks") if masked else request.heads
    return array_shapes(request.views, request.height, request.width, heads)


def disk_bytes(request: Request) -> int:
    """What the result takes on the disk."""
    return sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in result_shapes(request).values())
