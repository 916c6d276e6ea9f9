"""The analysis of a network on scenes or images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..attention.plan import Plan
from ..models.network import Network
from ..models.predictions import Predictions
from ..models.run_options import RunOptions
from ..synthetic import SceneBatch
from .attention_view import view_layer
from .knockouts import KINDS, Change, change, predict, with_layer
from .layer_numbers import LayerView, mean_view
from .matches import Matches, exact_matches, predicted_matches
from .rotation_probe import follows, strongest_patches
from .suggest import Split, suggest_split
from .tiles import sample_queries

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Subject:
    """One scene: images [S, 3, H, W] (uint8, or in [0, 1]) and, if it was rendered, the ground truth."""

    images: Float[Tensor, "s 3 h w"] | Tensor
    truth: SceneBatch | None = None


@dataclasses.dataclass(frozen=True)
class Tried:
    """A suggested plan, its share of dense attention's operations, and its effect."""

    plan: str
    attention_share: float
    change: Change


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Per global layer: `views`, `follows` (content, position) of the rotation probe, `knockouts` by kind.

    `dense_auc_30` is against the ground truth (None without); `exact`: matches come from it rather
    than from the network's predictions.
    """

    views: tuple[LayerView, ...]
    follows: tuple[tuple[float, float], ...]
    knockouts: dict[str, tuple[Change, ...]]
    split: Split | None
    dense_auc_30: float | None
    suggested: tuple[Tried, ...]
    exact: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "layers": [
                {
                    **dataclasses.asdict(view.numbers),
                    "mass_by_distance": view.mass_by_distance.tolist(),
                    "match_by_head": view.match_by_head.tolist(),
                    "cosines_by_head": {name: v.tolist() for name, v in view.cosines_by_head.items()},
                    "turned_follows_content": self.follows[i][0],
                    "turned_stays_in_place": self.follows[i][1],
                    "knockouts": {kind: dataclasses.asdict(c[i]) for kind, c in self.knockouts.items()},
                }
                for i, view in enumerate(self.views)
            ],
            "split": None if self.split is None else dataclasses.asdict(self.split),
            "dense_auc_30": self.dense_auc_30,
            "suggested": [dataclasses.asdict(tried) for tried in self.suggested],
            "exact_matches": self.exact,
        }


@dataclasses.dataclass
class _Scene:
    """Results of one subject: the dense predictions and the numbers of every layer."""

    images: Tensor
    dense: Predictions
    truth: Tensor | None
    views: list[LayerView] = dataclasses.field(default_factory=list)
    follows: list[tuple[float, float]] = dataclasses.field(default_factory=list)


@torch.no_grad()
def analyse(
    model: Network,
    subjects: Sequence[Subject],
    kinds: Sequence[str] = tuple(KINDS),
    queries: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
    options: RunOptions | None = None,
) -> Analysis:
    """Analyse the global attention of a network; numbers are means over the scenes.

    Args:
        model: the network, on the device to use.
        subjects: scenes of at least two views. Matches are exact for rendered scenes, else predicted.
        kinds: knock-outs (`KINDS`) run for every layer; without "frame" no split is suggested.
        queries: number of patches per scene sampled as queries.
        seed: of the sampled patches.
        progress: called with ("analyze", done, total).
        options: of every pass, but for its pieces (None: in the precision of the weights).
    """
    depth = model.config.depth
    passes = len(subjects) * (3 + depth * len(kinds))
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("analyze", done, max(done, passes))

    scenes: list[_Scene] = []
    changes: dict[str, list[list[Change]]] = {kind: [[] for _ in range(depth)] for kind in kinds}
    for number, subject in enumerate(subjects):
        scene = _measure_scene(model, subject, queries, seed + number, options, step)
        scenes.append(scene)
        for kind in kinds:
            for layer in range(depth):
                found = predict(model, scene.images, with_layer(depth, layer, KINDS[kind]), options)
                changes[kind][layer].append(change(found, scene.dense, scene.truth))
                step()
    views = tuple(mean_view([s.views[layer] for s in scenes]) for layer in range(depth))
    knockouts = {kind: tuple(_mean_change(c) for c in layers) for kind, layers in changes.items()}
    split = None
    suggested: list[Tried] = []
    if "frame" in kinds:
        gain = [v.numbers.match_top1_best_head - v.numbers.match_chance for v in views]
        split = suggest_split([c.pose_deg for c in knockouts["frame"]], gain)
        passes += len(split.plans) * len(scenes)
        for spec in split.plans:
            suggested.append(_try(model, Plan.parse(spec, depth), scenes, options, step))
    scores = [change(s.dense, s.dense, s.truth).auc_30 for s in scenes]
    return Analysis(
        views,
        tuple((_mean([s.follows[i][0] for s in scenes]), _mean([s.follows[i][1] for s in scenes]))
              for i in range(depth)),
        knockouts,
        split,
        _mean_known(scores),
        tuple(suggested),
        all(subject.truth is not None for subject in subjects),
    )  # fmt: skip


def _measure_scene(
    model: Network,
    subject: Subject,
    queries: int,
    seed: int,
    options: RunOptions | None,
    step: Callable[[], None],
) -> _Scene:
    """Dense predictions of a scene, the numbers of its layers, and the rotation probe."""
    images = subject.images
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    plan = Plan.dense(model.config.depth)
    dense = predict(model, images, plan, options)
    step()
    patch, layout = model.config.patch_size, dense.layout
    matches: Matches
    if subject.truth is None:
        truth, matches = None, predicted_matches(images, dense, patch)
    else:
        truth, matches = subject.truth.cam_from_world[0], exact_matches(subject.truth, patch)
    scene = _Scene(images, dense, truth)
    sampled = sample_queries(layout, queries, seed)
    # Every other view is rotated; the first, which defines the world for VGGT, is not.
    rotated = torch.arange(layout.frames) % 2 == 1
    before: list[Tensor] = []

    def measure(layer: int, q: Tensor, k: Tensor) -> None:
        scene.views.append(view_layer(q[0], k[0], layout, sampled, matches))
        before.append(strongest_patches(q[0], k[0], layout, sampled, rotated))

    def compare(layer: int, q: Tensor, k: Tensor) -> None:
        after = strongest_patches(q[0], k[0], layout, sampled, rotated)
        scene.follows.append(follows(before[layer], after, layout.grid))

    predict(model, images, plan, options, SimpleNamespace(global_attention=measure))
    step()
    images = torch.where(rotated.to(images.device)[:, None, None, None], images.flip((2, 3)), images)
    predict(model, images, plan, options, SimpleNamespace(global_attention=compare))
    step()
    return scene


def _try(
    model: Network, plan: Plan, scenes: Sequence[_Scene], options: RunOptions | None, step: Callable[[], None]
) -> Tried:
    """The effect of a plan on all scenes."""
    found = []
    shares = []
    for scene in scenes:
        found.append(change(predict(model, scene.images, plan, options), scene.dense, scene.truth))
        layout, dim = scene.dense.layout, model.config.dim
        dense = Plan.dense(len(plan.layers)).cost(layout, dim).attention_flops
        shares.append(plan.cost(layout, dim).attention_flops / dense)
        step()
    return Tried(str(plan), _mean(shares), _mean_change(found))


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that are known (not NaN)."""
    return float(torch.tensor(values, dtype=torch.float64).nanmean())


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _mean_change(changes: Sequence[Change]) -> Change:
    return Change(
        _mean([c.pose_deg for c in changes]),
        _mean([c.depth_rel for c in changes]),
        _mean_known([c.auc_30 for c in changes]),
    )
