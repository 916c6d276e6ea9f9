"""Handlers of VGGT-Ω: positions, blocks, encoder, trunk, heads, whole models of any size."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.models.alternating import normalise_images
from manyview.models.feature_taps import run_dense_head
from manyview.models.omega.blocks import RotaryPeriods, omega_block
from manyview.models.omega.config import OmegaConfig, ReadoutConfig
from manyview.models.omega.encoder import OmegaEncoder
from manyview.models.omega.heads import OmegaCameraHead, OmegaDenseHead, TextHead
from manyview.models.omega.model import Omega, OmegaTrunk
from manyview.models.omega.spec import SPEC
from manyview.models.part_configs import DenseHeadConfig, EncoderConfig
from manyview.models.precision import Compute
from manyview.models.run_options import RunOptions
from tools.conformance.folder import BrokenCase, Case
from tools.conformance.operations import pose_encoding
from tools.conformance.sampling import sample
from tools.conformance.settings import described_factor, numbered, scaled_input, seeded_module


def run(case: Case) -> dict[str, Tensor]:
    """Any case of VGGT-Ω, distinguished by its inputs, settings and weights."""
    if "grids" in case.config:
        return _positions(case)
    if "pose_enc" in case.inputs:
        return pose_encoding(case)
    keys = case.inventory.keys()
    for needed, handler in _PARTS:
        if all(any(key.startswith(start) for key in keys) for start in needed):
            return handler(case)
    raise BrokenCase("nothing here recognises this case of VGGT-Ω")


def _positions(case: Case) -> dict[str, Tensor]:
    """Cosines and sines [patches, head_dim] of each grid."""
    c = case.config
    module = RotaryPeriods(c["embed_dim"] // c["num_heads"], float(c["base"]))
    results = {"periods": module.periods}
    for index, grid in enumerate(c["grids"]):
        turn = module.rotation(tuple(grid), 0)
        results[f"cos{index}"], results[f"sin{index}"] = (
            part.flatten(1).repeat(1, 2) for part in (turn.cos, turn.sin)
        )
    return results


def _block(case: Case) -> dict[str, Tensor]:
    c = case.config
    dim, heads = c["dim"], c["num_heads"]
    module = seeded_module(case, lambda: omega_block(dim, heads, c["mlp_ratio"], c["qk_norm"]))
    periods = RotaryPeriods(dim // heads, 100.0)
    rotation = periods.rotation(tuple(c["grid_hw"]), c["special_tokens"]) if c["rope"] else None
    return {
        "y": module(case.inputs["x"], rotation),
        "y_small": module(case.inputs["x_small"], rotation),
    }


def _encoder(case: Case) -> dict[str, Tensor]:
    c = case.config
    patch, count = c["patch"], c["storage_tokens"]
    settings = EncoderConfig(c["depth"], c["num_heads"], count)
    module = seeded_module(case, lambda: OmegaEncoder(c["embed_dim"], patch, settings))
    images = case.inputs["images"]
    positions = module.position_embedding((images.shape[-2] // patch, images.shape[-1] // patch))
    tokens = module.all_tokens(images, positions)
    return {
        "cls_token": tokens[:, 0],
        "storage_tokens": tokens[:, 1 : 1 + count],
        "patch_tokens": tokens[:, 1 + count :],
    }


def _trunk(case: Case) -> dict[str, Tensor]:
    config = _config(case, {f"aggregator.{key}": shape for key, shape in case.shapes.items()})
    module = seeded_module(case, lambda: OmegaTrunk(config))
    layers = _layers(module, case.inputs["images"])
    return {name: layers[layer] for name, layer in numbered(case, "tokens") if layer in layers}


def _camera_head(case: Case) -> dict[str, Tensor]:
    c = case.config
    head = seeded_module(
        case, lambda: OmegaCameraHead(c["dim_in"], ReadoutConfig(c["trunk_depth"], c["num_heads"]))
    )
    count = c["patch_token_start"]
    small = scaled_input(case, "tokens", "pose_enc_small", 0.002)
    return {
        "pose_enc": head(case.inputs["tokens"][:, :, :count]),
        "pose_enc_small": head(small[:, :, :count]),
    }


def _text_head(case: Case) -> dict[str, Tensor]:
    c = case.config
    head = seeded_module(case, lambda: TextHead(c["dim_in"], ReadoutConfig(c["depth"], c["num_heads"])))
    count = c["patch_token_start"]
    token, embedding = head(case.inputs["tokens"][:, :, :count])
    small = scaled_input(case, "tokens", "embedding_small", 0.002)
    return {
        "text_alignment_token": token,
        "text_alignment_embedding": embedding,
        "embedding_small": head(small[:, :, :count])[1],
    }


def _dense_head(case: Case) -> dict[str, Tensor]:
    c = case.config
    sizes = DenseHeadConfig(c["features"], tuple(c["out_channels"]))
    head = seeded_module(case, lambda: OmegaDenseHead(c["dim_in"], sizes, c["patch"]))
    grid = tuple(c["grid_hw"])
    size = (c["patch"] * grid[0], c["patch"] * grid[1])
    taps = [case.inputs[f"tokens{i}"][:, :, c["patch_token_start"] :] for i in range(4)]
    batch, frames = taps[0].shape[:2]

    def outputs(factor: float) -> tuple[Tensor, ...]:
        projected = [head.project((tap * factor).flatten(0, 1), i) for i, tap in enumerate(taps)]
        options = RunOptions(head_frames_per_chunk=c["frames_chunk_size"])
        return run_dense_head(head, projected, grid, (batch, frames, 3, *size), options)

    results = dict(zip(("depth", "depth_conf"), outputs(1.0), strict=True))
    if "conf_small" in case.outputs:
        results["conf_small"] = outputs(described_factor(case, "conf_small", 0.003))[1]
    return results


def _model(case: Case) -> dict[str, Tensor]:
    """Predictions of all heads, and samples of the trunk's pairs where the case stores some."""
    config = _config(case, case.shapes)
    network = seeded_module(case, lambda: Omega(config))
    images, special = case.inputs["images"], config.special_tokens
    predictions = network(images, options=RunOptions(heads=network.available_heads))
    assert predictions.z_depth is not None
    found = {
        "depth": predictions.z_depth[..., None],
        "depth_conf": predictions.depth_conf,
        "pose_enc": predictions.pose_encoding,
        "text_alignment_token": predictions.text_alignment_token,
        "text_alignment_embedding": predictions.text_alignment_embedding,
    }
    results = {name: value for name, value in found.items() if value is not None}
    layers = _layers(network.aggregator, images)
    results["camera_and_register_tokens"] = layers[config.pairs - 1][:, :, :special]
    for name in case.outputs:
        if match := re.fullmatch(r"layer(\d+)\.(special|mean|patches)", name):
            tokens = layers[int(match[1])]
            patches = tokens[:, :, special:]
            part = {"special": tokens[:, :, :special], "mean": patches.mean(2), "patches": patches}[match[2]]
            results[name] = sample(part, case.outputs[name]["about"])
    if "patch_embed" in case.outputs:
        encoder = network.aggregator.patch_embed
        grid = predictions.layout.grid
        normed = normalise_images(images.flatten(0, 1), images.dtype)
        tokens = encoder(normed, encoder.position_embedding(grid))
        results["patch_embed"] = sample(tokens, case.outputs["patch_embed"]["about"])
    return {name: value for name, value in results.items() if name in case.outputs}


def _layers(trunk: OmegaTrunk, images: Tensor) -> dict[int, Tensor]:
    """Frame and inter-frame outputs of every pair side by side."""
    found: dict[int, Tensor] = {}

    def keep(pair: int, frame_tokens: Tensor, global_tokens: Tensor, compute: Compute) -> None:
        found[pair] = torch.cat([frame_tokens, global_tokens], dim=-1)

    trunk.run_layers(images, Plan.dense(trunk.config.depth), RunOptions(), keep)
    return found


def _config(case: Case, shapes: dict[str, tuple[int, ...]]) -> OmegaConfig:
    """Configuration from the shapes; where the settings speak too, they must agree."""
    c = case.config
    stated: dict[str, Any] = {}
    if "register_attention_blocks" in c:
        stated = {
            "register_layers": c["register_attention_blocks"],
            "taps": tuple(c["cached_layers"]),
            "readout_heads": c.get("camera", {}).get("num_heads", 16),
        }
    config: OmegaConfig = SPEC.config_from_shapes(shapes, case.id, **stated)
    settings = {
        "embed_dim": config.dim,
        "depth": config.pairs,
        "num_heads": config.num_heads,
        "vit_depth": config.encoder.depth,
        "register_tokens": config.registers,
        "patch": config.patch_size,
    }
    for name, value in settings.items():
        if c.get(name, value) != value:
            raise BrokenCase(f"its config gives {name} {c[name]}, its weights {value}")
    return config


# Beginnings of keys that must all occur among the weights of a part.
_PARTS = (
    (("aggregator.",), _model),
    (("inter_frame_blocks.",), _trunk),
    (("camera_branch.",), _camera_head),
    (("language_token",), _text_head),
    (("projects.0.", "scratch."), _dense_head),
    (("storage_tokens",), _encoder),
    (("attn.qkv.", "norm1."), _block),
)
