"""The quick check of a running training on scenes and textures it never sees."""

from __future__ import annotations

import dataclasses
from typing import Any

from manyview.evaluate.synthetic import evaluate_synthetic
from manyview.models.vggt import VGGT
from manyview.synthetic import SceneOptions
from manyview.train.config import TrainConfig
from manyview.train.schedule import Position, blend


def held_out_numbers(model: VGGT, config: TrainConfig, here: Position) -> dict[str, Any]:
    """Accuracy now, dense, on the first kind of scene and the first grid of the current stage."""
    mix = here.stage.scenes[0]
    rows, columns = here.stage.grids[0]
    patch = config.model.patch_size
    table = evaluate_synthetic(
        model,
        plans=("dense",),
        scenes=config.evaluate_scenes,
        views=config.evaluate_views,
        size=(rows * patch, columns * patch),
        options=SceneOptions.from_dict(blend(mix.start, mix.end, here.within)),
        baselines=False,
    )
    return {"stage": here.stage.name, **dataclasses.asdict(table.rows["dense"])}


def release_numbers(model: VGGT, scenes: int = 48, views: int = 8) -> dict[str, Any]:
    """The tables that ship in a checkpoint's metadata: easy, medium and hard held-out scenes.

    Each has the dense model, the same model with every global layer cut to its own frame, and the
    baselines (see `evaluate_synthetic`).
    """
    presets = {"easy": SceneOptions.easy(), "medium": SceneOptions.medium(), "hard": SceneOptions.hard()}
    return {
        name: evaluate_synthetic(model, scenes=scenes, views=views, options=options).to_json()
        for name, options in presets.items()
    }
