"""Handlers of single modules: block, encoder, trunk, camera head, dense heads, track head."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.models.blocks import Block
from manyview.models.dense_head import DenseHead
from manyview.models.encoder import DinoEncoder
from manyview.models.feature_taps import run_dense_head
from manyview.models.part_configs import DenseHeadConfig, EncoderConfig
from manyview.models.precision import Compute
from manyview.models.rotary import Rotation, rotation_for
from manyview.models.run_options import RunOptions
from manyview.models.vggt.camera_head import CameraHead
from manyview.models.vggt.config import CameraHeadConfig, TrackHeadConfig
from manyview.models.vggt.track_head import TrackHead
from manyview.models.vggt.trunk import Trunk
from tools.conformance.folder import BrokenCase, Case
from tools.conformance.settings import (
    described_factor,
    numbered,
    patch_grid,
    scaled_input,
    seeded_module,
    vggt_config,
)


def block(case: Case) -> dict[str, Tensor]:
    """One transformer block; each batch element may have its own positions."""
    c = case.config
    module = seeded_module(
        case,
        lambda: Block(
            c["dim"],
            c["num_heads"],
            c.get("mlp_ratio", 4.0),
            c["qk_norm"],
            c.get("norm_eps", 1e-5),
            c.get("layer_scale", True),
        ),
    )
    x = case.inputs["x"]
    rotations: list[Rotation | None] = [None] * len(x)
    if c.get("rope", "rope_base" in c):
        base = float(c.get("rope_base", 100.0))
        head_dim = c["dim"] // c["num_heads"]
        rotations = [rotation_for(yx, head_dim, base) for yx in case.inputs["positions"]]

    def run(tokens: Tensor) -> Tensor:
        rows = [module(one[None], turn) for one, turn in zip(tokens, rotations, strict=True)]
        return torch.cat(rows)

    attention = [module.attn(module.norm1(one[None]), turn) for one, turn in zip(x, rotations, strict=True)]
    results = {"attn": torch.cat(attention), "y": run(x)}
    results = {name: value for name, value in results.items() if name in case.outputs}
    if "y_small" in case.outputs:
        results["y_small"] = run(scaled_input(case, "x", "y_small", 1e-4))
    return results


def encoder(case: Case) -> dict[str, Tensor]:
    """DINOv2 on normalised images."""
    c = case.config
    patch = c["patch"]
    settings = EncoderConfig(
        depth=c["depth"],
        num_heads=c["num_heads"],
        registers=c["registers"],
        native_grid=c["native_img_size"] // patch,
        mlp_ratio=c.get("mlp_ratio", 4.0),
    )
    module = seeded_module(case, lambda: DinoEncoder(c["embed_dim"], patch, settings))
    images = case.inputs["images"]
    positions = module.position_embedding((images.shape[-2] // patch, images.shape[-1] // patch))
    tokens = module.all_tokens(images, positions)
    cls, registers, patches = tokens.split([1, c["registers"], tokens.shape[1] - 1 - c["registers"]], dim=1)
    results = {
        "cls_token": cls[:, 0],
        "reg_tokens": registers,
        "patch_tokens": patches,
        "pos_embed": positions,
    }
    small = case.outputs.get("patch_tokens_small")
    if small is not None:
        if "copy of the first patch token" in small.get("about", "") and small["shape"][1] == 1:
            results["patch_tokens_small"] = patches[:, :1]
        else:
            scaled = scaled_input(case, "images", "patch_tokens_small", 1e-3)
            results["patch_tokens_small"] = module(scaled, positions)
    return results


def trunk(case: Case, plan_of: Callable[[Case, int], Plan] | None = None) -> dict[str, Tensor]:
    """All layers of the trunk (dense unless told), its parameters named as below `aggregator.`."""
    config = vggt_config(case, {f"aggregator.{key}": shape for key, shape in case.shapes.items()})
    module = seeded_module(case, lambda: Trunk(config))
    images = case.inputs["images"]
    layers: dict[int, Tensor] = {}

    def keep(layer: int, frame_tokens: Tensor, global_tokens: Tensor, compute: Compute) -> None:
        layers[layer] = torch.cat([frame_tokens, global_tokens], dim=-1)

    plan = plan_of(case, config.depth) if plan_of is not None else Plan.dense(config.depth)
    module(images, plan, RunOptions(), keep)
    return {name: layers[layer] for name, layer in numbered(case, "tokens") if layer in layers}


def camera_head(case: Case) -> dict[str, Tensor]:
    """All iterations of the camera head on the first token of each frame."""
    c = case.config
    settings = CameraHeadConfig(c["trunk_depth"], c["num_heads"], c["iterations"], c.get("mlp_ratio", 4.0))
    module = seeded_module(case, lambda: CameraHead(c["dim_in"], settings))
    poses = module(case.inputs["tokens"][:, :, 0])
    results = {name: poses[step] for name, step in numbered(case, "pose_enc") if step < len(poses)}
    if "pose_enc_small" in case.outputs:
        tokens = scaled_input(case, "tokens", "pose_enc_small", 1e-5)
        results["pose_enc_small"] = module(tokens[:, :, 0])[-1]
    return results


def _taps(case: Case) -> list[Tensor]:
    """Patch tokens of the tapped layers in order, [B, S, patches, dim]."""
    start = case.config["patch_start_idx"]
    names = sorted((n for n in case.inputs if n.startswith("tokens")), key=lambda n: int(n[6:]))
    return [case.inputs[name][:, :, start:] for name in names]


def _run_dense(case: Case, head: DenseHead, taps: list[Tensor], piece: int | None) -> tuple[Tensor, ...]:
    height, width = case.config["image_hw"]
    batch, frames, patches, _ = taps[0].shape
    projected = [head.project(tap.flatten(0, 1), index) for index, tap in enumerate(taps)]
    grid = patch_grid(patches, (height, width))
    options = RunOptions(head_frames_per_chunk=piece)
    return run_dense_head(head, projected, grid, (batch, frames, 3, height, width), options)


def dense_head(case: Case) -> dict[str, Tensor]:
    """A DPT head with values and confidence, or one that stops at its features."""
    c = case.config
    if c["feature_only"] == c.get("pos_embed", True):
        raise BrokenCase("feature extractors come without the image-plane embedding, other heads with it")
    module = seeded_module(
        case,
        lambda: DenseHead(
            c["dim_in"],
            DenseHeadConfig(c["features"], tuple(c["out_channels"])),
            None if c["feature_only"] else c["output_dim"],
            c["activation"],
            c["conf_activation"],
            c.get("down_ratio", 1),
        ),
    )
    piece = c.get("frames_chunk_size")
    taps = _taps(case)
    outputs = _run_dense(case, module, taps, piece)
    if c["feature_only"]:
        return {"features": outputs[0]}
    results = {"pred": outputs[0], "conf": outputs[1]}
    for name, index in (("pred_small", 0), ("conf_small", 1)):
        if name in case.outputs:
            factor = described_factor(case, name, 0.003)
            results[name] = _run_dense(case, module, [tap * factor for tap in taps], piece)[index]
    return results


def track_head(case: Case) -> dict[str, Tensor]:
    """Feature extractor and tracker, with all its iterations or fewer."""
    c = case.config
    depth = c.get("update_depth", 6)
    settings = TrackHeadConfig(
        features=c["features"],
        out_channels=tuple(c["out_channels"]),
        hidden_size=c["hidden_size"],
        corr_levels=c["corr_levels"],
        corr_radius=c["corr_radius"],
        stride=c["stride"],
        down_ratio=c["down_ratio"],
        iterations=c["iters"],
        max_scale=c["max_scale"],
        time_depth=depth,
        space_depth=depth,
        virtual_tracks=case.shapes["tracker.updateformer.virual_tracks"][1],
        num_heads=c.get("num_heads", 8),
    )
    module = seeded_module(case, lambda: TrackHead(c["dim_in"], settings))
    features = _run_dense(case, module.feature_extractor, _taps(case), None)[0]
    queries = module.check(c["image_hw"][0], c["image_hw"][1], case.inputs["query_points"])
    tracks = module(features, queries)
    results = {"vis": tracks.visibility, "conf": tracks.confidence}
    steps = len(tracks.coords)
    results |= {name: tracks.coords[step] for name, step in numbered(case, "coords") if step < steps}
    for name, iterations in numbered(case, "coords_iters"):
        results[name] = module(features, queries, iterations).coords[-1]
    return results
