"""The bundled recipe, wider, trained on the device for the time there is; weights come back in pieces."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import torch

from manyview.bench.table import aligned
from manyview.models.vggt.config import VGGTConfig
from manyview.train.config import TrainConfig, config_from_json, load_config
from tools.gpu_check.isolated import Case, Isolated, Tell
from tools.gpu_check.results import Results

_RUN = Path(__file__).resolve().parents[2] / "runs" / "gpu-check"
_PIECE_BYTES = 15_000_000
_MEASURES = ("auc_5", "auc_15", "auc_30", "rotation_median_deg", "translation_median_deg", "abs_rel")
_LEVELS = ("easy", "medium", "hard")


def wide_recipe(width: int = 2, batch: int = 6) -> TrainConfig:
    """The bundled network `width` times as wide, from nothing: `small`'s curriculum, then `nano`'s scenes.

    A step has `batch` times as many frames, as a card is idle with fewer; the rate falls with the width.
    """
    small, nano = load_config("small"), load_config("nano")
    stages = [
        dataclasses.replace(stage, share=share, frames_per_step=batch * stage.frames_per_step)
        for stage, share in zip(
            (*small.stages[:3], *nano.stages[2:]), (0.2, 0.15, 0.1, 0.4, 0.15), strict=True
        )
    ]
    return dataclasses.replace(
        nano, name=f"wide-{width}", model=_widened(nano.model, width), stages=tuple(stages), init=None,
        optimiser=dataclasses.replace(small.optimiser, lr=small.optimiser.lr / width),
        ema=0.995, cpu_bf16=False, checkpoint_minutes=1.0,
        evaluate_minutes=3.0, evaluate_scenes=16, early_layers=None,
    )  # fmt: skip


def _widened(model: VGGTConfig, width: int) -> VGGTConfig:
    """The same depth, with heads and dense heads so many times as wide."""

    def wider(head: Any) -> Any:
        channels = tuple(width * count for count in head.out_channels)
        return dataclasses.replace(head, features=width * head.features, out_channels=channels)

    return dataclasses.replace(
        model, dim=width * model.dim, depth_head=wider(model.depth_head), point_head=wider(model.point_head)
    )


def run(results: Results, device: str, tiny: bool, end: float) -> bool:
    """Train, then evaluate beside the bundled weights; a run that was cut goes on with the same command."""
    recipe = wide_recipe(1, 1) if tiny else wide_recipe()
    if tiny:
        recipe = dataclasses.replace(recipe, sync_every=1, evaluate_scenes=1, checkpoint_minutes=0.1)
    kept = 100.0 if not tiny else 0.6 * (end - time.monotonic())
    scenes = 2 if tiny else 24
    out = results.out
    seconds = end - time.monotonic() - kept
    isolated = Isolated(results, end, table)
    where = _RUN.with_name(f"gpu-check-{recipe.name}{'-tiny' if tiny else ''}")
    isolated.run([Case("train", train, (recipe.to_json(), where, out, device, seconds), seconds + kept / 4)])
    isolated.run([
        Case("wide", evaluate, (str(where), device, scenes), kept),
        Case("bundled", evaluate, ("manyview-small", device, scenes), kept),
    ])  # fmt: skip
    return all(case["status"] == "ok" for case in results.cases.values())


def train(tell: Tell, recipe: dict[str, Any], folder: Path, out: Path, device: str, seconds: float) -> None:
    """Train for so many seconds; each state that was saved leaves its weights in `out`."""
    from manyview.train.log import LOG_NAME, read_log
    from manyview.train.loop import run as train_run
    from manyview.train.loop import with_minutes

    figures: dict[str, Any] = {}
    stop = threading.Event()

    def follow() -> None:
        state = None
        while not stop.wait(2.0):
            try:
                lines = read_log(folder / LOG_NAME)
                figures["log"] = [line for line in lines if line["kind"] != "start"][-20:]
                found = (folder / "latest.json").read_text("utf-8")
                if found != state:
                    figures["weights"] = bring_weights(folder, out)
                    state = found
                tell(figures)
            except Exception as error:  # the state is being replaced: the next one will do
                print(f"not yet: {error}")

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    config = with_minutes(config_from_json(recipe), max(seconds, 10.0) / 60)
    try:
        figures["end"] = train_run(config, folder, minutes=seconds / 60, device=device)
        figures["end"].pop("config")
    finally:
        stop.set()
        follower.join()
    figures["log"] = read_log(folder / LOG_NAME)
    figures["weights"] = bring_weights(folder, out)
    tell(figures)


def bring_weights(folder: Path, out: Path) -> dict[str, Any]:
    """Write the weights of a run's latest state to `out` in pieces; returns their number and a hash."""
    from manyview.train.weights import export_weights

    whole = folder / "weights.safetensors"
    export_weights(folder, whole)
    data = whole.read_bytes()
    pieces = [data[start : start + _PIECE_BYTES] for start in range(0, len(data), _PIECE_BYTES)]
    for number, piece in enumerate(pieces):
        part = out / ".weights.part"
        part.write_bytes(piece)
        os.replace(part, out / f"weights.safetensors.{number}")
    joined = "cat weights.safetensors.? > wide.safetensors"
    return {
        "pieces": len(pieces),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "join": joined,
    }


def evaluate(tell: Tell, weights: str, device: str, scenes: int) -> None:
    """Accuracy on held-out scenes of three levels, telling after each."""
    from manyview import load
    from manyview.evaluate.runner.synthetic import evaluate_synthetic
    from manyview.synthetic import SceneOptions
    from manyview.train.weights import trained_model

    model = trained_model(weights, half=True) if Path(weights).is_dir() else load(weights)
    levels: dict[str, Any] = {}
    for level in _LEVELS:
        options = getattr(SceneOptions, level)()
        model = model.to(torch.device(device))
        found = evaluate_synthetic(model, ("dense", "frame"), scenes, options=options, baselines=False)
        levels[level] = found.to_json()["rows"]
        tell({"levels": levels})


def table(results: Results) -> str:
    """How training went, and both weights on every level."""
    rows = [["level", "weights", "plan", *_MEASURES]]
    lines = []
    for name, case in results.cases.items():
        lines.append(f"{name}: {case['status']}")
        for line in case.get("log", ()):
            if line["kind"] == "train":
                last = f"step {line['step']}, {line['minutes']:.1f} min, {line['frames_per_s']:.0f} images/s"
                lines[-1:] = [
                    f"{name}: {case['status']}; {last}, {line['gflops']:.0f} GFLOP/s, loss {line['losses']}"
                ]
            elif line["kind"] == "evaluate":
                lines.append(
                    f"  step {line['step']}: AUC@30 {line['auc_30']:.1f}, AbsRel {line['abs_rel']:.3f}"
                )
        for level, found in case.get("levels", {}).items():
            rows += [
                [level, name, plan, *(f"{row[key]:.3g}" for key in _MEASURES)] for plan, row in found.items()
            ]
    return "\n".join([*lines, "", *aligned(rows)])
