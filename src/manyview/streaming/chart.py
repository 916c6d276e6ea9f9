"""Plot of time and memory of a stream over its frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import require_plot


def draw(log: Sequence[dict[str, Any]], path: Path, accuracy: Sequence[dict[str, float]] = ()) -> None:
    """Write a PNG of a journal's log: time per frame, memory, and errors by part if given."""
    require_plot()
    from matplotlib.figure import Figure

    frames = [line["first"] + line["frames"] for line in log]
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    above, below, *errors = figure.subplots(2 + bool(accuracy), 1, sharex=True)
    above.plot(frames, [line["ms_per_frame"] for line in log], linewidth=0.9)
    above.set(ylabel="ms per frame", ylim=(0, None))
    below.plot(frames, [line["memory_bytes"] / 2**20 for line in log], label="memory of the stream")
    if all("resident_bytes" in line for line in log):
        below.plot(frames, [line["resident_bytes"] / 2**20 for line in log], label="whole process")
        below.legend(loc="lower right", fontsize=8, frameon=False)
    below.set(ylabel="MiB", ylim=(0, None))
    for axes in errors:
        edges = [row["first"] for row in accuracy] + frames[-1:]
        axes.stairs(
            [row["rotation_deg"] for row in accuracy], edges, baseline=None, label="rotation, degrees"
        )
        axes.stairs([100 * row["centre_error"] for row in accuracy], edges, baseline=None, label="centre, %")
        axes.set(ylabel="error", ylim=(0, None))
        axes.legend(fontsize=8, frameon=False)
    for axes in (above, below, *errors):
        axes.grid(alpha=0.25)
        axes.set(xlabel="frames" if axes is (errors or [below])[-1] else None)
    figure.savefig(path, dpi=130, format="png")
