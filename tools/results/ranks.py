"""One scene over many ranks, simulated: `python -m tools.results.ranks OUT`; with `--measure` on this CPU.

Sizes, operations and the rates of a card are all that goes in (`manyview plan --ranks`): nothing runs. With
`--measure` the bundled model does (`ranks_measured`), and its table joins the page.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
import tyro

from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan
from manyview.evaluate.report.markdown import NONE
from manyview.evaluate.report.markdown import table as markdown_table
from manyview.files.writing import write_files
from manyview.models.vggt.config import VGGT_1B
from manyview.models.vggt.model import VGGT
from manyview.reconstruction.plan.links import known_links
from manyview.reconstruction.plan.preflight import Request, format_duration
from manyview.reconstruction.plan.simulate import RankDevice, card_named, run_options_on, simulate
from tools.command import run_command
from tools.results import ranks_measured

CARD, SIZE = "NVIDIA H100", (518, 392)
PLANS = ("dense", *METHODS)
FRAMES = (100, 1000, 10_000, 100_000)
RANKS = (1, 2, 4, 8, 16, 32, 64)
LINK = "infiniband-400"
LINKS = ("nvlink4", "pcie4", "infiniband-400", "ethernet-100", "ethernet-10")


@dataclasses.dataclass(frozen=True)
class RankTable:
    """VGGT-1B over 1 to 64 cards and up to 100,000 frames."""

    out: tyro.conf.Positional[Path]
    """Folder for ranks.md and ranks.json, and measured.json with --measure."""
    measure: bool = False
    """Time the bundled model over processes of this machine in place of the simulation; on a quiet one."""
    views: tuple[int, ...] = (64, 300)
    """With --measure: numbers of views."""
    repeats: int = 3
    """With --measure: runs of each case, of which the fastest counts."""


def simulated() -> dict[str, Any]:
    """All figures of the simulation."""
    card = card_named(CARD)
    assert card.memory_bytes is not None
    device = RankDevice(card.name, torch.device("cuda"), int(card.memory_bytes), card)
    with torch.device("meta"):
        weights = sum(parameter.nbytes for parameter in VGGT(VGGT_1B).parameters())
    run = run_options_on(card)
    assert run.dtype is not None
    rows: list[dict[str, Any]] = []
    waits: dict[str, dict[str, list[int | None]]] = {name: {} for name in LINKS}
    for spec in PLANS:
        request = Request(
            VGGT_1B, FRAMES[0], SIZE[1], SIZE[0], Plan.parse(spec, VGGT_1B.depth), ("camera", "depth"),
            run.dtype, (), run.kernels, head_dtype=run.head_dtype, channels_last=run.channels_last,
        )  # fmt: skip
        if request.plan.why_not_distributed(request.layout) is not None:
            (refused,) = simulate(request, FRAMES[:1], (2,), device, known_links()[LINK], weights)
            rows.append(refused.to_json())
            continue
        rows += (
            row.to_json() for row in simulate(request, FRAMES, RANKS, device, known_links()[LINK], weights)
        )
        for name in LINKS:
            found = simulate(request, FRAMES, (1,), device, known_links()[name], weights, max(RANKS))
            waits[name][spec] = [row.waits_from for row in found]
    return {
        "command": "python -m tools.results.ranks",
        "model": "vggt-1b",
        "size": list(SIZE),
        "precision": "bf16",
        "card": card.to_json(),
        "links": [dataclasses.asdict(known_links()[name]) for name in LINKS],
        "link": LINK,
        "weights_bytes": weights,
        "frames": list(FRAMES),
        "ranks": list(RANKS),
        "rows": rows,
        "waits_from": waits,
    }


def page(data: dict[str, Any], measured: dict[str, Any] | None) -> str:
    """Markdown of the simulation, and of what was measured."""
    width, height = data["size"]
    lines = [
        "# One scene over many ranks",
        "",
        f"`{data['command']} docs/results/ranks` writes this page from sizes and rates alone; **no card ran "
        f"it**. {data['model']} at {width}x{height} ({data['precision']}), ranks with an "
        f"{data['card']['name']} of {data['card']['memory_bytes'] / 1e9:.0f} GB each "
        f"({data['card']['source']}). `manyview plan --ranks 1 2 4 --frames 1000 --accel PLAN` answers for "
        "other sizes, networks and links.",
        "",
        "## Memory and time of a rank",
        "",
        f"GiB of a rank with its weights ({data['weights_bytes'] / 2**30:.1f} GiB) and the time of the pass, "
        f"over `{data['link']}`. (no): more than nine tenths of the card; (ring): dense keys and values pass "
        "around, as those of all frames do not fit.",
        "",
    ]
    done = [row for row in data["rows"] if "refused" not in row]
    specs = list(dict.fromkeys(row["plan"] for row in done))
    head = ["ranks", *(f"{frames:,} frames" for frames in data["frames"])]
    for spec in specs:
        cells = {(row["ranks"], row["frames"]): _cell(row) for row in done if row["plan"] == spec}
        rows = [[str(n), *(cells[n, frames] for frames in data["frames"])] for n in data["ranks"]]
        lines += [f"### `{spec}`", "", *markdown_table(head, rows), ""]
    lines += _travels(data, done, specs) + _waits(data, specs)
    refusals = [row for row in data["rows"] if "refused" in row]
    lines += ["## What is refused", "", *(f"- {row['refused']}" for row in refusals), ""]
    if measured is not None:
        lines += ranks_measured.section(measured)
    return "\n".join(lines).rstrip() + "\n"


def _cell(row: dict[str, Any]) -> str:
    mark = "" if row["fits"] else " (no)"
    mark = " (ring)" if row["fits"] and row["ring"] else mark
    gib = row["bytes_per_rank"] / 2**30
    return f"{gib:,.1f} GiB{mark}, {format_duration(row['seconds'])}"


def _travels(data: dict[str, Any], done: list[dict[str, Any]], specs: list[str]) -> list[str]:
    """What a rank receives, by plan."""
    ranks = max(data["ranks"])
    found = {(row["plan"], row["frames"]): row["received_per_layer"] for row in done if row["ranks"] == ranks}
    rows = [
        [f"`{spec}`", *(f"{found[spec, frames] / 1e6:,.0f}" for frames in data["frames"])] for spec in specs
    ]
    head = ["plan", *(f"{frames:,} frames" for frames in data["frames"])]
    return [
        "## What travels",
        "",
        f"MB that each of {ranks} ranks receives in the global layer that needs most, of {VGGT_1B.depth}; "
        "each of n ranks gets (n - 1) / n of what all have. The camera head joins "
        f"{VGGT_1B.camera_memory_bytes / 1e6:.2f} MB of every frame that others attend to, once: under "
        "`anchors` of 25 frames, else of all.",
        "",
        *markdown_table(head, rows),
        "",
    ]


def _waits(data: dict[str, Any], specs: list[str]) -> list[str]:
    """From how many ranks on waiting is most of the time, by plan and link."""
    most = max(data["ranks"])
    names = list(data["waits_from"])

    def cell(name: str, spec: str) -> str:
        return " / ".join(NONE if n is None else str(n) for n in data["waits_from"][name][spec])

    rows = [[f"`{spec}`", *(cell(name, spec) for name in names)] for spec in specs]
    frames = " / ".join(f"{n:,}" for n in data["frames"])
    return [
        "## Where communication dominates",
        "",
        f"The fewest ranks that wait longer for one another than they compute, with {frames} frames; {NONE}: "
        f"none up to {most}. All rates of links are estimates from specifications.",
        "",
        *markdown_table(["plan", *(f"`{name}`" for name in names)], rows),
        "",
        *(
            f"- `{one['name']}`: {one['about']}; {one['bytes_per_s'] / 1e9:g} GB/s, "
            f"{one['latency_s'] * 1e6:g} microseconds a step ({one['source']})"
            for one in data["links"]
        ),
        "",
    ]


def write_table(options: RankTable) -> int:
    """Write the figures and the page."""
    old, files = options.out / "ranks.json", {}
    if options.measure:
        files["measured.json"] = ranks_measured.measured(options.views, options.repeats)
    if not options.measure or not old.is_file():
        files["ranks.json"] = simulated()
    write_files(options.out, files)
    write_files(options.out, {"ranks.md": of_folder(options.out)})
    return 0


def of_folder(folder: Path) -> str:
    """The page of the figures in a folder."""
    measured = folder / "measured.json"
    return page(
        json.loads((folder / "ranks.json").read_text(encoding="utf-8")),
        json.loads(measured.read_text(encoding="utf-8")) if measured.is_file() else None,
    )


if __name__ == "__main__":
    sys.exit(run_command(RankTable, write_table, "tools.results.ranks"))
