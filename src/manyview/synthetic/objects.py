"""What stands in a scene: boxes, spheres and upright cylinders that leave the cameras free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .arrangements import Arrangement, facade, statue, street, table
from .draws import Draws
from .options import SceneOptions
from .terrain import FAR, height_at

_SPARE = 3  # proposals for each slot of an object
_UP = np.array([0.0, 0.0, 1.0])
_Placed = tuple[np.ndarray, np.ndarray]  # centre and half size [b, slots, 3]


@dataclass(frozen=True)
class Objects:
    """Slots of a batch of scenes: the shell, then boxes, spheres and cylinders, `counts` of each.

    `half` is the half size along the object's own axes (the radius for what is round), negative for an
    unused slot; `yaw` turns it about the vertical, radians.
    """

    counts: tuple[int, int, int]
    centre: Float[np.ndarray, "b slots 3"]
    half: Float[np.ndarray, "b slots 3"]
    yaw: Float[np.ndarray, "b slots"]


def room_objects(
    draws: Draws,
    options: SceneOptions,
    room: Float[np.ndarray, "b 3"],
    clear: Float[np.ndarray, "b points 3"],
    focus: Float[np.ndarray, "b 3"],
) -> Objects:
    """A room of this size, level centre at the origin, and objects away from the points `clear`."""
    shell = np.zeros_like(room)
    shell[:, 2] = 0.5 * room[:, 2]
    parts: list[_Placed] = [(shell[:, None], 0.5 * room[:, None])]
    counts = (options.boxes[1], options.spheres[1], options.cylinders[1])
    for kind, most in zip(("boxes", "spheres", "cylinders"), counts):
        shape = draws.uniform(kind, _SPARE * most, 6)
        half = _sizes(kind, shape[..., 3:], (0.15, 0.75), (0.15, 0.95))
        place = (shape[..., :3] - 0.5) * (room[:, None] - 0.3)
        place[..., 2] = half[..., 2]
        if kind != "cylinders":  # some float, so that the foot of an object does not always give its depth
            lift = np.maximum(draws.uniform(kind + " lift", _SPARE * most, low=-1.5, high=1.0), 0.0)
            place[..., 2] += lift * np.maximum(room[:, None, 2] - 2 * half[..., 2], 0.0)
        parts.append(_accepted(draws, kind, getattr(options, kind), (place, half), clear, 0.3))
    added = table(draws, focus) if options.arrangement == "table" else None
    return _gathered(draws, counts, parts, added, clear, 0.3)


def outdoor_objects(
    draws: Draws,
    options: SceneOptions,
    waves: dict[str, Float[np.ndarray, "b waves"]],
    reach: Float[np.ndarray, " b"],
    clear: Float[np.ndarray, "b points 3"],
) -> Objects:
    """Buildings, balls and trees on the ground, within about `reach` of the origin."""
    shell = np.zeros((len(draws), 1, 3))
    parts: list[_Placed] = [(shell, shell + FAR)]
    for kind in ("boxes", "spheres", "cylinders"):
        most = _SPARE * getattr(options, kind)[1]
        shape = draws.uniform(kind, most, 6)
        half = _sizes(kind, shape[..., 3:], (0.5, 2.6), (0.6, 3.5))
        if kind == "cylinders":  # trunks
            half = np.stack([0.1 + 0.2 * shape[..., 3]] * 2 + [0.8 + 1.4 * shape[..., 5]], -1)
        angle, far = 2 * np.pi * shape[..., 0], reach[:, None] * (0.1 + 1.7 * shape[..., 1])
        place = np.stack([far * np.cos(angle), far * np.sin(angle), half[..., 2]], -1)
        sunk = 0.25 * half[..., 2].clip(max=1.0)
        place[..., 2] += height_at(waves, place[..., 0], place[..., 1]) - sunk
        parts.append(_accepted(draws, kind, getattr(options, kind), (place, half), clear, 1.1))
    crowns = _crowns(draws, parts[3], clear)
    parts[2] = (np.concatenate([parts[2][0], crowns[0]], 1), np.concatenate([parts[2][1], crowns[1]], 1))
    counts = (options.boxes[1], options.spheres[1] + options.cylinders[1], options.cylinders[1])
    added = None
    if options.arrangement != "none":
        arrange = {"facade": facade, "street": street, "statue": statue}[options.arrangement]
        added = arrange(draws, reach, lambda place: height_at(waves, place[..., 0], place[..., 1]))
    return _gathered(draws, counts, parts, added, clear, 0.6)


def distance_below(
    points: Float[np.ndarray, "b points 3"],
    centre: Float[np.ndarray, "b slots 3"],
    half: Float[np.ndarray, "b slots 3"],
    yaw: Float[np.ndarray, "b slots"] | None = None,
) -> Float[np.ndarray, "b points slots"]:
    """A lower bound of the distance from points to objects: boxes, or cylinders around any yaw (None)."""
    offset = points[:, :, None] - centre[:, None]
    if yaw is not None:
        cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
        x, y = offset[..., 0], offset[..., 1]
        local = np.stack([cos * x + sin * y, cos * y - sin * x, offset[..., 2]], -1)
        return (np.abs(local) - half[:, None]).max(-1)
    around = np.hypot(offset[..., 0], offset[..., 1]) - np.hypot(half[..., 0], half[..., 1])[:, None]
    return np.maximum(around, np.abs(offset[..., 2]) - half[:, None, :, 2])


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


def _accepted(
    draws: Draws, kind: str, count_range: tuple[int, int], proposed: _Placed, clear: np.ndarray, margin: float
) -> _Placed:
    """The first proposals that leave free the cameras and what is right before them, as slots."""
    place, half = proposed
    blocked = (distance_below(clear, place, half) < margin).any(1)
    order = np.argsort(blocked, 1, kind="stable")[:, : place.shape[1] // _SPARE]
    wanted = draws.integers(kind + " count", 1, low=count_range[0], high=count_range[1])
    used = ~np.take_along_axis(blocked, order, 1) & (np.arange(order.shape[1]) < wanted)
    place = np.take_along_axis(place, order[..., None], 1)
    half = np.take_along_axis(half, order[..., None], 1)
    return place, np.where(used[..., None], half, -1.0)


def _crowns(draws: Draws, trunks: _Placed, clear: np.ndarray) -> _Placed:
    """A ball on top of every trunk, left out where it would touch a camera."""
    trunk, thick = trunks
    radius = (0.9 + 1.0 * draws.uniform("crowns", trunk.shape[1]))[..., None] * np.sign(thick)
    top = trunk + (thick + 0.4 * radius) * _UP
    free = np.all(distance_below(clear, top, radius) > 0.5, axis=1)
    return top, np.where(free[..., None], radius, -1.0)


def _gathered(
    draws: Draws,
    counts: tuple[int, int, int],
    parts: list[_Placed],
    added: Arrangement | None,
    clear: np.ndarray,
    margin: float,
) -> Objects:
    """All slots; of an arrangement those parts that leave the points `clear` free by `margin`."""
    yaw = draws.uniform("yaw", 1 + sum(counts), high=2 * np.pi)
    yaw[:, 0] = 0.0  # the shell stands in the world's axes
    if added is not None:
        counts, ends = (counts[0] + added.boxes, counts[1], counts[2] + added.cylinders), np.cumsum(counts)
        near = distance_below(clear, added.centre, added.half, added.yaw) < margin
        blocked = np.any(near, axis=1)
        half = np.where(blocked[..., None], -1.0, added.half)
        new = slice(0, added.boxes), slice(added.boxes, None)
        for part, chosen in zip((1, 3), new):
            centre, size = parts[part]
            parts[part] = (
                np.concatenate([centre, added.centre[:, chosen]], 1),
                np.concatenate([size, half[:, chosen]], 1),
            )
        first = yaw[:, : 1 + ends[0]], added.yaw[:, new[0]], yaw[:, 1 + ends[0] :], added.yaw[:, new[1]]
        yaw = np.concatenate(first, 1)
    centre, half = (np.concatenate([part[i] for part in parts], 1) for i in range(2))
    return Objects(counts, centre, half, yaw)
