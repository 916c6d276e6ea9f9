"""The whole analysis of a network on scenes or pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..attention.layout import TokenLayout
from ..attention.plan import Plan
from ..models.network import Network
from ..models.run_options import RunOptions
from ..synthetic import SceneBatch
from .attention_view import follows, sample_queries, view_layer
from .knockouts import KINDS, Change, change, predict, with_layer
from .layer_numbers import LayerView, mean_view
from .matches import Matches, exact_matches, predicted_matches
from .suggest import Split, suggest_split

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Subject:
    """One scene: pictures [S, 3, H, W] (uint8, or in [0, 1]) and, where it was rendered, the truth."""

    images: Float[Tensor, "s 3 h w"] | Tensor
    truth: SceneBatch | None = None


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Per global layer: `views`, `follows` (content, place) of the turned probe, `knockouts` by kind.

    `dense` and `suggested` are AUC@30 against the truth (None without), `suggested_change` the suggested
    plan's deviation from dense.
    """

    views: tuple[LayerView, ...]
    follows: tuple[tuple[float, float], ...]
    knockouts: dict[str, tuple[Change, ...]]
    split: Split | None
    dense_auc_30: float | None
    suggested: Change | None
    exact: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "layers": [
                {
                    **dataclasses.asdict(view.numbers),
                    "mass_by_distance": view.mass_by_distance.tolist(),
                    "match_by_head": view.match_by_head.tolist(),
                    "turned_follows_content": self.follows[i][0],
                    "turned_stays_in_place": self.follows[i][1],
                    "knockouts": {kind: dataclasses.asdict(c[i]) for kind, c in self.knockouts.items()},
                }
                for i, view in enumerate(self.views)
            ],
            "split": None if self.split is None else dataclasses.asdict(self.split),
            "dense_auc_30": self.dense_auc_30,
            "suggested": None if self.suggested is None else dataclasses.asdict(self.suggested),
            "exact_matches": self.exact,
        }


class _Probe:
    """Recorder: numbers of every global layer as the pass goes by, nothing kept."""

    def __init__(self, look: Callable[[int, Tensor, Tensor], None]) -> None:
        self._look = look

    def global_attention(self, layer: int, q: Tensor, k: Tensor) -> None:
        self._look(layer, q[0], k[0])


@torch.no_grad()
def analyse(
    model: Network,
    subjects: Sequence[Subject],
    kinds: Sequence[str] = tuple(KINDS),
    queries: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Analysis:
    """Analyse a network on `subjects`, all of at least two views; numbers are means over them.

    `queries` patches of each scene ask; `kinds` of knock-outs are run for every layer (none: no split is
    suggested). Matches are exact on rendered scenes and the network's own elsewhere.
    """
    depth, patch = model.config.depth, model.config.patch_size
    passes = len(subjects) * (2 + depth * len(kinds) + bool(kinds) + 1)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("analyze", done, passes)

    views: list[list[LayerView]] = [[] for _ in range(depth)]
    probed: list[list[tuple[float, float]]] = [[] for _ in range(depth)]
    changes: dict[str, list[list[Change]]] = {kind: [[] for _ in range(depth)] for kind in kinds}
    scores: list[float] = []
    answers = []
    for number, subject in enumerate(subjects):
        images = _floating(subject.images)
        dense = predict(model, images, Plan.dense(depth))
        answers.append(dense)
        step()
        truth = None if subject.truth is None else subject.truth.cam_from_world[0]
        if truth is not None:
            scores.append(change(dense, dense, truth).auc_30 or 0.0)
        matches = (
            predicted_matches(images, dense, patch)
            if subject.truth is None
            else exact_matches(subject.truth, patch)
        )
        layout = dense.layout
        asked = sample_queries(layout, queries, seed + number)
        _look(model, images, _viewer(views, layout, asked, matches))
        step()
        _turned(model, images, layout, asked, matches, probed)
        step()
        for kind in kinds:
            for layer in range(depth):
                found = predict(model, images, with_layer(depth, layer, KINDS[kind]))
                changes[kind][layer].append(change(found, dense, truth))
                step()
    knockouts = {kind: tuple(_mean_change(c) for c in layers) for kind, layers in changes.items()}
    split = suggested = None
    if "frame" in kinds:
        split = suggest_split([c.pose_deg for c in knockouts["frame"]])
        tried = []
        for subject, dense in zip(subjects, answers, strict=True):
            truth = None if subject.truth is None else subject.truth.cam_from_world[0]
            found = predict(model, _floating(subject.images), Plan.parse(split.plan, depth))
            tried.append(change(found, dense, truth))
            step()
        suggested = _mean_change(tried)
    return Analysis(
        tuple(mean_view(v) for v in views),
        tuple((_mean([c for c, _ in p]), _mean([s for _, s in p])) for p in probed),
        knockouts,
        split,
        _mean(scores) if scores else None,
        suggested,
        all(subject.truth is not None for subject in subjects),
    )


def _viewer(
    views: list[list[LayerView]], layout: TokenLayout, asked: Tensor, matches: Matches
) -> Callable[[int, Tensor, Tensor], None]:
    return lambda layer, q, k: views[layer].append(view_layer(q, k, layout, asked, matches))


def _floating(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _look(model: Network, images: Tensor, look: Callable[[int, Tensor, Tensor], None]) -> None:
    model(images[None], None, RunOptions(heads=("camera",)), _Probe(look))


def _turned(
    model: Network,
    images: Tensor,
    layout: TokenLayout,
    asked: Tensor,
    matches: Matches,
    probed: list[list[tuple[float, float]]],
) -> None:
    """Every other view turned by 180 degrees, the first one upright."""
    turned = torch.arange(layout.frames) % 2 == 1
    pictures = torch.where(turned.to(images.device)[:, None, None, None], images.flip((2, 3)), images)
    _look(
        model,
        pictures,
        lambda layer, q, k: probed[layer].append(follows(q, k, layout, asked, matches, turned)),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def _mean_change(changes: Sequence[Change]) -> Change:
    scores = [c.auc_30 for c in changes if c.auc_30 is not None]
    return Change(
        _mean([c.pose_deg for c in changes]),
        _mean([c.depth_rel for c in changes]),
        _mean(scores) if scores else None,
    )
