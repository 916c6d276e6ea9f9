"""Handlers of Depth Anything 3's networks of single views, of sky and of metric scale."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from manyview.models.da3.metric_scale import in_metres, metric_depth
from manyview.models.da3.mono import DA3Mono
from manyview.models.da3.mono_config import DA3MonoConfig
from manyview.models.da3.mono_spec import MONO_SPEC
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


def _tap(case: Case, network: DA3Mono, tap: int, part: str, name: str) -> Tensor:
    images, transformer = case.inputs["images"], network.backbone.pretrained
    positions = transformer.position_embedding(network.config.layout(1, *images.shape[-2:]).grid)
    x = transformer.within_views(images.flatten(0, 1), positions, tap + 1).unflatten(0, images.shape[:2])
    patches = transformer.norm(x[:, :, 1:])
    tokens = {"camera": x[:, :, 0], "mean": patches.mean(2), "patches": patches}[part]
    return sample(tokens, case.outputs[name]["about"])
