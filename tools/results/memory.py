"""Memory that runs are expected to take, and what their processes take: `python -m tools.results.memory OUT`.

Each case is a process of its own that loads the weights, notes its resident memory (the baseline), runs a
reconstruction as the command does, and reports by how much the peak of its resident memory is above that.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from manyview.files.writing import write_files
from tools.command import run_command

MIB = 2**20
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class MemoryCase:
    """One run. `model`: "small", the bundled one, or "wide": VGGT-1B's widths, random, a depth of 4."""

    views: int
    precision: str
    model: str = "small"
    image_size: int | None = None
    accel: str = "dense"
    chunk: int | None = None
    threads: int = 1


@dataclass(frozen=True)
class MeasuredMemory:
    """Bytes of a case: expected before the run, and by how much the process grew over `baseline_bytes`."""

    case: MemoryCase
    expected_bytes: int
    measured_bytes: int
    baseline_bytes: int
    network_size: tuple[int, int]
    seconds: float

    @property
    def ratio(self) -> float:
        return self.expected_bytes / self.measured_bytes


def cases() -> Iterator[MemoryCase]:
    """The published table."""
    for precision in ("bf16", "fp32"):
        for views in (8, 24, 64, 100, 150, 300):
            yield MemoryCase(views, precision, image_size=112)
        for views in (8, 24):
            yield MemoryCase(views, precision, image_size=336)
        for accel in ("frame", "avggt:early=0,stride=2x2", "anchors:frames=8"):
            yield MemoryCase(150, precision, image_size=112, accel=accel)
        yield MemoryCase(300, precision, image_size=112, accel="anchors:frames=8", chunk=16)
        for views in (2, 8):
            yield MemoryCase(views, precision, "wide")
    yield MemoryCase(64, "bf16", image_size=112, threads=2)
    yield MemoryCase(24, "bf16", image_size=336, threads=2)


def can_measure() -> bool:
    """Whether this system tells the peak of resident memory since a moment of one's choice."""
    return os.access(_CLEAR, os.W_OK) and "VmHWM" in _STATUS.read_text()


def write_photos(folder: Path, count: int, size: tuple[int, int] = (640, 480)) -> None:
    """JPEG files of coarse noise."""
    import numpy as np
    from PIL import Image

    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size).save(folder / f"{index:04d}.jpg")


def measure(case: MemoryCase, folder: Path) -> MeasuredMemory:
    """`case` on the images of `folder`, in a process of its own."""
    arguments = [str(folder), json.dumps(dataclasses.asdict(case))]
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--child", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": str(case.threads), "MKL_NUM_THREADS": str(case.threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    return MeasuredMemory(case, **{**said, "network_size": tuple(said["network_size"])})


def _child(folder: str, case: MemoryCase) -> None:
    from manyview.reconstruction.plan.allocator import bound_caches

    bound_caches()
    from manyview.reconstruction.inputs.options import InputOptions
    from manyview.reconstruction.run.engine import reconstruct
    from manyview.reconstruction.run.options import ReconstructOptions
    from manyview.reconstruction.run.prepare import prepare

    model = _model(case.model)
    options = ReconstructOptions(
        accel=case.accel,
        inputs=InputOptions(max_frames=case.views),
        image_size=case.image_size,
        device="cpu",
        precision=case.precision,
        chunk=case.chunk,
    )
    _CLEAR.write_text("5")
    baseline = _resident("VmRSS")
    ready = prepare(folder, model, options)
    scene = reconstruct(ready, model, options)
    peak = _resident("VmHWM")
    said = {
        "expected_bytes": ready.chosen.peak_bytes,
        "measured_bytes": peak - baseline,
        "baseline_bytes": baseline,
        "network_size": [ready.chosen.request.width, ready.chosen.request.height],
        "seconds": round(scene.timings_s["forward"], 2),
    }
    sys.stdout.write(json.dumps(said) + "\n")


def _model(name: str) -> Any:
    from manyview.models.auto import BUNDLED
    from manyview.models.load import load

    if name == "small":
        return load(BUNDLED)
    from manyview.models.part_configs import EncoderConfig
    from manyview.models.vggt.config import VGGT_1B
    from manyview.models.vggt.model import VGGT

    encoder = EncoderConfig(depth=2)
    model = VGGT(
        dataclasses.replace(
            VGGT_1B, depth=4, taps=(0, 1, 2, 3), encoder=encoder, track_head=None, point_head=None
        )
    )
    # Results must be finite: depth is a power of e, and no field of view may be zero.
    for parameter in model.parameters():
        parameter.data.mul_(0.1)
    model.camera_head.pose_branch.fc2.bias.data.fill_(0.5)
    return model


def _resident(field: str) -> int:
    text = _STATUS.read_text()
    return int(text.split(f"{field}:")[1].split()[0]) * 1024


@dataclass(frozen=True)
class MemoryTable:
    """Expected and measured memory of runs on this CPU."""

    out: tyro.conf.Positional[Path]
    """Folder for memory.md and memory.json."""


def write_table(options: MemoryTable) -> int:
    """Measure every case and write the table; what is done is written after each."""
    from manyview.reconstruction.plan.environment import commit, cpu_name

    rows: list[MeasuredMemory] = []
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), max(case.views for case in cases()))
        for case in cases():
            rows.append(measure(case, Path(folder)))
            facts = {"command": "python -m tools.results.memory", "cpu": cpu_name(), "commit": commit()}
            figures = facts | {"cases": [dataclasses.asdict(row) for row in rows]}
            write_files(options.out, {"memory.json": figures, "memory.md": table(rows)})
    return 0


def table(rows: list[MeasuredMemory]) -> str:
    """Markdown, MiB."""
    lines = [
        "| weights | views | size | plan | precision | threads | expected MiB | measured MiB | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        case = row.case
        plan = case.accel + ("" if case.chunk is None else f", chunks of {case.chunk}")
        size = "{}x{}".format(*row.network_size)
        expected, measured = row.expected_bytes / MIB, row.measured_bytes / MIB
        lines.append(
            f"| {case.model} | {case.views} | {size} | {plan} | {case.precision} | {case.threads} | "
            f"{expected:,.0f} | {measured:,.0f} | {row.ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(sys.argv[2], MemoryCase(**json.loads(sys.argv[3])))
    else:
        sys.exit(run_command(MemoryTable, write_table, "tools.results.memory"))
