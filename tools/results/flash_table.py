"""What descriptors keep of dense accuracy, training-free and trained for, in one pass and as streams.

`python -m tools.results.flash_table OUT` measures the weights in the package on procedural scenes and
writes `table.md`, `summary.md` and `results.json`; with `--photographs SET...` on photographs instead.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

import manyview
from manyview.datasets import read_posed_set
from manyview.errors import ManyViewError, UsageError
from manyview.evaluate.protocols.procedural import Case
from manyview.evaluate.report.markdown import AREAS, FOCAL, fixed
from manyview.files.writing import write_files
from manyview.models.families import find_model
from manyview.models.network import Network
from tools.command import run_command
from tools.results.stream_scores import Variant, compare_variants, photographs_auc_30, settings

_REDUCTIONS = (1, 2, 4)
_PLAN = "flash:r=4,keyframes=0"
_MOST_VIEWS = 24
_TRAINING = {"dense": "never saw descriptors", "flash": "trained for descriptors"}


@dataclass(frozen=True)
class FlashTable:
    """Dense, training-free and trained descriptors, and streams of them, on the same scenes."""

    out: tyro.conf.Positional[Path]
    """Folder for table.md, summary.md and results.json."""
    dense: str = "manyview-photos"
    """Weights trained with dense attention, a name or a file."""
    flash: str | None = "manyview-flash"
    """Those trained on for descriptors, or None."""
    levels: tuple[str, ...] = ("easy", "medium")
    """Levels of the benchmark."""
    views: tuple[int, ...] = (8, 24, 64)
    """Views of a scene."""
    scenes: tuple[int, ...] = (10, 6, 3)
    """Scenes for each of these numbers of views."""
    order: str = "sequence"
    """sequence, or set, on which nothing streams."""
    photographs: tuple[Path, ...] = ()
    """Folders of photographs with cameras, in the order of their names, in place of rendered scenes."""
    image_size: int | None = None
    """Side of the images in pixels; default: what the weights were trained on."""


def variants() -> tuple[Variant, ...]:
    """The rows, dense first: reductions of sets in one pass, walks under the causal mask, and streams."""
    every = [Variant("dense", "dense", _TRAINING["dense"])]
    for name, training in _TRAINING.items():
        every += [Variant(name, f"flash:r={r}", training) for r in _REDUCTIONS]
    every.append(Variant("flash", f"{_PLAN},causal=true", _TRAINING["flash"]))
    for name, training in _TRAINING.items():
        every += [Variant(name, _PLAN, training, chunk) for chunk in (1, 10)]
    return tuple(every)


_FREE_STREAMS = tuple(
    Variant("dense", "flash:r=2,keyframes=0", _TRAINING["dense"], chunk) for chunk in (1, 10)
)
"""What streams take by default with weights that were not trained for descriptors."""


def load_all(args: FlashTable) -> dict[str, Network]:
    """The models by role. UsageError with a remedy where one is not there."""
    given = {"dense": args.dense, "flash": args.flash}
    models = {}
    for name, weights in given.items():
        if weights is None:
            continue
        try:
            models[name] = manyview.load(weights)
        except ManyViewError as error:
            if find_model(weights) is None and Path(weights).exists():
                raise  # a file that is there says best what is wrong with it
            raise UsageError(
                f"this table needs '{weights}', which is not there: make it with `manyview train` "
                f"(docs/training.md), or name another with --{name}, or None to leave its rows out"
            ) from error
    return models


def markdown(data: dict[str, Any]) -> str:
    """All figures of results.json, one table a case, with what is needed to read and repeat them."""
    if "photographs" in data:
        return photographs_table(data)
    facts = data["settings"]
    machine = facts["environment"]
    lines = [f"# {facts['benchmark']}: descriptors, training-free and trained", ""]
    lines += [
        f"- {name}: {one['name']}, weights {one['weights_sha256'][:12]}"
        for name, one in facts["models"].items()
    ]
    lines += [
        "",
        f"ManyView {machine['manyview']}, PyTorch {machine['torch']}, {machine['device_name']}, "
        f"{machine['precision']}, {machine['threads']} threads, {facts['image_size']} px.",
        "",
        f"`{data['command']}`",
        "",
    ]
    for one in data["cases"]:
        case = "{level}, {views} views, {order}".format(**one["case"])
        lines += [f"## {case}: {one['scenes']} scenes", ""]
        lines += [
            "| weights | plan | views | AUC@3 exact | AUC@5 | AUC@30 | focal % | AbsRel | of dense's AUC@5 "
            "| AUC@30 | attention | time |"
        ]
        lines += ["|---|---|---|" + "---:|" * 9]
        lines += ["| " + " | ".join(_cells(row, facts)) + " |" for row in one["rows"]] + [""]
    lines += [
        f"AUC of relative poses in percent, higher is better; {AREAS}; {FOCAL}; AbsRel of depth, lower is "
        "better. Attention is "
        "the scores and weighted sums of the global layers, time the median scene; both as shares of dense's "
        "too. A stream's cameras are those returned when their frame arrives, from earlier frames alone.",
        "",
    ]
    return "\n".join(lines)


def summary(data: dict[str, Any]) -> str:
    """One line a variant: AUC@30 and its share of dense's, and what the longest case of a level costs."""
    facts, cases = data["settings"], data["cases"]
    longest = {one["case"]["level"]: one for one in cases}  # views rise
    head = ["{level} {views}".format(**one["case"]) for one in cases]
    head += [f"{level} {one['case']['views']}: attention, time" for level, one in longest.items()]
    lines = ["| weights | plan | views | " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * len(head)]
    for variant in dict.fromkeys(Variant(**row["way"]) for one in cases for row in one["rows"]):
        rows = {
            id(one): next((r for r in one["rows"] if Variant(**r["way"]) == variant), None) for one in cases
        }
        cells = [*_names(variant, facts)]
        for row in rows.values():
            auc = row and f"{row['scores']['auc_30']:.1f} ({_percent(row['keeps_auc_30'])})"
            cells.append(auc or "")
        for one in longest.values():
            last = rows[id(one)]
            cells.append("" if last is None else f"{last['attention_share']:.1%}, {last['time_share']:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def photographs_table(data: dict[str, Any]) -> str:
    """One line a variant, with its AUC@30 on each set of photographs and their mean."""
    sets = data["photographs"]
    lines = ["| weights | plan | views | " + " | ".join(one["set"] for one in sets) + " | mean |"]
    lines.append("|---|---|---|" + "---:|" * (len(sets) + 1))
    for row in zip(*(one["rows"] for one in sets)):
        variant, aucs = Variant(**row[0]["way"]), [one["auc_30"] for one in row]
        figures = [f"{auc:.1f}" for auc in (*aucs, sum(aucs) / len(aucs))]
        lines.append("| " + " | ".join([*_names(variant, data["settings"]), *figures]) + " |")
    return "\n".join(lines) + "\n"


def _names(variant: Variant, facts: dict[str, Any]) -> tuple[str, str, str]:
    name = facts["models"][variant.weights]["name"]
    return f"{name} ({variant.training})", f"`{variant.plan}`", variant.arrival


def _cells(row: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    scores = row["scores"]
    return [
        *_names(Variant(**row["way"]), facts),
        fixed(scores.get("auc_integral_3"), ".1f"),
        f"{scores['auc_5']:.1f}",
        f"{scores['auc_30']:.1f}",
        fixed(scores.get("focal_error"), ".1f"),
        f"{scores['abs_rel']:.3f}",
        _percent(row["keeps_auc_5"]),
        _percent(row["keeps_auc_30"]),
        f"{row['attention_share']:.1%}",
        f"{scores['seconds']:.3g} s ({row['time_share']:.2f})",
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def measure(args: FlashTable, command: str) -> None:
    """Run all variants and write the files. UsageError for missing weights or counts that do not pair up."""
    if len(args.scenes) != len(args.views):
        raise UsageError(f"give as many --scenes as --views: {len(args.scenes)} beside {len(args.views)}")
    cases = [
        (Case(level, views, args.order), scenes)
        for level in args.levels
        for views, scenes in zip(args.views, args.scenes, strict=True)
    ]
    models = load_all(args)
    rows = [variant for variant in variants() if variant.weights in models]

    def tell(done: int, total: int) -> None:
        what = "sets" if args.photographs else "passes"
        sys.stderr.write(f"\r{done} of {total} {what}" + "\n" * (done == total))

    facts = settings(models, args.image_size)
    for name, one in facts["models"].items():
        one["name"] = models[name].name
    if args.photographs:
        sets = []
        for number, folder in enumerate(args.photographs):
            posed = read_posed_set(folder).spread(_MOST_VIEWS)
            found = photographs_auc_30(models, [*rows, *_FREE_STREAMS], posed, facts["image_size"])
            sets.append({"set": folder.name, "views": len(posed), "rows": found})
            tell(number + 1, len(args.photographs))
        shown = {"command": command, "settings": facts, "photographs": sets}
        write_files(args.out, {"results.json": shown, "table.md": markdown(shown)})
        return
    results = compare_variants(models, rows, cases, tell, args.image_size)
    data = {"command": command, "settings": facts, "cases": [one.to_json() for one in results]}
    write_files(args.out, {"results.json": data, "table.md": markdown(data), "summary.md": summary(data)})


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = " ".join(["python -m tools.results.flash_table", *given])
    return run_command(FlashTable, lambda args: measure(args, command), "tools.results.flash_table", given)


if __name__ == "__main__":
    sys.exit(main())
