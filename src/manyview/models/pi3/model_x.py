"""Pi3X: π³ with a convolutional head, metric scale, and known cameras and depth as optional inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...attention.layout import TokenLayout
from ...distributed.frames import FrameSplit
from ...distributed.ranks import Ranks
from ...errors import UsageError
from ..alternating import Known
from ..encoder import DinoEncoder, PatchConv
from ..precision import Compute
from ..priors import Priors
from ..rotary import frame_rotation
from ..run_options import RunOptions
from .config import Pi3Config, Pi3XConfig
from .conv_head import ConvHead
from .metric import MetricDecoder
from .model import Pi3
from .pose_injection import PoseInjection
from .priors import depth_scale, mask_of, rays_of, relative_poses

_MOST_LOG_DEPTH = 15.0


INJECT_EVERY = 4
"""Poses enter after pairs 0, 4, 8, ..."""


class Pi3X(Pi3):
    """Pi3X. Its multimodal branch acts only where something is known, and may be left out of the weights."""

    config: Pi3XConfig
    why_not_attachable = "its metric scale comes from all frames at once"

    def _add_pixel_heads(self, config: Pi3Config) -> None:
        assert isinstance(config, Pi3XConfig)
        widths, last = config.conv_widths, config.conv_last
        self.point_head = ConvHead(config.point_dim, widths, (2, 1), last)  # type: ignore[assignment]
        self.conf_head = ConvHead(config.confidence_dim, widths, (1,), last)  # type: ignore[assignment]
        self.metric_token = nn.Parameter(torch.zeros(1, 1, 2 * config.dim))
        self.metric_decoder = MetricDecoder(
            2 * config.dim, config.metric_dim, config.decoder_depth, config.metric_heads, config.metric_out
        )
        self.metric_head = nn.Linear(config.metric_out, 1)
        if config.optional_inputs:
            dim, patch = config.dim, config.patch_size
            self.depth_encoder = DinoEncoder(dim, patch, config.encoder, mask_token=False, channels=2)
            self.depth_emb = nn.Parameter(torch.zeros(1, 1, dim))
            self.ray_embed = PatchConv(dim, patch, 2)
            self.pose_inject_blk = nn.ModuleList(
                PoseInjection(dim, config.num_heads) for _ in range(0, config.depth, INJECT_EVERY)
            )

    def _known(self, priors: Priors, images: Tensor, options: RunOptions) -> Known:
        if not self.config.optional_inputs:
            raise UsageError("these Pi3X weights were loaded without the branch for known cameras and depth")
        batch, frames, _, height, width = images.shape
        priors.check(batch, frames, height, width)
        return KnownTokens(self, priors, (height, width), options)

    def _local_points(self, x: Tensor, layout: TokenLayout) -> Float[Tensor, "n height width 3"]:
        xy, log_z = self.point_head(x, layout.grid, self._size(layout))  # type: ignore[call-arg]
        z = log_z.clamp(max=_MOST_LOG_DEPTH).exp()
        return torch.cat([xy * z, z], 1).movedim(1, 3)

    def _logits(self, x: Tensor, layout: TokenLayout) -> Float[Tensor, "n height width 1"]:
        (logits,) = self.conf_head(x, layout.grid, self._size(layout))  # type: ignore[call-arg]
        return logits.movedim(1, 3)

    def _size(self, layout: TokenLayout) -> tuple[int, int]:
        rows, columns = layout.grid
        return rows * self.config.patch_size, columns * self.config.patch_size

    def _metric_scale(
        self, hidden: Tensor, layout: TokenLayout, batch: int, compute: Compute, ranks: Ranks | None
    ) -> Tensor:
        head_dim = self.config.metric_dim // self.config.metric_heads
        rotation = frame_rotation(layout, head_dim, self.config.rope_base, hidden.device)
        query = self.metric_token.expand(batch, -1, -1)
        context = hidden.unflatten(0, (batch, -1)).flatten(1, 2).to(query.dtype)
        found = self.metric_decoder(query, context, rotation, compute, ranks)
        return self.metric_head(found)[:, 0, 0].exp()


class KnownTokens(Known):
    """What is known of an input, as changes of Pi3X's tokens; only frames that are known are run."""

    def __init__(
        self, network: Pi3X, priors: Priors, size: tuple[int, int], options: RunOptions | None = None
    ) -> None:
        self._network, self._priors, self._size = network, priors, size
        self._options = options or RunOptions()
        self._scale: Tensor | None = None
        if priors.z_depth is not None:
            self._scale = depth_scale(priors.z_depth, self._options.ranks)
        self._cameras: Tensor | None = None
        if priors.world_from_cam is not None:
            self._set_cameras(priors.world_from_cam, self._options.ranks)

    def _set_cameras(self, world_from_cam: Float[Tensor, "batch frames 4 4"], ranks: Ranks | None) -> None:
        """Cameras as the network takes them; of each scene the frames with one, and how many ranks have."""
        known = mask_of(self._priors.has_pose, world_from_cam)
        split = FrameSplit((world_from_cam.shape[1],), 0) if ranks is None else ranks.split
        if ranks is not None:
            world_from_cam, known = (ranks.gather(x, 1).wait() for x in (world_from_cam, known))
        if split.frames > 1:
            poses = relative_poses(world_from_cam, known, self._scale)
            self._cameras = torch.linalg.inv(poses[:, split.first : split.stop])
            every = self._priors.has_pose is None
            by_rank = [_chosen(None if every else part, part) for part in known.split(split.counts, dim=1)]
            counts = zip(*([len(frames) for frames in part] for part in by_rank), strict=True)
            self._posed = list(zip(by_rank[split.rank], counts, strict=True))

    def embedded(self, x: Tensor, layout: TokenLayout, compute: Compute) -> Tensor:
        """Tokens of known depth and of known rays are added to those of the image, some frames at a time."""
        priors = self._priors
        for given, mask, tokens_of in (
            (priors.z_depth, priors.has_depth, self._depth_tokens),
            (priors.intrinsics, priors.has_intrinsics, self._ray_tokens),
        ):
            if given is None:
                continue
            for batch, frames in enumerate(_chosen(mask, given)):
                step = self._piece or max(len(frames), 1)
                for start in range(0, len(frames), step):
                    x = _changed(x, batch, frames[start : start + step], layout, partial(tokens_of, compute))
        return x

    @property
    def _piece(self) -> int | None:
        return None if torch.is_grad_enabled() else self._options.frames_per_chunk

    def _depth_tokens(
        self, compute: Compute, batch: int, frames: list[int], x: Tensor, layout: TokenLayout
    ) -> Tensor:
        z_depth, encoder = self._priors.z_depth, self._network.depth_encoder
        assert z_depth is not None and self._scale is not None
        z_depth = z_depth[batch, frames]
        maps = torch.stack([z_depth / self._scale[batch], (z_depth > 0).to(z_depth.dtype)], 1).to(x.dtype)
        tokens = encoder(maps, encoder.position_embedding(layout.grid), compute)
        return tokens + self._network.depth_emb.to(x.dtype)

    def _ray_tokens(
        self, compute: Compute, batch: int, frames: list[int], x: Tensor, layout: TokenLayout
    ) -> Tensor:
        intrinsics = self._priors.intrinsics
        assert intrinsics is not None
        rays = rays_of(intrinsics[batch : batch + 1, frames], *self._size)[0]
        return self._network.ray_embed(rays.to(x.dtype), compute=compute)

    def after_pair(self, layer: int, x: Tensor, layout: TokenLayout, compute: Compute) -> Tensor:
        """Known poses change the patches after every fourth pair."""
        if self._cameras is None or layer % INJECT_EVERY:
            return x
        block, cameras = self._network.pose_inject_blk[layer // INJECT_EVERY], self._cameras
        assert isinstance(block, PoseInjection)
        piece = None if torch.is_grad_enabled() else self._options.mlp_tokens_per_chunk
        ranks = self._options.ranks

        def change(
            counts: tuple[int, ...], batch: int, frames: list[int], patches: Tensor, layout: TokenLayout
        ) -> Tensor:
            sizes = [count * layout.patches_per_frame for count in counts]
            seen = cameras[batch : batch + 1, frames].to(patches.dtype)
            tokens = block(
                patches.flatten(0, 1)[None],
                seen,
                layout.grid,
                mlp_tokens_per_chunk=piece,
                compute=compute,
                joined=None if ranks is None else lambda x: ranks.gather(x, 2, sizes).wait(),
            )
            return tokens[0].unflatten(0, patches.shape[:2])

        for batch, (frames, counts) in enumerate(self._posed):
            if any(counts):
                x = _changed(x, batch, frames, layout, partial(change, counts))
        return x


Change = Callable[[int, list[int], Tensor, TokenLayout], Tensor]


def _changed(x: Tensor, batch: int, frames: list[int], layout: TokenLayout, change: Change) -> Tensor:
    """`x` [B, S, P, C] with `change` added to the patches of some frames of one scene."""
    specials = layout.special_tokens
    if not torch.is_grad_enabled():
        x[batch, frames, specials:] += change(batch, frames, x[batch, frames, specials:], layout)
        return x
    more = torch.zeros_like(x)
    more[batch, frames, specials:] = change(batch, frames, x[batch, frames, specials:], layout)
    return x + more


def _chosen(mask: Tensor | None, like: Tensor) -> list[list[int]]:
    """The frames of each scene that a mask chooses; without one all of them."""
    if mask is None:
        return [list(range(like.shape[1]))] * len(like)
    return [torch.nonzero(row).flatten().tolist() for row in mask.to(device="cpu", dtype=torch.bool)]
