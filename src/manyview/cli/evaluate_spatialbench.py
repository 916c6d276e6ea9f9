"""`manyview evaluate spatialbench --root DIR --density sparse`, and the rows of its leaderboard."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from .._option_checks import check_options
from .console import say, say_written
from .evaluate_dataset import EvaluateDataset

if TYPE_CHECKING:
    from ..evaluate.runner.records import Evaluation

DensityName = Literal["single", "sparse", "medium", "dense"]


@dataclasses.dataclass(frozen=True)
class EvaluateSpatialBench(EvaluateDataset):
    """Measure a model on SpatialBench's pinned frames by its figures, dense attention beside every plan, and
    give the rows of its leaderboard. With the dense scenes and no --accel the plan auto is among them, which
    is one that fits in memory; a plan that does not fit is a row with the reason."""

    density: tuple[DensityName, ...] = ()
    """Which scenes, one after the other: single, sparse, medium or dense, folders under --root."""

    def run(self) -> int:
        from ..errors import InputError, UsageError
        from ..evaluate.report.spatialbench import leaderboard
        from ..files.writing import write_files

        if self.protocol == "list":
            return super().run()
        check_options(self, at_least={"views": 1})
        if not self.density or self.root is None:
            raise UsageError("say where SpatialBench is and which scenes: --root DIR --density sparse")
        wanted = [density for density in ("single", "sparse", "medium", "dense") if density in self.density]
        absent = [density for density in wanted if not (self.root / density).is_dir()]
        if absent:
            raise InputError(f"{self.root}: has no folder {absent[0]}/; unpack {absent[0]}.tar there")
        accel = self.accel or (("auto",) if "dense" in wanted and not self.stream else ())
        model = self.model.load()
        results: dict[str, Evaluation] = {}
        for density in wanted:
            protocol = f"spatialbench-{density}" if self.protocol == "default" else self.protocol
            part = dataclasses.replace(self, root=self.root / density, protocol=protocol, accel=accel)
            results[density] = part.measured(model)
        if self.protocol == "default":
            table = leaderboard(results, model.name, sum(p.numel() for p in model.parameters()))
            say("\n" + table)
            if self.out is not None:
                say_written(write_files(self.out, {"spatialbench.leaderboard.md": table}))
        return 0
