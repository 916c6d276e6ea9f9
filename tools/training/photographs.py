"""COLMAP sets as training data: `python -m tools.training.photographs SET... --out OUT`.

OUT/NAME gets the images without lens distortion, their cameras as pinholes, and a depth map of each in the
model's unit, zero where no two other views confirm it: `manyview.refine.stereo` between the known cameras.
A set that is there already is left as it is, so the command goes on where it stopped.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import tyro
from PIL import Image

from manyview.cli.console import Bars
from manyview.datasets.colmap_model import model_folder, read_views, views_with_images
from manyview.errors import InputError, UsageError, optional_module
from manyview.geometry.unproject_np import project
from manyview.reconstruction.inputs.preprocess import paste_on_canvas, plan_view, render_view, shared_canvas
from manyview.reconstruction.inputs.views import ViewRecord
from manyview.reconstruction.result.result import Reconstruction
from manyview.reconstruction.result.tracks import Tracks
from manyview.refine.stereo import StereoOptions, confirm_depth
from tools.command import run_command

_MOST_POINTS = 4000


@dataclass(frozen=True)
class Photographs:
    """Prepare sets for `manyview train --photos OUT/NAME...`."""

    sets: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with images/ and a COLMAP model with points in sparse/0/ or sparse/, or results of `manyview
    reconstruct --refine --to colmap`."""
    out: Path
    """Where the prepared sets go."""
    size: int = 448
    """Longer side of the images, in pixels."""
    depth_size: int = 320
    """Longer side of the depth maps."""


def prepare_all(args: Photographs) -> None:
    """Prepare every set that is not there yet. Raises UsageError for two sets of one name."""
    names = [folder.resolve().name for folder in args.sets]
    for folder, name in zip(args.sets, names):
        if names.count(name) > 1:
            raise UsageError(
                f"{folder}: another set is called {name}, too; give each folder a name of its own"
            )
        target = args.out / name
        if target.is_dir():
            continue
        start = time.perf_counter()
        part = target.with_name(f"{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        undistort(folder, part, args.size)
        share = add_depth(part, args.depth_size)
        part.rename(target)
        seconds = time.perf_counter() - start
        print(f"{target}: {share:.0%} of the pixels confirmed, {seconds:.0f} s", flush=True)


def undistort(folder: Path, target: Path, size: int) -> None:
    """Write the images of a set, at most `size` pixels on the longer side, and their cameras, as pinholes.

    Raises InputError for a folder without a COLMAP model with points.
    """
    place = model_folder(folder)
    near = () if place is None else (place, *place.parents[:2])
    images = next((above / "images" for above in near if (above / "images").is_dir()), None)
    if place is None or images is None or not any(place.glob("points3D.*")):
        raise InputError(
            f"{folder}: holds no COLMAP model with points beside images/; make one with COLMAP, or with "
            "`manyview reconstruct IMAGES RESULT --refine --to colmap`"
        )
    pycolmap = optional_module("pycolmap", "Lens distortion", "colmap")
    pycolmap.logging.minloglevel = int(pycolmap.logging.ERROR)
    options = pycolmap.UndistortCameraOptions()
    options.max_image_size = size
    target.mkdir(parents=True)
    try:
        pycolmap.undistort_images(target, place, images, jpeg_quality=92, undistort_options=options)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{place}: COLMAP cannot undistort its images ({error}); export it again") from error
    shutil.rmtree(target / "stereo", ignore_errors=True)  # settings of COLMAP's own stereo
    for script in target.glob("run-colmap-*.sh"):
        script.unlink()


def add_depth(folder: Path, size: int) -> float:
    """Measure depth of a set of pinholes; returns the share of pixels with confirmed depth.

    `depth/NAME.npy` is float32 z-depth, at most `size` pixels on the longer side, 0 where none is confirmed.
    Raises InputError for a set without images.
    """
    place = folder / "sparse"
    views = views_with_images(read_views(place), folder / "images", place)
    if not views:
        raise InputError(f"{folder}: none of the images of its model is there; put them into images/")
    pycolmap = optional_module("pycolmap", "Depth of a COLMAP model", "colmap")
    points = np.array([point.xyz for point in pycolmap.Reconstruction(place).points3D.values()])
    if not len(points):
        raise InputError(
            f"{folder}: its model has no points, which say how far depth is searched; make it again"
        )
    points = points[:: max(1, len(points) // _MOST_POINTS)]
    names = [image.name for _, image, _ in views]
    cameras = np.stack([image.cam_from_world for _, image, _ in views])
    matrices = np.stack([camera.intrinsics for _, _, camera in views])
    scene = _scene([path for path, _, _ in views], names, cameras, matrices, points, size)
    with Bars() as bars:
        options = StereoOptions(size=size, neighbours=5)
        found = confirm_depth(scene, options=options, device="cpu", progress=bars)
    assert found.confirmed is not None
    depth = np.where(found.confirmed, found.z_depth, 0).astype(np.float32)
    for name, view, values in zip(names, found.views, depth, strict=True):
        left, top, right, bottom = view.transform.content_box
        file = folder / "depth" / PurePath(name).with_suffix(".npy")
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, values[top:bottom, left:right])
    return float(found.confirmed.mean())


def _scene(
    paths: list[Path],
    names: list[str],
    cameras: np.ndarray,
    intrinsics: np.ndarray,
    points: np.ndarray,
    size: int,
) -> Reconstruction:
    """The views at the size of stereo; every point counts as seen by all views that it projects into."""
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(image.convert("RGB"))
    plans = [plan_view(*picture.size, "fit", size, 1) for picture in pictures]
    height, width = shared_canvas(plans, "fit")
    pixels = np.zeros((len(plans), height, width, 3), dtype=np.uint8)
    records = []
    for index, (picture, plan) in enumerate(zip(pictures, plans)):
        transform = paste_on_canvas(pixels[index], render_view(picture, plan, "fit"), plan)
        records.append(ViewRecord(names[index], names[index], transform))
    matrices = np.stack([r.transform.network_from_upright @ k for r, k in zip(records, intrinsics)])
    at, z = project(points[None], cameras, matrices)
    boxes = np.array([record.transform.content_box for record in records])[:, None]
    seen = ((at >= boxes[..., :2]) & (at < boxes[..., 2:])).all(-1) & (z > 0)
    point_index, view_index = np.nonzero(seen.T)
    colours = np.zeros((len(points), 3), np.uint8)
    tracks = Tracks(points, colours, point_index, view_index, at[view_index, point_index])
    nothing = np.ones(pixels.shape[:3], np.float32)
    return Reconstruction(pixels, cameras, matrices, nothing, nothing, tuple(records), tracks=tracks)


if __name__ == "__main__":
    sys.exit(run_command(Photographs, prepare_all, "tools.training.photographs"))
