"""What the shapes of a VGGT checkpoint's tensors say of its sizes."""

from __future__ import annotations

import logging

from ...errors import WeightsError
from ..checkpoints.shapes import Shapes
from .config import CameraHeadConfig, TrackHeadConfig, VGGTConfig

logger = logging.getLogger(__name__)

_RADIUS = 4  # of the correlation window; VGGT publishes no other
_WINDOW = 2 * _RADIUS + 1


def infer_config(read: Shapes, taps: tuple[int, int, int, int] | None = None) -> VGGTConfig:
    """Sizes of a VGGT; heads that are absent become None.

    Shapes do not tell everything. Rules, all true of the published models: the encoder has heads of the
    same width as the trunk's (known from its q/k normalisation), the camera head has as many heads as the
    trunk; `taps` default to (4, 11, 17, 23) of 24 layers, else to the ends of the quarters; iterations,
    strides and the tracker's window are the published ones.
    """
    dim = read("aggregator.camera_token", 4)[-1]
    depth = read.count(r"aggregator\.frame_blocks\.(\d+)\.")
    if not depth:
        read("aggregator.frame_blocks.0.norm1.weight", 1)
    heads = read.heads("aggregator.frame_blocks.0.attn.q_norm.weight", dim)
    prefix, plain = "aggregator.patch_embed.", "aggregator.patch_embed.proj.weight"
    encoder = None if plain in read else read.dino_encoder(prefix, dim, heads)
    patch = read(plain if encoder is None else f"{prefix}patch_embed.proj.weight", 4)[-1]
    if taps is None:
        taps = _usual_taps(depth)
        if depth != 24:
            logger.warning(
                "%s does not say which layers its heads read: taking %s of %d", read.source, taps, depth
            )
    return VGGTConfig(
        dim=dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=read.mlp_ratio("aggregator.frame_blocks.0."),
        patch_size=patch,
        registers=read("aggregator.register_token", 4, (1, 2, 4, dim))[2],
        image_size=patch * (37 if encoder is None else encoder.native_grid),
        taps=taps,
        encoder=encoder,
        camera_head=_camera(read, heads) if read.has("camera_head.") else None,
        depth_head=read.dense_head("depth_head.") if read.has("depth_head.") else None,
        point_head=read.dense_head("point_head.") if read.has("point_head.") else None,
        track_head=_track(read) if read.has("track_head.") else None,
    )


def _usual_taps(depth: int) -> tuple[int, int, int, int]:
    if depth == 24:
        return (4, 11, 17, 23)
    first, second, third = (max((i + 1) * depth // 4 - 1, 0) for i in range(3))
    return (first, second, third, depth - 1)


def _camera(read: Shapes, heads: int) -> CameraHeadConfig:
    depth = read.count(r"camera_head\.trunk\.(\d+)\.")
    return CameraHeadConfig(depth=depth, num_heads=heads, mlp_ratio=read.mlp_ratio("camera_head.trunk.0."))


def _track(read: Shapes) -> TrackHeadConfig:
    extractor = read.dense_head("track_head.feature_extractor.")
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
