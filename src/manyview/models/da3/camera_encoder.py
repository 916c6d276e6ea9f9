"""Known cameras to camera tokens: a few blocks over the views of a scene (arXiv 2511.10647, section 3.1)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ...geometry.cameras import cameras_to_pose_encoding, invert_rigid
from ..blocks import Block
from ..layers import LayerNorm, Mlp
from ..pose_encoding import POSE_NUMBERS
from .config import CameraEncoderConfig


class CameraEncoder(nn.Module):
    """Poses and fields of view of all views of a scene to a token each, in float32 whatever the run's."""

    def __init__(self, dim: int, config: CameraEncoderConfig) -> None:
        super().__init__()
        self.pose_branch = Mlp(POSE_NUMBERS, dim // 2, dim)
        self.token_norm = LayerNorm(dim)
        self.trunk = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.trunk_norm = LayerNorm(dim)

    def forward(
        self,
        cam_from_world: Float[Tensor, "batch frames 3 4"],
        intrinsics: Float[Tensor, "batch frames 3 3"],
        size: tuple[int, int],
    ) -> Float[Tensor, "batch frames dim"]:
        """Tokens of cameras whose `intrinsics` are in pixels of images of `size` (height, width).

        The principal point is taken to be the centre of the image.
        """
        encoding = cameras_to_pose_encoding(invert_rigid(cam_from_world), intrinsics, *size)
        x = self.token_norm(self.pose_branch(encoding.to(self.token_norm.weight.dtype)))
        for block in self.trunk:
            x = block(x)
        return self.trunk_norm(x)
