"""The log of a run, one JSON object per line, and its plot."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..errors import UsageError, optional_module
from ..files.schema import convert, read_regular, schema_errors

LOG_NAME = "log.jsonl"


class _Line(msgspec.Struct):
    kind: str


class _Start(_Line):
    step: int
    processes: int
    config: dict[str, Any]


class _Train(_Line):
    """Numbers of a run that diverged may be NaN."""

    minutes: float
    losses: dict[str, float]
    lr: float
    frames_per_s: float
    gflops: float | None = None


class _Evaluate(_Line):
    minutes: float
    auc_5: float
    auc_15: float
    auc_30: float
    rotation_median_deg: float
    translation_median_deg: float
    abs_rel: float


_KINDS: dict[str, type[_Line]] = {"start": _Start, "train": _Train, "evaluate": _Evaluate}


class RunLog:
    """Appends JSON lines; every line is on disk when `write` returns."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Append one line with its `kind`: start, train, evaluate or end."""
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Lines of a log; a last line cut off in the middle of writing is left out.

    Raises UsageError for a file that is no log.
    """
    try:
        texts = read_regular(path).splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give the folder of a run") from error
    lines = []
    for number, text in enumerate(texts, start=1):
        with contextlib.suppress(ValueError, RecursionError):
            lines.append((number, json.loads(text)))
    for number, line in lines:
        with schema_errors(f"{path}, line {number}", "remove that line", UsageError):
            convert(line, _KINDS.get(convert(line, _Line).kind, _Line))
    return [line for _, line in lines]


def plot_curves(log: Path, path: Path) -> None:
    """Draw losses, accuracy on held-out scenes and learning rate against minutes."""
    figures = optional_module("matplotlib.figure", "drawing the training curves", "plot")
    lines = read_log(log) if log.is_file() else []
    train = [line for line in lines if line["kind"] == "train"]
    held_out = [line for line in lines if line["kind"] == "evaluate"]
    if not train:
        raise UsageError(f"{log} holds no training steps yet: run the training first")
    figure = figures.Figure(figsize=(12, 7), layout="constrained")
    (losses, accuracy), (rotation, rate) = figure.subplots(2, 2)
    minutes = [line["minutes"] for line in train]
    for name in sorted({name for line in train for name in line["losses"]}):
        losses.plot(minutes, [line["losses"].get(name, float("nan")) for line in train], label=name, lw=0.8)
    highest = max(value for line in train for value in line["losses"].values())
    # A logarithmic axis has no ticks to read within one decade; a loss may be negative.
    losses.set(yscale="symlog" if highest > 10 else "linear", ylabel="loss (unweighted)")
    losses.grid(alpha=0.3)
    losses.legend(fontsize=7, loc="upper right")
    seen = [line["minutes"] for line in held_out]
    for threshold in (5, 15, 30):
        accuracy.plot(seen, [line[f"auc_{threshold}"] for line in held_out], "o-", label=f"AUC@{threshold}")
    accuracy.set(ylabel="held-out relative pose, percent", ylim=(0, None))
    accuracy.legend(fontsize=7, loc="upper left")
    accuracy.set_ylim(0, 1.25 * max(accuracy.get_ylim()[1], 1))
    rotation.plot(seen, [line["rotation_median_deg"] for line in held_out], "o-", label="rotation, degrees")
    rotation.plot(
        seen, [line["translation_median_deg"] for line in held_out], "o-", label="direction, degrees"
    )
    rotation.plot(seen, [100 * line["abs_rel"] for line in held_out], "o-", label="depth AbsRel, percent")
    rotation.set(xlabel="minutes", ylabel="held-out median error", ylim=(0, None))
    rotation.legend(fontsize=7)
    rate.plot(minutes, [line["lr"] for line in train], label="learning rate")
    rate.set(xlabel="minutes", ylabel="learning rate")
    speed = rate.twinx()
    speed.plot(minutes, [line["frames_per_s"] for line in train], color="tab:grey", lw=0.6)
    speed.set_ylabel("frames a second")
    figure.savefig(path, dpi=110)
