"""Distillation: the initial weights with dense attention tell cameras and depth to the model in training."""

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
    """A copy of the model as it is now, which stays that way."""

    def __init__(self, model: VGGT) -> None:
        self._model = copy.deepcopy(model).requires_grad_(False)

    def shard(self, device: str, processes: int) -> None:
        """Share out the copy's weights too."""
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
        """Losses of the last cameras and the depth of `found` against what the copy says, dense.

        Weighed by `weights.camera` and `weights.depth`; depth where `valid` [B, S, H, W], each pixel alike.
        `delta` rounds off the camera loss; `dtype` is the precision of the copy's trunk.
        """
        options = RunOptions(dtype=dtype, head_frames_per_chunk=None, heads=("camera", "depth"))
        with torch.no_grad():
            told = self._model(images, None, options)
        assert found.pose_encoding_list is not None and found.z_depth is not None
        assert told.pose_encoding_list is not None and told.z_depth is not None
        camera = camera_loss(found.pose_encoding_list[-1:], told.pose_encoding_list[-1].float(), delta=delta)
        depth = dense_loss(
            found.z_depth[..., None], None, told.z_depth[..., None].float(), valid, gradient=weights.gradient
        )
        return weights.camera * camera + weights.depth * depth
