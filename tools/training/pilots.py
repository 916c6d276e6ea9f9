"""What textures, photographs and a larger network each add at equal time.

`python -m tools.training.pilots OUT`: the recipe `photos` trains the network of `nano` with the textures
alone, the photographs alone, both, and neither, with both a deeper and a wider network, and with photographs
that are not cut, one after another by `manyview train`; then `tools.training.validate` measures each.
A variant that has its figures is left as it is and a run goes on, so the command goes on where it stopped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from manyview.cli.console import Bars
from manyview.errors import ManyViewError, UsageError
from manyview.files.schema import read_json
from manyview.train.config import SceneMix, TrainConfig, load_config
from manyview.train.sources import shows_pictures, with_posed_data
from tools.command import run_command
from tools.training.validate import Figures, Validation, heading, line, measure

_PAIRS, _WIDTH, _HEAD = 8, 128, 32


@dataclass(frozen=True)
class Variant:
    """What a network is trained on, and its size."""

    textures: bool = True
    photographs: bool = True
    pairs: int = _PAIRS
    """Pairs of blocks: 8, or the recipe's 12."""
    width: int = _WIDTH
    """Channels: those of the initial weights, or twice as many."""
    zoom: tuple[float, float] = (1.0, 1.8)
    """Photographs are cut by factors from this range: that of the weights in the package."""


VARIANTS = {
    "neither": Variant(textures=False, photographs=False),
    "textures": Variant(photographs=False),
    "photographs": Variant(textures=False),
    "both": Variant(),
    "both, 12 pairs": Variant(pairs=12),
    "both, width 256": Variant(width=2 * _WIDTH),
    "both, uncut": Variant(zoom=(1.0, 1.0)),
}
# Where the eight pairs of the initial weights stand in a network of twelve.
_PLACES = (0, 1, 2, 4, 5, 7, 9, 11)
_GROWN_LAYER_SCALE = 0.1


@dataclass(frozen=True)
class Pilots:
    """Train all variants and write OUT/pilots.json and OUT/pilots.md."""

    out: tyro.conf.Positional[Path]
    photos: tuple[Path, ...]
    """Prepared photographs to train on."""
    textures: Path
    """Folder of pictures to train on."""
    check_photos: tuple[Path, ...]
    """Folders of other photographs with cameras, to measure on."""
    check_textures: Path
    """Folder of other pictures, to measure on."""
    init: str = "manyview-small"
    """Initial weights of eight pairs of width 128; a name or a file."""
    minutes: float = 15.0
    """Processor time of each variant's training."""
    data_share: float = 0.25
    """Share of scenes from photographs."""
    processes: int = 1
    """Of each training."""
    scenes: int = 12
    """Rendered scenes of each kind to measure on."""


def pilots(args: Pilots) -> None:
    """Train and measure whatever is missing, then write the table."""
    args.out.mkdir(parents=True, exist_ok=True)
    asked, options = args.out / "options.json", {name: str(value) for name, value in vars(args).items()}
    if asked.is_file() and read_json(asked, dict, remedy="delete it") != options:
        raise UsageError(f"{asked}: these pilots have other options; give the same or another folder")
    asked.write_text(json.dumps(options, indent=1), "utf-8")
    found: dict[str, Figures] = {}
    for name, what in VARIANTS.items():
        stem = re.sub(r"\W+", "-", name)
        figures = args.out / f"{stem}.json"
        if not figures.is_file():
            recipe, run = args.out / f"{stem}-recipe.json", args.out / stem
            config = with_photographs(recipe_of(name, what), what, args)
            recipe.write_text(json.dumps(config.to_json()), "utf-8")
            command = [sys.executable, "-m", "manyview.cli.main", "train", "base", "--config", str(recipe),
                       "--init", args.init, "--out", str(run), "--processes", str(args.processes),
                       "--budget-minutes", str(args.minutes)]  # fmt: skip
            command += ["--textures", str(args.textures)] if what.textures else []
            print(f"{name}: training", flush=True)
            if subprocess.run(command).returncode:
                raise ManyViewError(f"{name}: the training in {run} failed; correct what it says and go on")
            own: dict[str, Figures] = {str(run): {}}
            print(f"{name}: measured\n{heading(own)}")
            check = Validation((str(run),), args.check_photos, args.check_textures, scenes=args.scenes)
            with Bars() as bars:
                for measured in measure(check, own, bars):
                    print(line(own, measured), flush=True)
            figures.write_text(json.dumps(own[str(run)]), "utf-8")
        found[name] = read_json(figures, Figures, remedy="delete it")
    lines = [heading(found), *(line(found, measured) for measured in next(iter(found.values())))]
    (args.out / "pilots.json").write_text(json.dumps(found, indent=1), "utf-8")
    (args.out / "pilots.md").write_text("\n".join(lines) + "\n", "utf-8")
    print("\n".join(lines))


def recipe_of(name: str, what: Variant) -> TrainConfig:
    """The recipe `photos` for a variant's network; without textures, without the scenes that need them."""
    recipe, nano = load_config("photos"), load_config("nano")
    grown = what.pairs != nano.model.depth
    model, heads = (recipe if grown else nano).model, what.width // _HEAD
    assert model.encoder is not None and model.camera_head is not None
    model = replace(
        model,
        dim=what.width,
        num_heads=heads,
        image_size=recipe.model.image_size,
        encoder=replace(model.encoder, num_heads=heads),
        camera_head=replace(model.camera_head, num_heads=heads),
    )
    stages = recipe.stages if what.textures else tuple(
        replace(stage, scenes=tuple(mix for mix in stage.scenes if not shows_pictures(mix)))
        for stage in recipe.stages
    )  # fmt: skip
    supervised = recipe if grown else nano
    return replace(
        recipe,
        name=name,
        model=model,
        stages=stages,
        supervised_layers=supervised.supervised_layers,
        read_out_from=supervised.read_out_from,
        init_layers=_PLACES if grown else (),
        grown_layer_scale=_GROWN_LAYER_SCALE,
        evaluate_scenes=1,
        evaluate_minutes=1e6,
    )


def with_photographs(config: TrainConfig, what: Variant, args: Pilots) -> TrainConfig:
    """The recipe with the photographs of a variant."""
    if not what.photographs:
        return config
    config = with_posed_data(config, args.photos, args.data_share, photographs=True)

    def zoomed(mix: SceneMix) -> SceneMix:
        return mix if mix.posed is None else replace(mix, posed=replace(mix.posed, zoom=what.zoom))

    stages = (replace(stage, scenes=tuple(map(zoomed, stage.scenes))) for stage in config.stages)
    return replace(config, stages=tuple(stages))


if __name__ == "__main__":
    sys.exit(run_command(Pilots, pilots, "tools.training.pilots"))
