"""Frames one after another, at a chosen pace."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .server import logged


class Playback:
    """Calls `step` on a thread, every `pause_s()` seconds, until it answers False or `stop` is called.

    `changed` hears whether it plays.
    """

    def __init__(
        self, step: Callable[[], bool], pause_s: Callable[[], float], changed: Callable[[bool], None]
    ) -> None:
        self._step, self._pause_s, self._changed = step, pause_s, changed
        self._lock = threading.Lock()
        self._stopped: threading.Event | None = None

    @property
    def playing(self) -> bool:
        return self._stopped is not None

    def toggle(self) -> None:
        """Start, or stop where it plays."""
        with self._lock:
            if self._stopped is not None:
                self._end()
                return
            self._stopped = threading.Event()
            self._changed(True)
            threading.Thread(
                target=logged(self._play), args=(self._stopped,), name="manyview playback", daemon=True
            ).start()

    def stop(self) -> None:
        """Stop, if it plays."""
        with self._lock:
            if self._stopped is not None:
                self._end()

    def _end(self) -> None:
        assert self._stopped is not None
        self._stopped.set()
        self._stopped = None
        self._changed(False)

    def _play(self, stopped: threading.Event) -> None:
        try:
            while not stopped.wait(self._pause_s()) and self._step():
                pass
        finally:
            with self._lock:
                if self._stopped is stopped:
                    self._end()
