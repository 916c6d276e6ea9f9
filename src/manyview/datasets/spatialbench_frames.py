"""SpatialBench's frames: the sizes of its sources, and what its loader makes of a stored image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .fixed_frames import FixedFrame, Undistortion, fixed_frame, whole_patches
from .image_files import image_size
from .posed_set import PosedSet
from .spatialbench_depth import EncodedDepth

DENSITIES = ("single", "sparse", "medium", "dense")
WIDTH, PATCH = 518, 14


@dataclasses.dataclass(frozen=True)
class Source:
    """`height` of frames 518 wide (None: by the shape of the first image); the farthest depth in metres."""

    height: int | None
    farthest: float


SOURCES = {
    "7scenes": Source(392, 10), "adt": Source(518, 10), "droid": Source(294, 1), "dtu": Source(378, 3),
    "eth3d": Source(350, 30), "hiroom": Source(518, 10), "kitti_odometry": Source(154, 80),
    "lingbot": Source(None, 20), "nrgbd": Source(392, 10), "omniworld": Source(None, 50),
    "rlbench": Source(294, 3), "robolab": Source(294, 3), "robotwin": Source(294, 3),
    "ropedia": Source(518, 8), "scannetpp": Source(378, 10), "tanks_and_temples": Source(378, 30),
    "tum": Source(392, 5), "vkitti": Source(154, 80), "waymo": Source(350, 50),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SpatialBenchFrames:
    """The frames as the benchmark's loader makes them: 518 wide for patches of 14, else as near to `width` as
    whole patches are, by the shape of the first image."""

    height: int | None
    mirrored: tuple[tuple[str, bool, bool], ...] = ()
    undistortion: Undistortion | None = None

    def write(self, posed: PosedSet, folder: Path, width: int, patch: int) -> PosedSet:
        """The set of the frames, written to `folder` as PNG."""
        size = frame_size(self.height, image_size(posed.images[0]), width, patch)
        flips = {stem: (across, down) for stem, across, down in self.mirrored}
        frames = [
            fixed_frame(
                image_size(path),
                size,
                None if posed.intrinsics is None else posed.intrinsics[i],
                flips.get(path.stem, (False, False)),
                self.undistortion,
            )
            for i, path in enumerate(posed.images)
        ]
        paths = [folder / f"{i:05}-{path.stem}.png" for i, path in enumerate(posed.images)]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_write, frames, posed.images, paths))
        intrinsics, depth = posed.intrinsics, posed.depth
        if intrinsics is not None:
            intrinsics = np.stack([frame.intrinsics(k) for frame, k in zip(frames, intrinsics)])
        if isinstance(depth, EncodedDepth):
            depth = dataclasses.replace(depth, frames=tuple(frames))
        return dataclasses.replace(
            posed, images=tuple(paths), intrinsics=intrinsics, depth=depth, frames=None
        )


def _write(frame: FixedFrame, image: Path, path: Path) -> None:
    frame.image(image).save(path, compress_level=1)


def frame_size(height: int | None, image: Sequence[int], width: int, patch: int) -> tuple[int, int]:
    """(width, height) of frames of a source of `height` whose first image is `image` (width, height)."""
    if height is not None and width == WIDTH and patch == PATCH:
        return WIDTH, height
    return whole_patches(width - width % patch, patch, image)
