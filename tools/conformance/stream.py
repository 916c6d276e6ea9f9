"""Handlers of FlashVGGT's streaming, both public versions: the trunk in chunks, and whole models."""

from __future__ import annotations

import torch
from torch import Tensor

from manyview.attention.dense import SameFrameKeys
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.methods.flashvggt import DescriptorKeys
from manyview.attention.plan import Plan
from manyview.models.alternating import normalise_images
from manyview.models.encoder import DinoEncoder
from manyview.models.precision import Compute
from manyview.models.run_options import RunOptions
from manyview.models.vggt.model import VGGT
from manyview.models.vggt.trunk import LaterFrames, Trunk
from manyview.streaming.plan_memory import PlanMemory, RetentionRule
from tools.conformance.folder import Case
from tools.conformance.sampling import sample
from tools.conformance.settings import seeded_module, vggt_config


def _memory(case: Case, depth: int) -> PlanMemory:
    """Descriptors in every global layer, or (later version) from one to another and own frames elsewhere."""
    c = case.config
    first_release = "v1" in case.id
    keys = DescriptorKeys(c["kv_downfactor"], "bilinear" if first_release else "nearest", keyframes=0)
    short, own = GlobalAttention(keys=keys), GlobalAttention(keys=SameFrameKeys())
    joining = range(c.get("global_start_idx", 0), c.get("global_end_idx", depth - 1) + 1)
    plan = Plan(tuple(short if layer in joining else own for layer in range(depth)))
    return PlanMemory(plan, RetentionRule(c.get("memory_drop_rate", 1), by_chunk=True))


def trunk(case: Case) -> dict[str, Tensor]:
    """Tapped tokens of each chunk, and how many keys every layer remembers after it."""
    config = vggt_config(case, {f"aggregator.{key}": shape for key, shape in case.shapes.items()})
    module = seeded_module(case, lambda: Trunk(config))
    memory = _memory(case, config.depth)
    results: dict[str, Tensor] = {}
    lengths = []
    for number, images in enumerate(case.inputs["images"].split(case.config["chunks"], 1)):
        found: dict[int, Tensor] = {}

        def keep(
            layer: int, frame: Tensor, across: Tensor, compute: Compute, found: dict[int, Tensor] = found
        ) -> None:
            found[layer] = torch.cat([frame, across], dim=-1)

        known = LaterFrames(module) if number else None
        module.run_layers(images, memory.plan(images.shape[1]), RunOptions(), keep, known=known)
        memory.commit(images.shape[1])
        lengths.append(memory.tokens())
        names = {layer: f"chunk{number}.tokens{layer}" for layer in found}
        results |= {names[layer]: found[layer] for layer in found if names[layer] in case.outputs}
    return results | {"cache_lengths": torch.tensor(lengths)}


def model(case: Case) -> dict[str, Tensor]:
    """A whole model: depth chunk by chunk, cameras once at the end from the camera tokens of all frames."""
    network = seeded_module(case, lambda: VGGT(vggt_config(case, case.shapes)))
    memory = _memory(case, network.config.depth)
    tokens, depth, conf = [], [], []
    results: dict[str, Tensor] = {}
    for number, images in enumerate(case.inputs["images"].split(case.config["chunk_size"], 1)):
        frames = images.shape[1]
        results |= _layer_samples(case, network, images, memory.plan(frames), number)
        out = network.run_chunk(images, memory.plan(frames), RunOptions(), number == 0)
        memory.commit(frames)
        tokens.append(out.camera_tokens)
        depth.append(out.z_depth)
        conf.append(out.depth_conf)
    results["pose_enc"] = network.camera_head(torch.cat(tokens, 1))[-1]
    results["depth"], results["depth_conf"] = torch.cat(depth, 1)[..., None], torch.cat(conf, 1)
    return results


def _layer_samples(case: Case, network: VGGT, images: Tensor, plan: Plan, chunk: int) -> dict[str, Tensor]:
    """Outputs `chunkN.layerM.special`, `.mean` and `.patches`, and `patch_embed` of the first chunk.

    Runs the layers only where the case stores some; what that leaves in the memory the chunk's own pass
    makes again.
    """
    results: dict[str, Tensor] = {}
    special = network.config.special_tokens

    def keep(layer: int, frame: Tensor, across: Tensor, compute: Compute) -> None:
        tokens = torch.cat([frame, across], dim=-1)
        patches = tokens[:, :, special:]
        parts = {"special": tokens[:, :, :special], "mean": patches.mean(dim=2), "patches": patches}
        for part, value in parts.items():
            name = f"chunk{chunk}.layer{layer}.{part}"
            if name in case.outputs:
                results[name] = sample(value, case.outputs[name]["about"])

    trunk = network.aggregator
    if any(name.startswith(f"chunk{chunk}.layer") for name in case.outputs):
        trunk.run_layers(images, plan, RunOptions(), keep, known=LaterFrames(trunk) if chunk else None)
    if chunk == 0 and "patch_embed" in case.outputs:
        encoder, normed = trunk.patch_embed, normalise_images(images.flatten(0, 1), images.dtype)
        if isinstance(encoder, DinoEncoder):
            grid = trunk.config.layout(images.shape[1], *images.shape[-2:]).grid
            found = encoder(normed, encoder.position_embedding(grid))
        else:
            found = encoder(normed)
        results["patch_embed"] = sample(found, case.outputs["patch_embed"]["about"])
    return results
