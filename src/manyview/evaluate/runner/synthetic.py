"""Accuracy on held-out procedural scenes: plans beside image-independent baselines.

Held out means scene seeds that training never draws and a texture bank it never uses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...attention.plan import Plan
from ...errors import InputError, UsageError
from ...models.network import Network
from ...reconstruction.inputs.views import depth_at_network_pixels
from ...reconstruction.plan.defaults import default_run_options
from ...reconstruction.plan.machine import pick_dtype
from ...reconstruction.result.result import Reconstruction
from ...synthetic import SceneOptions, render_scenes
from ...synthetic.held_out import HELD_OUT_BANK, HELD_OUT_SEED
from ..protocols.measures import Figures
from ..protocols.rendered import quick_errors, quick_figures
from ..protocols.scene_pair import ScenePair
from ..references.baselines import Baseline, identity, mean_pose
from .loop import run_scenes
from .records import Evaluation
from .rendered import RenderedScenes

_BASELINE_SCENES = 64


@dataclass(frozen=True)
class SyntheticTable:
    """Rows by name (plans, then baselines), each `quick_figures`, and the settings that reproduce them."""

    settings: dict[str, Any]
    rows: dict[str, Figures]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        rows = {name: dict(row) for name, row in self.rows.items()}
        return {"settings": self.settings, "rows": rows, "notes": list(self.notes)}


def evaluate_synthetic(
    model: Network,
    plans: Mapping[str, str] | Sequence[str] = ("dense", "frame"),
    scenes: int = 48,
    views: int = 8,
    size: tuple[int, int] | None = None,
    options: SceneOptions | None = None,
    seed: int = 0,
    baselines: bool = True,
    batch: int = 4,
    progress: Callable[[int, int], None] | None = None,
    precision: str | None = None,
) -> SyntheticTable:
    """Measure a model under `plans` on held-out scenes.

    Args:
        model: The network.
        plans: Plans, or names to plans.
        scenes: How many scenes.
        views: Views of each.
        size: (height, width) in pixels, multiples of the patch; default the model's own width at 4:3.
        options: Of the scenes; their texture bank is replaced by the held-out one.
        seed: Of the scenes.
        baselines: Add the rows "identity" (chance) and "mean pose" (`mean_pose` of 64 scenes of the same
            options with the training bank).
        batch: Scenes that are run together.
        progress: Called with (rows of batches done, all).
        precision: Of the trunk; default that of the weights.

    Raises:
        UsageError: For fewer than two views, no scene, or an impossible plan.
    """
    if views < 2 or scenes < 1:
        raise UsageError(f"evaluation needs at least 1 scene of 2 views, not {scenes} of {views}")
    config = model.config
    if size is None:
        rows = max(1, round(0.75 * config.image_size / config.patch_size))
        size = (rows * config.patch_size, config.image_size // config.patch_size * config.patch_size)
    specs = dict(plans) if isinstance(plans, Mapping) else {name: name for name in plans}
    parsed = {name: Plan.parse(spec, config.depth) for name, spec in specs.items()}
    held_out = dataclasses.replace(options or SceneOptions.medium(), texture_bank_seed=HELD_OUT_BANK)
    where = next(model.parameters()).device
    dtype = None if precision is None else pick_dtype(where, precision)
    mean = _mean_pose(views, size, held_out, batch) if baselines else None
    # Room for a million scenes a seed.
    seeds = [HELD_OUT_SEED + (seed << 20) + number for number in range(scenes)]
    todo = [
        RenderedScenes(
            f"scenes {start} to {start + batch - 1}",
            tuple(seeds[start : start + batch]),
            views,
            size,
            held_out,
            parsed,
            quick_errors,
            default_run_options(where, dtype),
            str(where),
            baselines={} if mean is None else _baselines(mean, views, size, seed + number),
        )
        for number, start in enumerate(range(0, scenes, batch))
    ]
    settings = {
        "scenes": scenes,
        "views": views,
        "height": size[0],
        "width": size[1],
        "seed": seed,
        "plans": specs,
        "options": held_out.to_dict(),
    }
    if precision is not None:
        settings["precision"] = precision
    found = run_scenes(model, todo, Evaluation(settings, {}), progress)
    errors = {
        name: [e for scene in found.scenes for row in scene.rows if row.plan == name for e in row.errors]
        for name in found.plans
    }
    layout = config.layout(views, *size)
    notes = tuple(filter(None, (plan.why_dense(layout) for plan in parsed.values())))
    return SyntheticTable(settings, {name: quick_figures(own) for name, own in errors.items()}, notes)


def _mean_pose(views: int, size: tuple[int, int], options: SceneOptions, batch: int) -> Baseline:
    trained = dataclasses.replace(options, texture_bank_seed=0)
    starts = range(0, _BASELINE_SCENES, batch)
    seeds = [list(range(start, min(start + batch, _BASELINE_SCENES))) for start in starts]
    return mean_pose([render_scenes(own, views, *size, trained, device="cpu") for own in seeds])


def _baselines(
    mean: Baseline, views: int, size: tuple[int, int], seed: int
) -> dict[str, Callable[[int], Baseline]]:
    """By name, each of a number of scenes."""

    def repeated(count: int) -> Baseline:
        cameras = mean.cam_from_world.expand(count, -1, -1, -1)
        return Baseline(cameras, mean.z_depth.expand(count, -1, -1, -1))

    def chance(count: int) -> Baseline:
        return identity(count, views, *size, seed=seed, dtype=torch.float32)

    return {"identity": chance, "mean pose": repeated}


def compare_with_truth(scene: Reconstruction, truth: str | Path) -> Figures:
    """Accuracy of cameras and depth (`quick_figures`) against a `truth.npz` that `synthetic.write_scene`
    wrote.

    The true depth is read at the source pixel under each network pixel's centre; padding and sky do not
    count. Raises InputError for a file of another kind or with another number of views.
    """
    try:
        with np.load(truth) as file:
            cameras, depth, valid = file["cam_from_world"], file["z_depth"], file["valid"]
            intrinsics = file["intrinsics"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{truth}: expected the truth.npz of a rendered scene ({error})") from error
    if len(cameras) != len(scene):
        raise InputError(f"{truth}: has {len(cameras)} views, the reconstruction {len(scene)}")
    measured = [
        depth_at_network_pixels(np.where(seen, own, np.nan), view.transform)
        for own, seen, view in zip(depth, valid, scene.views)
    ]
    pair = ScenePair(
        found_cameras=scene.cam_from_world.astype(np.float32),
        true_cameras=cameras.astype(np.float32),
        found_depth=scene.z_depth.copy(),
        confidence=scene.depth_conf.copy(),
        found_points=np.zeros((len(scene), 0, 0, 3), dtype=np.float32),
        seen=np.stack([view.transform.content_mask() for view in scene.views]),
        true_depth=np.stack(measured),
        found_intrinsics=scene.intrinsics,
        true_intrinsics=np.stack(
            [view.transform.network_from_upright @ own for own, view in zip(intrinsics, scene.views)]
        ),
    )
    return quick_figures([quick_errors(pair)])
