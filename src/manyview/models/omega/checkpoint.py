"""The configuration of a VGGT-Ω checkpoint: written in the file, or read off the shapes of its tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ...errors import WeightsError
from ..checkpoints.keys import Shape
from ..checkpoints.metadata import stored_metadata
from ..checkpoints.read import Checkpoint
from ..checkpoints.shapes import Shapes
from ..part_configs import DenseHeadConfig, EncoderConfig
from .config import OMEGA_256_TEXT, OMEGA_512, REGISTER_LAYERS, OmegaConfig, ReadoutConfig

_EXAMPLE = "facebook/VGGT-Omega"
HEAD_PREFIXES = {"camera": "camera_head.", "depth": "dense_head.", "text": "text_alignment_head."}
"""Beginnings of the keys of each head."""


def omega_config(checkpoint: Checkpoint) -> OmegaConfig:
    """Configuration from the file's metadata where ManyView wrote it, else from the tensors' shapes."""
    stored = stored_metadata(checkpoint).get("config")
    if stored is None:
        return infer_omega_config(checkpoint.shapes, checkpoint.source)
    try:
        return OmegaConfig.from_json(stored)
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{checkpoint.source}: its configuration is not one of a VGGT-Ω: {error}"
        ) from error


def with_heads(config: OmegaConfig, keep: Collection[str]) -> OmegaConfig:
    """The configuration without the heads that are not in `keep`."""
    return dataclasses.replace(
        config,
        camera_head=config.camera_head if "camera" in keep else None,
        depth_head=config.depth_head if "depth" in keep else None,
        text_head=config.text_head if "text" in keep else None,
    )


def infer_omega_config(
    shapes: Mapping[str, Shape],
    source: str = "the checkpoint",
    told: Mapping[str, Any] | None = None,
) -> OmegaConfig:
    """Read a configuration off the shapes of a VGGT-Ω checkpoint; heads that are absent become None.

    Shapes do not tell which pairs are register layers, which are read by the heads, and how many heads the
    readout blocks have: `told` may give `register_layers`, `taps` and `readout_heads`, else they are the
    published ones, which belong to 24 pairs. The published weights with a text head are those for images of
    256 pixels. Raises WeightsError for anything else.
    """
    told = told or {}
    read = Shapes(shapes, source, "VGGT-Omega", _EXAMPLE)
    dim = read("aggregator.camera_token", 4)[-1]
    head_dim = read("aggregator.frame_blocks.0.attn.q_norm.weight", 1, (64,))[0]
    if dim % head_dim:
        raise WeightsError(f"{source}: heads {head_dim} wide do not divide a trunk {dim} wide")
    pairs = read.count(r"aggregator\.inter_frame_blocks\.(\d+)\.")
    if pairs != OMEGA_512.pairs and not {"register_layers", "taps"} <= told.keys():
        raise WeightsError(
            f"{source} has {pairs} pairs of blocks and does not say which are register layers: only the "
            f"published {OMEGA_512.pairs} are known"
        )
    prefix = "aggregator.patch_embed."
    encoder = EncoderConfig(
        depth=read.count(r"aggregator\.patch_embed\.blocks\.(\d+)\."),
        num_heads=dim // (4 * read(f"{prefix}rope_embed.periods", 1, (head_dim // 4,))[0]),
        registers=read(f"{prefix}storage_tokens", 3, (1, 4, dim))[1],
        mlp_ratio=read(f"{prefix}blocks.0.mlp.fc1.weight", 2, (4 * dim, dim))[0] / dim,
    )
    present = [name for name, start in HEAD_PREFIXES.items() if any(key.startswith(start) for key in shapes)]
    heads = told.get("readout_heads", ReadoutConfig.num_heads)
    published = OMEGA_256_TEXT if "text" in present else OMEGA_512
    try:
        return OmegaConfig(
            dim=dim,
            pairs=pairs,
            register_layers=tuple(told.get("register_layers", REGISTER_LAYERS)),
            num_heads=dim // head_dim,
            mlp_ratio=read("aggregator.frame_blocks.0.mlp.fc1.weight", 2, (4 * dim, dim))[0] / dim,
            patch_size=read(f"{prefix}patch_embed.proj.weight", 4, (dim, 3, 16, 16))[-1],
            registers=read("aggregator.register_token", 4, (1, 2, 16, dim))[2],
            image_size=published.image_size,
            taps=told.get("taps", OMEGA_512.taps),
            encoder=encoder,
            camera_head=_readout(read, "camera_head.trunk.", heads) if "camera" in present else None,
            depth_head=_dense(read) if "depth" in present else None,
            text_head=_readout(read, "text_alignment_head.readout_blocks.", heads)
            if "text" in present
            else None,
        )
    except ValueError as error:
        raise WeightsError(f"{source} is not a VGGT-Ω: {error}") from error


def _readout(read: Shapes, prefix: str, heads: int) -> ReadoutConfig:
    hidden, width = read(f"{prefix}0.mlp.fc1.weight", 2, (4, 1))
    depth = read.count(prefix.replace(".", r"\.") + r"(\d+)\.")
    return ReadoutConfig(depth=depth, num_heads=heads, mlp_ratio=hidden / width)


def _dense(read: Shapes) -> DenseHeadConfig:
    published = DenseHeadConfig()
    one, two, three, four = (
        read(f"dense_head.projects.{i}.weight", 4, (width, 1, 1, 1))[0]
        for i, width in enumerate(published.out_channels)
    )
    features = read("dense_head.scratch.layer1_rn.weight", 4, (published.features, 1, 1, 1))[0]
    return DenseHeadConfig(features=features, out_channels=(one, two, three, four))
