"""`reconstruct`: from images to a `Reconstruction`, in one pass or in chunks."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path
from typing import Any, Unpack, overload

from ...distributed.ranks import Ranks
from ...errors import MemoryLimitError, UsageError, memory_errors
from ...models.load import required_network
from ...models.network import Network
from ..inputs.find import Inputs
from ..plan.machine import measure_flops
from ..result.result import Reconstruction
from ..result.save import save
from .chunked import run_chunked
from .compare import compare_with_dense
from .options import ReconstructChanges, ReconstructOptions, changed_options
from .prepare import PreparedRun, prepare
from .progress import ProgressCallback
from .shared import run_shared
from .whole import run_whole

logger = logging.getLogger(__name__)

_NOTHING_TO_COMPARE = "the plan is dense attention itself, so a receipt has nothing to compare"


@memory_errors()
def reconstruct(
    inputs: Inputs | PreparedRun,
    /,
    model: Network | str | Path | None = None,
    options: ReconstructOptions | None = None,
    progress: ProgressCallback | None = None,
    **changes: Unpack[ReconstructChanges],
) -> Reconstruction:
    """Reconstruct cameras, depth and points from photos or a video.

    Args:
        inputs: a folder, a glob pattern, a text file that lists images, a video, or a sequence of paths;
            Pillow images, arrays [H, W, 3] and tensors [3, H, W], RGB, uint8 or float in [0, 1], one or a
            sequence of them, mixed with paths too; batches [S, H, W, 3] and [S, 3, H, W]; or what `prepare`
            returned. Images in memory are named view-0001, view-0002, ... by their place. They are rounded to
            8 bits, and kept by reference for exports of source images; a stored result holds the network's.
        model: a network from `manyview.load`, or what `load` takes, which is then loaded for this call (None:
            that of `manyview.load()`). It is moved to the device of the run and stays there.
        options: how to reconstruct (None: the defaults).
        progress: called with (stage, done, total).
        changes: fields of `ReconstructOptions`, such as `accel="dense"` or `image_size=392`.

    Returns:
        Cameras and depth at the network's resolution. The world is the first view's camera (OpenCV axes), up
        to scale; with known cameras it is their world, in their unit.

    Raises:
        InputError: if nothing usable was found.
        UsageError: for options that do not suit the input, the network or the machine.
        MemoryLimitError: if the run does not fit in memory; the message names settings that would.
        ManyViewError: if the network predicts no finite camera for any view.
    """
    options = changed_options(options, changes)
    model = required_network(model)
    ready = inputs if isinstance(inputs, PreparedRun) else prepare(inputs, model, options, progress)
    for text in ready.warnings:
        logger.warning("%s", text)
    if ready.everyone is not None:
        raise UsageError("several ranks write a result into one folder: call reconstruct_into")
    if ready.chosen.chunk is None:
        return run_whole(*_started(ready, model, progress), progress)
    # The arrays stay readable: they are mapped, and their space is freed with the last of them.
    with tempfile.TemporaryDirectory(prefix="manyview-", ignore_cleanup_errors=True) as folder:
        scene = run_chunked(*_started(ready, model, progress), Path(folder) / "result", progress=progress)
        assert scene is not None
        return scene


@overload
def reconstruct_into(
    ready: PreparedRun,
    model: Network,
    folder: Path,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    ranks: None = None,
) -> Reconstruction: ...


@overload
def reconstruct_into(
    ready: PreparedRun,
    model: Network,
    folder: Path,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    *,
    ranks: Ranks,
) -> Reconstruction | None: ...


@memory_errors()
def reconstruct_into(
    ready: PreparedRun,
    model: Network,
    folder: Path,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    ranks: Ranks | None = None,
) -> Reconstruction | None:
    """`reconstruct` and `Reconstruction.save` in one; a run in chunks writes its arrays as they are ready.

    With `ranks`, those that `prepare` was given, all of them call it, each writes its own views, and it
    returns when the result is in place: the result on the first rank, None on the others. The first rank
    alone locks the folder.
    """
    if ranks is not ready.everyone:
        raise UsageError("reconstruct_into takes the ranks that prepare was given")
    started = _started(ready, model, progress)
    if ready.chosen.chunk is not None:
        return run_chunked(*started, folder, overwrite, progress)
    if ranks is not None:
        return run_shared(started[0], model, folder, overwrite, progress)
    scene = run_whole(*started, progress)
    save(scene, folder, overwrite)
    return scene


def with_comparison(
    scene: Reconstruction, ready: PreparedRun, model: Network, progress: ProgressCallback | None = None
) -> Reconstruction:
    """An earlier result of the same input and settings with a comparison, replacing the one it may have."""
    comparison, notes = _comparison(ready, model.to(ready.chosen.machine.device), progress)
    old = set() if scene.comparison is None else set(scene.comparison.get("lines", ()))
    kept = (note for note in scene.notes if note not in old)
    return dataclasses.replace(scene, comparison=comparison, notes=tuple(dict.fromkeys((*kept, *notes))))


def _started(
    ready: PreparedRun, model: Network, progress: ProgressCallback | None
) -> tuple[PreparedRun, Network, dict[str, Any] | None]:
    """The run with its notes, the model on its device, and the comparison if one is wanted.

    It is made before the long run, so that a user who sees that the plan does not pay can stop there.
    """
    logger.info((ready.shared or ready.chosen).sentence())
    model = model.to(ready.chosen.machine.device)
    comparison, notes = _comparison(ready, model, progress)
    return dataclasses.replace(ready, notes=(*ready.notes, *notes)), model, comparison


def _comparison(
    ready: PreparedRun, model: Network, progress: ProgressCallback | None
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The comparison as JSON types if one is wanted and there is something to compare, and notes on it."""
    if ready.comparison is None:
        return None, ()
    views, chosen = ready.views, ready.chosen
    flops_per_s = measure_flops(chosen.machine.device, chosen.request.dtype)
    try:
        found = compare_with_dense(
            model, views.images, views.records, chosen, ready.comparison, flops_per_s, progress
        )
    except MemoryLimitError as error:
        # The reconstruction itself may well fit: that is what accelerations are for.
        return None, (f"no receipt, dense attention does not fit on the sample: {error}",)
    return (None, (_NOTHING_TO_COMPARE,)) if found is None else (found.to_json(), found.lines())
