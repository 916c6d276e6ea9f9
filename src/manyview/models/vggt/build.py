"""A VGGT from a checkpoint."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable

import torch

from ...errors import UsageError, WeightsError
from ..checkpoints.assign import assign_weights
from ..checkpoints.metadata import stored_metadata
from ..checkpoints.read import Checkpoint
from ..checkpoints.registry import find_file
from .checkpoint import HEAD_PREFIXES, heads_in, vggt_config, without_heads
from .compressor import add_compressors
from .config import VGGTConfig
from .model import VGGT

logger = logging.getLogger(__name__)


def build_vggt(
    checkpoint: Checkpoint,
    *,
    device: torch.device | str | None = None,
    heads: tuple[str, ...] | None = None,
) -> VGGT:
    """A VGGT with the tensors of a checkpoint: configuration found, keys checked strictly, held once."""
    config = vggt_config(checkpoint)
    present = heads_in(checkpoint.tensors)
    absent = [name for name in _config_heads(config) if name not in present]
    if absent:
        raise WeightsError(
            f"{checkpoint.source}: its configuration has a {absent[0]} head, but the file has no tensor of it"
        )
    if heads is not None:
        lacking = [name for name in heads if name not in present]
        if lacking:
            have = ", ".join(present) or "none"
            raise UsageError(f"{checkpoint.source} has no {lacking[0]} head; it has: {have}")
    keep = present if heads is None else heads
    missing = [name for name in HEAD_PREFIXES if name not in present]
    if missing:
        # A file that states its own configuration lacks a head on purpose; others may surprise.
        level = logging.DEBUG if stored_metadata(checkpoint).get("config") else logging.INFO
        logger.log(level, "%s has no %s head", checkpoint.source, " and no ".join(missing))
    if present == ("camera", "depth") and not checkpoint.metadata and find_file(_name(checkpoint)) is None:
        text = "%s: FlashVGGT's checkpoints look the same; if this is one, run it with --accel flash"
        logger.info(text, checkpoint.source)
    config = _with_heads(config, keep)
    with torch.device("meta"):
        model = VGGT(config)
        reduction = compressor_reduction(checkpoint)
        if reduction is not None:
            add_compressors(model.aggregator.global_blocks, config.dim, reduction)
    tensors = without_heads(checkpoint.tensors, keep)
    assign_weights(model, tensors, checkpoint.source, device=device)
    return model.eval()


def _name(checkpoint: Checkpoint) -> str:
    return checkpoint.files[0].name if checkpoint.files else ""


def compressor_reduction(checkpoint: Checkpoint) -> int | None:
    """By how much FlashVGGT's learnt compressor in a checkpoint reduces; None without one."""
    kernel = checkpoint.tensors.get("aggregator.global_blocks.0.attn.spatial_compressor.compressor.weight")
    return None if kernel is None or kernel.ndim != 4 else kernel.shape[-1]


def _config_heads(config: VGGTConfig) -> tuple[str, ...]:
    parts = (config.camera_head, config.depth_head, config.point_head, config.track_head)
    return tuple(name for name, part in zip(HEAD_PREFIXES, parts, strict=True) if part is not None)


def _with_heads(config: VGGTConfig, keep: Iterable[str]) -> VGGTConfig:
    kept = set(keep)
    return dataclasses.replace(
        config,
        camera_head=config.camera_head if "camera" in kept else None,
        depth_head=config.depth_head if "depth" in kept else None,
        point_head=config.point_head if "points" in kept else None,
        track_head=config.track_head if "track" in kept else None,
    )
