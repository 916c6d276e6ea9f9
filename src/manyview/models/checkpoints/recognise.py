"""Naming the architecture a foreign checkpoint belongs to, from keys that only it has."""

from __future__ import annotations

from collections.abc import Collection

# (name, beginnings of keys that must all occur); the first line that fits names the checkpoint.
_FOREIGN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("DUSt3R or MASt3R", ("enc_blocks.", "dec_blocks2.", "downstream_head1.")),
    ("CroCo", ("enc_blocks.", "dec_blocks.", "mask_token")),
    ("MapAnything", ("info_sharing.", "encoder.")),
    ("Depth Anything", ("pretrained.blocks.", "depth_head.")),
    ("a DPT depth network", ("backbone.", "neck.fusion_stage.")),
    ("Segment Anything", ("image_encoder.", "mask_decoder.")),
    ("DINOv3", ("rope_embed.periods", "storage_tokens", "blocks.")),
    ("DINOv2", ("cls_token", "pos_embed", "blocks.0.ls1.gamma", "patch_embed.proj.")),
    ("DINOv2 (transformers format)", ("embeddings.cls_token", "encoder.layer.0.")),
    ("a vision transformer", ("cls_token", "pos_embed", "blocks.0.")),
    ("CLIP", ("visual.", "token_embedding.")),
    ("a diffusion network", ("down_blocks.", "up_blocks.")),
    ("a language model", ("layers.0.self_attn.", "embed_tokens.")),
    ("a ResNet", ("conv1.weight", "layer1.0.", "fc.weight")),
)


def foreign_architecture(keys: Collection[str]) -> str | None:
    """Name of the architecture, none of ours, that these keys belong to, or None."""
    for name, needed in _FOREIGN:
        if all(any(key.startswith(start) for key in keys) for start in needed):
            return name
    return None
