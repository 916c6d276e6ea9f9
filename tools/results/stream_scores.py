"""Several weights, in one pass or as a stream, on the same scenes in the same run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.datasets.posed_set import PosedSet
from manyview.errors import UsageError
from manyview.evaluate.metrics.pose import auc, pair_errors
from manyview.evaluate.protocols.procedural import VERSION, Case
from manyview.evaluate.protocols.procedural import describe as describe_case
from manyview.evaluate.protocols.rendered import RenderedErrors, benchmark_errors, benchmark_figures
from manyview.evaluate.runner.pairing import in_network_order
from manyview.evaluate.runner.rendered import rendered_pairs
from manyview.evaluate.runner.settings import weights_digest
from manyview.models.network import Network
from manyview.models.predictions import Predictions
from manyview.models.run_options import RunOptions
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import read_views
from manyview.reconstruction.plan.environment import describe as describe_machine
from manyview.reconstruction.plan.machine import synchronise
from manyview.streaming.recursive import RecursiveEngine, RecursiveOptions


@dataclass(frozen=True)
class Variant:
    """One row: which weights (a key of the models), which plan, and how the views arrive.

    `chunk` None: all views in one pass; else a chunk-recursive stream of that many frames at a time, which
    keeps one frame of `keep_one_in` and whose cameras are those returned when a frame arrives. Streams run on
    sequences only. `training` says how the weights came to the plan, for the table.
    """

    weights: str
    plan: str
    training: str = ""
    chunk: int | None = None
    keep_one_in: int = 5

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"a chunk has at least 1 frame, not {self.chunk}")

    @property
    def arrival(self) -> str:
        """How the views arrive, in words."""
        if self.chunk is None:
            return "all views at once"
        return f"stream, {self.chunk} at a time, 1 in {self.keep_one_in} kept"


@dataclass(frozen=True)
class VariantOutput:
    """Model outputs of one scene, with the seconds and the operations of the global layers."""

    found: Predictions
    seconds: float
    attention_flops: float
    linear_flops: float


@dataclass(frozen=True)
class VariantScores:
    """Figures of a variant on a case, and the shares that it keeps of the first variant's (None of zero)."""

    variant: Variant
    scores: dict[str, Any]
    keeps_auc_5: float | None
    keeps_auc_30: float | None
    attention_share: float
    time_share: float


@dataclass(frozen=True)
class CaseVariants:
    """All variants on `scenes` scenes of a case, the first being what the others are compared with."""

    case: Case
    scenes: int
    rows: tuple[VariantScores, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "case": describe_case(self.case),
            "scenes": self.scenes,
            "rows": [
                {"way" if name == "variant" else name: value for name, value in asdict(row).items()}
                for row in self.rows
            ],
        }


def run_variant(
    model: Network, images: Float[Tensor, "1 views 3 height width"], variant: Variant
) -> VariantOutput:
    """Cameras and depth of one scene. UsageError for a plan or a network that cannot stream."""
    return (
        _at_once(model, images, variant)
        if variant.chunk is None
        else _streamed(model, images, variant, variant.chunk)
    )


def compare_variants(
    models: dict[str, Network],
    variants: Sequence[Variant],
    cases: Sequence[tuple[Case, int]],
    progress: Callable[[int, int], None] | None = None,
    image_size: int | None = None,
) -> tuple[CaseVariants, ...]:
    """Run every variant on as many scenes of each case as stand beside it, one scene after the other.

    Images have `image_side` pixels a side. `progress` hears (passes done, all). UsageError for no
    variant, no case, weights that are not among the models, or models of different sizes.
    """
    if not variants or not cases or any(scenes < 1 for _, scenes in cases):
        raise UsageError("a comparison needs at least one variant, one case and one scene")
    strange = [variant.weights for variant in variants if variant.weights not in models]
    if strange:
        raise UsageError(f"no model is called '{strange[0]}': there are {', '.join(models)}")
    side = image_side(models, image_size)
    fitting = [[w for w in variants if w.chunk is None or case.order == "sequence"] for case, _ in cases]
    total, done = sum(scenes * len(own) for (_, scenes), own in zip(cases, fitting)), 0
    results = []
    for (case, scenes), own in zip(cases, fitting):
        errors: dict[Variant, list[RenderedErrors]] = {variant: [] for variant in own}
        seconds: dict[Variant, list[float]] = {variant: [] for variant in own}
        costs: dict[Variant, tuple[float, float]] = {}
        for number in range(scenes):
            truth = case.render(number, (side, side))
            if number == 0:
                run_variant(models[own[0].weights], truth.images, own[0])  # the first pass is slower
            for variant in own:
                output = run_variant(models[variant.weights], truth.images, variant)
                errors[variant] += map(benchmark_errors, rendered_pairs(output.found, truth))
                seconds[variant].append(output.seconds)
                costs[variant] = output.attention_flops, output.linear_flops
                done += 1
                if progress is not None:
                    progress(done, total)
        results.append(
            CaseVariants(
                case,
                scenes,
                _rows(
                    {
                        variant: benchmark_figures(errors[variant], seconds[variant], *costs[variant])
                        for variant in own
                    }
                ),
            )
        )
    return tuple(results)


def photographs_auc_30(
    models: dict[str, Network], variants: Sequence[Variant], posed: PosedSet, image_size: int
) -> list[dict[str, Any]]:
    """AUC@30 (VGGT's histogram) of each variant on a set's views, which arrive in the set's order."""
    patch = math.lcm(*(model.config.patch_size for model in models.values()))
    views = read_views(find_inputs(list(posed.images)), "fit", image_size, patch, strict=True)
    in_order = np.argsort(in_network_order(posed, views.records))
    images = views.images[in_order][None].float() / 255
    true = torch.from_numpy(posed.cam_from_world).double()
    rows = []
    for variant in variants:
        cameras = run_variant(models[variant.weights], images, variant).found.cam_from_world[0].double()
        rows.append({"way": asdict(variant), "auc_30": float(auc(pair_errors(cameras, true).worst_deg, 30))})
    return rows


def image_side(models: dict[str, Network], image_size: int | None = None) -> int:
    """Pixels of a side, whole patches of every model: about `image_size`, or what all models were trained on.

    Raises UsageError for models of different sizes without `image_size`.
    """
    sizes = {model.config.image_size for model in models.values()} if image_size is None else {image_size}
    if len(sizes) > 1:
        raise UsageError("the models expect images of different sizes: give one with --image-size")
    patch = math.lcm(*(model.config.patch_size for model in models.values()))
    return max(1, sizes.pop() // patch) * patch


def settings(models: dict[str, Network], image_size: int | None = None) -> dict[str, Any]:
    """What reproduces a comparison, beside its cases and variants; JSON-able."""
    first = next(iter(models.values()))
    parameter, heads = next(first.parameters()), first.config.num_heads
    return {
        "benchmark": VERSION,
        "models": {
            name: {
                "weights_sha256": weights_digest(model),
                "trained_for": None if model.info is None else model.info.plan,
            }
            for name, model in models.items()
        },
        "image_size": image_side(models, image_size),
        "environment": describe_machine(parameter.device, parameter.dtype, heads, first.config.dim // heads),
    }


def _at_once(model: Network, images: Tensor, variant: Variant) -> VariantOutput:
    plan, config = Plan.parse(variant.plan, model.config.depth), model.config
    start = time.perf_counter()
    with torch.no_grad():
        found = model(images, plan=plan, options=RunOptions(heads=("camera", "depth")))
    synchronise(images.device)
    seconds = time.perf_counter() - start
    cost = plan.cost(found.layout, config.dim, head_dim=config.dim // config.num_heads)
    return VariantOutput(found, seconds, cost.attention_flops, cost.linear_flops)


def _streamed(model: Network, images: Tensor, variant: Variant, chunk: int) -> VariantOutput:
    engine = RecursiveEngine(model, RecursiveOptions(variant.plan, variant.keep_one_in))
    updates, attention, linear = [], 0.0, 0.0
    for part in images[0].split(chunk):
        cost = engine.cost(len(part), (part.shape[-2], part.shape[-1]))
        attention, linear = attention + cost.attention_flops, linear + cost.linear_flops
        updates.append(engine.push(part))

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(update, name) for update in updates])[None]

    height, width = images.shape[-2:]
    found = Predictions(
        height,
        width,
        model.config.layout(images.shape[1], height, width),
        z_depth=joined("z_depth"),
        depth_conf=joined("depth_conf"),
        cameras=(joined("cam_from_world"), joined("intrinsics")),
    )
    return VariantOutput(found, sum(update.seconds for update in updates), attention, linear)


def _rows(scores: dict[Variant, dict[str, Any]]) -> tuple[VariantScores, ...]:
    first = next(iter(scores.values()))

    def share(value: float, whole: float) -> float | None:
        return value / whole if whole > 0 else None

    return tuple(
        VariantScores(
            variant,
            own,
            share(own["auc_5"], first["auc_5"]),
            share(own["auc_30"], first["auc_30"]),
            own["attention_flops"] / first["attention_flops"],
            own["seconds"] / first["seconds"],
        )
        for variant, own in scores.items()
    )
