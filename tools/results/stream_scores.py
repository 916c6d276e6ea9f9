"""Several weights, in one pass or as a stream, on the same scenes in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.evaluate.protocols.procedural import VERSION, Case
from manyview.evaluate.protocols.procedural import describe as describe_case
from manyview.evaluate.protocols.rendered import RenderedErrors, benchmark_errors, benchmark_figures
from manyview.evaluate.runner.rendered import rendered_pairs
from manyview.evaluate.runner.settings import weights_digest
from manyview.models.network import Network
from manyview.models.predictions import Predictions
from manyview.models.run_options import RunOptions
from manyview.reconstruction.plan.environment import describe as describe_machine
from manyview.reconstruction.plan.machine import synchronise
from manyview.streaming.recursive import RecursiveEngine, RecursiveOptions


@dataclass(frozen=True)
class Way:
    """One row: which weights (a key of the models), which plan, and how the views arrive.

    `chunk` None: all views in one pass; else a chunk-recursive stream of that many frames at a time, which
    keeps one frame of `keep_one_in` and whose cameras are those told when a frame arrives. Streams run on
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
class Answer:
    """What one way says about one scene, with its seconds and the operations of its global layers."""

    found: Predictions
    seconds: float
    attention_flops: float
    linear_flops: float


@dataclass(frozen=True)
class WayScores:
    """Figures of a way on a case, and the shares that it keeps of the first way's (None of zero)."""

    way: Way
    scores: dict[str, Any]
    keeps_auc_5: float | None
    keeps_auc_30: float | None
    attention_share: float
    time_share: float


@dataclass(frozen=True)
class WaysOnCase:
    """All ways on `scenes` scenes of a case, the first being what the others are compared with."""

    case: Case
    scenes: int
    rows: tuple[WayScores, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "case": describe_case(self.case),
            "scenes": self.scenes,
            "rows": [asdict(row) for row in self.rows],
        }


def answer(model: Network, images: Float[Tensor, "1 views 3 height width"], way: Way) -> Answer:
    """Cameras and depth of one scene. UsageError for a plan or a network that cannot stream."""
    return _at_once(model, images, way) if way.chunk is None else _streamed(model, images, way, way.chunk)


def compare_ways(
    models: dict[str, Network],
    ways: Sequence[Way],
    cases: Sequence[tuple[Case, int]],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[WaysOnCase, ...]:
    """Run every way on as many scenes of each case as stand beside it, one scene after the other.

    Images have the first way's model's own size. `progress` hears (passes done, all). UsageError for no
    way, no case, weights that are not among the models, or models of different sizes.
    """
    if not ways or not cases or any(scenes < 1 for _, scenes in cases):
        raise UsageError("a comparison needs at least one way, one case and one scene")
    strange = [way.weights for way in ways if way.weights not in models]
    if strange:
        raise UsageError(f"no model is called '{strange[0]}': there are {', '.join(models)}")
    sizes = {(model.config.patch_size, model.config.image_size) for model in models.values()}
    if len(sizes) > 1:
        raise UsageError("the models expect images of different sizes: compare those of one size")
    ((patch, side),) = sizes
    side = max(1, side // patch) * patch
    fitting = [[w for w in ways if w.chunk is None or case.order == "sequence"] for case, _ in cases]
    total, done = sum(scenes * len(own) for (_, scenes), own in zip(cases, fitting)), 0
    results = []
    for (case, scenes), own in zip(cases, fitting):
        errors: dict[Way, list[RenderedErrors]] = {way: [] for way in own}
        seconds: dict[Way, list[float]] = {way: [] for way in own}
        costs: dict[Way, tuple[float, float]] = {}
        for number in range(scenes):
            truth = case.render(number, (side, side))
            if number == 0:
                answer(models[own[0].weights], truth.images, own[0])  # the first pass is slower
            for way in own:
                said = answer(models[way.weights], truth.images, way)
                errors[way] += map(benchmark_errors, rendered_pairs(said.found, truth))
                seconds[way].append(said.seconds)
                costs[way] = said.attention_flops, said.linear_flops
                done += 1
                if progress is not None:
                    progress(done, total)
        results.append(
            WaysOnCase(
                case,
                scenes,
                _rows({way: benchmark_figures(errors[way], seconds[way], *costs[way]) for way in own}),
            )
        )
    return tuple(results)


def settings(models: dict[str, Network]) -> dict[str, Any]:
    """What reproduces a comparison, beside its cases and ways; JSON-able."""
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
        "image_size": first.config.image_size,
        "environment": describe_machine(parameter.device, parameter.dtype, heads, first.config.dim // heads),
    }


def _at_once(model: Network, images: Tensor, way: Way) -> Answer:
    plan, config = Plan.parse(way.plan, model.config.depth), model.config
    start = time.perf_counter()
    with torch.no_grad():
        found = model(images, plan=plan, options=RunOptions(heads=("camera", "depth")))
    synchronise(images.device)
    seconds = time.perf_counter() - start
    cost = plan.cost(found.layout, config.dim, head_dim=config.dim // config.num_heads)
    return Answer(found, seconds, cost.attention_flops, cost.linear_flops)


def _streamed(model: Network, images: Tensor, way: Way, chunk: int) -> Answer:
    engine = RecursiveEngine(model, RecursiveOptions(way.plan, way.keep_one_in))
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
        engine.layout(images.shape[1], (height, width)),
        z_depth=joined("z_depth"),
        depth_conf=joined("depth_conf"),
        cameras=(joined("cam_from_world"), joined("intrinsics")),
    )
    return Answer(found, sum(update.seconds for update in updates), attention, linear)


def _rows(scores: dict[Way, dict[str, Any]]) -> tuple[WayScores, ...]:
    first = next(iter(scores.values()))

    def share(value: float, whole: float) -> float | None:
        return value / whole if whole > 0 else None

    return tuple(
        WayScores(
            way,
            own,
            share(own["auc_5"], first["auc_5"]),
            share(own["auc_30"], first["auc_30"]),
            own["attention_flops"] / first["attention_flops"],
            own["seconds"] / first["seconds"],
        )
        for way, own in scores.items()
    )
