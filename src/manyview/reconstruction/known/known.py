"""Known cameras and depth of the views as the network's optional input, at the network's pixels."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError, UsageError
from ...files.naming import counted, suggestion
from ...models.network import NetworkConfig
from ...models.pi3.config import Pi3XConfig
from ...models.pi3.priors import Priors
from ..inputs.views import ViewRecord, depth_at_network_pixels
from .cameras import KnownCamera, read_known_cameras
from .depth import DepthFolder, expected_name
from .match import match_views
from .poses import in_first_known


@dataclasses.dataclass(frozen=True)
class KnownFiles:
    """Where to find what is known. `depth_scale`: values of a depth map that are one unit of the cameras."""

    cameras: Path | None = None
    depth: Path | None = None
    depth_scale: float | None = None

    def __post_init__(self) -> None:
        for path in (self.cameras, self.depth):  # told before weights are fetched
            if path is not None and not path.expanduser().exists():
                raise InputError(f"'{path}' is no file or folder{suggestion(path)}; give what is known")
        if self.depth_scale is not None and not self.depth_scale > 0:
            raise UsageError(f"the scale of known depth must be above zero, not {self.depth_scale}")
        if self.depth_scale is not None and self.depth is None:
            raise UsageError("a scale of known depth needs known depth")

    def __bool__(self) -> bool:
        return self.cameras is not None or self.depth is not None


@dataclasses.dataclass(frozen=True)
class KnownInputs:
    """`priors` of one scene on the CPU, `facts` for the settings of the result, `notes` for the user."""

    priors: Priors
    facts: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def given(self) -> tuple[str, ...]:
        """What is known of some views: "poses", "intrinsics", "depth"."""
        return tuple(what for what in ("poses", "intrinsics", "depth") if self.facts[what])


def check_usable(config: NetworkConfig, name: str) -> None:
    """UsageError for a network that takes images only."""
    if not isinstance(config, Pi3XConfig):
        raise UsageError(
            f"{name} takes images only: known cameras and depth need Pi3X (--model pi3x), or leave them out"
        )
    if not config.optional_inputs:
        raise UsageError(
            f"{name} was saved without its branch for known cameras and depth: take the published weights"
        )


def read_known(files: KnownFiles, records: Sequence[ViewRecord], size: tuple[int, int]) -> KnownInputs:
    """What `files` say of the views, for network images of `size` (height, width).

    Unknown views stay unknown. Raises UsageError or InputError where nothing fits the views, or a picture was
    turned by its EXIF tag, so that it is not clear which pixels are meant.
    """
    notes: list[str] = []
    cameras: list[KnownCamera | None] = [None] * len(records)
    if files.cameras is not None:
        read = read_known_cameras(files.cameras)
        notes += read.notes
        cameras = match_views(read, records)
    intrinsics, has_intrinsics = _intrinsics(cameras, records)
    poses = [None if camera is None else camera.world_from_cam for camera in cameras]
    has_pose = np.array([pose is not None for pose in poses])
    if has_pose.sum() == 1 and not has_intrinsics.any():
        raise UsageError("the camera of one view alone tells nothing: poses need at least two known views")
    depth, has_depth = _depth(files, records, size)
    counts = {"poses": has_pose, "intrinsics": has_intrinsics, "depth": has_depth}
    told = ", ".join(f"{what} of {mask.sum()}" for what, mask in counts.items() if mask.any())
    notes.append(f"known of {counted(len(records), 'view')}: {told}")
    arrays = (
        in_first_known(poses) if has_pose.sum() > 1 else None,
        intrinsics if has_intrinsics.any() else None,
        depth if has_depth.any() else None,
    )
    tensors = tuple(None if a is None else torch.from_numpy(a.astype(np.float32))[None] for a in arrays)
    masks = (torch.from_numpy(mask)[None] for mask in counts.values())
    digest = hashlib.sha256(b"".join(a.tobytes() for a in (*arrays, *counts.values()) if a is not None))
    facts = {what: int(mask.sum()) for what, mask in counts.items()} | {"sha256": digest.hexdigest()}
    return KnownInputs(Priors(*tensors, *masks), facts, tuple(notes))


def _intrinsics(
    cameras: list[KnownCamera | None], records: Sequence[ViewRecord]
) -> tuple[np.ndarray, np.ndarray]:
    """[S, 3, 3] at network pixels, and which views have them."""
    found, known = np.tile(np.eye(3), (len(records), 1, 1)), np.zeros(len(records), dtype=bool)
    for i, (camera, record) in enumerate(zip(cameras, records, strict=True)):
        if camera is None:
            continue
        transform = record.transform
        upright = (transform.upright_width, transform.upright_height)
        # A size that only the turned picture has says that upright pixels are meant.
        says_upright = camera.size == upright and upright[0] != upright[1]
        if transform.orientation != 1 and not says_upright:
            raise InputError(
                f"{record.name}: its EXIF tag turns the picture, but its known camera is that of the stored "
                "pixels; save the picture upright"
            )
        if camera.intrinsics is not None:
            width, height = camera.size or upright
            scale = np.array([upright[0] / width, upright[1] / height, 1.0])
            if not 0.98 < scale[0] / scale[1] < 1.02:
                raise InputError(
                    f"{record.name} has {upright[0]}x{upright[1]} pixels, and its known camera is for "
                    f"{width}x{height}, another shape: give the camera of this picture"
                )
            found[i] = transform.network_from_upright @ (camera.intrinsics * scale[:, None])
            known[i] = True
    return found, known


def _depth(
    files: KnownFiles, records: Sequence[ViewRecord], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """[S, height, width] with zeros where nothing is known, and which views have any."""
    if files.depth is None:
        return np.zeros(0), np.zeros(len(records), dtype=bool)
    folder = DepthFolder(files.depth, files.depth_scale)
    maps = np.zeros((len(records), *size), dtype=np.float32)
    for i, record in enumerate(records):
        read = folder.read(record)
        if read is None:
            continue
        if record.transform.orientation != 1:
            raise InputError(
                f"{record.name}: its EXIF tag turns the picture, but its depth is that of the stored pixels; "
                "save the picture upright"
            )
        maps[i] = np.nan_to_num(depth_at_network_pixels(read, record.transform))
    known = np.asarray((maps > 0).any(axis=(1, 2)))
    if not known.any():
        where = expected_name(files.depth, records[0])
        raise InputError(f"{files.depth}: has no depth of any view; expected files such as {where}")
    return maps, known
