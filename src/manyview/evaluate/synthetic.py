"""Accuracy on held-out procedural scenes: a model under several plans, beside baselines that cannot see.

Held out means scene seeds that training never draws and a texture bank it never uses. Poses follow
VGGT's protocol (`pose_metrics`), pooled over all pairs of all scenes; depth is compared after one
median scale per scene and averaged over scenes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..attention.plan import Plan
from ..errors import UsageError
from ..geometry.cameras import relative_to_first
from ..models.network import Network
from ..models.run_options import RunOptions
from ..reconstruction.plan.machine import pick_dtype
from ..synthetic import SceneBatch, SceneOptions, render_scenes
from ..synthetic.held_out import HELD_OUT_BANK, HELD_OUT_SEED
from .metrics.depth import depth_errors, sparsification
from .metrics.pose import PairErrors, auc, pair_errors

_BASELINE_SCENES = 64


@dataclass(frozen=True)
class Numbers:
    """One row: AUC in percent, medians in degrees over pairs, depth errors averaged over scenes.

    `confidence_excess` is the area between the sparsification curves of the confidence and of the oracle
    (0 perfect) in relative depth errors, `confidence_absolute_excess` in absolute ones, which confidence
    is trained on, in units of a scene's median true depth; None where there is no confidence.
    """

    auc_5: float
    auc_15: float
    auc_30: float
    rotation_median_deg: float
    translation_median_deg: float
    abs_rel: float
    delta_125: float
    confidence_excess: float | None = None
    confidence_absolute_excess: float | None = None


@dataclass(frozen=True)
class SyntheticTable:
    """Rows by name (plans, then baselines) and the settings that reproduce them."""

    settings: dict[str, Any]
    rows: dict[str, Numbers]

    def to_json(self) -> dict[str, Any]:
        return {"settings": self.settings, "rows": {k: dataclasses.asdict(v) for k, v in self.rows.items()}}

    def text(self) -> str:
        """The table as aligned text."""
        width = max(len(name) for name in self.rows)
        head = f"{'':{width}}  AUC@5  AUC@15  AUC@30  rot deg  dir deg  AbsRel  d<1.25  conf  abs.conf"
        lines = [head]
        for name, row in self.rows.items():
            excess, absolute = (
                "" if value is None else f"{value:.2f}"
                for value in (row.confidence_excess, row.confidence_absolute_excess)
            )
            lines.append(
                f"{name:{width}}  {row.auc_5:5.1f}  {row.auc_15:6.1f}  {row.auc_30:6.1f}  "
                f"{row.rotation_median_deg:7.1f}  {row.translation_median_deg:7.1f}  "
                f"{row.abs_rel:6.3f}  {row.delta_125:6.1f}  {excess:>4}  {absolute:>8}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Estimate:
    """What is compared with the truth of a batch of scenes; `confidence` may be missing."""

    cam_from_world: Float[Tensor, "scenes views 3 4"]
    z_depth: Float[Tensor, "scenes views height width"]
    confidence: Float[Tensor, "scenes views height width"] | None = None


class Tally:
    """Collects errors batch by batch and turns them into a row."""

    def __init__(self) -> None:
        self._pairs: list[PairErrors] = []
        self._depth: list[tuple[float, float]] = []
        self._pixel_errors: list[Tensor] = []
        self._absolute_errors: list[Tensor] = []
        self._confidence: list[Tensor] = []

    def add(self, found: Estimate, cam_from_world: Tensor, z_depth: Tensor, valid: Bool[Tensor, ...]) -> None:
        """Compare a batch of estimates with the truth."""
        self._pairs.append(pair_errors(found.cam_from_world, cam_from_world))
        for scene in range(len(z_depth)):
            mask, true = valid[scene], z_depth[scene]
            errors = depth_errors(found.z_depth[scene], true, mask)
            if bool(mask.any()):
                self._depth.append((errors.abs_rel, errors.delta_125))
            if found.confidence is not None:
                scaled = found.z_depth[scene][mask] * errors.scale
                absolute = (scaled - true[mask]).abs()
                self._pixel_errors.append(absolute / true[mask])
                self._absolute_errors.append(absolute / true[mask].median())
                self._confidence.append(found.confidence[scene][mask])

    def numbers(self) -> Numbers:
        """The row of everything added."""
        rotation = torch.cat([p.rotation_deg for p in self._pairs])
        translation = torch.cat([p.translation_deg for p in self._pairs])
        worst = torch.maximum(rotation, translation)
        depth = torch.tensor(self._depth or [(0.0, 0.0)], dtype=torch.float64).mean(0)
        excess = absolute = None
        if self._confidence:
            confidence = torch.cat(self._confidence)
            excess = sparsification(torch.cat(self._pixel_errors), confidence).excess
            absolute = sparsification(torch.cat(self._absolute_errors), confidence).excess
        return Numbers(
            auc_5=auc(worst, 5),
            auc_15=auc(worst, 15),
            auc_30=auc(worst, 30),
            rotation_median_deg=float(rotation.median()),
            translation_median_deg=float(translation.median()),
            abs_rel=float(depth[0]),
            delta_125=float(depth[1]),
            confidence_excess=excess,
            confidence_absolute_excess=absolute,
        )


def model_estimate(model: Network, images: Tensor, plan: Plan, dtype: torch.dtype | None = None) -> Estimate:
    """Cameras and depth of a batch of scenes under a plan; `dtype` is the trunk's (None: the weights')."""
    with torch.no_grad():
        found = model(images, plan=plan, options=RunOptions(dtype, heads=("camera", "depth")))
    assert found.z_depth is not None
    return Estimate(found.cam_from_world.float().cpu(), found.z_depth.cpu(), found.depth_conf.cpu())


def identity_estimate(views: int, height: int, width: int, scenes: int, seed: int) -> Estimate:
    """Chance: no rotation, camera centres at random, the same depth everywhere.

    The centres are random because equal ones would leave the direction undefined, which the protocol
    counts as an error beyond every threshold.
    """
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.eye(3).expand(scenes, views, 3, 3)
    translation = torch.randn(scenes, views, 3, 1, generator=generator)
    return Estimate(torch.cat([rotation, translation], -1), torch.ones(scenes, views, height, width))


def mean_estimate(batches: Sequence[SceneBatch]) -> Estimate:
    """What the data says before looking: for each view's place in the list, the mean camera relative to the
    first view and the mean depth map, each scene in units of its mean depth. One scene."""
    cameras, depths = [], []
    for batch in batches:
        valid = batch.valid.to(batch.z_depth.dtype)
        scale = (batch.z_depth.nan_to_num() * valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)
        relative = relative_to_first(batch.cam_from_world)
        cameras.append(torch.cat([relative[..., :3], relative[..., 3:] / scale[:, None, None, None]], -1))
        filled = torch.where(batch.valid, batch.z_depth / scale[:, None, None, None], torch.ones_like(valid))
        depths.append(filled)
    mean = torch.cat(cameras).double().mean(0)
    # The rotation nearest to the mean of rotations (chordal mean).
    u, _, vh = torch.linalg.svd(mean[..., :3])
    sign = torch.det(u @ vh).sign()
    rotation = u * torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)[..., None, :] @ vh
    camera = torch.cat([rotation, mean[..., 3:]], -1).float()
    return Estimate(camera[None], torch.cat(depths).mean(0)[None])


def _render(
    seeds: Sequence[int], views: int, size: tuple[int, int], options: SceneOptions, batch: int, device: str
) -> Iterator[SceneBatch]:
    for start in range(0, len(seeds), batch):
        yield render_scenes(seeds[start : start + batch], views, *size, options, device=device)


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
    """Measure a model under `plans` (spec strings, or names to specs) on `scenes` held-out scenes.

    `size` is (height, width) in pixels, both multiples of the patch; default the model's own size at 4:3.
    The texture bank of `options` is replaced by the held-out one. With `baselines` two rows are added:
    "identity" (chance, see `identity_estimate`) and "mean pose" (`mean_estimate` over 64 scenes of the
    same options with the training bank). `progress` hears (scenes done, scenes). `precision` is the trunk's
    (None: that of the weights). Errors: UsageError for fewer than two views, or no scene.
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
    device, dtype = str(where), None if precision is None else pick_dtype(where, precision)
    # Room for a million scenes a seed.
    seeds = [HELD_OUT_SEED + (seed << 20) + number for number in range(scenes)]

    tallies = {name: Tally() for name in parsed}
    mean: Estimate | None = None
    if baselines:
        tallies |= {"identity": Tally(), "mean pose": Tally()}
        trained = dataclasses.replace(held_out, texture_bank_seed=0)
        mean = mean_estimate(list(_render(range(_BASELINE_SCENES), views, size, trained, batch, "cpu")))
    for number, truth in enumerate(_render(seeds, views, size, held_out, batch, device)):
        cameras, depth, valid = truth.cam_from_world.cpu(), truth.z_depth.cpu(), truth.valid.cpu()
        for name, plan in parsed.items():
            tallies[name].add(model_estimate(model, truth.images, plan, dtype), cameras, depth, valid)
        if mean is not None:
            count = len(cameras)
            tallies["identity"].add(
                identity_estimate(views, *size, count, seed + number), cameras, depth, valid
            )
            repeated = Estimate(
                mean.cam_from_world.expand(count, -1, -1, -1), mean.z_depth.expand(count, -1, -1, -1)
            )
            tallies["mean pose"].add(repeated, cameras, depth, valid)
        if progress is not None:
            progress(min(scenes, (number + 1) * batch), scenes)
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
    return SyntheticTable(settings, {name: tally.numbers() for name, tally in tallies.items()})
