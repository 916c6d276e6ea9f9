"""Evaluation on held-out scenes and textures, during training and for released weights."""

from __future__ import annotations

from typing import Any

from ..evaluate.runner.synthetic import evaluate_synthetic
from ..models.vggt.model import VGGT
from ..synthetic import SceneOptions
from .config import TrainConfig
from .schedule import Position, blend


def held_out_numbers(model: VGGT, config: TrainConfig, here: Position) -> dict[str, Any]:
    """Accuracy now on the first kind of scene and the first grid of the stage, with the plan trained for."""
    mix = here.stage.scenes[0]
    rows, columns = here.stage.grids[0]
    patch = config.model.patch_size
    spec = config.trained_for or "dense"
    table = evaluate_synthetic(
        model,
        plans=(spec,),
        scenes=config.evaluate_scenes,
        views=config.evaluate_views,
        size=(rows * patch, columns * patch),
        options=SceneOptions.from_dict(blend(mix.start, mix.end, here.within)),
        baselines=False,
    )
    return {"stage": here.stage.name, **table.rows[spec]}


_MORE_VIEWS = ((2, 48), (24, 16), (64, 6), (150, 3))
"""(number of views, scenes) beside the main table, for 48 scenes in the main table."""


def release_numbers(
    model: VGGT, scenes: int = 48, views: int = 8, more_views: bool = True, plan: str = "dense"
) -> dict[str, Any]:
    """The tables that ship in a checkpoint's metadata: easy, medium and hard held-out scenes.

    `levels` has, for each, the dense model, the same model with same-frame attention only,
    with `plan`, and the baselines (see `evaluate_synthetic`); `views` has `plan` from 2 to 150 views.
    """
    presets = {"easy": SceneOptions.easy(), "medium": SceneOptions.medium(), "hard": SceneOptions.hard()}
    plans = tuple(dict.fromkeys(("dense", "frame", plan)))
    levels = {
        name: evaluate_synthetic(model, plans, scenes, views, options=options).to_json()
        for name, options in presets.items()
    }
    rest = []
    for name, options in presets.items():
        for count, share in _MORE_VIEWS if more_views else ():
            number = max(1, round(share * scenes / 48))
            table = evaluate_synthetic(
                model, (plan,), number, count, options=options, baselines=False, batch=1
            )
            rest.append({"level": name, **table.to_json()})
    return {"levels": levels, "views": rest}
