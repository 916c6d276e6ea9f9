"""Reference implementation of Depth Anything 3 in plain PyTorch, timed beside the library.

The same weights and results as `models.da3` for images alone, written as `tools.bench.reference` is: the
equations (arXiv 2511.10647) in the best plain PyTorch we know how to write.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from manyview.attention.plan import Plan
from manyview.geometry.cameras import invert_rigid, relative_to_first
from manyview.models.da3.camera_decoder import decoded_cameras
from manyview.models.da3.model import DA3
from manyview.models.da3.reference_view import reference_view
from manyview.models.predictions import Predictions
from manyview.models.recording import mark
from manyview.models.run_options import RunOptions
from tools.bench.reference import (
    autocast_to,
    block_of,
    linear_of,
    norm_of,
    normalised,
    rotary_tables,
    token_places,
)
from tools.bench.reference_heads import ReferenceDPT


class ReferenceDA3(nn.Module):
    """Dense Depth Anything 3 on the weights of `model`; the plan and the pieces of options are ignored."""

    def __init__(self, model: DA3) -> None:
        super().__init__()
        self.model = model
        self.dense = ReferenceDPT(model.head)

    def forward(
        self,
        images: Tensor,
        plan: Plan | None = None,
        options: RunOptions | None = None,
        recorder: Any = None,
    ) -> Predictions:
        """Predictions for images [S, 3, H, W] or [B, S, 3, H, W], uint8 or in [0, 1]."""
        model, options = self.model, options or RunOptions()
        images = images if images.ndim == 5 else images[None]
        batch, frames, _, height, width = images.shape
        wanted = next(model.parameters()).dtype
        with autocast_to(images.device, options.dtype):
            taps, cameras = self._tokens(normalised(images), options.dtype or wanted, recorder)
        layout = model.config.layout(frames, height, width)
        result = Predictions(height, width, layout)
        if "camera" in options.heads:
            result.cameras = self._cameras(cameras.to(wanted), height, width)
            mark(recorder, "camera head")
        if "depth" in options.heads:
            values, confidence = self.dense(taps, layout.grid, (height, width))
            result.z_depth = values.squeeze(-1).unflatten(0, (batch, frames))
            result.depth_conf = confidence.unflatten(0, (batch, frames))
            mark(recorder, "depth head")
        return result

    def _tokens(
        self, images: Float[Tensor, "b s 3 h w"], lowest: torch.dtype, recorder: Any
    ) -> tuple[list[Tensor], Tensor]:
        """Taps [B * S, P, 2 C] and the last camera tokens [B, S, 2 C], in the order of the images."""
        trunk, config = self.model.transformer, self.model.config
        batch, frames, _, height, width = images.shape
        grid = (height // config.patch_size, width // config.patch_size)
        embed = trunk.patch_embed.proj
        x = F.conv2d(images.flatten(0, 1), embed.weight, embed.bias, stride=embed.stride)
        x = x.flatten(2).transpose(1, 2)
        positions = trunk.position_embedding(grid)
        cls = (trunk.cls_token + positions[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([cls.to(x.dtype), x + positions[:, 1:]], dim=1)
        count, dim = x.shape[1:]
        for number in range(config.alternating_from):
            if number == config.alternating_from - 1:
                entering = x[:, 0].reshape(batch, frames, dim).clone().float()
            x = block_of(trunk.blocks[number], x)
        order = self._order(entering)
        rows = torch.arange(batch, device=x.device)[:, None]
        x = x.reshape(batch, frames, count, dim)
        x = x[rows, order] if frames > 2 else x
        first, others = trunk.camera_token[:, :1], trunk.camera_token[:, 1:]
        camera = torch.cat([first, others.expand(-1, frames - 1, -1)], dim=1).expand(batch, -1, -1)
        x = torch.cat([camera[:, :, None].to(x.dtype), x[:, :, 1:]], dim=2)
        mark(recorder, "encoder")
        places = token_places(grid, 1, images.device)
        sizes = (dim // config.num_heads, config.rope_base, lowest)
        within = rotary_tables(places, *sizes)
        cos, sin = rotary_tables(places.clamp(max=1), *sizes)
        across = (cos.repeat(frames, 1), sin.repeat(frames, 1))
        taps, kept = [], x
        for number in range(config.alternating_from, config.layers):
            if number % 2 == 0:
                x = block_of(trunk.blocks[number], x.view(-1, count, dim), within).view_as(x)
                if {number + 1, number} & {*config.taps, config.layers - 1}:
                    kept = x.clone()  # blocks add in place
                mark(recorder, "frame layers")
            else:
                x = block_of(trunk.blocks[number], x.view(batch, -1, dim), across, recorder).view_as(x)
                mark(recorder, "global layers")
            if number in config.taps:
                taps.append(torch.cat([kept[:, :, 1:], norm_of(trunk.norm, x[:, :, 1:])], dim=-1))
        back = order.argsort(1)
        cameras = torch.cat([kept[:, :, 0], x[:, :, 0]], dim=-1)
        if frames > 2:
            taps = [tap[rows, back] for tap in taps]
        return [tap.flatten(0, 1) for tap in taps], cameras[rows, back]

    def _order(self, entering: Float[Tensor, "b s c"]) -> Tensor:
        """The view at each place: the reference view first, from three views on."""
        batch, frames, _ = entering.shape
        if frames < 3:
            return torch.arange(frames, device=entering.device).expand(batch, -1)
        lists = []
        for chosen in reference_view(entering).tolist():
            lists.append([chosen, *(view for view in range(frames) if view != chosen)])
        return torch.tensor(lists, device=entering.device)

    def _cameras(self, tokens: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        head: Any = self.model.cam_dec
        x = F.relu(linear_of(head.backbone[2], F.relu(linear_of(head.backbone[0], tokens))))
        parts = linear_of(head.fc_t, x), linear_of(head.fc_qvec, x), F.relu(linear_of(head.fc_fov[0], x))
        world_from_cam, intrinsics = decoded_cameras(torch.cat(parts, dim=-1), height, width)
        return relative_to_first(invert_rigid(world_from_cam)), intrinsics
