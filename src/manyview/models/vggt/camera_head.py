"""Camera head: refines one camera per frame in a few passes with shared weights (VGGT, section 3.3)."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..blocks import Block
from ..layers import LayerNorm, Linear, Mlp
from ..pose_encoding import POSE_NUMBERS, FrameAttention, activate_pose
from ..precision import PLAIN, Compute
from .config import CameraHeadConfig


class CameraHead(nn.Module):
    """Camera tokens of all frames to pose encodings: translation, quaternion xyzw, two fields of view.

    Every pass embeds the current estimate, modulates the camera tokens with it, runs the trunk over
    the frames and adds a correction. Fields of view pass a ReLU, the other numbers stay linear.
    """

    def __init__(self, dim: int, config: CameraHeadConfig) -> None:
        super().__init__()
        self.iterations = config.iterations
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_NUMBERS))
        self.trunk = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.token_norm = LayerNorm(dim)
        self.trunk_norm = LayerNorm(dim)
        self.embed_pose = Linear(POSE_NUMBERS, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), Linear(dim, 3 * dim))
        self.adaln_norm = LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.pose_branch = Mlp(dim, dim // 2, POSE_NUMBERS)

    def forward(
        self,
        camera_tokens: Float[Tensor, "batch frames dim"],
        iterations: int | None = None,
        across_frames: FrameAttention | None = None,
        compute: Compute = PLAIN,
    ) -> list[Float[Tensor, "batch frames 9"]]:
        """Activated pose encodings after each pass; the last one is the result.

        `across_frames` replaces the attention over all frames (None).
        """
        tokens = self.token_norm(camera_tokens, compute)
        batch, frames, _ = tokens.shape
        estimate: Tensor | None = None
        results = []
        for turn in range(iterations or self.iterations):
            # The estimate is an input here: gradients do not flow through its embedding, as upstream.
            current = (
                self.empty_pose_tokens.expand(batch, frames, -1) if estimate is None else estimate.detach()
            )
            modulation = self.poseLN_modulation(self.embed_pose(current.to(tokens.dtype)))
            shift, scale, gate = modulation.chunk(3, dim=-1)
            x = tokens + gate * (self.adaln_norm(tokens, compute) * (1 + scale) + shift)
            for place, block in enumerate(self.trunk, start=turn * len(self.trunk)):
                across = None if across_frames is None else partial(across_frames, place)
                x = block(x, across_frames=across, compute=compute)
            correction = self.pose_branch(self.trunk_norm(x, compute), compute)
            estimate = correction if estimate is None else estimate + correction
            results.append(activate_pose(estimate))
        return results
