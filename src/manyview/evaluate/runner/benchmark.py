"""The benchmark of procedural scenes, case by case: plans side by side, and what each keeps of dense
attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...attention.auto import choose_plan
from ...attention.layout import TokenLayout
from ...attention.plan import Plan
from ...errors import UsageError
from ...models.families import suited_plans
from ...models.network import Network
from ...reconstruction.plan.defaults import default_run_options
from ...reconstruction.plan.machine import pick_dtype
from ..protocols.measures import Figures
from ..protocols.procedural import VERSION, Case
from ..protocols.procedural import describe as describe_case
from ..protocols.rendered import benchmark_errors, benchmark_figures, retention
from .loop import run_scenes
from .records import AUTO, DENSE, Evaluation, PlanRow
from .rendered import RenderedScenes
from .settings import environment, weights_digest


@dataclass(frozen=True)
class CaseRow:
    """A plan (as it was given) on a case: its `scores` (`benchmark_figures`), and its share of dense's AUC by
    threshold (1 keeps all; None without a dense row or where dense scores 0)."""

    plan: str
    scores: dict[str, Any]
    retention: Figures


@dataclass(frozen=True)
class CaseRows:
    """All plans on the scenes of one case."""

    case: Case
    rows: tuple[CaseRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The settings that reproduce a run of the benchmark, and its figures."""

    settings: dict[str, Any]
    cases: tuple[CaseRows, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "benchmark": VERSION,
            "settings": self.settings,
            "cases": [
                {
                    "case": describe_case(one.case),
                    "rows": [dataclasses.asdict(row) for row in one.rows],
                    "notes": list(one.notes),
                }
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
    on_case: Callable[[Comparison], object] | None = None,
    precision: str | None = None,
) -> Comparison:
    """Run every plan on the same scenes of every case; time is a forward pass of one scene, heads included.

    Args:
        model: The network.
        plans: Plans, one row each; "auto" is chosen for each case.
        cases: Cases of the benchmark; each starts with a pass that is not timed.
        scenes: How many of each case.
        size: (height, width) in pixels, multiples of the patch; default the model's own square.
        progress: Called with (passes done, all).
        on_case: Called with what there is after each case, so that a long run can be stored as it grows.
        precision: Of the trunk; default that of the weights.

    Raises:
        UsageError: For no scene, no case, a size that does not fit, an impossible plan or an unknown
            precision, before anything runs.
    """
    config, patch = model.config, model.config.patch_size
    side = max(1, config.image_size // patch) * patch
    height, width = size or (side, side)
    if scenes < 1 or not cases or not plans:
        raise UsageError("a comparison needs at least one plan, one case and one scene")
    if min(height, width) < patch or height % patch or width % patch:
        raise UsageError(f"images of {height}x{width} do not fit: choose multiples of the patch, {patch}")
    wanted = tuple(dict.fromkeys(plans))
    fixed = {spec: Plan.parse(spec, config.depth) for spec in wanted if spec != AUTO}
    parameter = next(model.parameters())
    dtype = parameter.dtype if precision is None else pick_dtype(parameter.device, precision)
    settings = {
        "benchmark": VERSION,
        "model": model.name,
        "weights_sha256": weights_digest(model),
        "plans": {spec: str(fixed.get(spec, "chosen for each case")) for spec in wanted},
        "scenes": scenes,
        "height": height,
        "width": width,
        "environment": environment(model, dtype=dtype),
    }
    todo = []
    for place, case in enumerate(cases):
        layout = TokenLayout(
            case.views, config.special_tokens, (height // patch, width // patch), config.reference_frame
        )
        parsed = {}
        for spec in wanted:
            chosen = fixed.get(spec) or _auto_plan(model, case, layout)
            parsed[spec if spec in fixed else f"{AUTO} ({chosen})"] = chosen
        notes = tuple(filter(None, (plan.why_dense(layout) for plan in parsed.values())))
        todo += [
            RenderedScenes(
                f"{case}/{number}",
                (case.seed(number),),
                case.views,
                (height, width),
                case.options(),
                parsed,
                benchmark_errors,
                default_run_options(parameter.device, dtype),
                str(parameter.device),
                facts={"case": place, "notes": notes},
                warm=number == 0,
            )
            for number in range(scenes)
        ]

    def compared(so_far: Evaluation) -> Comparison:
        done = []
        for place, case in enumerate(cases[: len(so_far.scenes) // scenes]):
            own = [scene for scene in so_far.scenes if scene.facts["case"] == place]
            done.append(CaseRows(case, _case_rows([one.rows for one in own]), own[0].facts["notes"]))
        return Comparison(settings, tuple(done))

    def keep(so_far: Evaluation) -> None:
        if on_case is not None and len(so_far.scenes) % scenes == 0:
            on_case(compared(so_far))

    return compared(run_scenes(model, todo, Evaluation(settings, {}), progress, keep))


def _auto_plan(model: Network, case: Case, layout: TokenLayout) -> Plan:
    ordered = case.order == "sequence"
    return choose_plan(case.views, ordered, model.config.depth, layout, suited_plans(model))[0]


def _case_rows(scenes: Sequence[tuple[PlanRow, ...]]) -> tuple[CaseRow, ...]:
    """The rows of all scenes of a case, plan by plan."""
    figures = {
        rows[0].plan: benchmark_figures(
            [error for row in rows for error in row.errors],
            [row.timings_s["forward"] for row in rows],
            **rows[0].figures,
        )
        for rows in zip(*scenes)
    }
    return tuple(CaseRow(plan, own, retention(own, figures.get(DENSE))) for plan, own in figures.items())
