"""Running cases and telling, one line each, how far they are from the stored numbers."""

from __future__ import annotations

import dataclasses
import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch

from tools.conformance.compare import FieldResult, compare_field
from tools.conformance.dispatch import Skipped, find_handler
from tools.conformance.folder import BrokenCase, Case, UnusableFolder

Status = Literal["PASS", "FAIL", "SKIP"]


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """Outcome of one case: all compared outputs, or a reason why there are none."""

    id: str
    status: Status
    fields: tuple[FieldResult, ...] = ()
    note: str = ""
    seconds: float = 0.0

    @property
    def worst(self) -> FieldResult | None:
        return max(self.fields, key=lambda field: field.ratio, default=None)

    def line(self, width: int = 0) -> str:
        """`id STATUS error ratio tolerance (output) note`."""
        parts = [f"{self.id:<{width}}", self.status]
        if self.worst is not None:
            worst = self.worst
            numbers = f"{worst.error:.3g} = {worst.ratio:.3g} x tolerance {worst.tolerance:.3g}"
            parts.append(f"worst error {numbers} ({worst.name})")
        failed = [field for field in self.fields if not field.passed]
        if failed:
            parts.append(f"{len(failed)} of {len(self.fields)} outputs fail: " + _names(failed))
        if self.note:
            parts.append(self.note)
        return "  ".join(parts)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Counts of a whole run."""

    passed: int
    failed: int
    skipped: int

    def line(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def select(cases: Iterable[Case], patterns: Iterable[str]) -> list[Case]:
    """Cases whose id matches one of the shell patterns (all, without patterns)."""
    cases, patterns = list(cases), list(patterns)
    if not patterns:
        return cases
    chosen = [case for case in cases if any(fnmatch.fnmatchcase(case.id, p) for p in patterns)]
    if not chosen:
        raise UnusableFolder(
            f"no case matches {' '.join(patterns)}: there are {len(cases)}, such as {cases[0].id}"
        )
    return chosen


def run_cases(cases: Iterable[Case], tell: Callable[[str], None]) -> Summary:
    """Run all cases in order, tell a line for each and the summary last."""
    cases = list(cases)
    width = max(len(case.id) for case in cases)
    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    for result in results(cases):
        counts[result.status] += 1
        tell(result.line(width))
    summary = Summary(counts["PASS"], counts["FAIL"], counts["SKIP"])
    tell(summary.line())
    return summary


def results(cases: Iterable[Case]) -> Iterator[CaseResult]:
    """Run the cases one after the other, in single precision without shortcuts of the hardware."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        for case in cases:
            # A copy, so that the tensors of a large case are freed before the next one.
            yield run_case(dataclasses.replace(case))
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def run_case(case: Case) -> CaseResult:
    """Run one case; whatever goes wrong in it is its failure, never the end of the run."""
    handler = find_handler(case)
    if isinstance(handler, Skipped):
        return CaseResult(case.id, "SKIP", note=handler.reason)
    start = time.perf_counter()
    try:
        with torch.no_grad():
            actual = handler(case)
        fields = tuple(
            compare_field(name, actual[name], want, case.outputs[name])
            if name in actual
            else FieldResult(name, float("inf"), 0.0, float("inf"), "not produced")
            for name, want in case.expected.items()
        )
    except BrokenCase as error:
        return CaseResult(case.id, "FAIL", note=str(error))
    except Exception as error:  # a handler met a shape or setting the model refuses
        return CaseResult(case.id, "FAIL", note=f"{type(error).__name__}: {' '.join(str(error).split())}")
    status: Status = "PASS" if fields and all(field.passed for field in fields) else "FAIL"
    return CaseResult(case.id, status, fields, "" if fields else "no outputs", time.perf_counter() - start)


def _names(failed: list[FieldResult]) -> str:
    shown = [f"{f.name} ({f.problem})" if f.problem else f.name for f in failed[:4]]
    return ", ".join(shown) + (", ..." if len(failed) > 4 else "")
