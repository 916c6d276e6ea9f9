"""Operations of the parts that networks are made of, two per multiply-add."""

from __future__ import annotations

from .config import EncoderConfig


def linear(rows: int, inputs: int, outputs: int) -> float:
    """A linear layer on `rows` vectors."""
    return 2.0 * rows * inputs * outputs


def mlp(dim: int, ratio: float) -> float:
    """Two linear layers, for one token."""
    return 2 * linear(1, dim, int(dim * ratio))


def block(tokens: int, dim: int, ratio: float) -> float:
    """A transformer block on `tokens` that all meet each other."""
    return tokens * (linear(4, dim, dim) + mlp(dim, ratio)) + 4.0 * tokens**2 * dim


def encoder(config: EncoderConfig | None, dim: int, patch_size: int, patches: int) -> float:
    """Patch embedding and encoder on one frame."""
    embedding = linear(patches, 3 * patch_size**2, dim)
    if config is None:
        return embedding
    return embedding + config.depth * block(patches + 1 + config.registers, dim, config.mlp_ratio)
