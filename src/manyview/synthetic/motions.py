"""Camera paths of special motions: drives, turns in place, sideways walks, looking around, flights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .draws import Draws
from .options import SceneOptions

# A drive goes from before the focus to behind it and looks at a point far ahead, all in radii.
_DRIVE_FROM, _DRIVE_LENGTH, _DRIVE_GAZE, _DRIVE_SHAKE = 0.7, 1.2, 2.5, 0.06
_STREET_LENGTHS = (0.8, 2.4)


@dataclass(frozen=True)
class Path:
    """Camera centres before they are put on the ground: around `focus`, in polar form.

    `offset` [b, views, 2] is level, relative to the focus; `height` [b, views] above the ground;
    `look` [b, views, 3] the look-at point relative to the focus; `roll` [b, views] radians.
    """

    offset: Float[np.ndarray, "b views 2"]
    height: Float[np.ndarray, "b views"]
    look: Float[np.ndarray, "b views 3"]
    roll: Float[np.ndarray, "b views"]


def special_path(
    draws: Draws,
    options: SceneOptions,
    path: Path,
    radius: Float[np.ndarray, " b"],
    share: Float[np.ndarray, "b views"],
    arc: tuple[Float[np.ndarray, "b 1"], Float[np.ndarray, "b 1"]],
) -> Path:
    """The path of one of `SPECIAL_MOTIONS`, from an ordinary path around the focus.

    `radius` is the typical distance to the focus, `share` each view's place along the path, -0.5 to 0.5, and
    `arc` the (direction, -1 or 1, and length in radians) of an orbit.
    """
    heading = draws.uniform("start", high=2 * np.pi)
    direction, sweep = arc
    if options.motion == "forward":
        return _drive(draws, options, path, radius, share, heading)
    if options.motion == "rotation":
        return _turn(path, direction * sweep * share)
    if options.motion == "sideways":
        return _sideways(draws, path, radius, direction * share, heading)
    if options.motion == "scan":
        return _scan(draws, path, radius, share, direction, heading)
    return _flight(draws, path, radius, share, heading)


def _drive(
    draws: Draws,
    options: SceneOptions,
    path: Path,
    radius: Float[np.ndarray, " b"],
    share: Float[np.ndarray, "b views"],
    heading: Float[np.ndarray, " b"],
) -> Path:
    """Straight ahead through the focus; `look` is level, so the gaze must be taken from the lens's height."""
    length = np.full(len(draws), _DRIVE_LENGTH)
    if options.arrangement == "street":
        low, high = _STREET_LENGTHS
        length = draws.uniform("drive length", low=low, high=high)
    ahead = -_level(heading)[:, None]
    done = (length[:, None] * (share + 0.5) - _DRIVE_FROM) * radius[:, None]
    look = _DRIVE_SHAKE * radius[:, None, None] * draws.normal("look", share.shape[1], 3)
    gaze = _DRIVE_GAZE + (length - _DRIVE_LENGTH)
    look[..., :2] += gaze[:, None, None] * radius[:, None, None] * ahead
    height = np.broadcast_to(path.height[:, :1], path.height.shape)
    return Path(done[..., None] * ahead, height, look, 0.4 * path.roll)


def _turn(path: Path, angle: Float[np.ndarray, "b views"]) -> Path:
    """The first view's place for all; the gaze on the focus turns by `angle` about the vertical."""
    offset = np.broadcast_to(path.offset[:, :1], path.offset.shape)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = offset[..., 0], offset[..., 1]
    level = offset - np.stack([cos * x - sin * y, sin * x + cos * y], -1)
    look = np.concatenate([level, path.look[..., 2:]], -1)
    return Path(offset, np.broadcast_to(path.height[:, :1], path.height.shape), look, path.roll)


def _sideways(
    draws: Draws,
    path: Path,
    radius: Float[np.ndarray, " b"],
    share: Float[np.ndarray, "b views"],
    heading: Float[np.ndarray, " b"],
) -> Path:
    """Along a line across the gaze, which follows by most of the way or all of it."""
    place, across = _level(heading)[:, None], _level(heading + np.pi / 2)[:, None]
    done = draws.uniform("way", 1, low=0.5, high=1.6) * share
    near = draws.uniform("near", 1, low=0.6, high=1.1) + 0.02 * draws.normal("sway", share.shape[1])
    offset = radius[:, None, None] * (near[..., None] * place + done[..., None] * across)
    look = 0.25 * path.look
    follow = draws.uniform("follow", 1, low=0.6, high=1.05)
    look[..., :2] += (radius[:, None] * follow * done)[..., None] * across
    return Path(offset, path.height, look, 0.4 * path.roll)


def _scan(
    draws: Draws,
    path: Path,
    radius: Float[np.ndarray, " b"],
    share: Float[np.ndarray, "b views"],
    direction: Float[np.ndarray, "b 1"],
    heading: Float[np.ndarray, " b"],
) -> Path:
    """A small winding walk, with a gaze that turns by 40 to 120 degrees and looks up and down."""
    phase = draws.uniform("scan", 4, high=2 * np.pi)
    wind = [np.sin(share * speed + phase[:, i : i + 1]) for i, speed in enumerate((5.0, 4.0, 6.0, 7.0))]
    loose = draws.uniform("scan walk", 1, low=0.03, high=0.25)
    shake = draws.normal("scan shake", share.shape[1], 3)
    place = draws.uniform("scan place", 1, low=0.2, high=1.0)[..., None] * _level(heading)[:, None]
    walk = loose[..., None] * (np.stack(wind[:2], -1) + 0.1 * shake[..., :2])
    offset = radius[:, None, None] * (place + walk)
    turn = direction * np.deg2rad(draws.uniform("scan turn", 1, low=40, high=120))
    yaw = heading[:, None] + np.pi + turn * share + 0.12 * wind[2] + 0.03 * shake[..., 2]
    far = draws.uniform("scan far", 1, low=0.8, high=1.8) * radius[:, None]
    look = np.zeros_like(path.look)
    look[..., :2] = offset + far[..., None] * _level(yaw)
    look[..., 2] = 0.3 * far * wind[3]
    return Path(offset, path.height, look, path.roll)


def _flight(
    draws: Draws,
    path: Path,
    radius: Float[np.ndarray, " b"],
    share: Float[np.ndarray, "b views"],
    heading: Float[np.ndarray, " b"],
) -> Path:
    """Three lines to and fro high above the ground, looking down, at most 45 degrees ahead."""
    ahead, across = _level(heading)[:, None], _level(heading + np.pi / 2)[:, None]
    line = np.minimum((3 * (share + 0.5)).astype(int), 2)
    along = 3 * (share + 0.5) - line - 0.5
    along = np.where(line % 2, -along, along) * draws.uniform("flight", 1, low=0.8, high=1.8)
    beside = (line - 1) * draws.uniform("flight lines", 1, low=0.2, high=0.7)
    offset = radius[:, None, None] * (along[..., None] * ahead + beside[..., None] * across)
    high = radius[:, None] * draws.uniform("flight height", 1, low=1.2, high=2.6)
    tilt = np.tan(np.deg2rad(draws.uniform("flight tilt", 1, low=4, high=45)))
    look = 0.5 * path.look
    look[..., :2] += offset + (tilt * high)[..., None] * ahead
    wobble = 1 + 0.05 * draws.normal("flight wobble", share.shape[1])
    return Path(offset, high * wobble, look, path.roll)


def _level(angle: np.ndarray) -> Float[np.ndarray, "... 2"]:
    """Unit vectors in the level plane."""
    return np.stack([np.cos(angle), np.sin(angle)], -1)
