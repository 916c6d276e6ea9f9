"""What camera heads share: pose encodings, cameras in the first one's frame, attention by a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..attention.global_attention import GlobalAttention
from ..attention.layout import TokenLayout
from ..attention.protocols import LayerRun
from ..distributed.ranks import Ranks
from ..geometry.cameras import relative_to_first
from .blocks import BoundAttention

POSE_NUMBERS = 9

# (place of the block among all that run, its attention, normalised tokens [B, S, C]) to tokens
FrameAttention = Callable[[int, BoundAttention, Tensor], Tensor]


def frame_attention(
    attend: GlobalAttention,
    layout: TokenLayout,
    memory: dict[Any, Any],
    kernels: str,
    tokens: int = 1,
    ranks: Ranks | None = None,
) -> FrameAttention:
    """A plan's attention for a camera head, whose frames have few `tokens` each.

    `layout` is that of the whole scene; with `ranks` the head has the tokens of this rank's frames.
    """
    whole = TokenLayout(layout.frames, tokens - 1, (1, 1), layout.reference_frame)
    own = whole if ranks is None else whole.part(ranks.split)
    run = LayerRun(
        frame_features=memory.get("frame features"), memory=memory, kernels=kernels, ranks=ranks, whole=whole
    )
    return lambda place, attention, x: attend(attention, x, own, None, dataclasses.replace(run, layer=place))


def in_first_camera(
    cam_from_world: Float[Tensor, "batch frames 3 4"], ranks: Ranks | None
) -> Float[Tensor, "batch frames 3 4"]:
    """Cameras in the frame of the scene's first one, which with `ranks` is the first rank's."""
    if ranks is None:
        return relative_to_first(cam_from_world)
    first = torch.zeros(len(cam_from_world), 1, dtype=torch.long, device=cam_from_world.device)
    with_first = torch.cat([ranks.take(cam_from_world, first), cam_from_world], dim=1)
    return relative_to_first(with_first)[:, 1:]


def activate_pose(raw: Float[Tensor, "*batch 9"]) -> Float[Tensor, "*batch 9"]:
    """Translation and quaternion as they are, fields of view made non-negative."""
    return torch.cat([raw[..., :7], F.relu(raw[..., 7:])], dim=-1)
