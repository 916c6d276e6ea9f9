"""Camera paths of procedural scenes: world axes x, y level and z up; cameras have OpenCV axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .draws import Draws
from .options import MOTIONS, PATHS, SPECIAL_MOTIONS, SceneOptions

# Angle swept around the focus, degrees: measured so that the median rotation between two views of a
# set is 29, 21 and 10.5 degrees.
_SWEEP_DEGREES = np.array([85.0, 60.0, 28.0])
# Wobble of the look-at point, as a share of the distance to the focus, and of the roll, degrees.
_LOOK_JITTER = np.array([0.11, 0.08, 0.04])
_ROLL_DEGREES = np.array([5.0, 4.0, 2.5])
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


def draw_path(
    draws: Draws,
    views: int,
    options: SceneOptions,
    radius: Float[np.ndarray, " b"],
    height_range: tuple[float, float],
) -> Path:
    """A path for each scene. `radius` is the typical distance to the focus, `height_range` of the lens."""
    special = options.motion in SPECIAL_MOTIONS
    motion = _choice(draws, "motion", "wide" if special else options.motion, MOTIONS)
    kind = _choice(draws, "path", options.path, PATHS)[:, None]
    sweep = np.deg2rad(_SWEEP_DEGREES[motion])[:, None] * draws.uniform("sweep", 1, low=0.85, high=1.15)
    sweep = np.where(kind == 1, 1.1 * sweep, sweep)  # a walk turns less besides
    share = np.where(kind == 2, draws.uniform("unordered share", views), _ordered_share(draws, views))
    share = share - 0.5

    # Where the cameras stand: an arc; a walk also comes nearer or goes away, in a smooth weave.
    turn = np.where(draws.uniform("turn", 1) < 0.5, -1.0, 1.0)
    start = draws.uniform("start", 1, high=2 * np.pi)
    phase = draws.uniform("weave", 3, high=2 * np.pi)
    weave = [np.sin(share * speed + phase[:, i : i + 1]) for i, speed in enumerate((5.0, 7.0, 6.0))]
    approach = draws.uniform("approach", 1, low=-0.7, high=0.7)
    loose = np.minimum(sweep / _SWEEP_DEGREES[0] * 57.3, 1.0)
    stretch = np.select(
        [kind == 0, kind == 1],
        [0.12 * draws.uniform("stretch", views, low=-1, high=1), approach * share + 0.08 * weave[0]],
        0.35 * draws.uniform("far", views, low=-1, high=1),
    )
    angle = start + turn * sweep * share + np.where(kind == 1, 0.06 * weave[1], 0.0) * loose
    distance = radius[:, None] * (1.0 + loose * stretch)
    offset = distance[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)

    low, high = height_range
    level = draws.uniform("level", 1)
    bob = np.where(kind == 1, 0.15 * weave[2], draws.uniform("bob", views, low=-0.5, high=0.5) * loose)
    height = low + (high - low) * np.clip(level + bob, 0.0, 1.0)

    jitter = _LOOK_JITTER[motion][:, None] * radius[:, None]
    shake = draws.normal("look", views, 3)
    drift = np.stack([weave[0], weave[2], weave[1]], -1)
    look = np.where(kind[..., None] == 1, 1.2 * drift + 0.15 * shake, shake) * jitter[..., None]
    roll = np.deg2rad(_ROLL_DEGREES[motion])[:, None] * draws.normal("roll", views)
    path = Path(offset, height, look, np.where(kind == 1, 0.4 * roll, roll))
    if options.motion == "forward":
        length = np.full(len(draws), _DRIVE_LENGTH)
        if options.arrangement == "street":
            low, high = _STREET_LENGTHS
            length = draws.uniform("drive length", low=low, high=high)
        return _drive(path, radius, share, start[:, 0], shake, length)
    if options.motion == "rotation":
        return _turn(path, turn * sweep * share)
    if options.motion == "sideways":
        return _sideways(draws, path, radius, turn * share, start[:, 0])
    if options.motion == "scan":
        return _scan(draws, path, radius, share, start[:, 0])
    if options.motion == "drone":
        return _flight(draws, path, radius, share, start[:, 0])
    return path


def _drive(
    path: Path,
    radius: Float[np.ndarray, " b"],
    share: Float[np.ndarray, "b views"],
    heading: Float[np.ndarray, " b"],
    shake: Float[np.ndarray, "b views 3"],
    length: Float[np.ndarray, " b"],
) -> Path:
    """Straight ahead through the focus; `look` is level, so the gaze must be taken from the lens's height."""
    ahead = -_level(heading)[:, None]
    done = (length[:, None] * (share + 0.5) - _DRIVE_FROM) * radius[:, None]
    look = _DRIVE_SHAKE * radius[:, None, None] * shake
    look[..., :2] += (_DRIVE_GAZE + (length - _DRIVE_LENGTH))[:, None, None] * radius[:, None, None] * ahead
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
    """Along a line across the gaze, which follows by some of the way or all of it."""
    place, across = _level(heading)[:, None], _level(heading + np.pi / 2)[:, None]
    done = draws.uniform("way", 1, low=0.5, high=1.6) * share
    near = draws.uniform("near", 1, low=0.6, high=1.1) + 0.15 * draws.normal("sway", share.shape[1])
    offset = radius[:, None, None] * (near[..., None] * place + done[..., None] * across)
    look = 0.7 * path.look
    follow = draws.uniform("follow", 1, low=0.4, high=1.1)
    look[..., :2] += (radius[:, None] * follow * done)[..., None] * across
    return Path(offset, path.height, look, path.roll)


def _scan(
    draws: Draws,
    path: Path,
    radius: Float[np.ndarray, " b"],
    share: Float[np.ndarray, "b views"],
    heading: Float[np.ndarray, " b"],
) -> Path:
    """A small winding walk, with a gaze that turns by 20 to 100 degrees and looks up and down."""
    phase = draws.uniform("scan", 4, high=2 * np.pi)
    wind = [np.sin(share * speed + phase[:, i : i + 1]) for i, speed in enumerate((5.0, 4.0, 6.0, 7.0))]
    loose = draws.uniform("scan walk", 1, low=0.15, high=0.6)
    shake = draws.normal("scan shake", share.shape[1], 3)
    place = draws.uniform("scan place", 1, low=0.2, high=1.0)[..., None] * _level(heading)[:, None]
    walk = loose[..., None] * (np.stack(wind[:2], -1) + 0.1 * shake[..., :2])
    offset = radius[:, None, None] * (place + walk)
    turn = np.deg2rad(draws.uniform("scan turn", 1, low=-100, high=100))
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
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def look_at(
    centre: Float[np.ndarray, "b views 3"],
    target: Float[np.ndarray, "b views 3"],
    roll: Float[np.ndarray, "b views"],
) -> Float[np.ndarray, "b views 3 4"]:
    """cam_from_world of cameras at `centre` that look at `target`, rotated by `roll` about their axis."""
    forward = target - centre
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll)[..., None], np.sin(roll)[..., None]
    rotation = np.stack([cos * right + sin * down, cos * down - sin * right, forward], -2)
    return np.concatenate([rotation, -rotation @ centre[..., None]], -1)


def draw_intrinsics(
    draws: Draws, views: int, height: int, width: int, options: SceneOptions
) -> Float[np.ndarray, "b views 3 3"]:
    """Pinhole intrinsics, px, one field of view a scene over the longer side, principal point central."""
    low, high = options.fov_degrees
    fov = np.deg2rad(draws.uniform("fov", low=low, high=high))
    focal = 0.5 * max(height, width) / np.tan(0.5 * fov)
    intrinsics = np.zeros((len(draws), views, 3, 3))
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal[:, None]
    intrinsics[..., 0, 2], intrinsics[..., 1, 2], intrinsics[..., 2, 2] = width / 2, height / 2, 1.0
    return intrinsics


def _choice(draws: Draws, name: str, value: str, names: tuple[str, ...]) -> Int[np.ndarray, " b"]:
    """Index into `names` for each scene; the last name, mixed, draws one of the others."""
    if value != names[-1]:
        return np.full(len(draws), names.index(value))
    return draws.integers(name, low=0, high=len(names) - 2)


def _ordered_share(draws: Draws, views: int) -> Float[np.ndarray, "b views"]:
    """Places along the path in order, within 0 to 1, evenly spaced with a little jitter.

    Few views use less of the path: the median step between two views is then nearly that of many.
    """
    jitter = draws.uniform("pace", views, low=-0.3, high=0.3)
    return (1.0 + np.arange(views) + jitter) / (views + 1)
