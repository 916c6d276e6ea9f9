"""What a run found in one scene beside the truth, in one order and on one grid: input of all measures."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float

from ..geometry.unproject_np import pixel_grid, unproject
from ..reconstruction.engine import Prepared
from ..reconstruction.result import Reconstruction
from .posed_sets import PosedSet
from .truth_pixels import depth_at_network_pixels, in_network_order, true_points

Grid = Literal["network", "truth"]


@dataclasses.dataclass(frozen=True, eq=False)
class ScenePair:
    """Cameras are cam_from_world; NaN for views that the model gave no camera, with all that is theirs.

    Depth and points are NaN where there is none; the estimate's are in its own world and scale. `true_*` are
    None without depth (points also without intrinsics), `head_points` without a point head, `cloud` (measured
    points of the whole scene) without one. `seen` is where network pixels show the picture.
    """

    found_cameras: Float[np.ndarray, "views 3 4"]
    true_cameras: Float[np.ndarray, "views 3 4"]
    found_depth: Float[np.ndarray, "views height width"]
    confidence: Float[np.ndarray, "views height width"]
    found_points: Float[np.ndarray, "views height width 3"]
    seen: Bool[np.ndarray, "views height width"]
    true_depth: Float[np.ndarray, "views height width"] | None = None
    true_points: Float[np.ndarray, "views height width 3"] | None = None
    head_points: Float[np.ndarray, "views height width 3"] | None = None
    cloud: Float[np.ndarray, "n 3"] | None = None
    notes: tuple[str, ...] = ()


def pair_of(
    scene: Reconstruction,
    ready: Prepared,
    posed: PosedSet,
    grid: Grid = "network",
    cloud: Float[np.ndarray, "n 3"] | None = None,
) -> ScenePair:
    """Put an estimate beside the truth.

    On the grid "truth" the estimate is resized to the depth maps of the truth (bilinear, antialiased), as
    pi3's evaluation does; where their sizes differ or pictures are cropped or padded, the network's is used
    and `notes` tell.
    """
    records, notes = ready.views.records, []
    order = in_network_order(posed, records)
    place = {record.source: index for index, record in enumerate(records)}
    kept = [place[record.source] for record in scene.views]
    seen = np.stack([record.transform.content_mask() for record in records])

    def whole(values: np.ndarray) -> np.ndarray:
        out = np.full((len(records), *values.shape[1:]), np.nan, dtype=values.dtype)
        out[kept] = values
        return out

    depth = None if posed.depth is None else [posed.depth.read(index) for index in order]
    sizes = {one.shape for one in depth or () if one is not None}
    if grid == "truth" and (len(sizes) != 1 or not seen.all() or any(r.transform.cropped for r in records)):
        grid = "network"
        if sizes:
            notes.append(
                "depth maps differ in size or pictures are cropped: compared at the network's pixels"
            )
    pixels = pixel_grid(scene.height, scene.width).reshape(-1, 2)
    points = unproject(
        pixels,
        scene.z_depth.reshape(len(scene), -1),
        scene.cam_from_world,
        scene.intrinsics,
        scene.pixel_centres,
    )
    fields = {
        "found_depth": whole(scene.z_depth),
        "confidence": whole(scene.depth_conf),
        "found_points": whole(points.reshape(*scene.z_depth.shape, 3).astype(np.float32)),
    }
    if scene.head_points is not None:
        fields["head_points"] = whole(scene.head_points)
    if grid == "truth":
        (size,) = sizes
        fields = {name: _resized(values, size) for name, values in fields.items()}
        seen = np.ones((len(records), *size), dtype=bool)
    if depth is not None and sizes:
        fields["true_depth"] = _true_depth(depth, ready, grid, seen.shape)
        if posed.intrinsics is not None:
            found = np.full((*seen.shape, 3), np.nan, dtype=np.float32)
            for index, (own, at, record) in enumerate(zip(depth, order, records)):
                if own is not None:
                    found[index] = true_points(
                        own,
                        posed.cam_from_world[at],
                        posed.intrinsics[at],
                        record.transform,
                        grid == "network",
                    )
            fields["true_points"] = found
        else:
            notes.append("the set has depth but no intrinsics: no points to compare")
    return ScenePair(
        found_cameras=whole(scene.cam_from_world),
        true_cameras=posed.cam_from_world[order],
        seen=seen,
        cloud=cloud,
        notes=tuple(notes),
        **fields,
    )


def _true_depth(
    depth: list[np.ndarray | None], ready: Prepared, grid: Grid, shape: tuple[int, ...]
) -> Float[np.ndarray, "views height width"]:
    if grid == "network":
        transforms = [record.transform for record in ready.views.records]
        return torch.stack([depth_at_network_pixels(d, t) for d, t in zip(depth, transforms)]).numpy()
    empty = np.full(shape[1:], np.nan)
    return np.stack([empty if one is None else one for one in depth]).astype(np.float32)


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One view at a time, so that only one is copied."""
    channels = values.shape[3:] or (1,)
    out = np.empty((len(values), *size, *channels), dtype=np.float32)
    for index, one in enumerate(values):
        tensor = (
            torch.from_numpy(np.ascontiguousarray(one)).reshape(*one.shape[:2], -1).permute(2, 0, 1)[None]
        )
        bigger = F.interpolate(tensor.float(), size, mode="bilinear", antialias=True, align_corners=False)
        out[index] = bigger[0].permute(1, 2, 0).numpy()
    return out.reshape(len(values), *size, *values.shape[3:])
