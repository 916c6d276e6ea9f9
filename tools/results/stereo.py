"""How much depth is confirmed, and what it looks like: `python -m tools.results.stereo RESULT PICTURE.jpg`.

RESULT was made with `manyview reconstruct IMAGES --refine depth`. The picture shows its confirmed points from
ahead (orthographic, along the mean gaze of the cameras). With `--posed SET`, the RGB-D set of the
images, depth is compared with the measured one, after one scale for all views.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float, UInt8
from PIL import Image

from manyview.datasets import read_posed_set
from manyview.errors import UsageError
from manyview.export.orthographic import estimate_up
from manyview.reconstruction.inputs.views import depth_at_network_pixels
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.result import Reconstruction
from tools.command import run_command

_SHOWN = (1.0, 99.0)  # percentiles of the points that the picture covers


@dataclass(frozen=True)
class StereoFigures:
    """Print figures of RESULT and write PICTURE."""

    result: tyro.conf.Positional[Path]
    picture: tyro.conf.Positional[Path]
    posed: Path | None = None
    """The posed set of the images, with depth (docs/evaluation-posed.md)."""
    width: int = 600
    """Of the picture, in pixels."""
    turn_deg: float = 0.0
    """Look from so many degrees to the right of the cameras."""


def measure(args: StereoFigures) -> None:
    """Read, print and draw."""
    scene = load_reconstruction(args.result)
    if scene.confirmed is None:
        raise UsageError(f"{args.result}: has no confirmed depth; make it with --refine depth")
    seconds = scene.timings_s.get("confirm depth", float("nan")) / len(scene)
    print(
        f"{len(scene)} views of {scene.width}x{scene.height}, {seconds:.1f} s a view, "
        f"{scene.confirmed.mean():.1%} of the pixels confirmed"
    )
    if args.posed is not None:
        ratio, share = depth_ratios(scene, args.posed)
        error = np.abs(ratio / np.median(ratio) - 1)
        print(
            f"{share:.1%} of the measured pixels confirmed; relative error after one scale: median "
            f"{np.median(error):.2%}, mean {error.mean():.2%}, above 10 %: {(error > 0.1).mean():.1%}"
        )
    Image.fromarray(picture(scene, args.width, args.turn_deg)).save(args.picture, quality=88)


def depth_ratios(scene: Reconstruction, folder: Path) -> tuple[Float[np.ndarray, " n"], float]:
    """(found over measured depth of all confirmed pixels; the share of measured pixels that are)."""
    posed = read_posed_set(folder)
    if posed.depth is None or scene.confirmed is None:
        raise UsageError(f"{folder}: has no depth to compare with")
    place = {path.name: index for index, path in enumerate(posed.images)}
    ratios, measured = [], 0
    for index, view in enumerate(scene.views):
        depth = posed.depth.read(place[Path(view.name).name])
        truth = depth_at_network_pixels(depth, view.transform)
        measured += int(np.isfinite(truth).sum())
        both = np.isfinite(truth) & scene.confirmed[index]
        ratios.append(scene.z_depth[index][both] / truth[both])
    everything = np.concatenate(ratios)
    return everything, len(everything) / max(measured, 1)


def picture(scene: Reconstruction, width: int, turn_deg: float = 0.0) -> UInt8[np.ndarray, "height width 3"]:
    """The confirmed points along the mean gaze of the cameras, the nearest in front."""
    assert scene.confirmed is not None
    shown = [scene.confirmed[index] & scene.view_valid(index) for index in range(len(scene))]
    points = np.concatenate([scene.view_points(i)[mask] for i, mask in enumerate(shown)]).astype(np.float64)
    colours = np.concatenate([scene.images[i][mask] for i, mask in enumerate(shown)])
    ahead = scene.cam_from_world[:, 2, :3].mean(0)
    up = estimate_up(scene.cam_from_world)
    ahead -= up * (ahead @ up)
    ahead /= np.linalg.norm(ahead)
    right, turn = np.cross(ahead, up), np.radians(turn_deg)
    axes = np.stack(
        [
            np.cos(turn) * right + np.sin(turn) * ahead,
            -up,
            np.cos(turn) * ahead - np.sin(turn) * right,
        ]
    )
    x, y, z = axes @ points.T
    (left, right), (top, bottom) = np.percentile(x, _SHOWN), np.percentile(y, _SHOWN)
    scale = width / max(right - left, 1e-9)
    height = max(int((bottom - top) * scale), 1)
    columns, rows = ((x - left) * scale).astype(int), ((y - top) * scale).astype(int)
    inside = (columns >= 0) & (rows >= 0) & (columns < width) & (rows < height)
    order = np.flatnonzero(inside)[np.argsort(-z[inside], kind="stable")]
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    canvas[rows[order], columns[order]] = colours[order]
    return canvas


if __name__ == "__main__":
    sys.exit(run_command(StereoFigures, measure, "tools.results.stereo"))
