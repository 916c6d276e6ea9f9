"""Where the scenes of a run come from: folders added to a recipe, and all of it checked beforehand."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..datasets.colmap_model import model_folder
from ..errors import UsageError
from ..files.paths import user_path
from ..synthetic import SceneOptions
from ..synthetic.textures import picture_files
from .config import SceneMix, TrainConfig
from .posed_data import PosedFolders, check_folders
from .schedule import blend


def with_posed_data(
    config: TrainConfig, folders: Sequence[str | Path], share: float, photographs: bool = False
) -> TrainConfig:
    """The config with a `share` of all scenes from folders with poses and depth, each one sequence.

    Stages whose rendered scenes are walks get frames in their order, others shuffled ones; scenes with plans
    of their own, each plan for itself. Of `photographs` views are drawn that see the same places, half of
    the scenes mirrored.

    Raises:
        UsageError: a share that does not lie between 0 and 1; photographs without a COLMAP model.
    """
    if not 0 < share < 1:
        raise UsageError(f"the share of scenes from data must lie between 0 and 1, not {share:g}")
    paths = tuple(str(user_path(folder).resolve()) for folder in folders)
    bare = next((path for path in paths if photographs and model_folder(Path(path)) is None), None)
    if bare is not None:
        raise UsageError(
            f"{bare}: holds no COLMAP model; prepare photographs with `python -m tools.training.photographs`"
        )
    stages = []
    for stage in config.stages:
        scenes = stage.scenes
        for plan in dict.fromkeys(mix.plan for mix in stage.scenes):
            mixes = [mix for mix in stage.scenes if mix.plan == plan]
            posed = PosedFolders.of_photographs(paths) if photographs else PosedFolders(paths)
            posed = dataclasses.replace(posed, ordered=all(_is_ordered(mix) for mix in mixes))
            weight = sum(mix.share for mix in mixes) * share / (1 - share)
            scenes = (*scenes, SceneMix(weight, posed=posed, plan=plan))
        stages.append(dataclasses.replace(stage, scenes=scenes))
    return dataclasses.replace(config, stages=tuple(stages))


def with_pictures(config: TrainConfig, folder: str | Path) -> TrainConfig:
    """The config whose scenes with a `picture_share` take their pictures from a folder.

    Raises:
        UsageError: a recipe without such scenes.
    """
    path = str(user_path(folder).resolve())
    if not any(shows_pictures(mix) for stage in config.stages for mix in stage.scenes):
        raise UsageError(
            f"{folder}: no scenes of the recipe '{config.name}' show pictures; leave --textures out, or "
            "take a recipe whose scenes have a picture_share, such as photos"
        )

    def shown(mix: SceneMix) -> SceneMix:
        if not shows_pictures(mix):
            return mix
        return dataclasses.replace(mix, start={**mix.start, "pictures": path})

    stages = (
        dataclasses.replace(stage, scenes=tuple(shown(mix) for mix in stage.scenes))
        for stage in config.stages
    )
    return dataclasses.replace(config, stages=tuple(stages))


def check_sources(config: TrainConfig) -> None:
    """See before a run whether every folder can give its scenes, and whether its rendered ones can be.

    Raises:
        UsageError: a folder without depth, intrinsics, enough frames, or pictures; impossible scenes.
        InputError: a folder that no format fits, or a damaged one.
    """
    for stage in config.stages:
        for mix in stage.scenes:
            if mix.posed is not None:
                check_folders(mix.posed, stage.views[1])
                continue
            for within in (0.0, 1.0):
                options = SceneOptions.from_dict(blend(mix.start, mix.end, within))
                if options.picture_share > 0:
                    picture_files(options.pictures)


def _is_ordered(mix: SceneMix) -> bool:
    return mix.start.get("path") == "walk" if mix.posed is None else mix.posed.ordered


def shows_pictures(mix: SceneMix) -> bool:
    """Whether surfaces of these scenes may show pictures, which --textures then has to give."""
    return "picture_share" in mix.start
