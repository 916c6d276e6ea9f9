"""The configuration of a π³ checkpoint, read off the shapes of its tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import isqrt

from ...errors import WeightsError
from ..checkpoints.keys import Shape
from ..checkpoints.shapes import Shapes
from ..part_configs import EncoderConfig
from .config import PI3, Pi3Config, Pi3XConfig

PRIOR_KEYS = ("depth_encoder.", "depth_emb", "ray_embed.", "pose_inject_blk.")
"""Beginnings of the keys of Pi3X's multimodal branch."""


def infer_pi3x_config(shapes: Mapping[str, Shape], source: str = "the checkpoint") -> Pi3XConfig:
    """Read a configuration off the shapes of a Pi3X checkpoint.

    The heads of the metric query are as wide as the trunk's, as published.
    """
    base = infer_pi3_config(shapes, source, "Pi3X", "yyfz233/Pi3X")
    read = Shapes(shapes, source, "Pi3X", "yyfz233/Pi3X")
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
        optional_inputs=any(key.startswith(PRIOR_KEYS) for key in shapes),
    )


def infer_pi3_config(
    shapes: Mapping[str, Shape],
    source: str = "the checkpoint",
    model: str = "Pi3",
    example: str = "yyfz233/Pi3",
) -> Pi3Config:
    """Read a configuration off the shapes of a π³ checkpoint.

    Shapes do not tell the heads of encoder and decoders: there are as many as in the trunk, whose q/k
    normalisation tells, as in the published model. Raises WeightsError for anything else.
    """
    read = Shapes(shapes, source, model, example)
    dim, head_dim = read("register_token", 4)[-1], read("decoder.0.attn.q_norm.weight", 1, (64,))[0]
    if dim % head_dim:
        raise WeightsError(f"{source}: heads {head_dim} wide do not divide a trunk {dim} wide")
    blocks = read.count(r"decoder\.(\d+)\.")
    if blocks % 2 or not blocks:
        raise WeightsError(f"{source}: {blocks} trunk blocks are not pairs of frame and global blocks")
    heads = dim // head_dim
    entries = read("encoder.pos_embed", 3, (1, 37 * 37 + 1, dim))[1] - 1
    if isqrt(entries) ** 2 != entries:
        raise WeightsError(f"{source}: encoder.pos_embed has {entries} patch entries, not a square")
    encoder = EncoderConfig(
        depth=read.count(r"encoder\.blocks\.(\d+)\."),
        num_heads=heads,
        registers=read("encoder.register_tokens", 3, (1, 4, dim))[1],
        native_grid=isqrt(entries),
        mlp_ratio=read("encoder.blocks.0.mlp.fc1.weight", 2, (4 * dim, dim))[0] / dim,
    )
    patch = read("encoder.patch_embed.proj.weight", 4, (dim, 3, 14, 14))[-1]
    try:
        return Pi3Config(
            dim=dim,
            depth=blocks // 2,
            num_heads=heads,
            mlp_ratio=read("decoder.0.mlp.fc1.weight", 2, (4 * dim, dim))[0] / dim,
            patch_size=patch,
            registers=read("register_token", 4)[2],
            image_size=PI3.image_size if encoder.native_grid == 37 else patch * encoder.native_grid,
            encoder=encoder,
            decoder_dim=read("point_decoder.projects.weight", 2, (1024, 2 * dim))[0],
            decoder_depth=read.count(r"point_decoder\.blocks\.(\d+)\."),
            decoder_heads=heads,
            point_dim=read("point_decoder.linear_out.weight", 2, (1024, 1024))[0],
            confidence_dim=read("conf_decoder.linear_out.weight", 2, (1024, 1024))[0],
            camera_dim=read("camera_decoder.linear_out.weight", 2, (512, 1024))[0],
        )
    except ValueError as error:
        raise WeightsError(f"{source} is not a π³: {error}") from error
