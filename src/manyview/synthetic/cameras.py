"""Camera paths of procedural scenes: world axes x, y level and z up; cameras have OpenCV axes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from .draws import Draws
from .motions import Path, special_path
from .options import MOTIONS, PATHS, SPECIAL_MOTIONS, SceneOptions

# Angle swept around the focus, degrees: measured so that the median rotation between two views of a
# set is 29, 21 and 10.5 degrees.
_SWEEP_DEGREES = np.array([85.0, 60.0, 28.0])
# Wobble of the look-at point, as a share of the distance to the focus, and of the roll, degrees.
_LOOK_JITTER = np.array([0.11, 0.08, 0.04])
_ROLL_DEGREES = np.array([5.0, 4.0, 2.5])
_AROUND_STEP_DEGREES = (8.0, 45.0)


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
    if options.motion == "around":
        low, high = np.deg2rad(_AROUND_STEP_DEGREES)
        sweep = np.minimum(draws.uniform("around", 1, low=low, high=high) * (views + 1), 2 * np.pi)
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
    if special and options.motion != "around":
        return special_path(draws, options, path, radius, share, (turn, sweep))
    return path


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
