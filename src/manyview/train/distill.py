"""Distillation from the initial weights with dense attention."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ..models.predictions import Predictions
from ..models.run_options import RunOptions
from ..models.vggt.model import VGGT
from .config import LossWeights
from .losses import camera_loss, dense_loss
from .sharding import shard


class Teacher:
    """A frozen copy of the model."""

    def __init__(self, model: VGGT) -> None:
        self._model = copy.deepcopy(model).requires_grad_(False)

    def shard(self, device: str, processes: int) -> None:
        """Shard the weights of the copy."""
        shard(self._model, device, processes)

    def loss(
        self,
        images: Tensor,
        found: Predictions,
        valid: Tensor,
        weights: LossWeights,
        delta: float,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Losses of the last cameras and the depth of `found` against the teacher's, with dense attention.

        Weighed by `weights.camera` and `weights.depth`; depth where `valid` [B, S, H, W], each pixel alike.
        `delta` is that of the Huber loss of cameras; `dtype` is the precision of the teacher's trunk.
        """
        options = RunOptions(dtype=dtype, head_frames_per_chunk=None, heads=("camera", "depth"))
        with torch.no_grad():
            want = self._model(images, None, options)
        assert found.pose_encoding_list is not None and found.z_depth is not None
        assert want.pose_encoding_list is not None and want.z_depth is not None
        camera = camera_loss(found.pose_encoding_list[-1:], want.pose_encoding_list[-1].float(), delta=delta)
        depth = dense_loss(
            found.z_depth[..., None],
            None,
            want.z_depth[..., None].float(),
            valid,
            gradient=weights.gradient,
        )
        return weights.camera * camera + weights.depth * depth
