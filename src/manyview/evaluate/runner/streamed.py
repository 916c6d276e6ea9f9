"""Plans as streams: the frames of a scene in chunks through a streaming engine, beside dense in one pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ...attention.plan import Plan
from ...datasets.posed_set import PosedSet
from ...errors import UsageError, memory_errors
from ...models.network import Network
from ...reconstruction.inputs.find import find_inputs
from ...reconstruction.inputs.load import LoadedViews, read_views
from ...reconstruction.plan.defaults import default_run_options
from ...reconstruction.plan.machine import pick_device, pick_dtype, precision_name
from ...reconstruction.result.result import Reconstruction
from ...reconstruction.run.options import ReconstructOptions
from ...streaming.finish import stream_views
from ...streaming.stream import DEFAULT_CHUNK, EngineName, engine_options, make_engine, suited_engine


@dataclasses.dataclass(frozen=True)
class StreamedPlan:
    """A plan through a streaming engine, `chunk` frames at a time; `options` are all of the engine's."""

    engine: EngineName
    chunk: int
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.options['accel']}, chunks of {self.chunk}"

    def to_json(self) -> dict[str, Any]:
        """All that decides its figures beside the settings of a run, as JSON types."""
        return {"engine": self.engine, "chunk": self.chunk, "engine_options": dict(self.options)}


def streamed_plans(
    model: Network,
    plans: Sequence[str] = (),
    chunks: Sequence[int] = (DEFAULT_CHUNK,),
    engine: EngineName | Literal["auto"] = "auto",
    options: Mapping[str, Any] | None = None,
) -> tuple[StreamedPlan, ...]:
    """Every plan with every chunk.

    Args:
        model: The network.
        plans: Plans (none: what the engine takes for the weights).
        chunks: Frames that arrive together.
        engine: "auto": "anchors" for plans of anchors, "chunks" for all others; without a plan what suits the
            network.
        options: Options of the engine by name.

    Raises:
        UsageError: For a plan or a network that cannot stream, or options that the engine has not.
    """
    if min(chunks, default=0) < 1:
        raise UsageError(f"a chunk of a stream has at least 1 frame, not {min(chunks, default=0)}")
    found = []
    for accel in plans or (None,):
        name: EngineName = suited_engine(model)[0] if engine == "auto" else engine
        if accel is not None and engine == "auto":
            name = "anchors" if Plan.parse(accel, model.config.depth).has_anchors else "chunks"
        given = {**(options or {}), **({} if accel is None else {"accel": accel})}
        chosen = dataclasses.asdict(engine_options(name, model, given))
        make_engine(name, model, options=chosen)  # refuses what cannot stream
        found += [StreamedPlan(name, chunk, chosen) for chunk in chunks]
    return tuple(found)


@memory_errors()
def run_streamed(
    plan: StreamedPlan, posed: PosedSet, model: Network, options: ReconstructOptions
) -> tuple[Reconstruction, LoadedViews]:
    """The stream of a scene's frames, sized as `options` say; MemoryLimitError where it does not fit."""
    device = pick_device(options.device)
    dtype = pick_dtype(device, options.precision)
    config = model.config
    views = read_views(
        find_inputs(list(posed.images), options.inputs),
        config.size_policy if options.size_policy == "auto" else options.size_policy,
        options.image_size or config.image_size,
        config.patch_size,
        strict=options.strict,
        pixel_limit=config.pixel_limit if options.image_size is None else None,
    )
    run = default_run_options(device, dtype, options.kernels, options.head_precision)
    engine = make_engine(plan.engine, model.to(device), run, plan.options)
    settings = {"accel": plan.options["accel"], "precision": precision_name(dtype), **plan.to_json()}
    return stream_views(views, engine, plan.chunk, device, settings), views
