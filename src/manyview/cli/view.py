"""`manyview view OUT`: a reconstruction in the browser."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import warnings
import webbrowser
from pathlib import Path

import tyro

from ..view.options import ViewOptions
from .console import say, say_warnings


@dataclasses.dataclass(frozen=True)
class View:
    """Show a reconstruction in the browser, until Ctrl-C.

    Points, cameras with their images, filters, frames one after another, distances, pictures and
    films. The page is served to this machine only, unless --host is given; a browser needs the whole
    address, with its token.
    """

    out: tyro.conf.Positional[Path]
    """Result folder of manyview reconstruct."""
    page: ViewOptions = dataclasses.field(default_factory=ViewOptions)
    open: bool = True
    """Open the page in the browser of this machine, if it has a screen."""

    def run(self) -> int:
        from ..reconstruction.result.load import load_reconstruction
        from ..view import start_viewer

        scene = load_reconstruction(self.out)
        warnings.filterwarnings("ignore", module=r"viser\.")  # they are about what a client sent
        try:
            with start_viewer(scene, self.page) as viewer:
                say(f"{viewer.url} shows {self.out} ({len(scene)} views). Stop with Ctrl-C.")
                say_warnings(scene.warnings)
                if self.page.host in ("127.0.0.1", "localhost", "::1"):
                    say(f"From another machine: ssh -L {viewer.port}:127.0.0.1:{viewer.port} THIS_MACHINE")
                else:
                    say("Everybody who has this address and can reach this machine sees the images.")
                if self.open and has_screen():
                    webbrowser.open(viewer.url)
                threading.Event().wait()
        except KeyboardInterrupt:
            say("Viewer stopped.")
        return 0


def has_screen() -> bool:
    """False over ssh and on machines without a display, where a text browser would take the terminal."""
    if sys.platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in os.environ
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
