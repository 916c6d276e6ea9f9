"""What a Depth Anything 3 checkpoint says: sizes by the shapes of its tensors, and which of them are used."""

from __future__ import annotations

import logging
import re

from torch import Tensor

from ...errors import WeightsError
from ..checkpoints.read import Checkpoint
from ..checkpoints.shapes import Shapes
from ..part_configs import MlpRatio, Taps
from .config import DA3_BASE, DA3_GIANT, DA3_LARGE, CameraEncoderConfig, DA3Config

logger = logging.getLogger(__name__)

PREFIX = "backbone.pretrained."
_GAUSSIANS = "gs_head."
_SHARED_NORM = re.compile(r"head\.scratch\.output_conv2_aux\.[123]\.2\.(weight|bias)")
_TAPS: dict[int, Taps] = {config.layers: config.taps for config in (DA3_BASE, DA3_LARGE, DA3_GIANT)}


def infer_config(read: Shapes, taps: Taps | None = None) -> DA3Config:
    """Sizes of an any-view network; parts that are absent become None.

    Shapes do not tell which blocks the head reads: without `taps` those published for as many blocks. The
    camera encoder has 16 heads and images are 504 pixels long, as published.
    """
    dim = read(f"{PREFIX}cls_token", 3)[-1]
    layers = read.count(re.escape(PREFIX) + r"blocks\.(\d+)\.")
    first = next((i for i in range(layers) if f"{PREFIX}blocks.{i}.attn.q_norm.weight" in read), None)
    if first is None:
        raise WeightsError(f"{read.source}: no block normalises its queries, so that none is global")
    if taps is None and layers not in _TAPS:
        raise WeightsError(
            f"{read.source} has {layers} blocks and does not say which of them its head reads: only the "
            f"published {', '.join(map(str, _TAPS))} blocks are known"
        )
    swiglu = f"{PREFIX}blocks.0.mlp.w12.weight" in read
    return DA3Config(
        dim=dim,
        layers=layers,
        num_heads=read.heads(f"{PREFIX}blocks.{first}.attn.q_norm.weight", dim),
        mlp_ratio=_gated_ratio(read, dim) if swiglu else read.mlp_ratio(f"{PREFIX}blocks.0."),
        swiglu=swiglu,
        patch_size=read(f"{PREFIX}patch_embed.proj.weight", 4, (dim, 3, 14, 14))[-1],
        native_grid=read.grid(f"{PREFIX}pos_embed", dim),
        taps=taps or _TAPS[layers],
        head=read.dense_head("head.") if read.has("head.") else None,
        alternating_from=first,
        camera_encoder=_camera_encoder(read) if read.has("cam_enc.") else None,
        camera_decoder=True if read.has("cam_dec.") else None,
    )


def used_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Tensors of the network alone: without the Gaussian head, and one norm that four names share once."""
    kept = {key: value for key, value in checkpoint.tensors.items() if not key.startswith(_GAUSSIANS)}
    if len(kept) < len(checkpoint.tensors):
        logger.info("%s: its Gaussian head is not built; depth and cameras do not need it", checkpoint.source)
    return {key: value for key, value in kept.items() if not _SHARED_NORM.fullmatch(key)}


def _camera_encoder(read: Shapes) -> CameraEncoderConfig:
    depth = read.count(r"cam_enc\.trunk\.(\d+)\.")
    return CameraEncoderConfig(depth=depth, mlp_ratio=read.mlp_ratio("cam_enc.trunk.0."))


def _gated_ratio(read: Shapes, dim: int) -> MlpRatio:
    """The ratio whose two thirds, in whole eights, are the hidden width."""
    hidden = read(f"{PREFIX}blocks.0.mlp.w3.weight", 2, (dim, 1))[1]
    nearest = round(hidden * 3 / (2 * dim))
    return nearest if (dim * nearest * 2 // 3 + 7) // 8 * 8 == hidden else hidden * 3 / (2 * dim)
