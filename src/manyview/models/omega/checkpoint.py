"""What the shapes of a VGGT-Ω checkpoint's tensors say of its sizes."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import WeightsError
from ..checkpoints.shapes import Shapes
from ..part_configs import EncoderConfig
from .config import OMEGA_256_TEXT, OMEGA_512, REGISTER_LAYERS, OmegaConfig, ReadoutConfig


def infer_config(
    read: Shapes,
    register_layers: Sequence[int] | None = None,
    taps: tuple[int, int, int, int] | None = None,
    readout_heads: int = ReadoutConfig.num_heads,
) -> OmegaConfig:
    """Sizes of a VGGT-Ω; heads that are absent become None.

    Shapes do not tell which pairs are register layers, which are read by the heads, and how many heads the
    readout blocks have: by default they are the published ones, which belong to 24 pairs. The published
    weights with a text head are those for images of 256 pixels.
    """
    dim = read("aggregator.camera_token", 4)[-1]
    heads = read.heads("aggregator.frame_blocks.0.attn.q_norm.weight", dim)
    pairs = read.count(r"aggregator\.inter_frame_blocks\.(\d+)\.")
    if pairs != OMEGA_512.pairs and (register_layers is None or taps is None):
        raise WeightsError(
            f"{read.source} has {pairs} pairs of blocks and does not say which are register layers: only the "
            f"published {OMEGA_512.pairs} are known"
        )
    prefix = "aggregator.patch_embed."
    encoder = EncoderConfig(
        depth=read.count(r"aggregator\.patch_embed\.blocks\.(\d+)\."),
        num_heads=dim // (4 * read(f"{prefix}rope_embed.periods", 1, (dim // heads // 4,))[0]),
        registers=read(f"{prefix}storage_tokens", 3, (1, 4, dim))[1],
        mlp_ratio=read.mlp_ratio(f"{prefix}blocks.0."),
    )
    camera = _readout(read, "camera_head.trunk.", readout_heads)
    text = _readout(read, "text_alignment_head.readout_blocks.", readout_heads)
    return OmegaConfig(
        dim=dim,
        pairs=pairs,
        register_layers=tuple(REGISTER_LAYERS if register_layers is None else register_layers),
        num_heads=heads,
        mlp_ratio=read.mlp_ratio("aggregator.frame_blocks.0."),
        patch_size=read(f"{prefix}patch_embed.proj.weight", 4, (dim, 3, 16, 16))[-1],
        registers=read("aggregator.register_token", 4, (1, 2, 16, dim))[2],
        image_size=(OMEGA_512 if text is None else OMEGA_256_TEXT).image_size,
        taps=OMEGA_512.taps if taps is None else taps,
        encoder=encoder,
        camera_head=camera,
        depth_head=read.dense_head("dense_head.") if read.has("dense_head.") else None,
        text_head=text,
    )


def _readout(read: Shapes, prefix: str, heads: int) -> ReadoutConfig | None:
    if not read.has(prefix.partition(".")[0] + "."):
        return None
    depth = read.count(prefix.replace(".", r"\.") + r"(\d+)\.")
    return ReadoutConfig(depth=depth, num_heads=heads, mlp_ratio=read.mlp_ratio(f"{prefix}0."))
