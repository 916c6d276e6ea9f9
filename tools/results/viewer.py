"""The viewer on a large result, in a browser that draws in software: `python -m tools.results.viewer OUT`.

A made-up result of many views (a wavy wall, seen by cameras that pass along it) is shown by `manyview view`'s
server in headless Chromium. Needs playwright and a chromium on the path.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from manyview.files.writing import write_files
from manyview.geometry.unproject_np import pixel_grid
from manyview.reconstruction.inputs.views import ViewRecord, ViewTransform
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.result import Reconstruction
from manyview.view import Viewer, ViewOptions, start_viewer
from tools.command import run_command
from tools.screenshot_viewer import viewer_page

_POLL_S = 0.05
_COUNT_FRAMES = """seconds => new Promise(done => {
  let frames = 0; const start = performance.now();
  const step = () => { frames += 1; const passed = (performance.now() - start) / 1000;
    passed < seconds ? requestAnimationFrame(step) : done(frames / passed); };
  requestAnimationFrame(step); })"""


@dataclass(frozen=True)
class ViewerTable:
    """Seconds to the first points and frames a second, on this machine."""

    out: tyro.conf.Positional[Path]
    """Folder for viewer.md and viewer.json."""
    views: tuple[int, ...] = (32, 1000)
    """Results of so many views, a row each."""
    size: tuple[int, int] = (518, 392)
    """WIDTH HEIGHT of a view in pixels."""
    page: tuple[int, int] = (1400, 900)
    """WIDTH HEIGHT of the browser's page in pixels."""
    max_points: int = ViewOptions.max_points
    seconds: float = 10.0
    """How long frames are counted."""


def write_made_up(folder: Path, views: int, width: int, height: int) -> None:
    """A result folder, in a process of its own: its arrays are no part of the viewer's memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(_save_made_up, folder, views, width, height).result()


def _save_made_up(folder: Path, views: int, width: int, height: int) -> None:
    made_up(views, width, height).save(folder)


def made_up(views: int, width: int, height: int) -> Reconstruction:
    """A wavy wall; the cameras are a tenth of its distance apart."""
    transform = ViewTransform(
        width, height, 1, width, height, width, height, 1.0, 1.0, 0.0, 0.0, (0, 0, width, height)
    )
    grid = pixel_grid(height, width).astype(np.float32)
    cam_from_world = np.tile(np.eye(4)[:3], (views, 1, 1))
    cam_from_world[:, 0, 3] = -0.1 * np.arange(views)
    focal = np.array([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
    images = np.empty((views, height, width, 3), np.uint8)
    z_depth = np.empty((views, height, width), np.float32)
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3), dtype=np.uint8)
    for index in range(views):
        along = 0.1 * index + (grid[..., 0] - width / 2) / width
        z_depth[index] = 1 + 0.05 * np.sin(9 * along) * np.cos(grid[..., 1] / 40)
        images[index] = noise + (90 + 80 * np.sin(7 * along)).astype(np.uint8)[..., None]
    conf = np.broadcast_to(1 + grid[..., 1] / height, z_depth.shape).copy()
    records = tuple(ViewRecord(f"{i:05d}.png", f"{i:05d}.png", transform) for i in range(views))
    return Reconstruction(images, cam_from_world, np.tile(focal, (views, 1, 1)), z_depth, conf, records)


def measure(folder: Path, options: ViewerTable) -> dict[str, float]:
    """Times of one result, from the start of the command's work on."""
    start = time.perf_counter()
    scene = load_reconstruction(folder)
    with start_viewer(scene, ViewOptions(port=0, max_points=options.max_points)) as viewer:
        figures = {"views": len(scene), "served_s": time.perf_counter() - start}
        first = viewer.shown_points
        with viewer_page(viewer, options.page, whole=False) as (page, _):
            client = _client(viewer)
            _drawn(client)
            figures |= {"first_points": first, "first_points_s": time.perf_counter() - start}
            while not viewer.whole:
                time.sleep(_POLL_S)
            _drawn(client)
            figures |= {"all_points_s": time.perf_counter() - start, "all_points": viewer.shown_points}
            figures["fps"] = _frames_a_second(page, client, options.seconds)
    figures["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def _client(viewer: Viewer) -> Any:
    """The browser, once its camera is known."""
    while True:
        for client in viewer.server.get_clients().values():
            return client
        time.sleep(_POLL_S)


def _drawn(client: Any) -> None:
    """Wait until an image of the page shows points: anything but its white background."""
    while True:
        image = client.get_render(90, 140, timeout=600)
        if (image[..., :3].min(axis=-1) < 200).mean() > 0.02:
            return
        time.sleep(_POLL_S)


def _frames_a_second(page: Any, client: Any, seconds: float) -> float:
    """Frames that the page draws a second while the mouse turns its camera."""
    box = page.locator("canvas").last.bounding_box()
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    counting = page.evaluate_handle(f"window.counted = ({_COUNT_FRAMES})({seconds})")
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        page.mouse.move(x + 80 * np.sin(3 * (time.perf_counter() - start)), y)
    page.mouse.up()
    counting.dispose()
    return float(page.evaluate("window.counted"))


def write_table(options: ViewerTable) -> int:
    """Run every row, smallest first, and write the table."""
    from manyview.reconstruction.plan.environment import commit, cpu_name

    rows = []
    for views in sorted(options.views):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made) / "out"
            write_made_up(folder, views, *options.size)
            rows.append(measure(folder, options))
    figures = {
        "command": "python -m tools.results.viewer",
        "cpu": cpu_name(),
        "commit": commit(),
        "viser": importlib.metadata.version("viser"),
        "size": list(options.size),
        "page": list(options.page),
        "rows": rows,
    }
    write_files(options.out, {"viewer.json": figures, "viewer.md": page_of(figures)})
    return 0


def page_of(figures: dict[str, Any]) -> str:
    """Markdown of the figures."""
    lines = [
        "# The viewer",
        "",
        f"`{figures['command']} docs/results/viewer`: views of {'x'.join(map(str, figures['size']))} pixels, "
        f"a page of {'x'.join(map(str, figures['page']))}, headless Chromium that draws in software "
        f"(SwiftShader) on {figures['cpu']} beside the server, viser {figures['viser']}. Seconds count from "
        "the start of reading the result, whose file was just written; frames while the mouse turns the "
        "camera. The peak is that of the server's process, with what it maps of the result.",
        "",
        "| views | page served, s | first points | on the page, s | all points | on the page, s | frames/s | "
        "peak, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        lines.append(
            f"| {row['views']:,} | {row['served_s']:.1f} | {row['first_points']:,} | "
            f"{row['first_points_s']:.1f} | {row['all_points']:,} | {row['all_points_s']:.1f} | "
            f"{row['fps']:.1f} | {row['peak_mib']:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    return run_command(ViewerTable, write_table, "tools.results.viewer")


if __name__ == "__main__":
    sys.exit(main())
