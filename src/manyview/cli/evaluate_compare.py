"""`manyview evaluate compare A.json B.json`: two results scene by scene."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import tyro

from .console import say, say_written


@dataclasses.dataclass(frozen=True)
class EvaluateCompare:
    """Differences of two results of the same dataset and protocol, scene by scene, with a bootstrap interval
    of their means; with one result, of each plan against dense."""

    results: tyro.conf.Positional[tuple[Path, ...]]
    """One or two JSON files that `manyview evaluate DATASET --out` wrote."""
    plan: tuple[str, ...] = ()
    """The plan of each result, or of both; default: dense of the one and each plan, or what both have."""
    figures: tuple[str, ...] = ()
    """Names of figures; default: those of the protocol's table."""
    csv: Path | None = None
    """Also write every difference to this file."""
    markdown: Path | None = None
    """Also write the table to this file."""
    plot: Path | None = None
    """Also draw the differences to this PNG file; with several plans compared NAME.PLAN.png, one a plan."""

    overwrite: bool = False
    """Replace earlier files."""

    def run(self) -> int:
        from ..errors import UsageError, require_plot
        from ..evaluate.report.comparison import (
            compare_results,
            comparison_csv,
            comparison_table,
            draw_differences,
            what_differs,
        )
        from ..evaluate.report.files import read_evaluation
        from ..files.writing import atomic_file, check_new_file, output_errors, write_files

        if self.plot is not None:
            require_plot()
        if not 1 <= len(self.results) <= 2:
            raise UsageError("give one or two results: manyview evaluate compare A.json B.json")
        if len(self.plan) > 2:
            raise UsageError("--plan takes one plan for both results, or one for each")
        read = [read_evaluation(path) for path in self.results]
        first, second = read[0], read[-1]
        if self.plan:
            pairs = [(self.plan[0], self.plan[-1])]
        elif len(read) == 1:
            pairs = [("dense", plan) for plan in first.plans if plan != "dense"]
        else:
            pairs = [(plan, plan) for plan in first.plans if plan in second.plans]
        if not pairs:
            raise UsageError("there are no two plans to compare; name them with --plan")
        plots = []
        if self.plot is not None:
            plots = [self.plot] if len(pairs) == 1 else [self._named(self.plot, two) for _, two in pairs]
        for path in (self.csv, self.markdown, *plots):
            if path is not None:
                check_new_file(path, self.overwrite)
        tables, rows, files = [], "", []
        if len(read) == 2:
            legend = "\n".join(f"- {line}" for line in what_differs(first, second))
            tables.append(f"{legend}\n")
        for (one, two), place in itertools.zip_longest(pairs, plots):
            names = (one, two) if len(read) == 1 else (f"{one} (A)", f"{two} (B)")
            differences = compare_results(first, second, (one, two), self.figures)
            tables.append(comparison_table(differences, names))
            if place is not None:
                with output_errors(place, 1 << 20), atomic_file(place) as part:
                    draw_differences(differences, names, part)
                files.append(place)
            lines = comparison_csv(differences).splitlines(keepends=True)
            rows += (f"plan_a,plan_b,{lines[0]}" if not rows else "") + "".join(
                f'"{one}","{two}",{line}' for line in lines[1:]
            )
        table = "\n".join(tables)
        say(table)
        for path, text in ((self.markdown, table), (self.csv, rows)):
            if path is not None:
                files += write_files(path.parent, {path.name: text})
        if files:
            say_written(files)
        return 0

    @staticmethod
    def _named(path: Path, plan: str) -> Path:
        """The file with a plan in its name, of characters that every system allows."""
        safe = "".join(c if c.isalnum() or c in "=-" else "_" for c in plan)
        return path.with_name(f"{path.stem}.{safe}{path.suffix}")
