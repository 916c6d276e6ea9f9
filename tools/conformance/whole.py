"""Handler of whole models, tiny or of full size."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.models.alternating import normalise_images
from manyview.models.encoder import DinoEncoder
from manyview.models.precision import Compute
from manyview.models.run_options import RunOptions
from manyview.models.vggt.model import VGGT
from tools.conformance.folder import Case
from tools.conformance.sampling import sample
from tools.conformance.settings import numbered, seeded_module, vggt_config


def model(case: Case, plan_of: Callable[[Case, int], Plan] | None = None) -> dict[str, Tensor]:
    """Predictions of all heads, and samples of the trunk's layers where the case stores some."""
    config = vggt_config(case, case.shapes)
    network = seeded_module(case, lambda: VGGT(config))
    images = case.inputs["images"]
    queries = case.inputs.get("query_points")
    heads = tuple(h for h in network.available_heads if h != "track" or queries is not None)
    depth = config.depth
    plan = plan_of(case, depth) if plan_of is not None else Plan.dense(depth)
    predictions = network(images, plan, RunOptions(heads=heads), query_points=queries)
    results: dict[str, Tensor | None] = {
        "depth": None if predictions.z_depth is None else predictions.z_depth[..., None],
        "depth_conf": predictions.depth_conf,
        "world_points": predictions.world_points,
        "world_points_conf": predictions.world_points_conf,
        "track": predictions.tracks,
        "vis": predictions.track_visibility,
        "conf": predictions.track_confidence,
    }
    if predictions.pose_encoding_list is not None:
        poses = predictions.pose_encoding_list
        results["pose_enc"] = poses[-1]
        results |= {name: poses[i] for name, i in numbered(case, "pose_enc_iter") if i < len(poses)}
    if predictions.track_list is not None:
        tracks = predictions.track_list
        results |= {name: tracks[i] for name, i in numbered(case, "track_iter") if i < len(tracks)}
    results |= _layer_samples(case, network, images, plan)
    return {name: value for name, value in results.items() if value is not None}


def _layer_samples(case: Case, network: VGGT, images: Tensor, plan: Plan) -> dict[str, Tensor]:
    """Outputs `layerN.special`, `layerN.mean`, `layerN.patches` and `patch_embed`.

    Each is a regular sample of tokens and channels, whose steps its description gives.
    """
    results: dict[str, Tensor] = {}
    wanted = {int(m.group(1)) for name in case.outputs if (m := re.fullmatch(r"layer(\d+)\.\w+", name))}
    if wanted:
        special = network.config.special_tokens
        for layer, tokens in _run_trunk(network, images, plan, wanted).items():
            patches = tokens[:, :, special:]
            parts = {"special": tokens[:, :, :special], "mean": patches.mean(dim=2), "patches": patches}
            for part, value in parts.items():
                name = f"layer{layer}.{part}"
                if name in case.outputs:
                    results[name] = sample(value, case.outputs[name]["about"])
    if "patch_embed" in case.outputs:
        encoder = network.aggregator.patch_embed
        normed = normalise_images(images.flatten(0, 1), images.dtype)
        if isinstance(encoder, DinoEncoder):
            grid = network.config.layout(images.shape[1], *images.shape[-2:]).grid
            tokens = encoder(normed, encoder.position_embedding(grid))
        else:
            tokens = encoder(normed)
        results["patch_embed"] = sample(tokens, case.outputs["patch_embed"]["about"])
    return results


def _run_trunk(network: VGGT, images: Tensor, plan: Plan, wanted: set[int]) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}

    def keep(layer: int, frame_tokens: Tensor, global_tokens: Tensor, compute: Compute) -> None:
        if layer in wanted:
            found[layer] = torch.cat([frame_tokens, global_tokens], dim=-1)

    network.aggregator(images, plan, RunOptions(), keep)
    return found
