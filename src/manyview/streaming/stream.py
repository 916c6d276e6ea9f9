"""`manyview.stream`: one update per chunk of frames, by either engine."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

import torch

from .._option_checks import check_instance
from ..errors import UsageError
from ..models.config import SizePolicy
from ..models.families import suited_plans
from ..models.load import required_network
from ..models.network import Network
from ..models.run_options import RunOptions
from ..reconstruction.inputs.network_image import Sizing
from ..reconstruction.inputs.options import InputOptions
from ..reconstruction.plan.defaults import HeadPrecision, default_run_options
from ..reconstruction.plan.machine import pick_device, pick_dtype
from .engine import StreamEngine, StreamUpdate
from .frames import FrameSource, frames_of_objects, read_ahead

EngineName = Literal["chunks", "anchors"]
DEFAULT_CHUNK = 10  # the online setting of FlashVGGT

# name: module, its engine and options; loaded on first use.
_ENGINES = {
    "chunks": ("recursive", "RecursiveEngine", "RecursiveOptions"),
    "anchors": ("anchors", "AnchorEngine", "AnchorOptions"),
}


class StreamOptions(TypedDict, total=False):
    """Fields of `RecursiveOptions` ("chunks") and `AnchorOptions` ("anchors")."""

    accel: str | None
    keep_one_in: int
    semantics: Literal["paper", "released"]
    memory_frames: int | None
    camera_window: int | None
    revise: bool
    start: int
    beyond: float | None
    budget_bytes: int


def stream(
    frames: str | Path | Iterable[Any],
    model: Network | str | Path | None = None,
    engine: EngineName | Literal["auto"] | StreamEngine = "auto",
    *,
    chunk: int = DEFAULT_CHUNK,
    image_size: int | None = None,
    size_policy: SizePolicy = "fit",
    inputs: InputOptions | None = None,
    device: str = "auto",
    precision: str = "auto",
    kernels: str = "auto",
    head_precision: HeadPrecision = "auto",
    **options: Unpack[StreamOptions],
) -> Iterator[StreamUpdate]:
    """Reconstruct frames as they arrive, `chunk` at a time, in the world of the first frame's camera.

    Args:
        frames: a folder, glob pattern, text list or video, or an iterable of paths, Pillow images, uint8
            arrays [H, W, 3] or network images [3, H, W]. It is read lazily, one chunk ahead of the updates.
        model: a network from `manyview.load`, or what that takes (None: that of `load()`). It is moved to the
            device.
        engine: "chunks" (FlashVGGT's chunk-recursive pass, `RecursiveOptions`), "anchors" (later frames
            attend to a few anchor frames, `AnchorOptions`), "auto" (the one that suits the network, see
            `suited_engine`), or an engine made before.
        chunk: frames per forward pass.
        image_size: longer side of the network images in pixels (None: the size the weights were trained for).
        size_policy: how images are resized, see `InputOptions`.
        inputs: which frames of a folder or video are used.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16", of the trunk.
        kernels: "auto", "plain", "norms" or "triton", as in `ReconstructOptions`.
        head_precision: "auto", "fp32", "bf16" or "fp16", as in `ReconstructOptions`.
        options: fields of the engine's options, such as `accel="flash:r=2"`.

    Returns:
        An iterator over one `StreamUpdate` per chunk.

    Raises:
        UsageError: unknown engine or option, a value that is not allowed, or a network that cannot be
            streamed by this engine.
        InputError: a frame that cannot be read or has another size than the first.
    """
    if frames is None or isinstance(frames, Network):
        warnings.warn(
            "stream(model, frames) is deprecated and goes in the next release: call stream(frames, model)",
            DeprecationWarning,
            stacklevel=2,
        )
        frames, model = cast(Any, model), cast(Any, frames)
    if not isinstance(chunk, int) or chunk < 1:
        raise UsageError(f"chunk must be a whole number of frames, at least 1, not {chunk!r}")
    if image_size is not None and not isinstance(image_size, int):
        raise UsageError(f"image_size must be a whole number of pixels, not {image_size!r}")
    model = required_network(model)
    if not isinstance(engine, str) and not hasattr(engine, "push"):
        raise UsageError(f"engine must be a name or an engine, not {type(engine).__name__}")
    if isinstance(engine, str):
        where = pick_device(device)
        run = default_run_options(where, pick_dtype(where, precision), kernels, head_precision)
        name = suited_engine(model)[0] if engine == "auto" else engine
        engine = make_engine(name, model.to(where), run, options)
    elif options:
        raise UsageError(f"an engine made before takes no options, such as {min(options)}")
    config = model.config
    if inputs is not None:
        check_instance("inputs", inputs, InputOptions)
    sizing = Sizing(size_policy, image_size or config.image_size, config.patch_size)
    images: Iterator[torch.Tensor]
    if isinstance(frames, str | Path):
        images = (frame.image for frame in FrameSource(frames, sizing, inputs))
        if next(model.parameters()).device.type != "cpu":  # which then has nothing else to do
            images = read_ahead(images, 2 * chunk)
    else:
        images = frames_of_objects(frames, sizing)
    return _updates(engine, images, chunk)


def _updates(engine: StreamEngine, images: Iterator[torch.Tensor], chunk: int) -> Iterator[StreamUpdate]:
    while batch := list(itertools.islice(images, chunk)):
        if len({image.shape for image in batch}) > 1:
            raise UsageError("frames of a stream must have one size, these differ within a chunk")
        yield engine.push(torch.stack(batch))


def suited_engine(model: Network) -> tuple[EngineName, str | None]:
    """The engine for a network: "chunks", and why where it is not that one.

    Descriptors are a coarser grid of keys. Networks that need whole frames as keys get anchors, and so do
    those that have no pass over a chunk.
    """
    if model.why_not_streamable is not None and model.why_not_attachable is None:
        return "anchors", f"{model.name} streams by anchors: {model.why_not_streamable}"
    if not suited_plans(model).coarse_keys:
        return "anchors", f"{model.name} streams by anchors: it needs whole frames as keys"
    return "chunks", None


def engine_options(name: str, model: Network, options: Mapping[str, Any]) -> Any:
    """The options of the engine `name`, with defaults that depend on the weights.

    Raises UsageError for an unknown engine or option, or a value that is not allowed.
    """
    home, _, choices = _home(name)
    known = [field.name for field in dataclasses.fields(getattr(home, choices))]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise UsageError(f"streaming by {name} has no option {unknown[0]}; it has {', '.join(known)}")
    try:
        chosen = getattr(home, choices)(**options)
    except ValueError as error:
        raise UsageError(f"streaming by {name}: {error}") from error
    return dataclasses.replace(chosen, accel=home.default_accel(model)) if chosen.accel is None else chosen


def make_engine(
    name: str, model: Network, run: RunOptions | None = None, options: Mapping[str, Any] | None = None
) -> StreamEngine:
    """The engine `name` with options by name; raises like `engine_options`."""
    home, build, _ = _home(name)
    engine: StreamEngine = getattr(home, build)(model, engine_options(name, model, options or {}), run)
    return engine


def _home(name: str) -> tuple[Any, str, str]:
    if name not in _ENGINES:
        raise UsageError(f"the engine of a stream is {' or '.join(_ENGINES)}, not {name!r}")
    module, build, choices = _ENGINES[name]
    return importlib.import_module(f".{module}", __package__), build, choices
