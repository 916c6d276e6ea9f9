"""Targets and published ratios beside what was measured: `python -m tools.bench.targets FOLDER...`.

Accuracy is measured elsewhere (`manyview evaluate`): a fast plan counts here whatever it loses.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from manyview.bench.methods import method_name
from manyview.bench.table import aligned, seconds_text
from tools.bench.published import (
    BASELINES,
    MEMORY_PUBLISHED,
    MEMORY_TARGET_MB,
    SPEED_MODEL,
    SPEED_SIZE,
    TARGETS,
    Target,
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A target beside the best of what was measured; `extrapolated` says that it rests on a case not run."""

    target: Target
    method: str
    value: float
    extrapolated: bool

    @property
    def met(self) -> bool:
        """Whether the bound is kept."""
        if self.target.measure == "times dense":
            return self.value >= self.target.bound
        return self.value <= self.target.bound


def applies(figures: dict[str, Any]) -> bool:
    """Whether a benchmark's figures (its JSON) are of the model and size that the targets are for."""
    model = figures["model"]
    return model["name"].removesuffix("-random") == SPEED_MODEL and model["image_size"] == SPEED_SIZE


def verdicts(runs: Iterable[dict[str, Any]]) -> list[Verdict]:
    """Every target for which something was measured, at its number of frames; several runs count as one."""
    runs = [run for run in runs if applies(run)]
    cases = [case for run in runs for case in run["measurements"]]
    guessed = {(e["method"], e["frames"]): e["seconds"] for run in runs for e in run["estimates"]}
    ran = {(case["method"], case["frames"]): case["seconds"] for case in cases}
    result = []
    for target in TARGETS:
        found = [
            Verdict(target, case["method"], *value)
            for case in cases
            if case["frames"] == target.frames and _meant(target, case)
            if (value := _value(target, case, ran, guessed)) is not None
        ]
        if found:
            best = max if target.measure == "times dense" else min
            result.append(best(found, key=lambda verdict: verdict.value))
    return result


def _meant(target: Target, case: dict[str, Any]) -> bool:
    name = case["plan"].partition(":")[0]
    if case["twin"] or name in BASELINES:
        return False
    return target.plan in (None, case["plan"])


def _value(
    target: Target,
    case: dict[str, Any],
    ran: dict[tuple[str, int], float],
    guessed: dict[tuple[str, int], float],
) -> tuple[float, bool] | None:
    if target.measure == "seconds":
        return case["seconds"], False
    if target.measure == "gigabytes":
        return case["peak_bytes"] / 1e9, False
    dense = (method_name("dense", case["kernels"], case["linears"]), case["frames"])
    if dense in ran:
        return ran[dense] / case["seconds"], False
    return None if dense not in guessed else (guessed[dense] / case["seconds"], True)


def targets_text(runs: Sequence[dict[str, Any]]) -> str:
    """A table with a row per target, and a line per method on memory; empty where no target applies."""
    runs = [run for run in runs if applies(run)]
    found = verdicts(runs)
    reference = {case["method"] for run in runs for case in run["measurements"] if case["twin"]}
    slopes = {
        name: value / 1e6
        for run in runs
        for name, value in run["memory_bytes_per_frame"].items()
        if value is not None and name not in reference
    }
    if not found and not (slopes and any(c["frames"] >= 100 for run in runs for c in run["measurements"])):
        return ""
    rows = [["frames", "target (one H200)", "measured", "method", "", "published"]]
    for one in found:
        target = one.target
        bound = (
            f"at least {target.bound:g} {target.measure}"
            if target.measure == "times dense"
            else f"at most {target.bound:g} {target.measure}"
        )
        verdict = "met" if one.met else "not met"
        value = f"{'~' if one.extrapolated else ''}{seconds_text(one.value)}"
        rows.append([str(target.frames), bound, value, one.method, verdict, target.published])
    for name, value in slopes.items():
        verdict = "met" if value <= MEMORY_TARGET_MB else "not met"
        bound = f"at most {MEMORY_TARGET_MB:g} MB a frame"
        rows.append(["all", bound, f"{value:.3g}", name, verdict, MEMORY_PUBLISHED])
    where = ", ".join(dict.fromkeys(run["environment"]["device_name"] for run in runs))
    title = f"targets, measured on {where}; whether a plan keeps accuracy is not measured here"
    lines = [title, *aligned(rows)]
    if any(one.extrapolated for one in found):
        lines.append("~ beside dense attention extrapolated from fewer frames")
    return "\n".join(line.rstrip() for line in lines)


def targets_of(folders: Sequence[str | Path]) -> str:
    """The table over all `bench.json` below the folders."""
    files = [file for folder in folders for file in sorted(Path(folder).rglob("bench.json"))]
    return targets_text([json.loads(file.read_text()) for file in files])


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 if no figure has a target."""
    text = targets_of(arguments)
    sys.stdout.write((text or "no figure here has a target") + "\n")
    return 0 if text else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
