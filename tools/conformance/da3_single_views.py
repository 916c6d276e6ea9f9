"""Handlers of Depth Anything 3's networks of single views, nested networks, sky and metric scale."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.models.da3.backbone import CameraTokens
from manyview.models.da3.metric_scale import in_metres, metric_depth
from manyview.models.da3.mono import DA3Mono
from manyview.models.da3.mono_config import DA3MonoConfig
from manyview.models.da3.mono_spec import MONO_SPEC
from manyview.models.da3.nested import DA3Nested
from manyview.models.da3.nested_spec import NESTED_SPEC
from manyview.models.da3.sky import NETWORK_THRESHOLD, with_far_sky
from manyview.models.run_options import RunOptions
from tools.conformance.da3_any_view import unnormalised
from tools.conformance.folder import Case
from tools.conformance.sampling import sample
from tools.conformance.settings import seeded_module


def far_sky(case: Case) -> dict[str, Tensor]:
    """Depth with sky at the far end; unchanged where either is too little."""
    depth = case.inputs["depth"]
    return {
        f"depth{suffix}": with_far_sky(depth, case.inputs[f"sky{suffix}"] >= NETWORK_THRESHOLD)
        for suffix in ("", "_few", "_most")
    }


def alignment(case: Case) -> dict[str, Tensor]:
    """A scene in metres by the metric branch's depth."""
    fields = ("depth", "depth_conf", "extrinsics", "metric_depth", "intrinsics", "sky")
    depth, conf, cameras, output, intrinsics, sky = (case.inputs[name][0] for name in fields)
    metres = metric_depth(output, intrinsics)
    scene = in_metres(depth, conf, cameras, metres, sky >= NETWORK_THRESHOLD)
    found = {"depth": scene.z_depth, "depth_conf": scene.depth_conf, "extrinsics": scene.cam_from_world}
    found = {name: value[None] for name, value in found.items()}
    return found | {"metric_depth_scaled": metres[None], "scale": scene.scale[None]}


def mono_config(case: Case, settings: dict[str, Any] | None) -> DA3MonoConfig:
    """Sizes from the shapes; the settings say what shapes do not."""
    shapes = {key.removeprefix("model."): shape for key, shape in case.shapes.items()}
    told: dict[str, Any] = {}
    if settings is not None:
        told = {"num_heads": settings["num_heads"], "taps": tuple(settings["out_layers"])}
    found: DA3MonoConfig = MONO_SPEC.config_from_shapes(shapes, case.id, **told)
    return found


def model(case: Case) -> dict[str, Tensor]:
    """Depth and sky score of a whole network, and samples of its taps where the case stores some."""
    config = mono_config(case, case.config.get("mono"))
    network = seeded_module(case, lambda: DA3Mono(config), prefix="model.")
    images, options = (
        unnormalised(case.inputs["images"]),
        RunOptions(heads=("depth", "sky"), dtype=case.dtype),
    )
    results = {"sky": network.single_views(images, options)[1]}
    depth = network(images, options=options).z_depth
    assert depth is not None
    results["depth"] = depth
    for name in case.outputs:
        if match := re.fullmatch(r"layer(\d)\.(camera|mean|patches)", name):
            results[name] = _tap(case, network, config.taps[int(match[1])], match[2], name)
    return results


def nested(case: Case) -> dict[str, Tensor]:
    """Cameras and depth in metres, in the network's own world."""
    c, shapes = case.config, {key.removeprefix("model."): shape for key, shape in case.shapes.items()}
    config = NESTED_SPEC.config_from_shapes(
        shapes,
        case.id,
        taps=tuple(c["anyview"]["out_layers"]),
        metric_taps=tuple(c["metric"]["out_layers"]),
        metric_heads=c["metric"]["num_heads"],
    )
    network = seeded_module(case, lambda: DA3Nested(config), prefix="model.")
    images, given = unnormalised(case.inputs["images"]), None
    if c["posed"]:
        size = (images.shape[-2], images.shape[-1])
        given = network.da3.cam_enc(case.inputs["w2c"][..., :3, :], case.inputs["intrinsics"], size)
    options = RunOptions(dtype=case.dtype)
    tokens = CameraTokens(network.da3.transformer.camera_token, given, "saddle_balanced")
    found = network.da3.predict(images, Plan.dense(config.depth), options, tokens)
    found = network.scaled(found, images, options)
    assert found.z_depth is not None and found.depth_conf is not None and found.metric_scale is not None
    assert tokens.order is not None
    views = tokens.order.views
    results = {
        "depth": found.z_depth,
        "depth_conf": found.depth_conf,
        "extrinsics": found.cam_from_world,
        "intrinsics": found.intrinsics,
        "pose_enc": found.pose_encoding,
        "scale": found.metric_scale,
        "ref_index": torch.zeros(len(images), dtype=torch.int64) if views is None else views[:, 0],
    }
    return {name: value for name, value in results.items() if name in case.outputs}


def _tap(case: Case, network: DA3Mono, tap: int, part: str, name: str) -> Tensor:
    images, transformer = case.inputs["images"], network.backbone.pretrained
    positions = transformer.position_embedding(network.config.layout(1, *images.shape[-2:]).grid)
    x = transformer.within_views(images.flatten(0, 1), positions, tap + 1).unflatten(0, images.shape[:2])
    patches = transformer.norm(x[:, :, 1:])
    tokens = {"camera": x[:, :, 0], "mean": patches.mean(2), "patches": patches}[part]
    return sample(tokens, case.outputs[name]["about"])
