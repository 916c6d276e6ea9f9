"""Drawing scenes: what stands where, what it looks like, and from where it is seen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from manyview.synthetic.cameras import draw_intrinsics, draw_path, look_at
from manyview.synthetic.draws import Draws
from manyview.synthetic.options import SceneOptions
from manyview.synthetic.surfaces import draw_surfaces
from manyview.synthetic.terrain import FAR, Terrain, draw_terrain, height_at

HAZE_COLOUR = 0.62
_OUTDOOR_SCALE = 3.0  # what "metres" of a room mean outdoors, for haze and tiles
_SPARE = 3  # proposals for each slot of an object
_WALL_MARGIN = 0.35


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes of one kind, as the ray caster wants them; metres, world z up, all float32.

    Slot 0 is the shell (the room's box, or the ground), then come boxes, spheres and upright cylinders,
    `counts` of each; an unused slot has negative `half`. `turn` is (cos, sin) of the yaw. `surfaces`
    holds the looks of six faces a slot (see surfaces.py).
    """

    outdoor: bool
    counts: tuple[int, int, int]
    centre: Float[Tensor, "b slots 3"]
    half: Float[Tensor, "b slots 3"]
    turn: Float[Tensor, "b slots 2"]
    terrain: Terrain | None
    surfaces: Float[Tensor, "looks b faces"]
    eye: Float[Tensor, "b views 3"]
    cam_from_world: Float[Tensor, "b views 3 4"]
    intrinsics: Float[Tensor, "b views 3 3"]
    light: Float[Tensor, "b views 3"]
    exposure: Float[Tensor, "b views 3"]
    haze: Float[Tensor, " b"]
    sky: Float[Tensor, "b 3"]
    light_strength: float

    def part(self, scenes: slice, views: slice) -> Scenes:
        """Some scenes, seen from some of their views."""
        fields = {name: getattr(self, name)[scenes] for name in ("centre", "half", "turn", "haze", "sky")}
        for name in ("eye", "cam_from_world", "intrinsics", "light", "exposure"):
            fields[name] = getattr(self, name)[scenes, views]
        if self.terrain is not None:
            waves = {name: value[scenes] for name, value in vars(self.terrain).items()}
            fields["terrain"] = Terrain(**waves)
        return dataclasses.replace(self, **fields, surfaces=self.surfaces[:, scenes])


def draw_scenes(
    draws: Draws, outdoor: bool, views: int, height: int, width: int, options: SceneOptions, device: str
) -> Scenes:
    """Scenes of one kind, one for each seed of `draws`."""
    n = len(draws)
    waves = draw_terrain(draws, options.terrain_relief)
    if outdoor:
        room = np.full((n, 3), FAR)
        radius = draws.uniform("outdoor radius", low=6.0, high=12.0)
        focus = np.zeros((n, 3))
        focus[:, 2] = height_at(waves, focus[:, :1], focus[:, 1:2])[:, 0] + draws.uniform(
            "gaze", low=0.0, high=1.6
        )
        path = draw_path(draws, views, options, radius, (1.4, 5.5))
    else:
        room = draws.uniform("room", 3) * np.array([4.4, 4.4, 1.2]) + np.array([4.0, 4.0, 2.4])
        radius = draws.uniform("room radius", low=0.3, high=0.45) * room[:, :2].mean(-1)
        focus = (draws.uniform("focus", 3) - 0.5) * np.array([0.25, 0.25, 0.0]) * room
        focus[:, 2] = draws.uniform("gaze", low=0.6, high=1.4)
        path = draw_path(draws, views, options, radius, (0.7, 1.9))
    eye = np.empty((n, views, 3))
    eye[..., :2] = focus[:, None, :2] + path.offset
    if outdoor:
        eye[..., 2] = height_at(waves, eye[..., 0], eye[..., 1]) + path.height
    else:
        wall = 0.5 * room[:, None, :2] - _WALL_MARGIN
        eye[..., :2] = np.clip(eye[..., :2], -wall, wall)
        eye[..., 2] = path.height
    target = focus[:, None] + path.look
    cam_from_world = look_at(eye, target, path.roll)

    clear = np.concatenate([eye, eye + 0.2 * (target - eye), eye + 0.45 * (target - eye)], 1)
    maker = _outdoor_objects if outdoor else _room_objects
    counts, centre, half, yaw = maker(draws, options, room, focus, radius, clear, waves)
    scale = _OUTDOOR_SCALE if outdoor else 1.0
    surfaces = draw_surfaces(draws, half, options, scale)

    change = options.light_change
    if outdoor:
        heading, rise = draws.uniform("sun", 2).T
        flat = np.stack([np.cos(2 * np.pi * heading), np.sin(2 * np.pi * heading)], -1)
        light = 1000.0 * np.concatenate([flat, 0.5 + 1.5 * rise[:, None]], -1)
    else:
        light = (draws.uniform("lamp", 3) * 0.8 + 0.1 - np.array([0.5, 0.5, 0.0])) * room
        light[:, 2] = room[:, 2] * draws.uniform("lamp height", low=0.75, high=0.95)
    drift = draws.uniform("light drift", views, 3, low=-1, high=1) * np.abs(light).max(-1)[:, None, None]
    light = light[:, None] + 0.5 * change * drift * np.array([1.0, 1.0, 0.15])
    exposure = 0.6 * draws.uniform("exposure", views, 1, low=-1, high=1)
    tint = 0.15 * draws.uniform("tint", views, 3, low=-1, high=1)
    low, high = (scale * end for end in options.haze_length)
    haze = 1.0 / draws.uniform("haze", low=low, high=high)
    haze = np.where(draws.uniform("haze free") < options.haze_free_share, 0.0, haze)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(device)

    return Scenes(
        outdoor=outdoor,
        counts=counts,
        centre=tensor(centre),
        half=tensor(half),
        turn=tensor(np.stack([np.cos(yaw), np.sin(yaw)], -1)),
        terrain=Terrain(**{name: tensor(value) for name, value in waves.items()}) if outdoor else None,
        surfaces=tensor(surfaces),
        eye=tensor(eye),
        cam_from_world=tensor(cam_from_world),
        intrinsics=tensor(draw_intrinsics(draws, views, height, width, options)),
        light=tensor(light),
        exposure=tensor(np.exp2(change * (exposure + tint))),
        haze=tensor(haze),
        sky=tensor(HAZE_COLOUR + draws.uniform("sky", 3) * np.array([-0.45, -0.2, 0.35])),
        light_strength=options.light_strength,
    )


def _room_objects(draws, options, room, focus, radius, clear, waves):
    """Counts, centres, half sizes and yaws of a room's slots."""
    parts = [
        (
            np.stack([np.zeros(len(draws)), np.zeros(len(draws)), room[:, 2] / 2], -1)[:, None],
            room[:, None] / 2,
        )
    ]
    counts = (options.boxes[1], options.spheres[1], options.cylinders[1])
    for kind, most in zip(("boxes", "spheres", "cylinders"), counts):
        shape = draws.uniform(kind, _SPARE * most, 6)
        half = _sizes(kind, shape[..., 3:], (0.15, 0.75), (0.15, 0.95))
        place = (shape[..., :3] - 0.5) * (room[:, None] - 0.3)
        place[..., 2] = half[..., 2]
        if kind != "cylinders":  # some float, so that not every object tells its depth by its foot
            lift = np.maximum(draws.uniform(kind + " lift", _SPARE * most, low=-1.5, high=1.0), 0.0)
            place[..., 2] += lift * np.maximum(room[:, None, 2] - 2 * half[..., 2], 0.0)
        parts.append(_accepted(draws, kind, getattr(options, kind), place, half, clear, 0.3))
    centre, half = (np.concatenate([part[i] for part in parts], 1) for i in range(2))
    return counts, centre, half, _yaws(draws, counts)


def _outdoor_objects(draws, options, room, focus, radius, clear, waves):
    """Counts, centres, half sizes and yaws of an outdoor scene's slots; a cylinder is a tree with a crown."""
    n, reach = len(draws), radius[:, None]
    parts = {"shell": (np.zeros((n, 1, 3)), np.full((n, 1, 3), FAR))}
    for kind in ("boxes", "spheres", "cylinders"):
        most = _SPARE * getattr(options, kind)[1]
        shape = draws.uniform(kind, most, 6)
        half = _sizes(kind, shape[..., 3:], (0.5, 2.6), (0.6, 3.5))
        if kind == "cylinders":
            half[..., :2], half[..., 2] = 0.1 + 0.2 * shape[..., 3:4], 0.8 + 1.4 * shape[..., 5]
        angle, far = 2 * np.pi * shape[..., 0], reach * (0.1 + 1.7 * shape[..., 1])
        place = np.stack([far * np.cos(angle), far * np.sin(angle), half[..., 2]], -1)
        place[..., :2] += focus[:, None, :2]
        place[..., 2] += height_at(waves, place[..., 0], place[..., 1]) - 0.25 * half[..., 2].clip(max=1.0)
        parts[kind] = _accepted(draws, kind, getattr(options, kind), place, half, clear, 1.1)
    trunk, thick = parts["cylinders"]
    crown = (0.8 + 0.9 * draws.uniform("crowns", trunk.shape[1]))[..., None] * np.sign(thick)
    top = trunk + thick * np.array([0.0, 0.0, 1.0]) + 0.4 * crown * np.array([0.0, 0.0, 1.0])
    clash = _distance(clear, top, crown) < 0.5
    crown = np.where(clash.any(1)[..., None], -1.0, crown)
    balls = tuple(np.concatenate(pair, 1) for pair in zip(parts["spheres"], (top, crown)))
    centre, half = (
        np.concatenate([parts["shell"][i], parts["boxes"][i], balls[i], parts["cylinders"][i]], 1)
        for i in range(2)
    )
    counts = (options.boxes[1], options.spheres[1] + options.cylinders[1], options.cylinders[1])
    return counts, centre, half, _yaws(draws, counts)


def _sizes(
    kind: str, unit: np.ndarray, level: tuple[float, float], upright: tuple[float, float]
) -> np.ndarray:
    """Half sizes [..., 3] from unit numbers: free for boxes, round for cylinders, one radius for spheres."""
    low = np.array([level[0], level[0], upright[0]])
    half = low + unit * (np.array([level[1], level[1], upright[1]]) - low)
    if kind == "spheres":
        half = np.repeat(0.8 * half[..., :1], 3, -1)
    if kind == "cylinders":
        half[..., :2] = 0.6 * half[..., :1]
    return half


def _accepted(draws, kind, count_range, place, half, clear, margin):
    """The first proposals that leave the cameras and what is right before them free; others are unused slots."""
    n, proposals = place.shape[:2]
    blocked = (_distance(clear, place, half) < margin).any(1)
    order = np.argsort(blocked, 1, kind="stable")[:, : proposals // _SPARE]
    wanted = draws.integers(kind + " count", 1, low=count_range[0], high=count_range[1])
    used = ~np.take_along_axis(blocked, order, 1) & (np.arange(order.shape[1]) < wanted)
    place = np.take_along_axis(place, order[..., None], 1)
    half = np.take_along_axis(half, order[..., None], 1)
    return place, np.where(used[..., None], half, -1.0)


def _distance(
    points: np.ndarray, centre: np.ndarray, half: np.ndarray
) -> Float[np.ndarray, "b points slots"]:
    """A lower bound of the distance from points to objects of any yaw: to their upright hull cylinder."""
    offset = points[:, :, None] - centre[:, None]
    around = np.hypot(offset[..., 0], offset[..., 1]) - np.hypot(half[..., 0], half[..., 1])[:, None]
    return np.maximum(around, np.abs(offset[..., 2]) - half[:, None, :, 2])


def _yaws(draws: Draws, counts: tuple[int, int, int]) -> Float[np.ndarray, "b slots"]:
    yaw = draws.uniform("yaw", 1 + sum(counts), high=2 * np.pi)
    yaw[:, 0] = 0.0  # the shell stands in the world's axes
    return yaw


def is_outdoor(draws: Draws, options: SceneOptions) -> Bool[np.ndarray, " b"]:
    """Which scenes are outdoor ones."""
    if options.kind == "mixed":
        return draws.uniform("kind") < 0.5
    return np.full(len(draws), options.kind == "outdoor")
