"""What an evaluation gives: rows by plan and scene, their averages, and what decides them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..protocols.averages import averaged
from ..protocols.measures import Figures
from ..protocols.rendered import RenderedErrors

DENSE = "dense"
AUTO = "auto"
FORMAT = "manyview-evaluation-1"


@dataclass(frozen=True)
class PlanRow:
    """A plan on one scene. `key` is the digest of all that decides the figures; `failed` says why there are
    none (out of memory). `accel` is the plan that ran, which for "auto" is what was chosen. A `reference` is
    no plan of the model (`plan` is then its name); its `key` is empty where it must not be taken over.
    `errors` are those of rendered scenes, from which their figures are pooled; they are not stored."""

    plan: str
    key: str
    figures: Figures = field(default_factory=dict)
    accel: str = ""
    timings_s: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, int] = field(default_factory=dict)
    left_out: int = 0
    notes: tuple[str, ...] = ()
    failed: str | None = None
    reference: bool = False
    errors: tuple[RenderedErrors, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class SceneRows:
    """All plans on one scene: names of the frames used, of `total`, and the digest of all that was read.

    `facts` are what a table says of the scene beside; they are not stored.
    """

    name: str
    group: str
    total: int
    unit: str
    frames: tuple[str, ...]
    inputs_sha256: str
    rows: tuple[PlanRow, ...]
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """What is stored: all but `errors` and `facts`."""
        rows = [{k: v for k, v in vars(row).items() if k != "errors"} for row in self.rows]
        return {**{k: v for k, v in vars(self).items() if k != "facts"}, "rows": rows}


@dataclass(frozen=True)
class Evaluation:
    """`settings` are all that decides figures but the inputs; `context` says what else is worth knowing."""

    settings: dict[str, Any]
    context: dict[str, Any]
    scenes: tuple[SceneRows, ...] = ()

    @property
    def plans(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.plan for scene in self.scenes for row in scene.rows))

    def summary(self) -> dict[str, Figures]:
        """By plan: every figure, averaged as the protocol does over the scenes that every plan finished.

        By a protocol whose `unfinished` is "plan": over all scenes, and a plan that did not finish all has no
        average. AUC also over all pairs of all scenes, `pooled_auc_T`; `peak_gib` is the largest of a scene
        on a card.
        """
        by_plan = self.settings["protocol"].get("unfinished") == "plan"
        whole = [
            scene
            for scene in self.scenes
            if by_plan or all(row.failed is None for row in scene.rows if not row.reference)
        ]
        result = {}
        for plan in self.plans:
            done = [(scene, row) for scene in whole for row in scene.rows if row.plan == plan]
            lost = [scene for scene, row in done if row.failed is not None]
            done = [] if lost else done
            rows = [(scene.group, row.figures) for scene, row in done]
            figures = averaged(rows, self.settings["protocol"]["average"])
            pooled = averaged(rows, "pooled")
            figures |= {f"pooled_{name}": pooled[name] for name in pooled if name.startswith("auc_")}
            peaks = [
                row.memory_bytes["measured peak"] for _, row in done if "measured peak" in row.memory_bytes
            ]
            figures["peak_gib"] = max(peaks) / 2**30 if peaks else None
            seconds = [row.timings_s["forward"] for _, row in done if "forward" in row.timings_s]
            figures["forward_s"] = sum(seconds) / len(seconds) if seconds else None
            figures["scenes"] = float(len(whole) - len(lost))
            figures["scenes_failed"] = float(len(self.scenes) - len(whole) + len(lost))
            result[plan] = figures
        return result

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "settings": self.settings,
            "context": self.context,
            "summary": self.summary(),
            "scenes": [scene.to_json() for scene in self.scenes],
        }
