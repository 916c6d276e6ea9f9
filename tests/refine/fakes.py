"""What stands for structure from motion in tests of everything around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyview.reconstruction.result.result import Reconstruction
from manyview.reconstruction.result.tracks import Tracks
from manyview.refine.solution import HeldOutMatches, Solution


def nothing_found(scene: Reconstruction) -> Solution:
    """A solution without a refined view, as of images that do not overlap."""
    views, none = len(scene), np.empty(0, dtype=np.int64)
    return Solution(
        np.full((views, 3, 4), np.nan),
        scene.upright_intrinsics,
        np.zeros((views, 4)),
        np.arange(views),
        Tracks(np.empty((0, 3)), np.empty((0, 3), np.uint8), none, none, np.empty((0, 2))),
        ("unrefined",) * views,
        HeldOutMatches(none, none, np.empty((0, 2)), np.empty((0, 2))),
        notes=("nothing was found",),
    )


class FakeSolve:
    """In place of `mapping.solve`: returns `solution` (None: nothing found) or raises `error`."""

    def __init__(self, solution: Solution | None = None, error: BaseException | None = None) -> None:
        self.solution, self.error = solution, error
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self, scene: Reconstruction, options: Any, work: Path, known: Any = None, progress: Any = None
    ) -> Solution:
        self.calls.append({"scene": scene, "options": options, "work": work, "known": known})
        work.mkdir(parents=True, exist_ok=True)
        (work / "database.db").write_text("features")
        if progress is not None:
            progress("features", 1, 1)
        if self.error is not None:
            raise self.error
        return self.solution or nothing_found(scene)


def fake_solve(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> FakeSolve:
    """Put a `FakeSolve` in place; pycolmap need not be there."""
    fake = FakeSolve(*arguments)
    monkeypatch.setattr("manyview.refine.mapping.solve", fake)
    monkeypatch.setattr("manyview.refine.refinement.require_pycolmap", lambda: None)
    return fake
