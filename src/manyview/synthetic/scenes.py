"""Drawing scenes: what stands where, what it looks like, how it is lit, and from where it is seen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .cameras import draw_intrinsics, draw_path, look_at
from .draws import Draws
from .motions import Path
from .objects import Objects, outdoor_objects, room_objects
from .options import SceneOptions
from .surfaces import draw_surfaces
from .terrain import Terrain, draw_terrain, height_at

HAZE_COLOUR = 0.62
_OUTDOOR_SCALE = 3.0  # what a metre of a room means outdoors, for haze and tiles
_WALL_MARGIN = 0.35
_BEFORE_LENS = (0.0, 0.2, 0.45)  # shares of the way to the look-at point that objects leave free


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes of one kind, as the ray caster wants them; metres, world z up, all float32.

    Slots are those of Objects; `turn` is (cos, sin) of the yaw. `surfaces` holds the appearance of six faces
    a slot (surfaces.py), `haze` the inverse of the haze length, `exposure` each view's factor on colours,
    `shadows` and `clouds` their strength.
    """

    outdoor: bool
    counts: tuple[int, int, int]
    light_strength: float
    shadows: float
    clouds: float
    centre: Float[Tensor, "b slots 3"]
    half: Float[Tensor, "b slots 3"]
    turn: Float[Tensor, "b slots 2"]
    terrain: Terrain | None
    surfaces: Float[Tensor, "appearance b faces"]
    eye: Float[Tensor, "b views 3"]
    cam_from_world: Float[Tensor, "b views 3 4"]
    intrinsics: Float[Tensor, "b views 3 3"]
    light: Float[Tensor, "b views 3"]
    exposure: Float[Tensor, "b views 3"]
    haze: Float[Tensor, " b"]
    sky: Float[Tensor, "b 3"]

    def part(self, scenes: slice, views: slice) -> Scenes:
        """Some scenes, seen from some of their views."""
        fields: dict[str, Any] = {
            name: getattr(self, name)[scenes] for name in ("centre", "half", "turn", "haze", "sky")
        }
        for name in ("eye", "cam_from_world", "intrinsics", "light", "exposure"):
            fields[name] = getattr(self, name)[scenes, views]
        if self.terrain is not None:
            fields["terrain"] = Terrain(**{name: value[scenes] for name, value in vars(self.terrain).items()})
        return dataclasses.replace(self, **fields, surfaces=self.surfaces[:, scenes])


def is_outdoor(draws: Draws, options: SceneOptions) -> Bool[np.ndarray, " b"]:
    """Which scenes are outdoor ones."""
    if options.kind == "mixed":
        return draws.uniform("kind") < 0.5
    return np.full(len(draws), options.kind == "outdoor")


def draw_scenes(
    draws: Draws, outdoor: bool, views: int, height: int, width: int, options: SceneOptions, device: str
) -> Scenes:
    """Scenes of one kind, one for each seed of `draws`, drawn on the CPU in float64 and put on `device`."""

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)

    waves = draw_terrain(draws, options.terrain_relief) if outdoor else None
    layout = _outdoor_layout(draws, views, options, waves) if waves else _room_layout(draws, views, options)
    eye, target, roll, objects, room = layout
    scale = _OUTDOOR_SCALE if outdoor else 1.0
    low, high = options.haze_length
    haze = 1.0 / (scale * draws.uniform("haze", low=low, high=high))
    return Scenes(
        outdoor=outdoor,
        counts=objects.counts,
        light_strength=options.light_strength,
        shadows=options.shadows,
        clouds=options.clouds,
        centre=tensor(objects.centre),
        half=tensor(objects.half),
        turn=tensor(np.stack([np.cos(objects.yaw), np.sin(objects.yaw)], -1)),
        terrain=Terrain(**{name: tensor(value) for name, value in waves.items()}) if waves else None,
        surfaces=tensor(draw_surfaces(draws, objects.half, options, scale)),
        eye=tensor(eye),
        cam_from_world=tensor(look_at(eye, target, roll)),
        intrinsics=tensor(draw_intrinsics(draws, views, height, width, options)),
        light=tensor(_light(draws, views, room, outdoor, options.light_change)),
        exposure=tensor(_exposure(draws, views, options.light_change)),
        haze=tensor(np.where(draws.uniform("haze free") < options.haze_free_share, 0.0, haze)),
        sky=tensor(HAZE_COLOUR + draws.uniform("sky", 3) * np.array([-0.45, -0.2, 0.35])),
    )


_Layout = tuple[np.ndarray, np.ndarray, np.ndarray, Objects, np.ndarray]  # eye, target, roll, objects, room


def _room_layout(draws: Draws, views: int, options: SceneOptions) -> _Layout:
    room = np.array([4.0, 4.0, 2.4]) + draws.uniform("room", 3) * np.array([4.4, 4.4, 1.2])
    radius = draws.uniform("room radius", low=0.3, high=0.45) * room[:, :2].mean(-1)
    focus = (draws.uniform("focus", 3) - 0.5) * np.array([0.25, 0.25, 0.0]) * room
    focus[:, 2] = draws.uniform("gaze", low=0.6, high=1.4)
    heights = (0.7, 1.9)
    if options.arrangement == "table":  # from near, and from above
        radius = radius * draws.uniform("table radius", low=0.45, high=1.1)
        focus[:, 2] = draws.uniform("gaze", low=0.5, high=1.0)
        heights = (0.9, 2.0)
    path = draw_path(draws, views, options, radius, heights)
    wall = 0.5 * room[:, None, :2] - _WALL_MARGIN
    level = np.clip(focus[:, None, :2] + path.offset, -wall, wall)
    eye = np.concatenate([level, path.height[..., None]], -1)
    target = _target(options, eye, focus, path)
    objects = room_objects(draws, options, room, _free_points(eye, target), focus)
    return eye, target, path.roll, objects, room


def _outdoor_layout(draws: Draws, views: int, options: SceneOptions, waves: dict[str, np.ndarray]) -> _Layout:
    radius = draws.uniform("outdoor radius", low=6.0, high=12.0)
    origin = np.zeros((len(draws), 1))
    focus = np.zeros((len(draws), 3))
    gaze = (0.8, 4.0) if options.arrangement in ("facade", "statue") else (0.0, 1.6)
    focus[:, 2] = height_at(waves, origin, origin)[:, 0] + draws.uniform("gaze", low=gaze[0], high=gaze[1])
    path = draw_path(draws, views, options, radius, (1.4, 5.5))
    ground = height_at(waves, path.offset[..., 0], path.offset[..., 1])
    eye = np.concatenate([path.offset, (ground + path.height)[..., None]], -1)
    target = _target(options, eye, focus, path)
    objects = outdoor_objects(draws, options, waves, radius, _free_points(eye, target))
    return eye, target, path.roll, objects, np.zeros_like(focus)


def _target(options: SceneOptions, eye: np.ndarray, focus: np.ndarray, path: Path) -> np.ndarray:
    """The points that the cameras look at [b, views, 3]; a drive looks level, whatever the focus's height."""
    target = focus[:, None] + path.look
    if options.motion == "forward":
        target[..., 2] = eye[..., 2] + path.look[..., 2]
    return target


def _free_points(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.concatenate([eye + share * (target - eye) for share in _BEFORE_LENS], 1)


def _light(
    draws: Draws, views: int, room: Float[np.ndarray, "b 3"], outdoor: bool, change: float
) -> Float[np.ndarray, "b views 3"]:
    """Place of the light for each view: a lamp in the upper part of the room, or a sun far away."""
    if outdoor:
        heading, rise = draws.uniform("sun", 2).T
        level = np.stack([np.cos(2 * np.pi * heading), np.sin(2 * np.pi * heading)], -1)
        light = 1000.0 * np.concatenate([level, 0.5 + 1.5 * rise[:, None]], -1)
    else:
        light = (draws.uniform("lamp", 3) * 0.8 + 0.1 - np.array([0.5, 0.5, 0.0])) * room
        light[:, 2] = room[:, 2] * draws.uniform("lamp height", low=0.75, high=0.95)
    drift = draws.uniform("light drift", views, 3, low=-1, high=1) * np.array([1.0, 1.0, 0.15])
    return light[:, None] + 0.5 * change * drift * np.abs(light).max(-1)[:, None, None]


def _exposure(draws: Draws, views: int, change: float) -> Float[np.ndarray, "b views 3"]:
    brightness = 0.6 * draws.uniform("exposure", views, 1, low=-1, high=1)
    tint = 0.15 * draws.uniform("tint", views, 3, low=-1, high=1)
    return np.exp2(change * (brightness + tint))
