"""Milliseconds and bytes of a stream against its frames, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError


def require_plot() -> None:
    """Raise MissingExtraError unless plots can be drawn; ask before long work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("the plot", "plot") from error


def draw(log: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a PNG of a journal's log: time per frame above, memory below."""
    require_plot()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frames = [line["first"] + line["frames"] for line in log]
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(frames, [line["ms_per_frame"] for line in log], linewidth=0.9)
    above.set(ylabel="ms per frame", ylim=(0, None))
    below.plot(frames, [line["memory_bytes"] / 2**20 for line in log], label="memory of the stream")
    if all("resident_bytes" in line for line in log):
        below.plot(frames, [line["resident_bytes"] / 2**20 for line in log], label="whole process")
        below.legend(loc="lower right", fontsize=8, frameon=False)
    below.set(xlabel="frames", ylabel="MiB", ylim=(0, None))
    for axes in (above, below):
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=130, format="png")
