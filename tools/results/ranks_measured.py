"""The bundled model over processes of this CPU: time, memory of each process, and efficiency.

One process of two threads against 2 and 4 of one thread each, which exchange over gloo. Part of
`python -m tools.results.ranks OUT --measure`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from manyview.evaluate.report.markdown import NONE
from manyview.evaluate.report.markdown import table as markdown_table
from tools.results.memory import MIB, write_photos

PLANS = ("dense", "flash", "anchors")
PROCESSES = ((1, 2), (2, 1), (4, 1))
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_LIMIT_S = 3600


@dataclasses.dataclass(frozen=True)
class RanksCase:
    """`processes` of so many `threads` each."""

    views: int
    accel: str
    processes: int
    threads: int


def cases(views: Sequence[int]) -> Iterator[RanksCase]:
    """All of the table."""
    for count in views:
        for accel in PLANS:
            for processes, threads in PROCESSES:
                yield RanksCase(count, accel, processes, threads)


def measured(views: Sequence[int], repeats: int = 3) -> dict[str, Any]:
    """The figures: of `repeats` runs of each case, in turns, the fastest."""
    import torch

    from manyview.reconstruction.plan.environment import commit, cpu_name

    wanted = list(cases(views))
    runs: dict[RanksCase, list[dict[str, Any]]] = {case: [] for case in wanted}
    with tempfile.TemporaryDirectory() as made:
        photos = Path(made) / "photos"
        photos.mkdir()
        write_photos(photos, max(views))
        for turn in range(repeats):
            for case in wanted:
                out = Path(made) / f"{wanted.index(case)}-{turn}"
                runs[case].append(run_case(case, photos, out))
                said = runs[case][-1]
                sys.stderr.write(f"{case}: {said['forward_s']:.2f} s, {said['peak_bytes']}\n")
    fastest = {case: min(found, key=lambda one: one["forward_s"]) for case, found in runs.items()}
    return {
        "command": "python -m tools.results.ranks --measure",
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "commit": commit(),
        "repeats": repeats,
        "cases": [{**dataclasses.asdict(case), **fastest[case]} for case in wanted],
    }


def run_case(case: RanksCase, photos: Path, out: Path) -> dict[str, Any]:
    """One run: seconds of the first process, which ends last, and bytes of each."""
    threads = str(case.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if sys.platform.startswith("linux"):
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    line = [sys.executable, "-m", "tools.results.ranks_measured", str(photos), str(out)]
    with tempfile.TemporaryDirectory() as meeting:
        children = [
            subprocess.Popen(
                [*line, f"{meeting}/store", json.dumps(dataclasses.asdict(case))],
                env={**environment, "RANK": str(rank), "WORLD_SIZE": str(case.processes)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(case.processes)
        ]
        try:
            said = [child.communicate(timeout=_LIMIT_S)[0] for child in children]
        finally:
            for child in children:
                child.kill()
        if any(child.returncode for child in children):
            raise SystemExit(f"{case} failed")
    found = [json.loads(text.splitlines()[-1]) for text in said]
    return {
        **{name: max(one[name] for one in found) for name in ("forward_s", "all_s", "received_bytes")},
        "expected_bytes": found[0]["expected_bytes"],
        "baseline_bytes": [one["baseline_bytes"] for one in found],
        "peak_bytes": [one["peak_bytes"] for one in found],
    }


def _child(photos: str, out: str, store: str, case: RanksCase) -> None:
    """One process: `VmHWM` from when the weights are loaded and the processes have met."""
    from manyview.reconstruction.plan.allocator import bound_caches

    bound_caches()
    import torch
    import torch.distributed as dist

    from manyview.models.auto import BUNDLED
    from manyview.models.load import load
    from manyview.reconstruction.inputs.options import InputOptions
    from manyview.reconstruction.run.engine import reconstruct_into
    from manyview.reconstruction.run.options import ReconstructOptions
    from manyview.reconstruction.run.prepare import prepare

    torch.set_num_threads(case.threads)
    model = load(BUNDLED)
    options = ReconstructOptions(
        accel=case.accel, inputs=InputOptions(max_frames=case.views), device="cpu", precision="fp32"
    )
    ranks = None if case.processes == 1 else _ranks(store, case.processes)
    _CLEAR.write_text("5")
    baseline, start = _resident("VmRSS"), time.perf_counter()
    ready = prepare(photos, model, options, ranks=ranks)
    if ranks is None:
        scene = reconstruct_into(ready, model, Path(out))
    else:
        scene = reconstruct_into(ready, model, Path(out), ranks=ranks)
    said = {
        "forward_s": 0.0 if scene is None else scene.timings_s["forward"],
        "all_s": time.perf_counter() - start,
        "received_bytes": 0 if ready.ranks is None else ready.ranks.received,
        "expected_bytes": ready.chosen.peak_bytes,
        "baseline_bytes": baseline,
        "peak_bytes": _resident("VmHWM"),
    }
    if ranks is not None:
        dist.destroy_process_group()
    sys.stdout.write(json.dumps(said) + "\n")


def _ranks(store: str, processes: int) -> Any:
    """The processes of a case, which meet at a file."""
    import datetime

    import torch
    import torch.distributed as dist

    from manyview.distributed.mesh import MeshRanks

    met = dist.FileStore(store, processes)
    return MeshRanks.of_environment(torch.device("cpu"), datetime.timedelta(seconds=_LIMIT_S), met)


def _resident(field: str) -> int:
    return int(_STATUS.read_text().split(f"{field}:")[1].split()[0]) * 1024


def section(data: dict[str, Any]) -> list[str]:
    """Markdown lines."""
    alone = {(one["views"], one["accel"]): one for one in data["cases"] if one["processes"] == 1}
    rows = []
    for one in data["cases"]:
        first = alone[one["views"], one["accel"]]
        grown = [peak - base for peak, base in zip(one["peak_bytes"], one["baseline_bytes"], strict=True)]
        single = one is first
        efficiency = NONE if single else f"{100 * first['forward_s'] / one['forward_s']:.0f} %"
        rows.append(
            [
                str(one["views"]),
                f"`{one['accel']}`",
                f"{one['processes']} x {one['threads']}",
                f"{one['forward_s']:.1f}",
                f"{one['all_s']:.1f}",
                efficiency,
                f"{max(one['peak_bytes']) / MIB:,.0f}",
                f"{max(grown) / MIB:,.0f}",
                f"{one['expected_bytes'] / MIB:,.0f}",
                f"{one['received_bytes'] / MIB:,.0f}",
            ]
        )
    head = [
        "views", "plan", "processes x threads", "pass s", "all s", "efficiency", "peak MiB", "grown MiB",
        "expected MiB", "received MiB",
    ]  # fmt: skip
    runs = f"the fastest of {data['repeats']} runs" if data["repeats"] > 1 else "one run of each"
    return [
        "## Measured on a CPU",
        "",
        f"`{data['command']} docs/results/ranks`: manyview-small (fp32) on {data['cores']} cores of "
        f"{data['cpu']}, PyTorch {data['torch']}, processes over gloo on one host; {runs}. "
        "Efficiency: the time of one process of two threads over that of the row. Memory is that of the "
        "largest process: its peak (VmHWM, with PyTorch and the weights), by how much it grew after "
        "the weights were loaded, and what preflight expected of that.",
        "",
        *markdown_table(head, rows),
        "",
    ]


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2], sys.argv[3], RanksCase(**json.loads(sys.argv[4])))
