"""A scene of `manyview batch`, in a process of its pool: `reconstruct` with a model that is loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.claims import BEAT_S, Claim, ClaimLost
from ..batch.run import SceneDone, SceneTask
from ..batch.shares import Share
from ..errors import ManyViewError, memory_errors
from .console import Bars
from .options import ModelChoice, SingleViewChoice
from .reconstruct import Reconstruct

if TYPE_CHECKING:
    from ..models.network import Network
    from ..reconstruction.result.result import Reconstruction
    from ..reconstruction.run.options import ReconstructOptions

_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


@dataclasses.dataclass
class ReconstructScene:
    """What a process of the pool does with a scene; `command` without its paths."""

    command: Reconstruct
    loaded: LoadedSingleView | None = None

    def __call__(
        self, model: Network, task: SceneTask, share: Share, tell: Callable[[None], None]
    ) -> SceneDone:
        if self.loaded is None:
            self.loaded = LoadedSingleView.of(self.command)
        paths = (task.scene.input, os.fspath(task.folder))
        command = dataclasses.replace(self.command, paths=paths, single_view=self.loaded)
        said = io.StringIO()  # notes and warnings are stored with the result
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                scene, peak = reconstruct_scene(command, model, share, _Watching(task.claim))
        except ClaimLost:
            return SceneDone(lost=True)
        return SceneDone(len(scene), peak, scene.settings_hash)


def reconstruct_scene(
    command: Reconstruct, model: Network, share: Share, bars: Bars
) -> tuple[Reconstruction, int]:
    """The result of a command by a model that is loaded, in a process of the pool, and its peak in bytes."""
    how = dataclasses.replace(command.how, device=share.device, memory_limit_gib=share.memory_limit_gib)
    _forget_peak()
    try:
        with memory_errors():
            scene = dataclasses.replace(command, how=how).reconstructed(model, bars)
    except ManyViewError:
        raise
    except OSError as error:
        raise ManyViewError(f"{error.filename or 'a file'}: {error.strerror or error}") from error
    peak = scene.peak_memory_bytes if share.device.startswith("cuda") else _peak()
    return scene, peak or scene.peak_memory_bytes


@dataclasses.dataclass(frozen=True)
class LoadedSingleView(SingleViewChoice):
    """The choice with its network, which all scenes use."""

    network: Any = None

    @classmethod
    def of(cls, command: Reconstruct, network: Any = None) -> LoadedSingleView:
        """`network`: that of an earlier scene, if it was loaded."""
        from ..reconstruction.run.options import ReconstructOptions

        choice = command.single_view
        if network is None and (choice.metric or choice.sky):
            network = choice.onto(ReconstructOptions(), command.model).metric_model
        return cls(**vars(choice), network=network)

    def onto(self, options: ReconstructOptions, model: ModelChoice) -> ReconstructOptions:
        options = dataclasses.replace(options, metric=self.metric, sky=self.sky)
        return options if self.network is None else dataclasses.replace(options, metric_model=self.network)


class _Watching(Bars):
    """No bars; the run ends with `ClaimLost` when its scene is another runner's."""

    def __init__(self, claim: Claim) -> None:
        super().__init__()
        self._claim, self._checked = claim, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - self._checked > BEAT_S:
            self._claim.check()
            self._checked = now


def _forget_peak() -> None:
    """Have the system count this process's peak of memory anew, where it can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Peak of this process's resident memory in bytes, 0 where it is not known."""
    with contextlib.suppress(OSError):
        found = _HIGH_WATER.search(Path("/proc/self/status").read_text())
        return int(found[1]) * 1024 if found else 0
    return 0
