"""Handlers of FlashVGGT, both public versions: attention, blocks, keyframes, trunk and whole models."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from manyview.attention.dense import SameFrameKeys
from manyview.attention.frame_choice import cluster_members
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.flashvggt import DescriptorKeys
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerInput, LayerRun
from manyview.geometry.cameras import pose_encoding_to_cameras, relative_to_first
from manyview.geometry.unproject import world_points
from manyview.models.blocks import Attention, Block
from manyview.models.rotary import Rotation, rotation_for
from manyview.models.vggt.compressor import SpatialCompressor
from tools.conformance import modules, whole
from tools.conformance.folder import Case
from tools.conformance.settings import scaled_input, seeded_module


@dataclasses.dataclass(frozen=True)
class _GivenFrames(DescriptorKeys):
    """Descriptors with the whole frames that the reference chose; its choice is random by design."""

    given: tuple[tuple[int, ...], ...] = ()

    def _whole_frames(self, layer: LayerInput) -> Tensor:
        return torch.tensor(self.given, dtype=torch.long, device=layer.tokens.device)


def _keys(case: Case, chosen: Tensor | None) -> DescriptorKeys:
    resample = "bilinear" if case.id.replace("full/", "").startswith("flash_v1") else "nearest"
    if case.config.get("compressor") == "dwconv":
        resample = "learnt"
    reduction = case.config["kv_downfactor"]
    if chosen is None:
        return DescriptorKeys(reduction, resample)  # type: ignore[arg-type]
    given = tuple(tuple(row) for row in chosen.tolist())
    return _GivenFrames(reduction, resample, given=given)  # type: ignore[arg-type]


def _plan(case: Case, depth: int) -> Plan:
    """Descriptors in every global layer, or (later version) from one to another and own frames elsewhere."""
    short = GlobalAttention(keys=_keys(case, case.expected.get("keyframes")))
    first = case.config.get("global_start_idx", 0)
    last = case.config.get("global_end_idx", depth - 1)
    own = GlobalAttention(keys=SameFrameKeys())
    return Plan(tuple(short if first <= layer <= last else own for layer in range(depth)))


def _layout(case: Case) -> TokenLayout:
    c = case.config
    return TokenLayout(c["frames"], c["special_tokens"], tuple(c["grid_hw"]))


def _rotation(case: Case) -> Rotation:
    period = _layout(case).tokens_per_frame
    return rotation_for(case.inputs["positions"][0, :period], case.config["dim"] // case.config["num_heads"])


def _meeting(case: Case) -> GlobalAttention:
    batch = len(case.inputs["x"])
    # The case of the learnt compressor has frame 0 whole and no field that says so.
    whole = int(case.config.get("compressor") == "dwconv")
    chosen = case.inputs.get("keyframes", torch.zeros(batch, whole, dtype=torch.long))
    return GlobalAttention(keys=_keys(case, chosen))


def attention(case: Case) -> dict[str, Tensor]:
    """Attention of all tokens to descriptors; the factor of a small input is 0.003 where nothing tells it."""
    c = case.config

    def build() -> Attention:
        module = Attention(c["dim"], c["num_heads"], qk_norm=c["qk_norm"])
        if c.get("compressor") == "dwconv":
            module.spatial_compressor = SpatialCompressor(c["dim"], c["kv_downfactor"])
        return module

    module = seeded_module(case, build)
    meet, layout, rotation = _meeting(case), _layout(case), _rotation(case)
    results = {"y": meet(module, case.inputs["x"], layout, rotation, LayerRun())}
    if "y_small" in case.outputs:
        small = scaled_input(case, "x", "y_small", 0.003)
        results["y_small"] = meet(module, small, layout, rotation, LayerRun())
    return results


def block(case: Case) -> dict[str, Tensor]:
    """A whole global block."""
    c = case.config
    module = seeded_module(case, lambda: Block(c["dim"], c["num_heads"], qk_norm=c["qk_norm"]))
    attend, layout, rotation = _meeting(case), _layout(case), _rotation(case)
    return {
        "y": module(case.inputs["x"], across_frames=lambda a, x: attend(a, x, layout, rotation, LayerRun()))
    }


def keyframes(case: Case) -> dict[str, Tensor]:
    """Chosen frames: ours start deterministically, so clusters are compared in the order of the reference."""
    c = case.config
    clusters = c["S"] // c["keyframe_every"]
    first = torch.zeros(c["B"], 1, dtype=torch.long)
    if clusters <= 1:
        return {"keyframes": first}
    features = case.inputs["tokens"].mean(1).unflatten(0, (c["B"], c["S"]))
    found = cluster_members(features, clusters).cpu()
    wanted = case.expected["keyframes"][:, 1:]
    same = bool((found.sort(1).values == wanted.sort(1).values).all())
    return {"keyframes": torch.cat([first, wanted if same else found], 1)}


def normalised_points(case: Case) -> dict[str, Tensor]:
    """Truth as FlashVGGT's training normalises it: in the first camera's frame, median distance as unit."""
    from manyview.train.targets import scene_scale

    extrinsics, intrinsics = case.inputs["extrinsics"], case.inputs["intrinsics"]
    z_depth = case.inputs["depth"][None, ..., 0]
    points = world_points(z_depth, extrinsics, intrinsics, pixel_centres="integer")
    cameras = relative_to_first(extrinsics)
    first = world_points(z_depth, cameras, intrinsics, pixel_centres="integer")
    scale = scene_scale(first, z_depth > 0, "median")
    cameras = torch.cat([cameras[..., :3], cameras[..., 3:] / scale[:, None, None, None]], -1)
    return {
        "world_points": points[0],
        "norm_points": first / scale[:, None, None, None, None],
        "norm_extrinsics": cameras,
        "norm_depth": (z_depth / scale[:, None, None, None])[..., None],
    }


def trunk(case: Case) -> dict[str, Tensor]:
    """All layers of the trunk; which frames are whole is taken from the case and not tested here."""
    return modules.trunk(case, _plan) | {"keyframes": case.expected["keyframes"]}


def model(case: Case) -> dict[str, Tensor]:
    """A whole model, a VGGT with two heads that runs with descriptors; points are unprojected depth."""
    results = whole.model(case, _plan)
    if "world_points" in case.outputs:
        height, width = results["depth"].shape[2:4]
        cameras, intrinsics = pose_encoding_to_cameras(results["pose_enc"], height, width)
        z_depth = results["depth"][..., 0]
        results["world_points"] = world_points(z_depth, cameras, intrinsics, pixel_centres="integer")
    return results
