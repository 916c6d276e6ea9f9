"""`manyview view OUT`: a reconstruction in the browser."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import threading
import webbrowser
from pathlib import Path

import tyro

from ..view.options import ViewOptions
from .console import say

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class View:
    """Show a reconstruction in the browser, until Ctrl-C.

    Points, cameras with their images, and sliders for confidence and frame. The page is served to
    this machine only, unless --host is given.
    """

    out: tyro.conf.Positional[Path]
    """Result folder of manyview reconstruct."""
    port: int = ViewOptions.port
    """Port of the page; the next free one if it is taken."""
    host: str = ViewOptions.host
    """Address to listen on; 0.0.0.0 lets other machines in."""
    max_points: int = ViewOptions.max_points
    """Points sent to the browser; overlaps are thinned first."""
    max_images: int = ViewOptions.max_images
    """Cameras drawn with their image; all are drawn as wire frames."""
    max_pictures: int | None = None
    """Deprecated name of --max-images."""
    conf_percentile: float = ViewOptions.conf_percentile
    """Share of least confident pixels hidden at first; the page has a slider."""
    drop_edges: float | None = ViewOptions.drop_edges
    """Hide pixels where depth jumps by more than this share (0.05 is 5 %)."""
    open: bool = True
    """Open the page in the browser of this machine, if it has a screen."""

    def run(self) -> int:
        from ..reconstruction.result.load import load_reconstruction
        from ..view import start_viewer

        if self.max_pictures is not None:
            logger.warning("--max-pictures is deprecated and will be removed: use --max-images")
        options = ViewOptions(
            self.host,
            self.port,
            self.max_points,
            self.max_images if self.max_pictures is None else self.max_pictures,
            self.conf_percentile,
            self.drop_edges,
        )
        scene = load_reconstruction(self.out)
        with start_viewer(scene, options) as viewer:
            say(f"{viewer.url} shows {self.out} ({len(scene)} views). Stop with Ctrl-C.")
            if self.host in ("127.0.0.1", "localhost", "::1"):
                say(f"From another machine: ssh -L {viewer.port}:127.0.0.1:{viewer.port} THIS_MACHINE")
            else:
                say("Every machine that can reach this address can see the images.")
            if self.open and _has_screen():
                webbrowser.open(viewer.url)
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                say("Viewer stopped.")
        return 0


def _has_screen() -> bool:
    """False over ssh and on machines without a display, where a text browser would take the terminal."""
    if sys.platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in os.environ
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
