"""The scene of the demo."""

from __future__ import annotations

from .batch import SceneBatch
from .held_out import HELD_OUT_BANK, HELD_OUT_SEED
from .options import SceneOptions
from .render import render_scenes

DEMO_SEED = HELD_OUT_SEED + 14  # chosen by looks
DEMO_OPTIONS = SceneOptions(
    kind="room",
    texture_bank_seed=HELD_OUT_BANK,
    path="orbit",
    motion="wide",
    boxes=(5, 5),
    spheres=(2, 2),
    cylinders=(1, 2),
    texture_hardness=0.45,
    texture_contrast=(0.7, 1.1),
    saturation=(0.5, 0.9),
    tile_length=(0.8, 2.5),
    haze_length=(14.0, 14.0),
    light_strength=0.7,
    samples_per_side=3,
)


def demo_scene(views: int = 12, height: int = 192, width: int = 256) -> SceneBatch:
    """A furnished room seen from an arc of cameras: always the same, a batch of one."""
    return render_scenes(DEMO_SEED, views, height, width, DEMO_OPTIONS)
