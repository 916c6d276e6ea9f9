"""`python -m tools.training.photographs SET... OUT`: COLMAP sets as training data, with confirmed depth.

Each SET is a folder with `images/` and a COLMAP model with points. OUT/NAME gets the images without lens
distortion (longer side `--size`), their cameras as a COLMAP model of pinholes, and for each a depth map in
the model's unit, zero where no two other views confirm it: `manyview.refine.stereo` between the known
cameras. A set that is there already is left as it is, so the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from manyview.datasets.colmap_model import ColmapCamera, model_folder, read_views, views_with_images
from manyview.errors import InputError
from manyview.geometry.cameras import quat_xyzw_from_rotation
from manyview.geometry.unproject_np import project
from manyview.reconstruction.inputs.preprocess import paste_on_canvas, plan_view, render_view, shared_canvas
from manyview.reconstruction.inputs.views import ViewRecord
from manyview.reconstruction.result.result import Reconstruction
from manyview.reconstruction.result.tracks import Tracks
from manyview.refine.stereo import StereoOptions, confirm_depth

_EXACT = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL")
_MOST_POINTS = 4000


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.training.photographs", description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=448, help="longer side of the images")
    parser.add_argument("--depth-size", type=int, default=320, help="longer side of the depth maps")
    options = parser.parse_args(arguments)
    for folder in options.sets:
        target = options.out / folder.name
        if target.is_dir():
            continue
        start = time.perf_counter()
        share = prepare(folder, target, options.size, options.depth_size)
        seconds = time.perf_counter() - start
        print(f"{folder.name}: {share:.0%} of the pixels confirmed, {seconds:.0f} s", flush=True)
    return 0


def prepare(folder: Path, target: Path, size: int, depth_size: int) -> float:
    """Write one set; returns the share of pixels with confirmed depth. Raises InputError without points."""
    place = model_folder(folder)
    if place is None or not (place / "points3D.txt").is_file():
        raise InputError(f"{folder}: holds no COLMAP model as text with points")
    views = views_with_images(read_views(place), folder / "images", place)
    points = np.loadtxt(place / "points3D.txt", usecols=(1, 2, 3))
    points = points[:: max(1, len(points) // _MOST_POINTS)]
    pictures = [_undistorted(path, camera, size) for path, _, camera in views]
    cameras = np.stack([image.cam_from_world for _, image, _ in views])
    names = [f"{Path(image.name).stem}.jpg" for _, image, _ in views]
    scene = _scene(names, pictures, cameras, points, depth_size)
    found = confirm_depth(scene, options=StereoOptions(size=depth_size, neighbours=5), device="cpu")
    assert found.confirmed is not None
    part = target.with_name(f"{target.name}.part")
    for name in ("images", "depth", "sparse"):
        (part / name).mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[str]] = {"cameras": [], "images": []}
    for number, (name, (picture, intrinsics)) in enumerate(zip(names, pictures), 1):
        picture.save(part / "images" / name, quality=92)
        left, top, right, bottom = found.views[number - 1].transform.content_box
        inside = np.s_[number - 1, top:bottom, left:right]
        depth = np.where(found.confirmed[inside], found.z_depth[inside], 0)
        np.save(part / "depth" / f"{Path(name).stem}.npy", depth.astype(np.float32))
        lens = " ".join(f"{intrinsics[i]:.6f}" for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        rows["cameras"].append(f"{number} PINHOLE {picture.width} {picture.height} {lens}")
        quaternion = _quat_wxyz(cameras[number - 1, :, :3])
        pose = " ".join(f"{value:.9g}" for value in (*quaternion, *cameras[number - 1, :, 3]))
        rows["images"] += [f"{number} {pose} {number} {name}", ""]
    for name, lines in rows.items():
        (part / "sparse" / f"{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    part.rename(target)
    return float(found.confirmed.mean())


def _undistorted(path: Path, camera: ColmapCamera, size: int) -> tuple[Image.Image, np.ndarray]:
    """The image of a pinhole of the same focal length and principal point, and its intrinsics."""
    if camera.model not in _EXACT:
        raise InputError(f"{path}: distortion of model {camera.model} is not known here")
    k1, k2 = (*camera.distortion, 0.0, 0.0)[:2]
    with Image.open(path) as file:
        image = file.convert("RGB")
    scale = min(size / max(image.size), 1.0)
    width, height = (max(1, round(side * scale)) for side in image.size)
    original = camera.intrinsics
    intrinsics = np.diag([width / camera.width, height / camera.height, 1.0]) @ original
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    x = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = ((np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1])[:, None]
    square = x * x + y * y
    radial = 1 + k1 * square + k2 * square * square
    u = (x * radial * intrinsics[0, 0] + intrinsics[0, 2]) / width
    v = (y * radial * intrinsics[1, 1] + intrinsics[1, 2]) / height
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].double()
    grid = torch.from_numpy(2 * np.stack([u, v], -1) - 1)[None]
    found = F.grid_sample(pixels, grid, mode="bicubic", padding_mode="border", align_corners=False)
    array = found[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
    return Image.fromarray(array), intrinsics


def _scene(
    names: list[str],
    pictures: list[tuple[Image.Image, np.ndarray]],
    cameras: np.ndarray,
    points: np.ndarray,
    size: int,
) -> Reconstruction:
    """The views at the size of stereo; every point counts as seen by all views that it projects into."""
    plans = [plan_view(*picture.size, "fit", size, 1) for picture, _ in pictures]
    height, width = shared_canvas(plans, "fit")
    pixels = np.zeros((len(plans), height, width, 3), dtype=np.uint8)
    intrinsics, records = [], []
    for index, ((picture, matrix), plan) in enumerate(zip(pictures, plans)):
        transform = paste_on_canvas(pixels[index], render_view(picture, plan, "fit"), plan)
        intrinsics.append(transform.network_from_upright @ matrix)
        records.append(ViewRecord(names[index], names[index], transform))
    matrices = np.stack(intrinsics)
    at, z = project(points[None], cameras, matrices)
    boxes = np.array([record.transform.content_box for record in records])[:, None]
    seen = ((at >= boxes[..., :2]) & (at < boxes[..., 2:])).all(-1) & (z > 0)
    point_index, view_index = np.nonzero(seen.T)
    tracks = Tracks(
        points, np.zeros((len(points), 3), np.uint8), point_index, view_index, at[view_index, point_index]
    )
    shape = pixels.shape[:3]
    nothing = np.ones(shape, np.float32)
    return Reconstruction(pixels, cameras, matrices, nothing, nothing, tuple(records), tracks=tracks)


def _quat_wxyz(rotation: np.ndarray) -> np.ndarray:
    x, y, z, w = quat_xyzw_from_rotation(torch.from_numpy(rotation)).tolist()
    return np.array([w, x, y, z])


if __name__ == "__main__":
    sys.exit(main())
