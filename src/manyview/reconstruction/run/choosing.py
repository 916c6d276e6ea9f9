"""Which plan, precision and chunk sizes a run takes, for so many views of one size."""

from __future__ import annotations

import dataclasses
import math

from ...attention.auto import ExpectedTime, choose_plan, misfit
from ...attention.plan import Plan
from ...errors import MemoryLimitError, UsageError
from ...models.families import SuitedPlans
from ...models.network import Network
from ..plan.chunked_plan import preflight_chunks
from ..plan.device_model import device_model
from ..plan.estimate import total_seconds
from ..plan.machine import Machine
from ..plan.preflight import Preflight, Request, preflight
from ..plan.ranks import RankPreflight, preflight_ranks
from .anchored import why_not_anchored


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What a run takes: `preflight`, with `shared` where several ranks share one pass, and why this plan."""

    preflight: Preflight
    shared: RankPreflight | None = None
    reason: str | None = None

    def together(self) -> int:
        """So many frames, counted from the first, must be on one rank."""
        return (
            1 if self.shared is None else self.shared.request.plan.frames_together(self.shared.request.layout)
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Chooser:
    """Chooses for `model` on `machine`.

    Attributes:
        accel: The plan that was asked for: "auto", a spec, or None for what the weights were trained for.
        suited: Plans that suit the weights.
        ordered: Whether the views are a sequence.
        whole: Why the result must be a whole one, if it must.
        rank_bytes: What each of several ranks may allocate (empty: one process).
    """

    model: Network
    machine: Machine
    accel: str | None
    suited: SuitedPlans
    ordered: bool
    chunk: int | None
    flops_per_s: float
    whole: str | None = None
    rank_bytes: tuple[int, ...] = ()

    def choose(self, request: Request) -> Chosen:
        """For `request`, with its plan unless that is "auto". Raises UsageError and MemoryLimitError."""
        trained_for, reason = self.suited.trained_for, None
        if self.accel == "auto":
            expected = self._expected_time(request)
            depth = len(request.plan.layers)
            plan, reason = choose_plan(
                request.views, self.ordered, depth, request.layout, self.suited, expected
            )
            request = dataclasses.replace(request, plan=plan)
        elif self.accel is None and trained_for is not None:
            reason = f"{trained_for}, which these weights were trained for; --accel chooses another plan"
        else:
            reason = misfit(request.plan, self.suited)
        request.config.require_reference_view(request.reference_view, request.plan)
        return dataclasses.replace(self._fitted(request), reason=reason)

    def _expected_time(self, request: Request) -> ExpectedTime | None:
        """What plans are expected to take, where they can run; None for a device of unknown rates."""
        rates = device_model(self.machine.device)
        if rates is None:
            return None

        def seconds(plan: Plan) -> float:
            try:
                found = self._fitted(dataclasses.replace(request, plan=plan))
            except (MemoryLimitError, UsageError):
                return math.inf
            shared = None if found.shared is None else found.shared.seconds
            return total_seconds(found.preflight.request, rates) if shared is None else shared

        return ExpectedTime(seconds, rates.said())

    def _fitted(self, request: Request) -> Chosen:
        """One pass over all views; or chunks, if asked for, or if it does not fit and the plan allows it."""
        problem = self.whole or why_not_anchored(self.model, request.plan)
        if request.known:
            problem = "chunks do not take known cameras or depth"
        if self.chunk is not None:
            if problem is not None:
                raise UsageError(
                    "--chunk needs views that depend on anchors and themselves alone, as with --accel "
                    f"anchors: under {request.plan} {problem}"
                )
            return self._in_chunks(request)
        try:
            return self._in_one_pass(request)
        except MemoryLimitError:
            if problem is not None:
                raise
        return self._in_chunks(request)

    def _in_one_pass(self, request: Request) -> Chosen:
        if not self.rank_bytes:
            return Chosen(preflight(request, self.machine, self.flops_per_s))
        if self.model.why_not_distributed is not None:
            raise UsageError(
                f"{self.model.name} cannot run over several ranks: {self.model.why_not_distributed}"
            )
        shared = preflight_ranks(
            request,
            len(self.rank_bytes),
            self.rank_bytes,
            device=self.machine.device,
            flops_per_s=self.flops_per_s,
        )
        found = Preflight(request, self.machine, shared.options, shared.peak_bytes, shared.seconds)
        return Chosen(found, shared)

    def _in_chunks(self, request: Request) -> Chosen:
        free = min(self.rank_bytes, default=self.machine.free_bytes)
        machine = dataclasses.replace(self.machine, free_bytes=free)
        found = preflight_chunks(request, machine, self.chunk, self.flops_per_s)
        if self.rank_bytes and found.seconds is not None:
            seconds = found.seconds / min(len(self.rank_bytes), request.views)
            found = dataclasses.replace(found, seconds=seconds)
        return Chosen(found)
