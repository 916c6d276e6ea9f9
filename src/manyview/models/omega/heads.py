"""Heads of VGGT-Ω: cameras and text read the special tokens of all frames, depth reads patches."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...attention.softmax.sdpa import attend
from ...distributed.ranks import Ranks
from ..blocks import BoundAttention
from ..dense_head import FeatureTapMaps, Pyramid
from ..dense_ops import activate_confidence, activate_values
from ..layers import Conv2d, LayerNorm, Linear
from ..part_configs import DenseHeadConfig
from ..pose_encoding import POSE_NUMBERS, FrameAttention, activate_pose
from ..precision import PLAIN, Compute
from .blocks import omega_block
from .config import ReadoutConfig

_LEAST_ANGLE = 0.01  # added to the fields of view, radians


def _blocks(dim: int, config: ReadoutConfig) -> nn.ModuleList:
    return nn.ModuleList(omega_block(dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth))


class OmegaCameraHead(nn.Module):
    """Special tokens of all frames to pose encodings, in one pass.

    The encoding is VGGT's: translation, quaternion xyzw, two fields of view.
    """

    def __init__(self, dim: int, config: ReadoutConfig) -> None:
        super().__init__()
        self.token_norm = LayerNorm(dim)
        self.trunk = _blocks(dim, config)
        self.trunk_norm = LayerNorm(dim)
        self.camera_branch = nn.Sequential(Linear(dim, dim // 2), nn.GELU(), Linear(dim // 2, POSE_NUMBERS))

    def forward(
        self,
        specials: Float[Tensor, "batch frames specials dim"],
        across_frames: FrameAttention | None = None,
        compute: Compute = PLAIN,
    ) -> Float[Tensor, "batch frames 9"]:
        """`across_frames` replaces the attention among the special tokens of all frames (None)."""
        x = self.token_norm(specials, compute).flatten(1, 2)
        inplace = not torch.is_grad_enabled()
        for place, block in enumerate(self.trunk):
            across = None if across_frames is None else partial(across_frames, place)
            x = block(x, across_frames=across, inplace=inplace, compute=compute)
        cameras = x.unflatten(1, specials.shape[1:3])[:, :, 0]
        pose = activate_pose(self.camera_branch(self.trunk_norm(cameras, compute)))
        return torch.cat([pose[..., :7], pose[..., 7:] + _LEAST_ANGLE], dim=-1)


class TextHead(nn.Module):
    """Special tokens of all frames to one vector that a text encoder's can be compared with."""

    def __init__(self, dim: int, config: ReadoutConfig) -> None:
        super().__init__()
        self.language_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.token_norm = LayerNorm(dim)
        self.readout_blocks = _blocks(dim, config)
        self.language_token_norm = LayerNorm(dim)
        self.embedding_projector = nn.Sequential(
            Linear(dim, dim // 2), nn.GELU(), LayerNorm(dim // 2), Linear(dim // 2, dim)
        )

    def forward(
        self,
        specials: Float[Tensor, "batch frames specials dim"],
        compute: Compute = PLAIN,
        ranks: Ranks | None = None,
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """The language token after all blocks, and its projection at unit length.

        With `ranks` special tokens are of this rank's frames; the language token is the same on all ranks.
        """
        tokens = self.token_norm(specials, compute).flatten(1, 2)
        x = torch.cat([self.language_token.expand(len(tokens), -1, -1), tokens], dim=1)
        inplace = not torch.is_grad_enabled()
        across = None if ranks is None else partial(_joined_attention, ranks)
        for block in self.readout_blocks:
            x = block(x, across_frames=across, inplace=inplace, compute=compute)
        token = self.language_token_norm(x[:, 0], compute)
        return token, F.normalize(self.embedding_projector(token), dim=-1)


def _joined_attention(
    ranks: Ranks, attention: BoundAttention, x: Float[Tensor, "batch tokens dim"]
) -> Float[Tensor, "batch tokens dim"]:
    """Attention of this rank's tokens, of which the first is every rank's, to those of all ranks."""
    arriving = [(own, ranks.gather(own[:, :, 1:], 2)) for own in attention.keys_values(x)]
    queries = attention.queries(x)
    k, v = (torch.cat([own[:, :, :1], others.wait()], 2) for own, others in arriving)
    return attention.output(attend(queries, k, v))


class OmegaDenseHead(FeatureTapMaps):
    """Depth and confidence of each frame: a DPT up to a quarter of a patch's side, then one linear layer.

    Unlike VGGT's, residual units keep their input as it is, and the last fusion does not enlarge.
    """

    def __init__(self, dim: int, config: DenseHeadConfig, patch_size: int) -> None:
        super().__init__(dim, config.out_channels)
        self.enlarge = patch_size // 4
        self.scratch = Pyramid(config.features, config.out_channels, relu_skip=False)
        self.proj, self.proj_conf = (Conv2d(config.features, self.enlarge**2, 1) for _ in range(2))

    def largest_map(self, grid: tuple[int, int], image_size: tuple[int, int]) -> int:
        return max(super().largest_map(grid, image_size), 16 * grid[0] * grid[1] * self.proj.in_channels)

    def forward(
        self,
        taps: Iterable[Float[Tensor, "frames patches width"]],
        grid: tuple[int, int],
        image_size: tuple[int, int],
        channels_last: bool = False,
        compute: Compute = PLAIN,
    ) -> tuple[Float[Tensor, "frames height width 1"], Float[Tensor, "frames height width"]]:
        """Projected taps of some frames to depth and confidence; `grid`, `image_size` are (rows, columns).

        As in VGGT's head, only what follows the last fusion runs in the precision of the weights.
        """
        aspect = image_size[1] / image_size[0]
        maps = self.maps(taps, grid, aspect, channels_last, compute)
        x = self.scratch.fuse(self.scratch.laterals(maps, compute), 1, compute)
        x = x.to(self.dtype)
        raw = (self.conv_with_plane(conv, x, aspect, compute) for conv in (self.proj, self.proj_conf))
        depth, confidence = (F.pixel_shuffle(each, self.enlarge)[:, 0] for each in raw)
        return activate_values(depth[..., None], "exp"), activate_confidence(confidence, "expp1")
