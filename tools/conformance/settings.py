"""Small helpers of the handlers: modules with seeded weights, and numbers written inside names and texts."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from manyview.models.checkpoints import assign_weights
from manyview.models.vggt.config import VGGTConfig
from manyview.models.vggt.spec import SPEC
from tools.conformance.folder import BrokenCase, Case

M = TypeVar("M", bound=nn.Module)

_FACTOR = re.compile(r"\*\s*([0-9][0-9.]*(?:e-?[0-9]+)?)")


def seeded_module(case: Case, build: Callable[[], M], prefix: str = "") -> M:
    """A module with the case's weights, assigned strictly as those of a public checkpoint are.

    `prefix`: in front of all names, as the reader of checkpoints drops it.
    """
    with torch.device("meta"):
        module = build()
    weights = {key.removeprefix(prefix): value for key, value in case.weights().items()}
    assign_weights(module, weights, f"inventory of {case.id}", device=case.device, dtype=case.dtype)
    return module.eval()


def numbered(case: Case, prefix: str) -> Iterator[tuple[str, int]]:
    """Outputs named `prefix` followed by a number, with that number."""
    for name in case.outputs:
        match = re.fullmatch(re.escape(prefix) + r"(\d+)", name)
        if match is not None:
            yield name, int(match.group(1))


def scaled_input(case: Case, name: str, output: str, default: float) -> Tensor:
    """Input `name` scaled down for an epsilon check: stored as `name`_small, or to be scaled here.

    The factor is the one that the description of `output` gives ("tokens * 0.003"), else `default`.
    """
    stored = case.inputs.get(f"{name}_small")
    if stored is not None:
        return stored
    return case.inputs[name] * described_factor(case, output, default)


def described_factor(case: Case, output: str, default: float) -> float:
    """The factor in the description of an output, or `default`."""
    match = _FACTOR.search(case.outputs[output].get("about", ""))
    return float(match.group(1)) if match else default


def patch_grid(patches: int, image_hw: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of square patches that tile an image of (height, width)."""
    height, width = image_hw
    patch = round(math.sqrt(height * width / patches))
    grid = height // patch, width // patch
    if grid[0] * grid[1] != patches or height % patch or width % patch:
        raise BrokenCase(f"{patches} patches do not tile an image of {height}x{width}")
    return grid


def vggt_config(case: Case, shapes: dict[str, tuple[int, ...]]) -> VGGTConfig:
    """Configuration from the shapes of a whole model, or of its trunk alone, and the case's settings.

    The settings say what shapes do not tell; where both speak they must agree.
    """
    settings = case.config
    trunk_only = not any(key.startswith(("camera_head.", "depth_head.", "point_head.")) for key in shapes)
    taps = settings.get("dpt", {}).get("intermediate_layer_idx") or ((0, 0, 0, 0) if trunk_only else None)
    config: VGGTConfig = SPEC.config_from_shapes(shapes, case.id, taps=None if taps is None else tuple(taps))
    stated = {
        "embed_dim": config.dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "registers": config.registers,
        "patch": config.patch_size,
        "vit_depth": config.encoder.depth if config.encoder else None,
    }
    if config.encoder is not None:
        stated["img_size"] = config.image_size
    for name, value in stated.items():
        if settings.get(name, value) != value:
            raise BrokenCase(f"its config gives {name} {settings[name]}, its weights {value}")
    config = dataclasses.replace(config, rope_base=float(settings.get("rope_base", config.rope_base)))
    if config.encoder is not None and "vit_heads" in settings:
        encoder = dataclasses.replace(config.encoder, num_heads=settings["vit_heads"])
        config = dataclasses.replace(config, encoder=encoder)
    if config.camera_head is not None:
        known = _known(settings.get("camera", {}), {"num_heads": "num_heads", "iterations": "iterations"})
        config = dataclasses.replace(config, camera_head=dataclasses.replace(config.camera_head, **known))
    if config.track_head is not None:
        names = {"iters": "iterations"} | {
            name: name
            for name in ("stride", "down_ratio", "corr_levels", "corr_radius", "max_scale", "num_heads")
        }
        known = _known(settings.get("track", {}), names)
        config = dataclasses.replace(config, track_head=dataclasses.replace(config.track_head, **known))
    return config


def _known(settings: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {ours: settings[theirs] for theirs, ours in names.items() if theirs in settings}
