"""The panel beside the scene: sliders, switches, and the image of one frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ..export.images import confidence_image, depth_image
from ..files.naming import counted
from ..reconstruction.result.result import Reconstruction
from .cameras import unpadded, unrefined_views
from .cloud import LEVEL_STEP, LEVELS

IMAGE_KINDS = ("image", "depth", "confidence")
_POINT_SIZE = 0.025  # page units; the scene is 10 across
_QUALITY = 88


@dataclasses.dataclass(frozen=True)
class Choices:
    """The state of all controls."""

    percentile: float
    point_size: float = _POINT_SIZE
    frame: int = 0
    only_frame: bool = False
    show_as: str = "image"
    cameras: bool = True
    images: bool = True
    camera_size: float = 1.0


class Panel:
    """The controls of `server`; any change calls `changed`, the button calls `look_through` with a client."""

    def __init__(
        self,
        server: Any,
        scene: Reconstruction,
        start: Choices,
        changed: Callable[[], None],
        look_through: Callable[[Any], None],
    ) -> None:
        gui, self._start, self._unrefined = server.gui, start, unrefined_views(scene)
        gui.configure_theme(show_share_button=False, show_logo=False)
        gui.set_panel_label("ManyView")
        self.warnings = [gui.add_markdown(f"**Warning:** {text}") for text in scene.warnings]
        gui.add_markdown(headline(scene))
        with gui.add_folder("Points"):
            self.percentile = gui.add_slider(
                "Hide unsure %", 0, (LEVELS - 1) * LEVEL_STEP, LEVEL_STEP, start.percentile,
                hint="Share of all pixels, the least confident ones, that is not shown",
            )  # fmt: skip
            self.point_size = gui.add_slider("Point size", 0.002, 0.1, 0.001, start.point_size)
            self.shown = gui.add_markdown("")
        with gui.add_folder("Frame"):
            self.frame = None
            if len(scene) > 1:
                self.frame = gui.add_slider("Frame", 0, len(scene) - 1, 1, start.frame)
            self.name = gui.add_markdown("")
            self.show_as = gui.add_dropdown("Show", IMAGE_KINDS, initial_value=start.show_as)
            self.image = gui.add_image(frame_image(scene, start.frame, start.show_as), jpeg_quality=_QUALITY)
            self.only_frame = gui.add_checkbox("Only this frame's points", start.only_frame)
            self.look = gui.add_button("Look through this camera")
        with gui.add_folder("Cameras"):
            self.cameras = gui.add_checkbox("Show cameras", start.cameras)
            self.images = gui.add_checkbox("Show their images", start.images)
            self.camera_size = gui.add_slider("Size", 0.1, 4.0, 0.1, start.camera_size)
        controls = (
            self.percentile, self.point_size, self.frame, self.show_as, self.only_frame,
            self.cameras, self.images, self.camera_size,
        )  # fmt: skip
        for control in controls:
            if control is not None:
                control.on_update(lambda _: changed())
        self.look.on_click(lambda event: look_through(event.client))

    def read(self) -> Choices:
        """The current state."""
        return Choices(
            percentile=float(self.percentile.value),
            point_size=float(self.point_size.value),
            frame=self._start.frame if self.frame is None else int(self.frame.value),
            only_frame=bool(self.only_frame.value),
            show_as=str(self.show_as.value),
            cameras=bool(self.cameras.value),
            images=bool(self.images.value),
            camera_size=float(self.camera_size.value),
        )

    def pick_frame(self, index: int) -> None:
        """Move the frame slider, which calls `changed`."""
        if self.frame is not None:
            self.frame.value = index

    def show_frame(self, scene: Reconstruction, choices: Choices) -> None:
        """Display name and image of the chosen frame."""
        # A name may hold characters that Markdown would read as mark-up.
        label = f"`{scene.names[choices.frame].replace('`', chr(39))}`"
        self.name.content = f"{label} (camera not refined)" if self._unrefined[choices.frame] else label
        self.image.image = frame_image(scene, choices.frame, choices.show_as)

    def show_count(self, shown: int, total: int) -> None:
        """Display how many points are on the page."""
        self.shown.content = f"{shown:,} of {total:,} points" if total else "there are no valid points"


def headline(scene: Reconstruction) -> str:
    """What the page shows, and the verdict on it, in a few lines of Markdown."""
    line = f"**{counted(len(scene), 'frame')}** of {scene.width} × {scene.height} pixels"
    if scene.refinement is not None:
        left = int(unrefined_views(scene).sum())
        some = f", but for {left} (grey)" if left else ""
        line += f"\n\nCameras: **{f'refined{some}' if scene.refinement.get('accepted') else 'not refined'}**"
    if scene.quality is None or scene.quality.get("grade") is None:
        return line
    # As code: it may name views, whose characters Markdown would read as mark-up.
    sentence = str(scene.quality.get("sentence")).replace("`", "'")
    return f"{line}\n\nQuality: **{scene.quality['grade']}**\n\n`{sentence}`"


def frame_image(scene: Reconstruction, index: int, show_as: str) -> UInt8[np.ndarray, "height width 3"]:
    """A frame without padding: its image, depth (near is bright) or confidence."""
    if show_as == "image":
        return unpadded(scene, index)
    left, top, right, bottom = scene.views[index].transform.content_box
    valid = scene.view_valid(index)
    if show_as == "depth":
        image = depth_image(scene.z_depth[index], valid, unknown=0)
    else:
        image = confidence_image(scene.depth_conf[index], valid, unknown=0)
    return image[top:bottom, left:right]
