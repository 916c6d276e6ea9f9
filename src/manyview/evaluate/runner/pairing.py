"""A reconstruction and the ground truth of its images as a `ScenePair`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from ...datasets.posed_set import PosedSet
from ...errors import InputError
from ...files.paths import path_as_text
from ...files.ply_mesh import Mesh
from ...geometry.unproject_np import unproject
from ...reconstruction.inputs.views import (
    ViewRecord,
    ViewTransform,
    depth_at_network_pixels,
    sampled_pixels,
)
from ...reconstruction.result.result import Reconstruction
from ..protocols.scene_pair import Grid, Needs, ScenePair


def pair_of(
    scene: Reconstruction,
    given: Sequence[ViewRecord],
    posed: PosedSet,
    grid: Grid = "network",
    cloud: Mesh | None = None,
    needs: Needs = "points",
) -> ScenePair:
    """Put an estimate of the views `given` beside the truth, as far as measures need it.

    On the grid "truth" the estimate is resized to the depth maps of the truth (bilinear, antialiased), as
    pi3's evaluation does, on "truth-bicubic" by bicubic interpolation as OpenCV's; where their sizes differ
    or images are cropped or padded, the network's is used and `notes` say so.
    """
    notes = []
    # Refined depth may be larger than the network's.
    own = {record.source: record for record in scene.views}
    records = [own.get(record.source, record) for record in given]
    order = in_network_order(posed, records)
    place = {record.source: index for index, record in enumerate(records)}
    found = [place[record.source] for record in scene.views]
    size = (scene.height, scene.width)
    shown = (record.transform for record in records)
    seen = np.stack([t.content_mask() if t.network_size == size else np.zeros(size, bool) for t in shown])

    def whole(values: np.ndarray) -> np.ndarray:
        out = np.full((len(records), *values.shape[1:]), np.nan, dtype=values.dtype)
        out[found] = values
        return out

    fields = {"found_depth": whole(scene.z_depth), "confidence": whole(scene.depth_conf)}
    if needs == "points":
        fields["found_points"] = whole(scene.world_points)
        if scene.head_points is not None:
            fields["head_points"] = whole(scene.head_points)
    truth = None if needs == "cameras" else posed.depth
    if grid != "network" and truth is not None:
        shapes = {one.shape for index in order if (one := truth.read(index)) is not None}
        if len(shapes) == 1 and seen.all() and not any(record.transform.cropped for record in records):
            (true_size,) = shapes
            mode = "bicubic" if grid == "truth-bicubic" else "bilinear"
            fields = {name: _resized(values, true_size, mode) for name, values in fields.items()}
            seen = np.ones((len(records), *true_size), dtype=bool)
        elif shapes:
            grid = "network"
            notes.append("depth maps differ in size or images are cropped: compared at network pixels")
    fields.setdefault("found_points", np.zeros((len(records), 0, 0, 3), dtype=np.float32))
    confirmed = None
    if scene.confirmed is not None and seen.shape[1:] == size:
        confirmed = np.zeros(seen.shape, dtype=bool)
        confirmed[found] = scene.confirmed
    intrinsics = whole(scene.intrinsics.astype(np.float64))
    intrinsics[:, 0] *= seen.shape[2] / scene.width
    intrinsics[:, 1] *= seen.shape[1] / scene.height
    true_intrinsics = None
    if posed.intrinsics is not None:
        maps = np.stack([record.transform.network_from_upright for record in records])
        maps[:, 0] *= seen.shape[2] / scene.width
        maps[:, 1] *= seen.shape[1] / scene.height
        true_intrinsics = maps @ posed.intrinsics[order]
    if truth is not None:
        fields |= ground_truth(posed, records, seen.shape, grid == "network", needs == "points")
        if needs == "points" and posed.intrinsics is None:
            notes.append("the set has depth but no intrinsics: no points to compare")
    return ScenePair(
        found_cameras=whole(scene.cam_from_world),
        true_cameras=posed.cam_from_world[order],
        seen=seen,
        cloud=None if cloud is None else cloud.vertices,
        triangles=None if cloud is None else cloud.triangles,
        notes=tuple(notes),
        per_metre=1000.0 if posed.unit == "mm" else 1.0,
        found_intrinsics=intrinsics,
        true_intrinsics=true_intrinsics,
        confirmed=confirmed,
        **fields,
    )


def ground_truth(
    posed: PosedSet,
    records: Sequence[ViewRecord],
    shape: tuple[int, ...],
    at_network: bool = True,
    points: bool = False,
) -> dict[str, np.ndarray]:
    """`true_depth`, and with `points` and intrinsics `true_points`, one view at a time."""
    assert posed.depth is not None
    arrays = {"true_depth": np.full(shape, np.nan, dtype=np.float32)}
    if points and posed.intrinsics is not None:
        arrays["true_points"] = np.full((*shape, 3), np.nan, dtype=np.float32)
    for index, (at, record) in enumerate(zip(in_network_order(posed, records), records)):
        own = posed.depth.read(at)
        if own is None or (at_network and record.transform.network_size != shape[1:]):
            continue
        arrays["true_depth"][index] = depth_at_network_pixels(own, record.transform) if at_network else own
        if "true_points" in arrays and posed.intrinsics is not None:
            camera = posed.cam_from_world[at], posed.intrinsics[at]
            arrays["true_points"][index] = true_points(own, *camera, record.transform, at_network)
    return arrays


def _resized(values: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """One view at a time, so that only one is copied."""
    channels = values.shape[3:] or (1,)
    out = np.empty((len(values), *size, *channels), dtype=np.float32)
    for index, one in enumerate(values):
        tensor = (
            torch.from_numpy(np.ascontiguousarray(one)).reshape(*one.shape[:2], -1).permute(2, 0, 1)[None]
        )
        smooth = mode == "bilinear"
        resized = F.interpolate(tensor.float(), size, mode=mode, antialias=smooth, align_corners=False)
        out[index] = resized[0].permute(1, 2, 0).numpy()
    return out.reshape(len(values), *size, *values.shape[3:])


def in_network_order(posed: PosedSet, records: Sequence[ViewRecord]) -> list[int]:
    """The set's index of each view of a run. InputError for an image that its EXIF tag rotates."""
    given = {path_as_text(os.path.abspath(path)): index for index, path in enumerate(posed.images)}
    rotated = [record.name for record in records if record.transform.orientation != 1]
    if rotated:
        raise InputError(
            f"{rotated[0]}: its EXIF tag rotates the image, but its camera is that of the stored pixels; "
            "remove the tag from the images of this set"
        )
    return [given[record.source] for record in records]


def true_points(
    depth: Float[np.ndarray, "rows columns"],
    cam_from_world: Float[np.ndarray, "3 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    transform: ViewTransform,
    at_network: bool,
) -> Float[np.ndarray, "height width 3"]:
    """World points of a depth map, NaN where there is no depth: all of them, or those under network pixels.

    `intrinsics` are in pixels of the image, whose field of view the depth map shares. The ray is that of
    the depth pixel itself, so sampling moves no point.
    """
    rows, columns = depth.shape
    row, column = np.arange(rows), np.arange(columns)
    if at_network:
        row, column = sampled_pixels(transform, rows, columns)
        depth = np.where(transform.content_mask(), depth[np.ix_(row, column)], np.nan)
    x = (column + 0.5) * transform.upright_width / columns
    y = (row + 0.5) * transform.upright_height / rows
    pixels = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    points = unproject(pixels, depth.ravel(), cam_from_world, intrinsics)
    return points.reshape(*depth.shape, 3).astype(np.float32)


def camera_pair(
    cam_from_world: Float[np.ndarray, "views 3 4"],
    posed: PosedSet,
    intrinsics: Float[np.ndarray, "views 3 3"] | None = None,
) -> ScenePair:
    """Cameras alone beside the true ones, in the set's own order; no depth, no points."""
    nothing = np.zeros((len(posed), 0, 0), dtype=np.float32)
    return ScenePair(
        found_cameras=cam_from_world,
        true_cameras=posed.cam_from_world,
        found_depth=nothing,
        confidence=nothing,
        found_points=np.zeros((len(posed), 0, 0, 3), dtype=np.float32),
        seen=nothing.astype(bool),
        found_intrinsics=intrinsics,
        true_intrinsics=posed.intrinsics,
    )
