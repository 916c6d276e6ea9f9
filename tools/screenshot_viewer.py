r"""An image of the viewer in a headless browser, to see what a user sees, or a film of its scene.

    python -m tools.screenshot_viewer viewer.png [--scene OUT] [--set frame=5 "points_of=this frame"]

docs/images/viewer.webp, PHOTOS being the images of statue-saharov:

    manyview reconstruct PHOTOS OUT --model manyview-small --refine depth
    python -m tools.screenshot_viewer docs/images/viewer.webp --scene OUT --frames 48 --size 800 450 \
        --percentile 76 --set point_size=1.6

Without --scene, the demo scene with its exact depth and cameras is shown. Needs playwright and a
chromium on the path, and no graphics card.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track
from viser.transforms import SO3

from manyview.geometry.unproject_np import camera_centres
from manyview.reconstruction.inputs.views import ViewRecord, ViewTransform
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.result import Reconstruction
from manyview.synthetic import demo_scene
from manyview.view import Viewer, ViewOptions, start_viewer
from manyview.view.space import first_eye

_SWING_DEG = 40
BROWSER_ARGUMENTS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--disable-background-networking",
)


def demo_truth() -> Reconstruction:
    """The demo scene as a perfect reconstruction; nearer pixels count as more certain."""
    batch = demo_scene()
    images = (batch.images[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    count, height, width, _ = images.shape
    transform = ViewTransform(
        width, height, 1, width, height, width, height, 1.0, 1.0, 0.0, 0.0, (0, 0, width, height)
    )
    z_depth = batch.z_depth[0].float().numpy()
    return Reconstruction(
        images=images,
        cam_from_world=batch.cam_from_world[0].double().numpy(),
        intrinsics=batch.intrinsics[0].double().numpy(),
        z_depth=z_depth,
        depth_conf=(1 + 10 / np.maximum(z_depth, 1e-3)).astype(np.float32),
        views=tuple(ViewRecord(f"{i:04d}.png", f"{i:04d}.png", transform) for i in range(count)),
    )


def browser_path() -> str | None:
    """The Chromium on the path, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def viewer_page(viewer: Viewer, size: tuple[int, int], whole: bool = True) -> Iterator[tuple[Any, list[str]]]:
    """The viewer's page in a headless browser, and the addresses beyond the viewer that it asks for.

    `whole` waits until the points of all views have been read.
    """
    from playwright.sync_api import sync_playwright

    outside: list[str] = []
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            profile,
            executable_path=browser_path(),
            args=list(BROWSER_ARGUMENTS),
            viewport={"width": size[0], "height": size[1]},
        )
        page = context.new_page()
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((viewer.url.partition("?")[0], "data:", "blob:"))
                else outside.append(request.url)
            ),
        )
        while whole and not viewer.whole:
            time.sleep(0.1)
        page.goto(viewer.url)
        page.wait_for_selector("canvas", state="attached", timeout=120_000)
        yield page, outside
        context.close()


def take_screenshot(viewer: Viewer, path: Path, size: tuple[int, int], wait_s: float) -> list[str]:
    """Save what the page shows after `wait_s`; returns the addresses outside that the page asked for."""
    with viewer_page(viewer, size) as (page, outside):
        time.sleep(wait_s)
        # Chromium draws in software here, and viser says so in a note over the scene.
        for button in page.locator(".mantine-Notification-closeButton").all():
            button.click()
        time.sleep(1)
        page.screenshot(path=str(path))
    return outside


def film(viewer: Viewer, path: Path, size: tuple[int, int], frames: int, wait_s: float) -> None:
    """Save an animated WebP: the eye swings around the cameras, once there and back.

    The eye looks at the middle of the cameras, 1.75 times as far away as the farthest camera.
    """
    space = viewer.space
    centres = space(camera_centres(viewer.scene.cam_from_world)).astype(np.float64)
    middle = (centres.min(axis=0) + centres.max(axis=0)) / 2
    reach = 1.75 * float(np.linalg.norm(centres - middle, axis=1).max())
    eye = first_eye(viewer.scene, space)
    angles = np.deg2rad(_SWING_DEG) * np.sin(np.linspace(0, 2 * np.pi, frames, endpoint=False))
    pictures = []
    with viewer_page(viewer, size):
        time.sleep(wait_s)
        client = next(iter(viewer.server.get_clients().values()))
        for angle in track(angles, "frames"):
            back = SO3.exp(angle * space.up).apply(eye / np.linalg.norm(eye))
            right = np.cross(-back, space.up)
            right /= np.linalg.norm(right)
            axes = np.stack([right, np.cross(-back, right), -back], axis=1)
            drawn = client.get_render(
                size[1], size[0], wxyz=SO3.from_matrix(axes).wxyz, position=middle + reach * back, fov=0.8
            )
            pictures.append(Image.fromarray(drawn))
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=80, loop=0, quality=60, method=6
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", type=Path, help="PNG; animated WebP with --frames")
    parser.add_argument("--scene", type=Path, help="result folder of manyview reconstruct")
    parser.add_argument(
        "--set", nargs="*", default=[], help="controls of the panel, as name=number or name=word"
    )
    parser.add_argument("--size", nargs=2, type=int, default=(1400, 900))
    parser.add_argument("--percentile", type=float, default=0.0)
    parser.add_argument("--wait", type=float, default=15.0, help="seconds before the screenshot")
    parser.add_argument("--frames", type=int, help="film: the eye swings around the cameras")
    arguments = parser.parse_args()
    scene = load_reconstruction(arguments.scene) if arguments.scene else demo_truth()
    with start_viewer(scene, ViewOptions(port=0, conf_percentile=arguments.percentile)) as viewer:
        for item in arguments.set:
            name, _, value = item.partition("=")
            control = getattr(viewer.panel, name)
            control.value = value if isinstance(control.value, str) else type(control.value)(float(value))
        size = tuple(arguments.size)
        if arguments.frames:
            film(viewer, arguments.picture, size, arguments.frames, arguments.wait)
        else:
            outside = take_screenshot(viewer, arguments.picture, size, arguments.wait)
            print(f"{arguments.picture}: {len(outside)} requests beyond the viewer {outside[:5]}")


if __name__ == "__main__":
    main()
