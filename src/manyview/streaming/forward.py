"""One chunk of a stream through trunk and depth head; the camera head is the engine's own matter."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..attention.plan import Plan
from ..errors import UsageError
from ..models.feature_taps import TapStore, run_dense_head
from ..models.network import Network
from ..models.pi3.model import Pi3
from ..models.pi3.model_x import Pi3X
from ..models.run_options import RunOptions, with_its_kernels
from ..models.vggt.model import VGGT
from ..models.vggt.trunk import LaterFrames
from ..reconstruction.run.anchored import why_not_anchored


@dataclasses.dataclass(frozen=True, eq=False)
class ChunkOutput:
    """What a chunk's own pass gives: camera tokens for the camera head, and depth."""

    camera_tokens: Float[Tensor, "batch frames dim"]
    z_depth: Float[Tensor, "batch frames height width"]
    depth_conf: Float[Tensor, "batch frames height width"]


def streamable(model: Network) -> VGGT:
    """The network if it can be streamed chunk by chunk.

    Raises UsageError for networks whose world is not a first frame's camera, or without camera or depth head.
    """
    if not isinstance(model, VGGT):
        why = (
            "it has no first frame whose camera is the world"
            if isinstance(model, Pi3)
            else "its layers of camera and register tokens join all frames, whatever the plan"
        )
        raise UsageError(f"{model.name} cannot be streamed in chunks: {why}{_instead(model)}")
    return _with_heads(model)


def anchorable(model: Network, plan: Plan) -> VGGT | Pi3:
    """The network if it can be streamed by anchors under `plan`. Raises UsageError with the reason if not."""
    problem = why_not_anchored(model, plan)
    if problem is not None:
        raise UsageError(f"{plan} cannot stream by anchors with {model.name}: {problem}")
    assert isinstance(model, VGGT | Pi3)
    return model if isinstance(model, Pi3) else _with_heads(model)


def _instead(model: Network) -> str:
    anchors = isinstance(model, Pi3) and not isinstance(model, Pi3X)
    return "; use --engine anchors" if anchors else "; use `manyview reconstruct`"


def _with_heads(model: VGGT) -> VGGT:
    for head in ("camera", "depth"):
        if head not in model.available_heads:
            raise UsageError(f"{model.name} cannot be streamed: it has no {head} head")
    return model


@with_its_kernels
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
    taps = TapStore(model.config, heads, run.head_frames_per_chunk, dtype=run.head_dtype)
    known = None if starts_stream else LaterFrames(model.aggregator)
    layout = model.aggregator.run_layers(images, plan, run, taps, recorder, known)
    size = (images.shape[-2], images.shape[-1])
    depth, conf = run_dense_head(
        model.depth_head,
        taps.take("depth"),
        layout.grid,
        size,
        (images.shape[0], images.shape[1]),
        run.head_frames_per_chunk,
        run.head_dtype,
        run.channels_last,
    )
    assert taps.camera_tokens is not None
    return ChunkOutput(taps.camera_tokens, depth.squeeze(-1), conf)
