"""What camera heads share: the activated pose encoding, and attention across frames by a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..attention.global_attention import GlobalAttention
from ..attention.layout import TokenLayout
from ..attention.protocols import LayerRun
from .blocks import BoundAttention

POSE_NUMBERS = 9

# (place of the block among all that run, its attention, normalised tokens [B, S, C]) to tokens
FrameAttention = Callable[[int, BoundAttention, Tensor], Tensor]


def frame_attention(
    attend: GlobalAttention, layout: TokenLayout, memory: dict[Any, Any], kernels: str, tokens: int = 1
) -> FrameAttention:
    """A plan's attention for a camera head, whose frames have few `tokens` each."""
    frames = TokenLayout(layout.frames, tokens - 1, (1, 1), layout.reference_frame)
    features = memory.get("frame features")
    return lambda place, attention, x: attend(
        attention, x, frames, None, LayerRun(place, frame_features=features, memory=memory, kernels=kernels)
    )


def activate_pose(raw: Float[Tensor, "*batch 9"]) -> Float[Tensor, "*batch 9"]:
    """Translation and quaternion as they are, fields of view made non-negative."""
    return torch.cat([raw[..., :7], F.relu(raw[..., 7:])], dim=-1)
