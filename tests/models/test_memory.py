"""Memory of the full-size model by counting live bytes on a device without storage."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from manyview.bench.live_bytes import LiveBytes
from manyview.models.da3.config import DA3_BASE
from manyview.models.da3.model import DA3
from manyview.models.network import Network
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import VGGT_1B
from manyview.models.vggt.model import VGGT

pytestmark = pytest.mark.usefixtures("unchecked")

FEW, MANY = 32, 40  # growth is the same from 48 to 80; of fewer frames heads hold most


def peak_bytes(
    model: Network,
    frames: int,
    heads: tuple[str, ...] = ("camera", "depth"),
    size: tuple[int, int] = (392, 518),
    **options: Any,
) -> int:
    images = torch.empty(1, frames, 3, *size, dtype=torch.uint8, device="meta")
    run = RunOptions(dtype=torch.bfloat16, heads=heads, **options)
    with torch.no_grad(), LiveBytes() as live:
        model(images, options=run)
    return live.peak + images.numel()


@pytest.fixture(scope="module")
def vggt_1b() -> VGGT:
    """Of full width, with fewer layers: what they hold beside the taps comes and goes."""
    assert VGGT_1B.encoder is not None
    encoder = dataclasses.replace(VGGT_1B.encoder, depth=2)
    with torch.device("meta"):
        return VGGT(
            dataclasses.replace(VGGT_1B, track_head=None, encoder=encoder, depth=4, taps=(0, 1, 2, 3))
        )


def test_growth_per_frame_is_at_most_25_megabytes(vggt_1b):
    """With points: without them it is 4 MB less."""
    options = {"frames_per_chunk": 8, "mlp_tokens_per_chunk": 8 * 1041, "head_frames_per_chunk": 1}
    many, few = (
        peak_bytes(vggt_1b, frames, ("camera", "depth", "points"), **options) for frames in (MANY, FEW)
    )
    growth = (many - few) / (MANY - FEW)
    # x, its normalised copy, q, k, v, output, one frame tap (2.13 MB each), projected taps, image.
    assert 15e6 < growth <= 25e6


def test_growth_of_da3_base_is_at_most_15_megabytes() -> None:
    with torch.device("meta"):
        model = DA3(DA3_BASE)
    options = {"frames_per_chunk": 8, "mlp_tokens_per_chunk": 8 * 973, "head_frames_per_chunk": 1}
    # Which view is the reference is decided by numbers, which meta tensors do not have.
    many, few = (
        peak_bytes(model, frames, size=(378, 504), reference_view="first", **options) for frames in (32, 24)
    )
    assert 10e6 < (many - few) / 8 <= 15e6


def test_the_count_notices_waste(vggt_1b):
    lean, unsplit = (
        peak_bytes(vggt_1b, 8, ("camera",), frames_per_chunk=frames, mlp_tokens_per_chunk=tokens)
        for frames, tokens in ((4, 4 * 1041), (None, None))
    )
    # The whole hidden layer of one MLP, before and after its activation: 2 x 4096 bf16 a token.
    assert unsplit - lean > 0.2 * 8 * 1041 * 4096 * 2


def test_live_bytes_counts_what_is_alive():
    with LiveBytes() as live:
        a = torch.empty(1000, device="meta")
        b = a.view(10, 100) + 1
        del a
        c = b[:5]
        del b
        torch.empty(200, device="meta")
        del c
    assert (live.peak, live.live) == (8000, 0)
