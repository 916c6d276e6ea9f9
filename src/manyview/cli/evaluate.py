"""`manyview evaluate synthetic|posed|compare|DATASET`: accuracy on scenes with exact or measured truth."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Union

import tyro

from ..datasets import TITLES
from .console import Bars, command_line, say, say_written
from .evaluate_compare import EvaluateCompare
from .evaluate_dataset import EvaluateDataset
from .evaluate_posed import EvaluatePosed
from .evaluate_spatialbench import EvaluateSpatialBench
from .options import ModelChoice

if TYPE_CHECKING:
    from ..models.network import Network

_Level = Literal["easy", "medium", "hard", "forward", "rotation", "repeated"]


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Cameras and depth against exact truth: a quick table beside image-independent baselines, or, with
    --out, the fixed benchmark procedural-v1 with all figures, what each plan keeps of dense, and a plot."""

    what: tyro.conf.Suppress[Literal["synthetic"]] = "synthetic"
    """synthetic: held-out procedural scenes, with textures that training never uses."""
    model: ModelChoice = dataclasses.field(default_factory=ModelChoice)
    level: Annotated[tuple[_Level, ...], tyro.conf.arg(aliases=["--difficulty"])] = ("easy",)
    """Which scenes; forward motion, pure rotation and repeated structure are medium scenes otherwise."""
    scenes: int | None = None
    """How many of each kind; default: 48, with --out 16."""
    views: tuple[int, ...] = (8,)
    """Views of each; the benchmark has 8, 24, 64 and 150."""
    accel: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--plans"])] = ("dense", "frame")
    """Plans of global attention: one row each. Shares of dense need dense among them."""
    size: tuple[int, int] | None = None
    """Height and width in pixels, multiples of the patch; default: the model's own square with --out,
    its own width at 4:3 without."""
    order: tuple[Literal["sequence", "set"], ...] = ("sequence", "set")
    """With --out: views along a path, or a loose set."""
    precision: Literal["bf16", "fp16", "fp32"] | None = None
    """Of the trunk; default: that of the weights, fp32."""
    out: Path | None = None
    """Folder for results.json, table.md and pareto.png of the benchmark."""
    overwrite: bool = False
    """Replace earlier results in --out, or the file of --json."""
    plot: bool = True
    """Draw pareto.png."""
    seed: int = 0
    """Of the quick table's scenes; the benchmark's are fixed."""
    json: Path | None = None
    """Also write the quick table and its settings to this file."""

    def run(self) -> int:
        from ..errors import OutputError, UsageError
        from ..files.writing import check_new_file

        if min(self.views, default=0) < 2 or (self.scenes is not None and self.scenes < 1):
            raise UsageError("an evaluation needs at least 1 scene of 2 views")
        if not self.level or not self.accel:
            raise UsageError("an evaluation needs at least one --level and one --accel")
        if self.out is not None:
            if self.json is not None or self.seed:
                raise UsageError("--json and --seed belong to the quick table; leave them out with --out")
            return self._benchmark(self.out)
        if len(self.level) > 1 or len(self.views) > 1:
            raise UsageError("several --level or --views are for the benchmark: add --out FOLDER")
        if self.level == ("rotation",):
            raise UsageError("the quick table needs a baseline between views: add --out FOLDER for rotation")
        if self.json is not None:
            if not self.json.parent.is_dir():
                raise OutputError(f"{self.json}: its folder does not exist; choose another place")
            check_new_file(self.json, self.overwrite)
        return self._quick(self.model.load())

    def _benchmark(self, out: Path) -> int:
        from ..errors import require_plot
        from ..evaluate.protocols.procedural import chosen_cases
        from ..evaluate.report.benchmark import FILES, benchmark_table, write_benchmark
        from ..evaluate.runner.benchmark import compare_plans
        from ..files.writing import check_results_folder

        cases = chosen_cases(self.level, self.views, self.order)
        if self.plot:
            require_plot()
        check_results_folder(out, FILES, self.overwrite)
        model = self.model.load()
        write = partial(write_benchmark, folder=out, command=command_line(), plot=self.plot)
        with Bars() as bars:
            result = compare_plans(
                model,
                self.accel,
                cases,
                self.scenes or 16,
                self.size,
                partial(bars, "evaluate"),
                write,
                self.precision,
            )
        say(benchmark_table(result))
        say_written(write(result))
        return 0

    def _quick(self, model: Network) -> int:
        from ..evaluate.protocols.procedural import Case
        from ..evaluate.report.benchmark import synthetic_table
        from ..evaluate.runner.synthetic import evaluate_synthetic
        from ..files.writing import write_files
        from ..synthetic import SceneOptions

        level = self.level[0]
        if level in ("easy", "medium", "hard"):
            options = getattr(SceneOptions, level)()
        else:
            options = Case(level, self.views[0]).options()
        with Bars() as bars:
            table = evaluate_synthetic(
                model,
                self.accel,
                scenes=self.scenes or 48,
                views=self.views[0],
                size=self.size,
                options=options,
                seed=self.seed,
                progress=partial(bars, "evaluate"),
                precision=self.precision,
            )
        say(synthetic_table(table))
        if self.json is not None:
            write_files(self.json.parent, {self.json.name: table.to_json()})
        return 0


_Known = Annotated[Evaluate, tyro.conf.subcommand("synthetic", prefix_name=False)]
_Posed = Annotated[EvaluatePosed, tyro.conf.subcommand("posed", prefix_name=False)]
_Compare = Annotated[EvaluateCompare, tyro.conf.subcommand("compare", prefix_name=False)]
_OWN = {"spatialbench": EvaluateSpatialBench}
"""Data sets with options of their own."""
_Datasets = tuple(
    Annotated[
        _OWN.get(name, EvaluateDataset),
        tyro.conf.subcommand(
            name,
            default=_OWN.get(name, EvaluateDataset)(name),
            description=f"{title} by a protocol of the field, dense beside every plan.",
            prefix_name=False,
        ),
    ]
    for name, title in TITLES.items()
)


@dataclasses.dataclass(frozen=True)
class EvaluateCommand:
    """Accuracy beside image-independent baselines (held-out procedural scenes, posed images), by the
    field's protocols on its datasets, or two results compared."""

    what: Union[(_Known, _Posed, _Compare, *_Datasets)]

    def run(self) -> int:
        return self.what.run()
