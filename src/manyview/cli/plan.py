"""`manyview plan [INPUT]`: what a reconstruction would do and need, without doing it."""

from __future__ import annotations

import dataclasses

import tyro

from .console import Bars, say, say_notes, say_warnings
from .options import KnownChoice, ModelChoice, RunChoice
from .plan_ranks import RanksChoice, show_ranks


@dataclasses.dataclass(frozen=True)
class PlanCommand:
    """Preflight only: views, tokens, expected memory and time, and what fits.

    With --ranks for several ranks that share the scene; then no INPUT is needed, and no weights.
    """

    paths: tyro.conf.Positional[tuple[str, ...]]
    """[INPUT ...]"""
    model: ModelChoice = dataclasses.field(default_factory=ModelChoice)
    how: RunChoice = dataclasses.field(default_factory=RunChoice)
    known: KnownChoice = dataclasses.field(default_factory=KnownChoice)
    over: RanksChoice = dataclasses.field(default_factory=RanksChoice)

    def run(self) -> int:
        from ..errors import UsageError
        from ..reconstruction.plan.preflight import format_gib, largest_input
        from ..reconstruction.run.prepare import prepare

        self.over.check()
        if not self.paths and not self.over.ranks:
            raise UsageError("give an input: manyview plan PHOTOS")
        inputs = self.paths[0] if len(self.paths) == 1 else list(self.paths)
        model = self.model.load_or_describe()
        if self.over.ranks:
            show_ranks(self.over, inputs or None, model, self.known.onto(self.how.options()))
            return 0
        with Bars() as bars:
            ready = prepare(inputs, model, self.known.onto(self.how.options()), bars)
        say_notes(ready.notes, said=() if model.info is None else model.info.notes)
        say_warnings(ready.warnings)
        chosen = ready.chosen
        request, options = chosen.request, chosen.options
        say(chosen.sentence())
        say(
            f"at a time: {options.frames_per_chunk} frames in frame layers, "
            f"{options.mlp_tokens_per_chunk:,} tokens in an MLP, "
            f"{options.head_frames_per_chunk} frames in heads"
        )
        say("global layers (queries, keys, fill, share of dense attention's FLOPs):")
        say(request.plan.table(request.layout, request.config.dim))
        flops, seconds = request.flops_by_stage(), chosen.stage_seconds()
        for stage in {**flops, **seconds}:
            done = f"{flops[stage] / 1e12:10.3f} TFLOP" if stage in flops else 16 * " "
            expected = f"  about {seconds[stage]:.2g} s" if stage in seconds else ""
            say(f"  {stage:<14} {done}{expected}".rstrip())
        if chosen.chunk is not None:
            say(f"in chunks more views take disk ({format_gib(chosen.disk_bytes)} for these), not memory")
            return 0
        most = largest_input(request, chosen.machine)
        free = format_gib(chosen.machine.free_bytes)
        say(f"at this size up to {most} views fit in the {free} that are free")
        return 0
