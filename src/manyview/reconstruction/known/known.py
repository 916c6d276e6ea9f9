"""Known cameras and depth of the views as the network's optional input, at the network's pixels."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64

from ...errors import InputError, UsageError
from ...files.naming import counted
from ...models.network import NetworkConfig
from ...models.priors import Priors
from ..inputs.views import ViewRecord, depth_at_network_pixels
from .arrays import KnownViews
from .cameras import KnownCamera, KnownData
from .files import KnownFiles

_REFINE = "; or add --refine, which takes known cameras beside every network"


@dataclasses.dataclass(frozen=True)
class KnownInputs:
    """`priors` of one scene on the CPU, `facts` for the settings of the result, `notes` for the user.

    `world_from_cam`: the known camera of each view, in the given world.
    """

    priors: Priors
    facts: dict[str, Any]
    notes: tuple[str, ...]
    world_from_cam: tuple[Float64[np.ndarray, "3 4"] | None, ...]

    def check(self, config: NetworkConfig, records: Sequence[ViewRecord]) -> None:
        """UsageError where the network needs to know more of a view."""
        masks = (self.priors.has_pose, self.priors.has_intrinsics, self.priors.has_depth)
        known = {
            what: [] if mask is None else mask[0].tolist()
            for what, mask in zip(("poses", "intrinsics", "depth"), masks, strict=True)
        }
        try:
            config.check_known(known, [record.name for record in records])
        except UsageError as error:
            raise UsageError(f"{error}{_REFINE}") from None

    @property
    def given(self) -> tuple[str, ...]:
        """What is known of some views: "poses", "intrinsics", "depth"."""
        return tuple(what for what in ("poses", "intrinsics", "depth") if self.facts[what])


def check_accepts_priors(config: NetworkConfig, name: str) -> None:
    """UsageError for a network that takes images only."""
    if config.why_no_priors is not None:
        raise UsageError(f"{name} {config.why_no_priors}{_REFINE}")


def read_known(
    known: KnownFiles | KnownViews, records: Sequence[ViewRecord], size: tuple[int, int]
) -> KnownInputs:
    """What is known of the views, for network images of `size` (height, width).

    Unknown views stay unknown. Raises UsageError or InputError where nothing fits the views, or an image is
    rotated by its EXIF tag, so that it is not clear which pixels are meant.
    """
    data = known.read(records)
    intrinsics, has_intrinsics = _intrinsics(data.cameras, records)
    poses = [None if camera is None else camera.world_from_cam for camera in data.cameras]
    has_pose = np.array([pose is not None for pose in poses])
    if has_pose.sum() == 1 and not has_intrinsics.any():
        raise UsageError("the camera of one view alone has no use: poses need at least two known views")
    depth, has_depth = _depth(data, records, size)
    masks = {"poses": has_pose, "intrinsics": has_intrinsics, "depth": has_depth}
    arrays = (
        relative_to_first_known(poses) if has_pose.sum() > 1 or has_pose.all() else None,
        intrinsics if has_intrinsics.any() else None,
        depth if has_depth.any() else None,
    )
    tensors = (None if a is None else torch.from_numpy(a.astype(np.float32))[None] for a in arrays)
    priors = Priors(*tensors, *(torch.from_numpy(mask)[None] for mask in masks.values()))
    digest = hashlib.sha256(b"".join(a.tobytes() for a in (*arrays, *masks.values()) if a is not None))
    facts = {what: int(mask.sum()) for what, mask in masks.items()} | {"sha256": digest.hexdigest()}
    counts = ", ".join(f"{what} of {mask.sum()}" for what, mask in masks.items() if mask.any())
    notes = (*data.notes, f"known of {counted(len(records), 'view')}: {counts}")
    return KnownInputs(priors, facts, notes, tuple(poses))


def relative_to_first_known(
    world_from_cam: Sequence[Float64[np.ndarray, "3 4"] | None],
) -> Float64[np.ndarray, "views 4 4"]:
    """world_from_cam with the first known view as the world; at least one is known.

    Pi3X takes poses relative to frame 0 and the mean distance of all others from it as the unit of length,
    masked frames included. So an unknown frame 0 gets the pose of the first known one, and other unknown ones
    a pose that leaves the mean at that of the known.
    """
    known = [i for i, pose in enumerate(world_from_cam) if pose is not None]
    full = np.tile(np.eye(4), (len(world_from_cam), 1, 1))
    for i in known:
        full[i, :3] = world_from_cam[i]
    relative = np.linalg.inv(full[known[0]]) @ full
    lengths = np.linalg.norm(relative[known[1:], :3, 3], axis=1)
    unknown = [i for i in range(1, len(full)) if world_from_cam[i] is None]
    for i in unknown:
        relative[i] = np.eye(4)
        relative[i, 0, 3] = (lengths.mean() * (len(full) - 1) - lengths.sum()) / len(unknown)
    if world_from_cam[0] is None:
        relative[0] = np.eye(4)
    return relative


def at_upright_pixels(
    cameras: Sequence[KnownCamera | None], records: Sequence[ViewRecord]
) -> list[KnownCamera | None]:
    """Known cameras with intrinsics in pixels of the upright images, whose size they then have.

    Raises InputError for a camera of an image of another aspect ratio, or of stored pixels that EXIF rotates.
    """
    found: list[KnownCamera | None] = []
    for camera, record in zip(cameras, records, strict=True):
        if camera is None:
            found.append(None)
            continue
        upright = (record.transform.upright_width, record.transform.upright_height)
        # Intrinsics made for the rotated size are for upright pixels.
        if camera.size != upright or upright[0] == upright[1]:
            _check_not_rotated(record, "camera")
        matrix = camera.intrinsics
        if matrix is not None:
            width, height = camera.size or upright
            scale = np.array([upright[0] / width, upright[1] / height, 1.0])
            if not 0.98 < scale[0] / scale[1] < 1.02:
                raise InputError(
                    f"{record.name} has {upright[0]}x{upright[1]} pixels, and its known camera is for "
                    f"{width}x{height}, another aspect ratio: give the camera of this image"
                )
            matrix = matrix * scale[:, None]
        found.append(KnownCamera(camera.world_from_cam, matrix, upright))
    return found


def _intrinsics(
    cameras: Sequence[KnownCamera | None], records: Sequence[ViewRecord]
) -> tuple[Float64[np.ndarray, "views 3 3"], Bool[np.ndarray, " views"]]:
    """Intrinsics at network pixels, and which views have them."""
    found, known = np.tile(np.eye(3), (len(records), 1, 1)), np.zeros(len(records), dtype=bool)
    for i, (camera, record) in enumerate(zip(at_upright_pixels(cameras, records), records, strict=True)):
        if camera is not None and camera.intrinsics is not None:
            found[i] = record.transform.network_from_upright @ camera.intrinsics
            known[i] = True
    return found, known


def _depth(
    data: KnownData, records: Sequence[ViewRecord], size: tuple[int, int]
) -> tuple[Float32[np.ndarray, "views height width"], Bool[np.ndarray, " views"]]:
    """Depth with zeros where nothing is known, and which views have any."""
    maps = np.zeros((len(records), *size), dtype=np.float32)
    for i, (record, z_depth) in enumerate(zip(records, data.depth or ())):
        if z_depth is not None:
            _check_not_rotated(record, "depth")
            maps[i] = np.nan_to_num(depth_at_network_pixels(z_depth, record.transform))
    known = np.asarray((maps > 0).any(axis=(1, 2)))
    if data.depth is not None and not known.any():
        raise InputError(f"{data.depth_from}: there is no known depth of this view or of any other")
    return maps, known


def _check_not_rotated(record: ViewRecord, what: str) -> None:
    if record.transform.orientation != 1:
        raise InputError(
            f"{record.name}: its EXIF tag rotates the image, but its known {what} is that of the stored "
            "pixels; save the image upright"
        )
