"""The panel beside the scene: sliders, switches, and the image of one frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ..reconstruction.result.result import Reconstruction
from .cloud import LEVEL_STEP, LEVELS
from .describe import beside_white, frame_image, frame_label, headline
from .filters import NOTHING, PointFilter

IMAGE_KINDS = ("image", "depth", "confidence")
ALL_FRAMES, FRAMES_SO_FAR, THIS_FRAME = POINTS_OF = ("all frames", "frames so far", "this frame")
_JUMP_PERCENT = 5.0
_QUALITY = 88
_FASTEST = 30  # frames a second


@dataclasses.dataclass(frozen=True)
class Choices:
    """The state of all controls."""

    percentile: float
    point_size: float = 1.0
    """A factor of the size that suits the scene."""
    filtered: PointFilter = NOTHING
    hide_sky: bool = True
    frame: int = 0
    points_of: str = ALL_FRAMES
    show_as: str = "image"
    cameras: bool = True
    images: bool = True
    camera_size: float = 1.0


class Panel:
    """The controls of `server`.

    Any change calls `changed`; buttons call `play`, and `look_through` with their client.
    """

    def __init__(
        self,
        server: Any,
        scene: Reconstruction,
        start: Choices,
        changed: Callable[[], None],
        play: Callable[[], None],
        look_through: Callable[[Any], None],
    ) -> None:
        gui, self._start, self._scene = server.gui, start, scene
        gui.configure_theme(show_share_button=False, show_logo=False)
        gui.set_panel_label("ManyView")
        self.warnings = [gui.add_markdown(f"**Warning:** {text}") for text in scene.warnings]
        gui.add_markdown(headline(scene))
        with gui.add_folder("Points"):
            self._add_points(gui, start)
        with gui.add_folder("Frame"):
            self._add_frame(gui, start)
        with gui.add_folder("Cameras"):
            self.cameras = gui.add_checkbox("Show cameras", start.cameras)
            self.images = gui.add_checkbox("Show their images", start.images)
            self.camera_size = gui.add_slider("Size", 0.1, 4.0, 0.1, start.camera_size)
        controls = (
            self.percentile, self.point_size, self.edges, self.jump, self.black, self.white, self.sky,
            self.frame, self.points_of, self.show_as, self.cameras, self.images, self.camera_size,
        )  # fmt: skip
        for control in controls:
            if control is not None:
                control.on_update(lambda _: changed())
        if self.play is not None:
            self.play.on_click(lambda _: play())
        self.look.on_click(lambda event: look_through(event.client))

    def _add_points(self, gui: Any, start: Choices) -> None:
        jump = start.filtered.depth_jump
        self.point_size = gui.add_slider(
            "Point size", 0.2, 5.0, 0.1, start.point_size,
            hint="1 is as wide as neighbouring pixels lie apart on the surfaces, at the median depth",
        )  # fmt: skip
        self.shown = gui.add_markdown("")
        with gui.add_folder("Hide"):
            self.percentile = gui.add_slider(
                "Least sure %", 0, (LEVELS - 1) * LEVEL_STEP, LEVEL_STEP, start.percentile,
                hint="This many of all pixels are hidden: those whose depth the network was least sure of",
            )  # fmt: skip
            self.edges = gui.add_checkbox(
                "Depth edges", jump is not None, hint="The veil of points between a near and a far surface"
            )
            percent = _JUMP_PERCENT if jump is None else 100 * jump
            self.jump = gui.add_slider(
                "Edge from %", min(1.0, percent), max(50.0, percent), 0.1, percent,
                hint="A pixel is at an edge where a neighbour is this much farther away",
            )  # fmt: skip
            self.black = gui.add_checkbox("Black pixels", start.filtered.black, hint="A black background")
            self.white = gui.add_checkbox("White pixels", start.filtered.white, hint="A white background")
            self.sky = None
            if self._scene.sky is not None:  # nothing else knows what is sky
                self.sky = gui.add_checkbox("Sky", start.hide_sky)

    def _add_frame(self, gui: Any, start: Choices) -> None:
        many = len(self._scene) > 1
        self.frame = gui.add_slider("Frame", 0, len(self._scene) - 1, 1, start.frame) if many else None
        self.name = gui.add_markdown("")
        self.show_as = gui.add_dropdown("Show", IMAGE_KINDS, initial_value=start.show_as)
        self.image = gui.add_image(self._image_of(start), jpeg_quality=_QUALITY)
        self.points_of = gui.add_dropdown("Points of", POINTS_OF, initial_value=start.points_of)
        self.play = self.pace = None
        if many:
            self.play = gui.add_button("Play", icon="player-play")
            self.pace = gui.add_slider("Speed, fps", 1, _FASTEST, 1, 5, hint="Frames of the scene a second")
        self.look = gui.add_button("Look through this camera")

    def read(self) -> Choices:
        """The current state."""
        return Choices(
            percentile=float(self.percentile.value),
            point_size=float(self.point_size.value),
            filtered=PointFilter(
                depth_jump=float(self.jump.value) / 100 if self.edges.value else None,
                black=bool(self.black.value),
                white=bool(self.white.value),
            ),
            hide_sky=self.sky is None or bool(self.sky.value),
            frame=self._start.frame if self.frame is None else int(self.frame.value),
            # A browser may send anything.
            points_of=self.points_of.value if self.points_of.value in POINTS_OF else self._start.points_of,
            show_as=str(self.show_as.value),
            cameras=bool(self.cameras.value),
            images=bool(self.images.value),
            camera_size=float(self.camera_size.value),
        )

    def pick_frame(self, index: int) -> None:
        """Move the frame slider, which calls `changed`."""
        if self.frame is not None:
            self.frame.value = index

    def next_frame(self) -> bool:
        """Move on by one; False at the last frame."""
        last = len(self._scene) - 1
        self.pick_frame(min(self.read().frame + 1, last))
        return self.read().frame < last

    def pause_s(self) -> float:
        """Seconds between two frames while they play."""
        return 1 / min(max(int(self.pace.value), 1), _FASTEST) if self.pace is not None else 1.0

    def show_playing(self, playing: bool) -> None:
        """Name the button for what it does next."""
        if self.play is not None:
            self.play.label = "Pause" if playing else "Play"

    def show_frame(self, choices: Choices) -> None:
        """Display name and image of the chosen frame."""
        self.name.content = frame_label(self._scene, choices.frame)
        self.image.image = self._image_of(choices)

    def _image_of(self, choices: Choices) -> UInt8[np.ndarray, "height width 3"]:
        return beside_white(frame_image(self._scene, choices.frame, choices.show_as))

    def show_count(self, shown: int, total: int, reading: str = "") -> None:
        """Display how many points are on the page, and that more are being read."""
        count = f"{shown:,} of {total:,} points" if total else "there are no valid points"
        self.shown.content = f"{count}\n\n{reading}" if reading else count
