"""Camera tokens to poses and fields of view, each view by itself (arXiv 2511.10647, section 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...geometry.cameras import pose_encoding_to_cameras
from ..layers import Linear
from ..precision import PLAIN, Compute

_SMALLEST_TANGENT = 1e-6


class CameraDecoder(nn.Module):
    """Two layers, then translation, quaternion xyzw and the two fields of view of `world_from_cam`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(Linear(dim, dim), nn.ReLU(), Linear(dim, dim), nn.ReLU())
        self.fc_t, self.fc_qvec = Linear(dim, 3), Linear(dim, 4)
        self.fc_fov = nn.Sequential(Linear(dim, 2), nn.ReLU())

    def forward(
        self, camera_tokens: Float[Tensor, "batch frames dim"], compute: Compute = PLAIN
    ) -> Float[Tensor, "batch frames 9"]:
        """Pose encodings; fields of view, height first, are not negative."""
        first, _, second, _ = self.backbone
        x = F.relu(second(F.relu(first(camera_tokens, compute)), compute))
        fov = F.relu(self.fc_fov[0](x, compute))
        return torch.cat([self.fc_t(x, compute), self.fc_qvec(x, compute), fov], dim=-1)


def decoded_cameras(
    pose_encoding: Float[Tensor, "*batch 9"], height: int, width: int
) -> tuple[Float[Tensor, "*batch 3 4"], Float[Tensor, "*batch 3 3"]]:
    """(world_from_cam, intrinsics) of pose encodings, for images of `height` x `width` pixels."""
    return pose_encoding_to_cameras(pose_encoding, height, width, _SMALLEST_TANGENT)
