"""What the shapes of a π³ or Pi3X checkpoint's tensors say of its sizes."""

from __future__ import annotations

import dataclasses

from ...errors import WeightsError
from ..checkpoints.shapes import Shapes
from .config import PI3, Pi3Config, Pi3XConfig

PRIOR_KEYS = ("depth_encoder.", "depth_emb", "ray_embed.", "pose_inject_blk.")
"""Beginnings of the keys of Pi3X's multimodal branch."""


def infer_config_x(read: Shapes) -> Pi3XConfig:
    """Sizes of a Pi3X. The heads of the metric query are as wide as the trunk's, as published."""
    base = infer_config(read)
    metric = read("metric_decoder.projects_x.weight", 2, (512, 2 * base.dim))[0]
    one, two, three = (
        read(f"point_head.upsample_blocks.{i}.0.0.weight", 4, (1, width, 2, 2))[1]
        for i, width in enumerate((256, 128, 64))
    )
    return Pi3XConfig(
        **{field.name: getattr(base, field.name) for field in dataclasses.fields(base)},
        conv_widths=(one, two, three),
        conv_last=read("point_head.output_block.0.0.weight", 4, (32, 1, 3, 3))[0],
        metric_dim=metric,
        metric_heads=max(1, metric // (base.dim // base.num_heads)),
        metric_out=read("metric_decoder.linear_out.weight", 2, (512, 512))[0],
        optional_inputs=any(key.startswith(PRIOR_KEYS) for key in read.shapes),
    )


def infer_config(read: Shapes) -> Pi3Config:
    """Sizes of a π³.

    Shapes do not tell the heads of encoder and decoders: there are as many as in the trunk, whose q/k
    normalisation tells, as in the published model.
    """
    registers, dim = read("register_token", 4)[2:]
    heads = read.heads("decoder.0.attn.q_norm.weight", dim)
    blocks = read.count(r"decoder\.(\d+)\.")
    if blocks % 2 or not blocks:
        raise WeightsError(f"{read.source}: {blocks} trunk blocks are not pairs of frame and global blocks")
    encoder = read.dino_encoder("encoder.", dim, heads)
    patch = read("encoder.patch_embed.proj.weight", 4, (dim, 3, 14, 14))[-1]
    return Pi3Config(
        dim=dim,
        depth=blocks // 2,
        num_heads=heads,
        mlp_ratio=read.mlp_ratio("decoder.0."),
        patch_size=patch,
        registers=registers,
        image_size=PI3.image_size if encoder.native_grid == 37 else patch * encoder.native_grid,
        encoder=encoder,
        decoder_dim=read("point_decoder.projects.weight", 2, (1024, 2 * dim))[0],
        decoder_depth=read.count(r"point_decoder\.blocks\.(\d+)\."),
        decoder_heads=heads,
        point_dim=read("point_decoder.linear_out.weight", 2, (1024, 1024))[0],
        confidence_dim=read("conf_decoder.linear_out.weight", 2, (1024, 1024))[0],
        camera_dim=read("camera_decoder.linear_out.weight", 2, (512, 1024))[0],
    )
