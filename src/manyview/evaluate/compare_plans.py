"""Plans side by side on the same scenes in the same run, and what each keeps of dense attention."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..attention.auto import choose_plan
from ..attention.layout import TokenLayout
from ..attention.plan import Plan
from ..errors import UsageError
from ..models.network import Network, Predictions
from ..models.run_options import RunOptions
from ..reconstruction.plan.environment import describe as describe_machine
from ..reconstruction.plan.machine import pick_dtype, synchronise
from .protocols.procedural import VERSION, Case
from .protocols.procedural import describe as describe_case
from .runner.records import AUTO, DENSE
from .runner.settings import weights_digest
from .scores import ScoreKeeper, Scores


@dataclass(frozen=True)
class PlanScores:
    """One row: a plan (as it was given) on a case, and `retention` of AUC against dense, by threshold.

    Retention is a share (1 keeps all); None without a dense row or where dense scores 0.
    """

    plan: str
    scores: Scores
    retention: dict[str, float | None]


@dataclass(frozen=True)
class CaseScores:
    """All plans on the same scenes."""

    case: Case
    rows: tuple[PlanScores, ...]


@dataclass(frozen=True)
class Comparison:
    """The settings that reproduce a run, and its figures; JSON-able by `to_json`."""

    settings: dict[str, Any]
    cases: tuple[CaseScores, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "benchmark": VERSION,
            "settings": self.settings,
            "cases": [
                {"case": describe_case(one.case), "rows": [dataclasses.asdict(row) for row in one.rows]}
                for one in self.cases
            ],
        }


def compare_plans(
    model: Network,
    plans: Sequence[str],
    cases: Sequence[Case],
    scenes: int,
    size: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_case: Callable[[Comparison], None] | None = None,
    precision: str | None = None,
) -> Comparison:
    """Run every plan on `scenes` scenes of every case; time is a forward pass of one scene, heads included.

    `size` is (height, width), multiples of the patch; default the model's own square. Each case starts
    with a pass that is not timed. `precision` is the trunk's (None: that of the weights). The plan "auto" is
    chosen for each case. `progress` hears (passes done, all), `on_case` what there is after each case, so
    that a long run can be kept as it grows. Errors: UsageError for no scene, no case, a size that does not
    fit, an impossible plan or an unknown precision, before anything runs.
    """
    patch = model.config.patch_size
    side = max(1, model.config.image_size // patch) * patch
    height, width = size or (side, side)
    if scenes < 1 or not cases or not plans:
        raise UsageError("a comparison needs at least one plan, one case and one scene")
    if min(height, width) < patch or height % patch or width % patch:
        raise UsageError(f"pictures of {height}x{width} do not fit: choose multiples of the patch, {patch}")
    depth = model.config.depth
    fixed = {spec: Plan.parse(spec, depth) for spec in dict.fromkeys(plans) if spec != AUTO}
    wanted = tuple(dict.fromkeys(plans))
    parameter = next(model.parameters())
    dtype = parameter.dtype if precision is None else pick_dtype(parameter.device, precision)
    run = RunOptions(dtype, heads=("camera", "depth"))
    total, done = len(cases) * scenes * len(wanted), 0
    heads = model.config.num_heads
    settings = {
        "benchmark": VERSION,
        "model": model.name,
        "weights_sha256": weights_digest(model),
        "plans": {spec: str(fixed.get(spec, "chosen for each case")) for spec in wanted},
        "scenes": scenes,
        "height": height,
        "width": width,
        "environment": describe_machine(parameter.device, dtype, heads, model.config.dim // heads),
    }
    early = None if model.info is None else model.info.early_layers
    trained = None if model.info is None else model.info.plan
    results: list[CaseScores] = []
    for case in cases:
        config, grid = model.config, (height // patch, width // patch)
        layout = TokenLayout(case.views, config.special_tokens, grid, config.reference_frame)
        parsed = {}
        for spec in wanted:
            chosen = fixed.get(spec)
            if chosen is None:
                chosen, _ = choose_plan(case.views, case.order == "sequence", depth, layout, early, trained)
            parsed[spec if spec in fixed else f"{AUTO} ({chosen})"] = chosen
        keepers = {spec: ScoreKeeper() for spec in parsed}
        for number in range(scenes):
            truth = case.render(number, (height, width), str(parameter.device))
            if number == 0:
                _predict(model, truth.images, next(iter(parsed.values())), run)
            truth_here = truth.to("cpu")
            for spec, plan in parsed.items():
                found, seconds = _predict(model, truth.images, plan, run)
                keepers[spec].add(found, truth_here, seconds)
                done += 1
                if progress is not None:
                    progress(done, total)
        head_dim = model.config.dim // model.config.num_heads
        costs = {
            spec: plan.cost(found.layout, model.config.dim, head_dim=head_dim)
            for spec, plan in parsed.items()
        }
        results.append(
            CaseScores(
                case,
                _rows(
                    {
                        spec: keeper.scores(costs[spec].attention_flops, costs[spec].linear_flops)
                        for spec, keeper in keepers.items()
                    }
                ),
            )
        )
        if on_case is not None:
            on_case(Comparison(settings, tuple(results)))
    return Comparison(settings, tuple(results))


def _predict(model: Network, images: torch.Tensor, plan: Plan, run: RunOptions) -> tuple[Predictions, float]:
    synchronise(images.device)
    start = time.perf_counter()
    with torch.no_grad():
        found = model(images, plan=plan, options=run)
    synchronise(images.device)
    return found, time.perf_counter() - start


def _rows(scores: dict[str, Scores]) -> tuple[PlanScores, ...]:
    dense = scores.get(DENSE)
    rows = []
    for spec, own in scores.items():
        retention = {}
        for name in ("auc_3", "auc_5", "auc_15", "auc_30"):
            best = getattr(dense, name) if dense is not None else 0.0
            retention[name] = getattr(own, name) / best if best > 0 else None
        rows.append(PlanScores(spec, own, retention))
    return tuple(rows)
