"""An image of the viewer in a headless browser, to see what a user sees.

    python -m tools.screenshot_viewer viewer.png [--scene OUT] [--set frame=5 only_frame=1]

Without --scene, the demo scene with its exact depth and cameras is shown. Needs playwright and a
chromium on the path, and no graphics card.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from manyview.reconstruction.inputs.views import ViewRecord, ViewTransform
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.result import Reconstruction
from manyview.synthetic import demo_scene
from manyview.view import Viewer, ViewOptions, start_viewer

_BROWSER_ARGUMENTS = (
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


def take_screenshot(viewer: Viewer, path: Path, size: tuple[int, int], wait_s: float) -> list[str]:
    """Save what the page shows after `wait_s`; returns the addresses outside that the page asked for."""
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    outside: list[str] = []
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            profile,
            executable_path=browser,
            args=list(_BROWSER_ARGUMENTS),
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
        page.goto(viewer.url)
        page.wait_for_selector("canvas")
        time.sleep(wait_s)
        # Chromium draws in software here, and viser says so in a note over the scene.
        for button in page.locator(".mantine-Notification-closeButton").all():
            button.click()
        time.sleep(1)
        page.screenshot(path=str(path))
        context.close()
    return outside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("png", type=Path)
    parser.add_argument("--scene", type=Path, help="result folder of manyview reconstruct")
    parser.add_argument(
        "--set", nargs="*", default=[], help="controls of the panel, as name=number or name=word"
    )
    parser.add_argument("--size", nargs=2, type=int, default=(1400, 900))
    parser.add_argument("--percentile", type=float, default=0.0)
    parser.add_argument("--wait", type=float, default=15.0, help="seconds before the screenshot")
    arguments = parser.parse_args()
    scene = load_reconstruction(arguments.scene) if arguments.scene else demo_truth()
    with start_viewer(scene, ViewOptions(port=0, conf_percentile=arguments.percentile)) as viewer:
        for item in arguments.set:
            name, _, value = item.partition("=")
            control = getattr(viewer.panel, name)
            control.value = value if isinstance(control.value, str) else type(control.value)(float(value))
        outside = take_screenshot(viewer, arguments.png, tuple(arguments.size), arguments.wait)
    print(f"{arguments.png}: {len(outside)} requests beyond the viewer {outside[:5]}")


if __name__ == "__main__":
    main()
