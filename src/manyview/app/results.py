"""What the page shows of a result: its points as a GLB, the image and depth of a view, its verdict."""

from __future__ import annotations

import dataclasses
import functools
import html
import secrets
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..export import GlbOptions, export
from ..files.naming import counted
from ..reconstruction.result.load import load_reconstruction
from ..reconstruction.result.result import Reconstruction
from ..serve.queue import JobQueue
from ..view.describe import frame_image

_KEPT = 2
"""Results that stay loaded: as many as a person looks at by turns."""
_MOST_POINTS = 600_000


@dataclasses.dataclass(frozen=True)
class Shown:
    """What is shown of the points: the least confident `hidden_percent` are not, nor is sky unless wanted."""

    hidden_percent: float = 50.0
    cameras: bool = True
    sky: bool = False


class Results:
    """Results of the jobs of a queue. Every method raises NoSuchJobError for a job without one."""

    def __init__(self, queue: JobQueue, cache: Path) -> None:
        self._queue, self._cache = queue, cache
        self._load = functools.lru_cache(_KEPT)(load_reconstruction)

    def scene(self, id: str) -> Reconstruction:
        """The result of a job."""
        return self._load(self._queue.result_folder(id))

    def points(self, id: str, shown: Shown) -> Path:
        """A new GLB file of points and cameras, below a name that cannot be guessed."""
        scene = self.scene(id)
        if shown.sky:
            scene = dataclasses.replace(scene, sky=None)
        options = GlbOptions(shown.hidden_percent, max_points=_MOST_POINTS, cameras=shown.cameras)
        (path,) = export(scene, self._cache / secrets.token_hex(16), "glb", options)
        return path

    def image(self, id: str, view: int, show_as: str) -> UInt8[np.ndarray, "height width 3"]:
        """The image, depth or confidence of a view, counted from 1."""
        scene = self.scene(id)
        return frame_image(scene, min(max(int(view), 1), len(scene)) - 1, show_as)

    def verdict(self, id: str) -> str:
        """HTML: how far the result can be trusted, and what else a person must know of it."""
        scene = self.scene(id)
        quality = scene.quality or {}
        grade = str(quality.get("grade") or "not rated")
        lines = [("Warning", text) for text in scene.warnings]
        if scene.refinement is not None:
            lines.append(("Refinement", str(scene.refinement.get("sentence"))))
        lines += [("Note", text) for text in scene.notes]
        left_out = len(self._queue.view(id).files) - len(scene)
        size = f"{counted(len(scene), 'view')} of {scene.width} × {scene.height} pixels"
        some = f", {counted(left_out, 'file')} not used" if left_out > 0 else ""
        listed = "".join(f"<li><b>{kind}</b>: {html.escape(text)}</li>" for kind, text in lines)
        return (
            f'<div class="verdict"><b class="grade {html.escape(grade.split()[0])}">{html.escape(grade)}</b> '
            f"{html.escape(str(quality.get('sentence', '')))}<br>{size}{some}<ul>{listed}</ul></div>"
        )
