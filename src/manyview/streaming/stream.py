"""`manyview.stream`: frames in, an update for each chunk out, by either engine."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import UsageError
from ..models.load import load
from ..models.network import Network
from ..models.run_options import RunOptions
from ..reconstruction.inputs.network_image import Sizing
from ..reconstruction.inputs.options import InputOptions
from ..reconstruction.inputs.preprocess import SizePolicy
from ..reconstruction.plan.machine import pick_device, pick_dtype
from .engine import StreamEngine, StreamUpdate
from .frames import FrameSource, frames_of_objects

EngineName = Literal["chunks", "anchors"]
DEFAULT_CHUNK = 10  # the paper's online setting

# name: module, engine and options there; loaded when asked for.
_ENGINES = {
    "chunks": ("recursive", "RecursiveEngine", "RecursiveOptions"),
    "anchors": ("anchors", "AnchorEngine", "AnchorOptions"),
}


def stream(
    model: Network | None,
    frames: str | Path | Iterable[Any],
    engine: EngineName | StreamEngine = "chunks",
    *,
    chunk: int = DEFAULT_CHUNK,
    image_size: int | None = None,
    size_policy: SizePolicy = "fit",
    inputs: InputOptions | None = None,
    device: str = "auto",
    precision: str = "auto",
    kernels: str = "plain",
    **options: Any,
) -> Iterator[StreamUpdate]:
    """Cameras and depth of frames as they arrive, `chunk` at a time, in the world of frame 0.

    `frames`: a folder, pattern, list or video, or an iterable of paths, Pillow pictures, uint8 arrays
    [H, W, 3] or network images [3, H, W]. `engine`: "chunks" (see `recursive.RecursiveOptions`) or
    "anchors" (see `anchors.AnchorOptions`), whose fields are `options`; or an engine made before. Nothing
    is read before its turn. `kernels`: see `RunOptions`. `model` None is the bundled one. Raises UsageError
    for options that are none.
    """
    if chunk < 1:
        raise UsageError(f"a chunk has at least 1 frame, not {chunk}")
    if model is None:
        model = load()
    if isinstance(engine, str):
        where = pick_device(device)
        run = RunOptions(pick_dtype(where, precision), kernels=kernels)
        engine = make_engine(engine, model.to(where), run, options)
    elif options:
        raise UsageError(f"an engine that is there already takes no options, such as {min(options)}")
    config = model.config
    sizing = Sizing(size_policy, image_size or config.image_size, config.patch_size)
    images: Iterator[torch.Tensor]
    if isinstance(frames, str | Path):
        images = (frame.image for frame in FrameSource(frames, sizing, inputs))
    else:
        images = frames_of_objects(frames, sizing)
    return _updates(engine, images, chunk)


def _updates(engine: StreamEngine, images: Iterator[torch.Tensor], chunk: int) -> Iterator[StreamUpdate]:
    while batch := list(itertools.islice(images, chunk)):
        if len({image.shape for image in batch}) > 1:
            raise UsageError("the frames of a stream have one size, and these differ within a chunk")
        yield engine.push(torch.stack(batch))


def engine_options(name: str, model: Network, options: Mapping[str, Any]) -> Any:
    """All options of the engine called `name`, with what depends on the weights filled in.

    Raises UsageError for an engine or an option that there is not, or a value that cannot be.
    """
    home, _, choices = _home(name)
    known = [field.name for field in dataclasses.fields(getattr(home, choices))]
    strange = [option for option in options if option not in known]
    if strange:
        raise UsageError(f"streaming by {name} has no option {strange[0]}; there are: {', '.join(known)}")
    try:
        chosen = getattr(home, choices)(**options)
    except ValueError as error:
        raise UsageError(f"streaming by {name}: {error}") from error
    return dataclasses.replace(chosen, accel=home.default_accel(model)) if chosen.accel is None else chosen


def make_engine(
    name: str, model: Network, run: RunOptions | None = None, options: Mapping[str, Any] | None = None
) -> StreamEngine:
    """The engine called `name`, with options given by name; errors as of `engine_options`."""
    home, build, _ = _home(name)
    engine: StreamEngine = getattr(home, build)(model, engine_options(name, model, options or {}), run)
    return engine


def _home(name: str) -> tuple[Any, str, str]:
    if name not in _ENGINES:
        raise UsageError(f"a stream runs by {' or '.join(_ENGINES)}, not by {name!r}")
    module, build, choices = _ENGINES[name]
    return importlib.import_module(f".{module}", __package__), build, choices
