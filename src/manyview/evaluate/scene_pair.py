"""What a run found in one scene beside the truth, in one order and on one grid: input of all measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float

from ..datasets import PosedSet
from ..geometry.unproject_np import pixel_grid, unproject
from ..reconstruction.inputs.views import ViewRecord, depth_at_network_pixels
from ..reconstruction.result.result import Reconstruction
from ..reconstruction.run.engine import Prepared
from .truth_pixels import in_network_order, true_points

Grid = Literal["network", "truth"]
Needs = Literal["cameras", "depth", "points"]


@dataclasses.dataclass(frozen=True, eq=False)
class ScenePair:
    """Cameras are cam_from_world; NaN for views that the model gave no camera, with all that is theirs.

    Depth and points are NaN where there is none; the estimate's are in its own world and scale. `true_*` are
    None without depth (points also without intrinsics), `head_points` without a point head, `cloud` (measured
    points of the whole scene) without one. Lengths of the truth are `per_metre` to a metre (1 where its
    unit is its own). `seen` is where pixels of the grid show the picture. `found_intrinsics` are in pixels of
    the grid, centres at +0.5 (None where nothing was found by pixels).
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
    per_metre: float = 1.0
    found_intrinsics: Float[np.ndarray, "views 3 3"] | None = None


def pair_of(
    scene: Reconstruction,
    ready: Prepared,
    posed: PosedSet,
    grid: Grid = "network",
    cloud: Float[np.ndarray, "n 3"] | None = None,
    needs: Needs = "points",
) -> ScenePair:
    """Put an estimate beside the truth, as far as measures need it: depth and points may be left away.

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

    fields = {"found_depth": whole(scene.z_depth), "confidence": whole(scene.depth_conf)}
    fields["found_points"] = np.zeros((len(records), 0, 0, 3), dtype=np.float32)
    if needs == "points":
        fields["found_points"] = whole(_found_points(scene))
        if scene.head_points is not None:
            fields["head_points"] = whole(scene.head_points)
    truth = None if needs == "cameras" else posed.depth
    if grid == "truth" and truth is not None:
        shapes = {one.shape for index in order if (one := truth.read(index)) is not None}
        if len(shapes) == 1 and seen.all() and not any(record.transform.cropped for record in records):
            (size,) = shapes
            fields = {name: _resized(values, size) for name, values in fields.items() if values.size} | {
                name: values for name, values in fields.items() if not values.size
            }
            seen = np.ones((len(records), *size), dtype=bool)
        elif shapes:
            grid = "network"
            notes.append("depth maps differ in size or pictures are cropped: compared at network pixels")
    intrinsics = whole(scene.intrinsics.astype(np.float64))
    intrinsics[:, 0] *= seen.shape[2] / scene.width
    intrinsics[:, 1] *= seen.shape[1] / scene.height
    if truth is not None:
        fields |= _truth(posed, order, records, seen.shape, grid == "network", needs == "points")
        if needs == "points" and posed.intrinsics is None:
            notes.append("the set has depth but no intrinsics: no points to compare")
    return ScenePair(
        found_cameras=whole(scene.cam_from_world),
        true_cameras=posed.cam_from_world[order],
        seen=seen,
        cloud=cloud,
        notes=tuple(notes),
        per_metre=1000.0 if posed.unit == "mm" else 1.0,
        found_intrinsics=intrinsics,
        **fields,
    )


def _found_points(scene: Reconstruction) -> Float[np.ndarray, "views height width 3"]:
    """World points of the depth, one view at a time: in float64 all of a thousand would not fit."""
    pixels = pixel_grid(scene.height, scene.width).reshape(-1, 2)
    points = np.empty((*scene.z_depth.shape, 3), dtype=np.float32)
    for index, depth in enumerate(scene.z_depth):
        own = scene.cam_from_world[index], scene.intrinsics[index], scene.pixel_centres
        points[index] = unproject(pixels, depth.ravel(), *own).reshape(*depth.shape, 3)
    return points


def _truth(
    posed: PosedSet,
    order: Sequence[int],
    records: Sequence[ViewRecord],
    shape: tuple[int, ...],
    at_network: bool,
    points: bool,
) -> dict[str, np.ndarray]:
    """`true_depth`, and with `points` and intrinsics `true_points`, one view at a time."""
    assert posed.depth is not None
    depth = np.full(shape, np.nan, dtype=np.float32)
    places = (
        np.full((*shape, 3), np.nan, dtype=np.float32) if points and posed.intrinsics is not None else None
    )
    for index, (at, record) in enumerate(zip(order, records)):
        own = posed.depth.read(at)
        if own is None:
            continue
        transform = record.transform
        depth[index] = depth_at_network_pixels(own, transform) if at_network else own
        if places is not None and posed.intrinsics is not None:
            camera = posed.cam_from_world[at], posed.intrinsics[at]
            places[index] = true_points(own, *camera, transform, at_network)
    return {"true_depth": depth} | ({} if places is None else {"true_points": places})


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
