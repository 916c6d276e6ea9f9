"""The images of a benchmark: noise, or views of a rendered scene."""

from __future__ import annotations

import functools

import torch
from jaxtyping import UInt8
from torch import Tensor

# So many views are drawn; more frames are shifted copies of them.
_DISTINCT_NOISE, _DISTINCT_VIEWS = 64, 48
_SHIFT = 3


@functools.lru_cache(maxsize=1)
def bench_images(
    kind: str, frames: int, height: int, width: int, seed: int
) -> UInt8[Tensor, "frames 3 height width"]:
    """Seeded images; some dozens are drawn, which repeat shifted where more are asked for."""
    if kind == "scene":
        from ..synthetic.demo import demo_scene

        rendered = demo_scene(min(frames, _DISTINCT_VIEWS), height, width).images[0]
        drawn = (rendered * 255).round().clamp(0, 255).to(torch.uint8)
    else:
        generator = torch.Generator().manual_seed(seed)
        size = (min(frames, _DISTINCT_NOISE), 3, height, width)
        drawn = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    rounds = -(-frames // len(drawn))
    result = torch.empty(frames, 3, height, width, dtype=torch.uint8)
    for turn in range(rounds):
        start = turn * len(drawn)
        part = result[start : start + len(drawn)]
        part.copy_(drawn[: len(part)].roll(turn * _SHIFT, dims=-1))
    return result
