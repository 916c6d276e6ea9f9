"""What each browser has for itself: measuring, a picture, a film."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..errors import ManyViewError, optional_module
from .measure import Measure
from .record import fly_through, screenshot_png, webm
from .server import logged

FPS = 30
_LONGEST_S = 60


class ClientTools:
    """Two folders of the panel of one browser; what they make is downloaded by it."""

    def __init__(self, client: Any, viewer: Any) -> None:
        self._client, self._viewer = client, viewer
        self._cancelled: threading.Event | None = None
        gui = client.gui
        with gui.add_folder("Measure", expand_by_default=False):
            self.measuring = gui.add_checkbox("Click on points", False)
            self.said = gui.add_markdown("")
            self.clear = gui.add_button("Clear", visible=False)
        self.measure = Measure(client, viewer, self._say_distance)
        with gui.add_folder("Picture and film", expand_by_default=False):
            self.screenshot = gui.add_button("Save a picture", icon="camera")
            self.seconds = gui.add_slider("Film, seconds", 2, _LONGEST_S, 1, 10)
            self.film = gui.add_button("Film along the cameras", icon="video")
            self.cancel = gui.add_button("Cancel", visible=False)
            self.bar = gui.add_progress_bar(0.0, visible=False)
            self.told = gui.add_markdown("")
        self._click: Callable[..., None] = logged(self.measure.click)
        self.measuring.on_update(logged(lambda _: self._switch_measuring()))
        self.clear.on_click(logged(lambda _: self.measure.clear()))
        self.screenshot.on_click(logged(lambda _: self.save_picture()))
        self.film.on_click(logged(lambda _: self.start_film()))
        self.cancel.on_click(logged(lambda _: self.stop_film()))

    def save_picture(self) -> None:
        """Have the browser save what it shows as a PNG."""
        try:
            picture = screenshot_png(self._client)
        except (RuntimeError, TimeoutError):
            self.told.content = "The browser drew no picture; keep its window in front and try again."
            return
        self._client.send_file_download("manyview.png", picture, save_immediately=True)
        self.told.content = "Saved as manyview.png."

    def start_film(self) -> None:
        """Film on a thread, unless it does already or PyAV is missing."""
        if self._cancelled is not None:
            return
        try:
            optional_module("av", "a film", "video")
        except ManyViewError as error:
            self.told.content = str(error)
            return
        self._cancelled = threading.Event()
        self._show_filming(True)
        threading.Thread(
            target=logged(self._film), args=(self._cancelled,), name="manyview film", daemon=True
        ).start()

    def stop_film(self) -> None:
        """Give up the film that is being made, if any."""
        if self._cancelled is not None:
            self._cancelled.set()

    def _film(self, cancelled: threading.Event) -> None:
        def heard(done: int, total: int) -> bool:
            self.bar.value = 100 * done / total
            self.told.content = f"image {done + 1} of {total}; keep this window in front"
            return not cancelled.is_set()

        scene, space = self._viewer.scene, self._viewer.space
        try:
            # A browser may send anything.
            frames = FPS * min(max(int(self.seconds.value), 1), _LONGEST_S)
            film = webm(fly_through(self._client, scene, space, frames, heard), FPS)
            if cancelled.is_set():
                self.told.content = "Cancelled."
            else:
                self._client.send_file_download("manyview.webm", film, save_immediately=True)
                self.told.content = "Saved as manyview.webm."
        except (RuntimeError, TimeoutError):
            self.told.content = "The browser drew no more images; keep its window in front and try again."
        except ValueError:  # av.codec.codec.UnknownCodecError
            self.told.content = "The installed PyAV writes no VP9; pip install --upgrade av"
        finally:
            self._cancelled = None
            self._show_filming(False)

    def _show_filming(self, filming: bool) -> None:
        self.film.visible = not filming
        self.cancel.visible = self.bar.visible = filming

    def _switch_measuring(self) -> None:
        scene = self._client.scene
        scene.remove_click_callback(self._click)
        if self.measuring.value:
            scene.on_click()(self._click)
        self.measure.clear()
        if not self.measuring.value:
            self.said.content = ""
            self.clear.visible = False

    def _say_distance(self, text: str) -> None:
        self.said.content = text
        self.clear.visible = True
