"""One chunk of a stream through trunk and depth head; the camera head is the engine's own matter."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..attention.plan import Plan
from ..errors import UsageError
from ..models.network import Network
from ..models.run_options import RunOptions
from ..models.taps import TapStore, run_dense_head
from ..models.trunk import LaterFrames
from ..models.vggt import VGGT


@dataclasses.dataclass(frozen=True, eq=False)
class ChunkOutput:
    """What a chunk's own pass gives: camera tokens for the camera head, and depth."""

    camera_tokens: Float[Tensor, "batch frames dim"]
    z_depth: Float[Tensor, "batch frames height width"]
    depth_conf: Float[Tensor, "batch frames height width"]


def streamable(model: Network) -> VGGT:
    """The network if it can be streamed.

    Raises UsageError for networks whose world is not a first frame's camera, or without camera or depth head.
    """
    if not isinstance(model, VGGT):
        raise UsageError(
            f"{model.name} cannot be streamed: streaming needs a VGGT-type network, whose world is the first "
            "frame's camera"
        )
    for head in ("camera", "depth"):
        if head not in model.available_heads:
            raise UsageError(f"{model.name} cannot be streamed: it has no {head} head")
    return model


def run_chunk(
    model: VGGT,
    images: Float[Tensor, "batch frames 3 height width"],
    plan: Plan,
    run: RunOptions,
    starts_stream: bool,
    recorder: Any = None,
) -> ChunkOutput:
    """Camera tokens and depth of a chunk; its first frame defines the world only if it `starts_stream`."""
    heads = {"depth": model.depth_head}
    taps = TapStore(model.config, heads, run.head_piece)
    known = None if starts_stream else LaterFrames(model.aggregator)
    layout = model.aggregator.run_layers(images, plan, run, taps, recorder, known)
    size = (images.shape[-2], images.shape[-1])
    depth, conf = run_dense_head(
        model.depth_head,
        taps.take("depth"),
        layout.grid,
        size,
        (images.shape[0], images.shape[1]),
        run.head_piece,
    )
    assert taps.camera_tokens is not None
    return ChunkOutput(taps.camera_tokens, depth.squeeze(-1), conf)
