"""Frames one after another, at a chosen pace."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Playback:
    """Calls `step` on a thread, `pace()` times a second, until it answers False or `stop` is called.

    `changed` hears whether it plays.
    """

    def __init__(
        self, step: Callable[[], bool], pace: Callable[[], float], changed: Callable[[bool], None]
    ) -> None:
        self._step, self._pace, self._changed = step, pace, changed
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
                target=self._play, args=(self._stopped,), name="manyview playback", daemon=True
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
        while not stopped.wait(1 / self._pace()) and self._step():
            pass
        with self._lock:
            if self._stopped is stopped:
                self._end()
