"""Small helpers of the handlers: modules with seeded weights, and numbers written inside names and texts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..models.checkpoints import assign_weights
from .folder import BrokenCase, Case

M = TypeVar("M", bound=nn.Module)

_FACTOR = re.compile(r"\*\s*([0-9][0-9.]*(?:e-?[0-9]+)?)")


def seeded_module(case: Case, build: Callable[[], M]) -> M:
    """A module with the case's weights, assigned strictly as those of a public checkpoint are."""
    with torch.device("meta"):
        module = build()
    weights = case.weights()
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
