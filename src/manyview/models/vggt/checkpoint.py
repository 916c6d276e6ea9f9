"""The configuration of a VGGT checkpoint: written in the file, or read off the shapes of its tensors."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from math import isqrt
from typing import Any

from ...errors import WeightsError
from ..checkpoints.keys import Shape
from ..checkpoints.metadata import METADATA_KEY, stored_metadata
from ..checkpoints.read import Checkpoint
from ..checkpoints.recognise import WITH_COMPRESSOR, recognise
from ..checkpoints.shapes import Shapes
from ..part_configs import DenseHeadConfig, EncoderConfig
from .config import CameraHeadConfig, TrackHeadConfig, VGGTConfig

logger = logging.getLogger(__name__)

_RADIUS = 4  # of the correlation window; VGGT publishes no other
_WINDOW = 2 * _RADIUS + 1
_PUBLISHED = DenseHeadConfig()
HEAD_PREFIXES = {
    "camera": "camera_head.",
    "depth": "depth_head.",
    "points": "point_head.",
    "track": "track_head.",
}


def vggt_config(checkpoint: Checkpoint) -> VGGTConfig:
    """Configuration from the file's metadata, a config.json of ours beside it, or the tensors' shapes."""
    stored = stored_metadata(checkpoint).get("config") or _config_file(checkpoint)
    if stored is None:
        return infer_vggt_config(checkpoint.shapes, checkpoint.source)
    try:
        return VGGTConfig.from_json(stored)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{checkpoint.source}: its configuration is not one of a VGGT: {error}") from error


def _config_file(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The configuration in config.json if it is ours: other programs use that name for other things."""
    if checkpoint.config_path is None:
        return None
    try:
        data = json.loads(checkpoint.config_path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise WeightsError(f"{checkpoint.config_path} is not readable JSON: {error}") from error
    if isinstance(data, dict) and isinstance(data.get(METADATA_KEY), dict):
        return data[METADATA_KEY].get("config")
    return None


def heads_in(keys: Collection[str]) -> tuple[str, ...]:
    """Names of the heads that have any tensor."""
    return tuple(name for name, prefix in HEAD_PREFIXES.items() if any(k.startswith(prefix) for k in keys))


def without_heads(shapes: Mapping[str, Any], keep: Collection[str]) -> dict[str, Any]:
    """The entries that belong to the trunk or to a head in `keep`."""
    dropped = tuple(prefix for name, prefix in HEAD_PREFIXES.items() if name not in keep)
    return {key: value for key, value in shapes.items() if not key.startswith(dropped)}


def infer_vggt_config(
    shapes: Mapping[str, Shape],
    source: str = "the checkpoint",
    taps: tuple[int, int, int, int] | None = None,
) -> VGGTConfig:
    """Read a configuration off the shapes of a VGGT checkpoint; heads that are absent become None.

    Shapes do not tell everything. Rules, all true of the published models: the encoder has heads of the
    same width as the trunk's (known from its q/k normalisation), the camera head has as many heads as the
    trunk; `taps` default to (4, 11, 17, 23) of 24 layers, else to the ends of the quarters; iterations,
    strides and the tracker's window are the published ones. Raises WeightsError for anything but a VGGT.
    """
    read = Shapes(shapes, source, "VGGT", "facebook/VGGT-1B")
    if recognise(shapes) not in (None, "VGGT", WITH_COMPRESSOR):
        raise WeightsError(read.something_else("aggregator.frame_blocks.0.norm1.weight"))
    dim = read("aggregator.camera_token", 4)[-1]
    depth = read.count(r"aggregator\.frame_blocks\.(\d+)\.")
    if not depth:
        read("aggregator.frame_blocks.0.norm1.weight", 1)
    head_dim = read("aggregator.frame_blocks.0.attn.q_norm.weight", 1, (64,))[0]
    if dim % head_dim:
        raise WeightsError(f"{source}: heads {head_dim} wide do not divide a trunk {dim} wide")
    heads = dim // head_dim
    hidden = read("aggregator.frame_blocks.0.mlp.fc1.weight", 2, (4 * dim, dim))[0]
    encoder, patch = _encoder(read, dim, head_dim)
    native = encoder.native_grid if encoder is not None else 37
    present = heads_in(shapes)
    if taps is None:
        taps = _usual_taps(depth)
        if depth != 24:
            logger.warning(
                "%s does not say which layers its heads read: taking %s of %d", source, taps, depth
            )
    try:
        return VGGTConfig(
            dim=dim,
            depth=depth,
            num_heads=heads,
            mlp_ratio=hidden / dim,
            patch_size=patch,
            registers=read("aggregator.register_token", 4, (1, 2, 4, dim))[2],
            image_size=native * patch,
            taps=taps,
            encoder=encoder,
            camera_head=_camera(read, heads) if "camera" in present else None,
            depth_head=_dense(read, "depth_head.") if "depth" in present else None,
            point_head=_dense(read, "point_head.") if "points" in present else None,
            track_head=_track(read) if "track" in present else None,
        )
    except ValueError as error:
        raise WeightsError(f"{source} is not a VGGT: {error}") from error


def _usual_taps(depth: int) -> tuple[int, int, int, int]:
    if depth == 24:
        return (4, 11, 17, 23)
    first, second, third = (max((i + 1) * depth // 4 - 1, 0) for i in range(3))
    return (first, second, third, depth - 1)


def _encoder(read: Shapes, dim: int, head_dim: int) -> tuple[EncoderConfig | None, int]:
    """Encoder and patch size; no encoder where patches are embedded by one convolution."""
    plain = "aggregator.patch_embed.proj.weight"
    if plain in read:
        return None, read(plain, 4)[-1]
    prefix = "aggregator.patch_embed."
    patch = read(f"{prefix}patch_embed.proj.weight", 4)[-1]
    entries = read(f"{prefix}pos_embed", 3, (1, 37 * 37 + 1, dim))[1] - 1
    if isqrt(entries) ** 2 != entries:
        raise WeightsError(f"{read.source}: {prefix}pos_embed has {entries} patch entries, not a square")
    config = EncoderConfig(
        depth=read.count(r"aggregator\.patch_embed\.blocks\.(\d+)\."),
        num_heads=dim // head_dim,
        registers=read(f"{prefix}register_tokens", 3, (1, 4, dim))[1],
        native_grid=isqrt(entries),
        mlp_ratio=read(f"{prefix}blocks.0.mlp.fc1.weight", 2, (4 * dim, dim))[0] / dim,
    )
    return config, patch


def _camera(read: Shapes, heads: int) -> CameraHeadConfig:
    hidden, width = read("camera_head.trunk.0.mlp.fc1.weight", 2, (4, 1))
    depth = read.count(r"camera_head\.trunk\.(\d+)\.")
    return CameraHeadConfig(depth=depth, num_heads=heads, mlp_ratio=hidden / width)


def _dense(read: Shapes, prefix: str) -> DenseHeadConfig:
    one, two, three, four = (
        read(f"{prefix}projects.{i}.weight", 4, (width, 1, 1, 1))[0]
        for i, width in enumerate(_PUBLISHED.out_channels)
    )
    features = read(f"{prefix}scratch.layer1_rn.weight", 4, (_PUBLISHED.features, 1, 1, 1))[0]
    return DenseHeadConfig(features=features, out_channels=(one, two, three, four))


def _track(read: Shapes) -> TrackHeadConfig:
    extractor = _dense(read, "track_head.feature_extractor.")
    tracker = "track_head.tracker."
    hidden, window = read(f"{tracker}corr_mlp.fc1.weight", 2, (384, 7 * _WINDOW**2))
    if window % _WINDOW**2:
        raise WeightsError(
            f"{read.source}: {tracker}corr_mlp.fc1.weight reads {window} correlations, "
            f"which is not a multiple of {_WINDOW}x{_WINDOW}"
        )
    return TrackHeadConfig(
        features=extractor.features,
        out_channels=extractor.out_channels,
        hidden_size=hidden,
        corr_levels=window // _WINDOW**2,
        corr_radius=_RADIUS,
        time_depth=read.count(r"track_head\.tracker\.updateformer\.time_blocks\.(\d+)\."),
        space_depth=read.count(r"track_head\.tracker\.updateformer\.space_virtual_blocks\.(\d+)\."),
        virtual_tracks=read(f"{tracker}updateformer.virual_tracks", 4, (1, 64, 1, hidden))[1],
    )
