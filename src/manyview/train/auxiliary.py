"""Auxiliary heads, used only in training: deep supervision of every global layer.

After every global layer a linear head predicts, from each patch token, the direction of its 3-D point in
the first camera's frame, and another predicts the camera from the camera token. They are stored in the
training checkpoint, never in exported weights.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .attention_loss import attention_loss
from .losses import direction_loss, huber
from .targets import Targets


class AuxiliaryHeads(nn.Module):
    """One direction head and one camera head per global layer."""

    def __init__(self, layers: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        self.direction = nn.ModuleList(nn.Linear(dim, 3) for _ in range(layers))
        self.camera = nn.ModuleList(nn.Linear(dim, 9) for _ in range(layers))
        self.direction_norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.camera_norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        generator = torch.Generator().manual_seed(seed)
        for head in (*self.direction, *self.camera):
            assert isinstance(head, nn.Linear)
            nn.init.normal_(head.weight, std=0.02, generator=generator)
            nn.init.zeros_(head.bias)


class LossRecorder:
    """Collects the auxiliary losses of one forward pass, as the recorder of the model."""

    def __init__(
        self,
        heads: AuxiliaryHeads,
        targets: Targets,
        supervised_layers: tuple[int, ...],
        attention_queries: int | None = None,
        read_out_from: int = 0,
    ) -> None:
        self._first = read_out_from
        self._heads = heads
        self._targets = targets
        self._supervised = supervised_layers
        self._queries = attention_queries
        self.direction: list[Tensor] = []
        self.deep_camera: list[Tensor] = []
        self.attention: list[Tensor] = []

    def global_attention(
        self,
        layer: int,
        q: Float[Tensor, "batch heads tokens dim"],
        k: Float[Tensor, "batch heads tokens dim"],
    ) -> None:
        """Compare two heads of a supervised layer with the correspondences."""
        if layer not in self._supervised or self._targets.matches is None:
            return
        frames, patches = self._targets.direction.shape[1:3]
        specials = q.shape[2] // frames - patches
        self.attention.append(attention_loss(q, k, self._targets.matches, specials, self._queries))

    def global_tokens(self, layer: int, tokens: Float[Tensor, "batch frames tokens dim"]) -> None:
        """Predict directions and cameras from the tokens after a global layer."""
        if layer < self._first:
            return
        targets, heads = self._targets, self._heads
        patches = tokens[:, :, tokens.shape[2] - targets.direction.shape[2] :]
        read = heads.direction[layer](heads.direction_norm[layer](patches.float()))
        self.direction.append(direction_loss(read, targets.direction, targets.direction_valid))
        camera = heads.camera[layer](heads.camera_norm[layer](tokens[:, :, 0].float()))
        self.deep_camera.append(huber(camera - targets.pose_encoding).mean())

    @staticmethod
    def mean(terms: list[Tensor]) -> Tensor:
        """Mean of the collected terms; zero when there is none."""
        return torch.stack(terms).mean() if terms else torch.zeros(())
