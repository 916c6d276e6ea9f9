"""How far runs in other precisions are from float32, on held-out scenes: `python -m tools.results.precision`.

The deviations of docs/precision.md: the angle between camera rotations, and relative differences of depth and
confidence.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys

import torch
from torch import Tensor

import manyview
from manyview.models.predictions import Predictions
from manyview.models.run_options import RunOptions
from manyview.synthetic import SceneOptions, render_scenes
from manyview.synthetic.held_out import HELD_OUT_BANK, HELD_OUT_SEED
from tools.command import run_command

_LOW = torch.bfloat16
WAYS = {
    "bf16": RunOptions(_LOW),
    "bf16, heads too": RunOptions(_LOW, head_dtype=_LOW, channels_last=True),
    "fp32, GELU's tanh form": RunOptions(gelu="tanh"),
    "bf16, GELU's tanh form": RunOptions(_LOW, gelu="tanh"),
    "fp8": RunOptions(_LOW, linear_precision="fp8"),
}


@dataclasses.dataclass(frozen=True)
class PrecisionOptions:
    """What is compared."""

    model: str = "manyview-small"
    """As reconstruct takes it."""
    scenes: int = 8
    """Held-out scenes."""
    views: int = 8
    """Views of each."""
    device: str = "cpu"
    """cpu or cuda."""


def deviations(found: Predictions, exact: Predictions) -> tuple[float, float, float]:
    """Medians of degrees between rotations, and of relative differences of depth and of confidence."""
    both = found.cam_from_world[..., :3].double().mT @ exact.cam_from_world[..., :3].double()
    # Of the difference from the identity: a small angle is lost in the cosine.
    sine = (both - both.mT).square().sum((-1, -2)).sqrt() / 8**0.5
    turned = float(sine.clamp(max=1).asin().rad2deg().median())
    return turned, _relative(found.z_depth, exact.z_depth), _relative(found.depth_conf, exact.depth_conf)


def _relative(found: Tensor | None, exact: Tensor | None) -> float:
    assert found is not None and exact is not None
    return float(((found - exact).abs() / exact).median())


def run(chosen: PrecisionOptions) -> None:
    """The command; see the module."""
    model = manyview.load(chosen.model).to(chosen.device).eval()
    side = model.config.image_size // model.config.patch_size * model.config.patch_size
    options = dataclasses.replace(SceneOptions.medium(), texture_bank_seed=HELD_OUT_BANK)
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WAYS}
    for number in range(chosen.scenes):
        images = render_scenes(HELD_OUT_SEED + number, chosen.views, side, side, options).images
        with torch.no_grad():
            exact = model(images.to(chosen.device), options=RunOptions())
            for name, way in WAYS.items():
                rows[name].append(deviations(model(images.to(chosen.device), options=way), exact))
    sys.stdout.write("| precision | rotation | depth | confidence |\n|---|---:|---:|---:|\n")
    for name, found in rows.items():
        turned, depth, confidence = (statistics.median(column) for column in zip(*found, strict=True))
        sys.stdout.write(f"| {name} | {turned:.4f}° | {depth:.4%} | {confidence:.4%} |\n")


if __name__ == "__main__":
    sys.exit(run_command(PrecisionOptions, run, "tools.results.precision"))
