"""A training run of seconds: two-layer model, 16-pixel images, few steps."""

from __future__ import annotations

from manyview.models.part_configs import DenseHeadConfig, EncoderConfig
from manyview.models.vggt.config import CameraHeadConfig, VGGTConfig
from manyview.train.config import LossWeights, SceneMix, Stage, TrainConfig

MODEL = VGGTConfig(
    dim=32,
    depth=2,
    num_heads=2,
    patch_size=8,
    registers=1,
    image_size=24,
    taps=(0, 0, 1, 1),
    encoder=EncoderConfig(depth=1, num_heads=2, registers=1, native_grid=4),
    camera_head=CameraHeadConfig(depth=1, num_heads=2, iterations=2),
    depth_head=DenseHeadConfig(features=8, out_channels=(8, 8, 8, 8)),
    point_head=DenseHeadConfig(features=8, out_channels=(8, 8, 8, 8)),
    track_head=None,
)

STAGES = (
    Stage(name="first", share=1, grids=((2, 2),), views=(2, 3), frames_per_step=6),
    Stage(
        name="second",
        share=1,
        grids=((2, 3), (3, 2)),
        views=(2, 2),
        frames_per_step=4,
        points_every=2,
        scenes=(SceneMix(start={"haze_length": [5.0, 5.0]}, end={"haze_length": [5.0, 50.0]}),),
        weights=LossWeights(confidence=0.1),
    ),
)


def tiny_config(steps: int = 8, sync_every: int = 2, **changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "name": "tiny",
        "model": MODEL,
        "stages": STAGES,
        "steps": steps,
        "sync_every": sync_every,
        "supervised_layers": (0,),
        "evaluate_scenes": 2,
        "evaluate_views": 2,
    }
    return TrainConfig(**{**values, **changes})  # type: ignore[arg-type]
