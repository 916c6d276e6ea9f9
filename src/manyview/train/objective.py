"""The training objective: render a batch, run the model, weigh the losses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention.plan import Plan
from ..attention.softmax import bf16_cpu
from ..models.run_options import RunOptions
from ..models.vggt.model import VGGT
from ..synthetic import SceneBatch, SceneOptions, render_scenes
from .augment import photometric, through_camera
from .auxiliary import AuxiliaryHeads, LossRecorder
from .config import LossWeights, TrainConfig
from .distill import Teacher
from .losses import camera_loss, dense_loss, relative_pose_loss
from .posed_data import posed_scenes
from .schedule import StepDraw
from .targets import Targets, make_targets


@dataclass(frozen=True)
class Losses:
    """`total` carries the gradient; `terms` are the unweighted parts by name."""

    total: Tensor
    terms: dict[str, Tensor]


def render_draw(draw: StepDraw, patch_size: int, device: str | torch.device = "cpu") -> SceneBatch:
    """Render a draw, or read it from posed images."""
    rows, columns = draw.grid
    if draw.posed is not None:
        size = rows * patch_size, columns * patch_size
        return posed_scenes(draw.posed, draw.seeds, draw.views, *size).to(device)
    options = SceneOptions.from_dict(draw.scenes)
    return render_scenes(
        list(draw.seeds), draw.views, rows * patch_size, columns * patch_size, options, device=device
    )


def batch_losses(
    model: VGGT,
    heads: AuxiliaryHeads,
    batch: SceneBatch,
    targets: Targets,
    config: TrainConfig,
    weights: LossWeights,
    points: bool = True,
    dtype: torch.dtype | None = None,
    plan: Plan | None = None,
    teacher: Teacher | None = None,
) -> Losses:
    """All losses of one batch under `plan` (None: dense).

    `points`: whether the point head runs, `dtype`: the trunk's precision, `teacher`: target of the
    distillation loss.
    """
    have = set(model.available_heads)
    with_points = points and weights.points > 0 and "points" in have
    run = ("camera", "depth", "points") if with_points else ("camera", "depth")
    supervised = config.supervised_layers if weights.attention > 0 else ()
    read_out = weights.direction > 0 or weights.deep_camera > 0
    first = config.read_out_from if read_out else config.model.depth
    recorder = LossRecorder(heads, targets, supervised, config.attention_queries, first)
    options = RunOptions(dtype=dtype, head_frames_per_chunk=None, heads=run)
    found = model(batch.images, plan, options, recorder)

    terms = {
        "camera": camera_loss(
            found.pose_encoding_list, targets.pose_encoding, config.camera_decay, config.camera_rounding
        ),
        "depth": dense_loss(
            found.z_depth[..., None],
            found.depth_conf,
            targets.z_depth[..., None],
            targets.valid,
            weights.confidence,
            weights.gradient,
        ),
    }
    if read_out:
        terms["direction"] = recorder.mean(recorder.direction)
        terms["deep_camera"] = recorder.mean(recorder.deep_camera)
    if weights.relative > 0 and targets.pose_encoding.shape[1] > 1:
        terms["relative"] = relative_pose_loss(found.pose_encoding_list[-1], targets.pose_encoding)
    if with_points:
        terms["points"] = dense_loss(
            found.world_points,
            found.world_points_conf,
            targets.points,
            targets.valid,
            weights.confidence,
            weights.gradient,
        )
    if teacher is not None and weights.distill > 0:
        terms["distill"] = teacher.loss(
            batch.images, found, targets.valid, weights, config.camera_rounding, dtype
        )
    if recorder.attention:
        terms["attention"] = recorder.mean(recorder.attention)
    total = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
    return Losses(total, terms)


def draw_losses(
    model: VGGT,
    heads: AuxiliaryHeads,
    draw: StepDraw,
    config: TrainConfig,
    weights: LossWeights,
    points: bool,
    device: str | torch.device = "cpu",
    plan: Plan | None = None,
    teacher: Teacher | None = None,
) -> Losses:
    """Render a draw and compute its losses; on a GPU the trunk runs in bfloat16."""
    batch = render_draw(draw, config.model.patch_size, device)
    images = photometric(batch.images, draw.augment, draw.seeds[0])
    images = through_camera(images, draw.camera_effects, draw.seeds[0])
    batch = dataclasses.replace(batch, images=images)
    supervised = weights.attention > 0 and bool(config.supervised_layers) and draw.views > 1
    targets = make_targets(batch, config.model.patch_size, matches=supervised)
    kind = torch.device(device).type
    dtype = torch.bfloat16 if kind == "cuda" else None
    lower = kind == "cpu" and config.cpu_bf16 and bf16_cpu.cpu_multiplies_bf16()
    with torch.autocast("cpu", torch.bfloat16, enabled=lower):
        return batch_losses(model, heads, batch, targets, config, weights, points, dtype, plan, teacher)
