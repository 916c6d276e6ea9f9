"""A flight along the cameras of a scene: smooth, at an even pace."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ..errors import UsageError
from ..geometry.unproject_np import invert_rigid

_SAMPLES = 4096  # of the path between the first camera and the last, before it is smoothed
_REACH = 3.0  # standard deviations of the Gaussian that are used


def smooth_path(
    cam_from_world: Float[np.ndarray, "views 3 4"], frames: int, smoothing: float = 1.0
) -> Float[np.ndarray, "frames 3 4"]:
    """Cameras (cam_from_world) of a flight along those of a scene, in their order.

    The pace is even: what counts is how far a camera moves, and how far it turns, each as a share of the
    whole way. Centres and quaternions between the cameras are linear, and then smoothed by a Gaussian.

    Args:
        frames: how many cameras are returned; the first and last are near those of the scene.
        smoothing: the Gaussian's standard deviation, in mean steps from a camera to the next; 0 passes
            through every camera, with its corners.

    Raises:
        UsageError: for no frame, or a smoothing below 0.
    """
    import torch  # `manyview view --help` does without it

    from ..geometry.cameras import quat_xyzw_from_rotation, rotation_from_quat_xyzw

    if frames < 1 or not 0 <= smoothing < np.inf:
        raise UsageError(
            f"a flight needs 1 frame or more and smoothing of 0 or more, not {frames}, {smoothing}"
        )
    world_from_cam = invert_rigid(np.asarray(cam_from_world, dtype=np.float64))
    centres = world_from_cam[:, :, 3]
    quats = quat_xyzw_from_rotation(torch.from_numpy(world_from_cam[:, :, :3].copy())).numpy()
    # Of the two quaternions of a rotation, the one on the side of the camera before: the shorter turn.
    turns = (quats[1:] * quats[:-1]).sum(axis=1)
    quats[1:] *= np.cumprod(np.where(turns < 0, -1.0, 1.0))[:, None]
    places = _even_places(centres, quats)
    dense = np.linspace(0.0, 1.0, _SAMPLES)
    track = _interpolated(dense, places, np.concatenate([centres, quats], axis=1))
    track[:, 3:] /= np.linalg.norm(track[:, 3:], axis=1, keepdims=True)
    if len(centres) > 1 and smoothing > 0:
        track = _smoothed(track, smoothing * _SAMPLES / (len(centres) - 1))
    chosen = _interpolated(np.linspace(0.0, 1.0, frames), dense, track)
    chosen[:, 3:] /= np.linalg.norm(chosen[:, 3:], axis=1, keepdims=True)
    rotation = rotation_from_quat_xyzw(torch.from_numpy(chosen[:, 3:])).numpy()
    return invert_rigid(np.concatenate([rotation, chosen[:, :3, None]], axis=2))


def _even_places(
    centres: Float[np.ndarray, "views 3"], quats: Float[np.ndarray, "views 4"]
) -> Float[np.ndarray, " views"]:
    """Where each camera is on the way, from 0 to 1."""
    if len(centres) == 1:
        return np.zeros(1)
    moved = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    turned = 2 * np.arccos(np.clip((quats[1:] * quats[:-1]).sum(axis=1), -1.0, 1.0))
    shares = [length / length.sum() for length in (moved, turned) if length.sum() > 1e-9]
    # Cameras that stand still in one place still follow each other.
    steps = np.mean(shares, axis=0) if shares else np.full(len(moved), 1 / len(moved))
    places = np.concatenate([[0.0], np.cumsum(steps)])
    return places / places[-1]


def _interpolated(
    at: Float[np.ndarray, " n"], places: Float[np.ndarray, " m"], values: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n d"]:
    return np.stack([np.interp(at, places, column) for column in values.T], axis=1)


def _smoothed(track: Float[np.ndarray, "n d"], deviation: float) -> Float[np.ndarray, "n d"]:
    """`track` under a Gaussian of `deviation` samples; beyond the ends it stands still."""
    reach = int(np.clip(_REACH * deviation, 1, len(track) - 1))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    padded = np.pad(track, ((reach, reach), (0, 0)), mode="edge")
    columns = [np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, axis=1)
