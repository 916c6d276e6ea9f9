"""From files to a `Reconstruction`: read, look ahead, run, put together."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..._version import __version__
from ...attention.auto import choose_plan, misfit
from ...attention.plan import Plan
from ...errors import MemoryLimitError, UsageError
from ...kernels import KERNELS, check_kernels
from ...models.load import load
from ...models.network import Network, Predictions
from ...models.run_options import LINEARS
from ..inputs.find import find_inputs
from ..inputs.load import LoadedViews, read_views
from ..inputs.options import InputOptions, InputSet
from ..inputs.preprocess import SizePolicy
from ..known.arrays import KnownViews
from ..known.files import KnownFiles
from ..known.known import KnownInputs, check_usable, read_known
from ..plan.chunked_plan import preflight_chunks
from ..plan.machine import (
    Machine,
    look_at_machine,
    measure_flops,
    pick_device,
    pick_dtype,
    precision_name,
)
from ..plan.preflight import Preflight, Request, preflight
from ..result.io import save
from ..result.result import Reconstruction
from ..result.view_validity import keep, leave_out, usable_views
from .anchored import why_not_anchored
from .chunked import reconstruct_long
from .comparison import NOTHING_TO_COMPARE, ReceiptOptions, measure_receipt
from .forward import run_forward
from .peak_memory import measured_bytes, start_counting
from .progress import ProgressCallback

logger = logging.getLogger(__name__)

# From here on pictures are kept on the disk if the run may turn out to be one in chunks.
_MANY_FILES = 300

Inputs = str | Path | Sequence[str | Path]


@dataclasses.dataclass(frozen=True)
class ReconstructOptions:
    """How to reconstruct; every default is what most inputs want.

    `accel`: how frames meet in global attention (a plan such as "dense" or "avggt:stride=2x2", or "auto";
    None: what the weights were trained for, which is "dense" for most).
    `image_size`: longer side of the network images in pixels (None: what the weights were made for).
    `size_policy`: "auto" is the model's own; "fit" keeps whole pictures, "crop" and "pad" are VGGT's,
    "area" is π³'s. `point_head` also runs the point head, whose points are kept beside those from depth.
    `pixel_centres`: "half" is consistent, "integer" is upstream VGGT's way. `receipt` first runs the plan and
    dense attention on `receipt_views` of the views (None: up to 24) and keeps what that says about time and
    deviation in the result. `known`: cameras and depth that are known, for networks that take them (Pi3X).
    `kernels`: "plain", or "triton" for fused kernels (docs/kernels.md), which no card has run yet.
    `linears`: "fp8" runs the trunk's linear layers on 8-bit floating-point codes (docs/precision.md).
    `chunk`: attach so many views at a time to anchors solved once, with results on the disk (None: only if
    one pass does not fit in memory); for plans of anchors, and the result is the same.
    """

    accel: str | None = None
    inputs: InputOptions = dataclasses.field(default_factory=InputOptions)
    size_policy: SizePolicy | Literal["auto"] = "auto"
    image_size: int | None = None
    device: str = "auto"
    precision: str = "auto"
    point_head: bool = False
    pixel_centres: str = "half"
    strict: bool = False
    memory_limit_gib: float | None = None
    known: KnownFiles | KnownViews = dataclasses.field(default_factory=KnownFiles)
    receipt: bool = False
    receipt_views: int | None = None
    chunk: int | None = None
    kernels: str = "plain"
    linears: str = "plain"

    def __post_init__(self) -> None:
        if self.pixel_centres not in ("half", "integer"):
            raise UsageError(f"pixel centres must be 'half' or 'integer', not {self.pixel_centres!r}")
        if self.image_size is not None and self.image_size < 1:
            raise UsageError(f"the image size must be positive, not {self.image_size}")
        if self.memory_limit_gib is not None and self.memory_limit_gib <= 0:
            raise UsageError(f"the memory limit must be positive, not {self.memory_limit_gib} GiB")
        if self.chunk is not None and self.chunk < 1:
            raise UsageError(f"a chunk has at least 1 view, not {self.chunk}")
        if self.kernels not in KERNELS:
            raise UsageError(f"kernels are {' or '.join(KERNELS)}, not {self.kernels!r}")
        if self.linears not in LINEARS:
            raise UsageError(f"linears are {' or '.join(LINEARS)}, not {self.linears!r}")
        if self.receipt_views is not None and not self.receipt:
            raise UsageError("--receipt-views sizes the sample of a receipt; ask for --receipt too")
        if self.receipt and self.known:
            raise UsageError("a receipt compares plans on pictures alone: leave out what is known of them")
        ReceiptOptions(self.receipt_views)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Views read and settings chosen: everything but the forward pass."""

    views: LoadedViews
    chosen: Preflight
    settings: dict[str, Any]
    notes: tuple[str, ...]
    timings_s: dict[str, float]
    receipt: ReceiptOptions | None = None
    known: KnownInputs | None = None


def prepare(
    inputs: Inputs,
    model: Network,
    options: ReconstructOptions | None = None,
    progress: ProgressCallback | None = None,
) -> Prepared:
    """Read the views and decide how to run. Raises InputError, UsageError or MemoryLimitError."""
    options = options or ReconstructOptions()
    config = model.config
    if options.known:
        check_usable(config, model.name)
    device = pick_device(options.device)
    check_kernels(options.kernels, device)
    dtype = pick_dtype(device, options.precision)
    # A wrong plan is refused before anything is read; what auto picks depends on what was read.
    trained_for = None if model.info is None else model.info.plan
    accel = options.accel if options.accel is not None else trained_for or "dense"
    plan = Plan.dense(config.depth) if accel == "auto" else Plan.parse(accel, config.depth)
    start = time.perf_counter()
    found = find_inputs(inputs, options.inputs)
    many = found.kind == "video" or len(found.files) > _MANY_FILES
    policy = config.size_policy if options.size_policy == "auto" else options.size_policy
    views = read_views(
        found,
        policy,
        options.image_size or config.image_size,
        config.patch_size,
        strict=options.strict,
        pixel_limit=config.pixel_limit if options.image_size is None else None,
        progress=None if progress is None else lambda done, total: progress("read", done, total),
        on_disk=options.chunk is not None
        or (accel == "auto" and many)
        or why_not_anchored(model, plan) is None,
    )
    count, _, height, width = views.images.shape
    known = read_known(options.known, views.records, (height, width)) if options.known else None
    read_s = time.perf_counter() - start
    heads = ("camera", "depth", "points") if options.point_head else ("camera", "depth")
    given = () if known is None else known.given
    request = Request(
        config, count, height, width, plan, heads, dtype, given, options.kernels, options.linears
    )
    warning = misfit(plan, trained_for) if accel != "auto" else None
    reason: tuple[str, ...] = () if warning is None else (warning,)
    if accel == "auto":
        early = None if model.info is None else model.info.early_layers
        ordered = _in_order(found)
        plan, why = choose_plan(count, ordered, config.depth, request.layout, early, trained_for)
        request, reason = dataclasses.replace(request, plan=plan), (why,)
    elif options.accel is None and trained_for is not None:
        reason = (f"{trained_for}, which these weights were trained for; --accel chooses another plan",)
    limit = None if options.memory_limit_gib is None else int(options.memory_limit_gib * 2**30)
    machine = look_at_machine(device, limit, reserve_bytes=weights_elsewhere(model, device))
    chosen = _look_ahead(model, request, machine, options.chunk, measure_flops(device, dtype))
    facts = () if known is None else known.notes
    notes = tuple(dict.fromkeys((*found.warnings, *views.warnings, *reason, *facts)))
    settings = _settings(model, options, chosen, views)
    if known is not None:
        settings["known"] = known.facts
    if (
        options.kernels != "plain"
    ):  # rounding differs; results from before there were kernels stay as they are
        settings["kernels"] = options.kernels
    if options.linears != "plain":
        settings["linears"] = options.linears
    receipt = ReceiptOptions(options.receipt_views) if options.receipt else None
    return Prepared(views, chosen, settings, notes, {"read": read_s}, receipt, known)


def _look_ahead(
    model: Network,
    request: Request,
    machine: Machine,
    chunk: int | None,
    flops_per_s: float,
) -> Preflight:
    """One pass over all views, or chunks of them if asked for or if one pass does not fit and they can be."""
    problem = why_not_anchored(model, request.plan)
    if request.known:
        problem = "chunks do not take known cameras or depth"
    if chunk is not None:
        if problem is not None:
            raise UsageError(
                f"--chunk needs views that depend on anchors and themselves alone, as with --accel anchors: "
                f"under {request.plan} {problem}"
            )
        return preflight_chunks(request, machine, chunk, flops_per_s)
    try:
        return preflight(request, machine, flops_per_s)
    except MemoryLimitError:
        if problem is not None:
            raise
    return preflight_chunks(request, machine, None, flops_per_s)


def reconstruct(
    inputs: Inputs | Prepared,
    model: Network | None = None,
    options: ReconstructOptions | None = None,
    progress: ProgressCallback | None = None,
    **changes: Any,
) -> Reconstruction:
    """Photos or a video to cameras, depth and points.

    `inputs`: a folder, a glob, a list file, a video, a sequence of paths, or what `prepare` returned.
    `model`: from `manyview.load` (None: the bundled one). `changes` are fields of
    `ReconstructOptions`, such as `accel="dense"` or `image_size=392`. The model is moved to the device
    of the run and stays there. The world is the first view's camera, up to scale. Raises errors of
    `manyview.errors`, each one sentence.
    """
    if changes:
        try:
            options = dataclasses.replace(options or ReconstructOptions(), **changes)
        except TypeError:
            known = ", ".join(field.name for field in dataclasses.fields(ReconstructOptions))
            raise UsageError(f"unknown option among {', '.join(changes)}; there are: {known}") from None
    if model is None:
        model = load()
    ready = inputs if isinstance(inputs, Prepared) else prepare(inputs, model, options, progress)
    device = ready.chosen.machine.device
    logger.info(ready.chosen.sentence())
    model = model.to(device)
    if ready.chosen.chunk is not None:
        # The arrays stay readable: they are mapped, and their space is freed with the last of them.
        with tempfile.TemporaryDirectory(prefix="manyview-", ignore_cleanup_errors=True) as folder:
            return reconstruct_into(ready, model, Path(folder) / "result", progress=progress)
    receipt, told = _receipt(ready, model, progress)
    held = start_counting(device)
    start = time.perf_counter()
    priors = None if ready.known is None else ready.known.priors
    predictions, stages, used = run_forward(model, ready.views.images, ready.chosen, progress, priors)
    total = time.perf_counter() - start
    timings = {**ready.timings_s, "forward": total}
    timings |= {f"forward: {stage}": seconds for stage, seconds in stages.items()}
    memory = {"expected peak": ready.chosen.peak_bytes, **measured_bytes(device, held)}
    notes = (*ready.notes, *told)
    if used != ready.chosen.options:
        notes = (*notes, f"memory ran out once; {used.frames_per_chunk} frames at a time went through")
    return _assemble(predictions, ready, timings, memory, notes, receipt)


def reconstruct_into(
    ready: Prepared,
    model: Network,
    folder: Path,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Reconstruction:
    """`reconstruct` and `result_io.save` in one; a run in chunks writes its arrays there as they come."""
    if ready.chosen.chunk is None:
        scene = reconstruct(ready, model, progress=progress)
        save(scene, folder, overwrite)
        return scene
    logger.info(ready.chosen.sentence())
    device = ready.chosen.machine.device
    model = model.to(device)
    receipt, told = _receipt(ready, model, progress)
    held = start_counting(device)
    return reconstruct_long(
        ready,
        model,
        folder,
        overwrite,
        progress,
        measured=lambda: {"expected peak": ready.chosen.peak_bytes, **measured_bytes(device, held)},
        timings_s=ready.timings_s,
        notes=(*ready.notes, *told),
        receipt=receipt,
    )


def with_receipt(
    scene: Reconstruction, ready: Prepared, model: Network, progress: ProgressCallback | None = None
) -> Reconstruction:
    """An earlier result of the same input and settings with a receipt, replacing the one it may have."""
    receipt, told = _receipt(ready, model.to(ready.chosen.machine.device), progress)
    old = set() if scene.receipt is None else set(scene.receipt.get("lines", ()))
    kept = (note for note in scene.notes if note not in old)
    return dataclasses.replace(scene, receipt=receipt, notes=tuple(dict.fromkeys((*kept, *told))))


def _receipt(
    ready: Prepared, model: Network, progress: ProgressCallback | None
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The receipt as JSON types if one is wanted and there is something to compare, and notes on it.

    Taken before the long run, so that a user who sees that the plan does not pay can stop there.
    """
    if ready.receipt is None:
        return None, ()
    device, dtype = ready.chosen.machine.device, ready.chosen.request.dtype
    try:
        receipt = measure_receipt(
            model,
            ready.views.images,
            tuple(ready.views.records),
            ready.chosen,
            ready.receipt,
            measure_flops(device, dtype),
            progress,
        )
    except MemoryLimitError as error:
        # The reconstruction itself may well fit: that is what accelerations are for.
        return None, (f"no receipt, dense attention does not fit on the sample: {error}",)
    return (None, (NOTHING_TO_COMPARE,)) if receipt is None else (receipt.to_json(), receipt.lines())


def _in_order(found: InputSet) -> bool:
    """Whether the views follow each other: a video, or pictures whose names end in rising numbers."""
    if found.kind == "video":
        return True
    numbers = [re.search(r"(\d+)$", Path(file.name).stem) for file in found.files]
    values = [int(n.group()) for n in numbers if n is not None]
    rising = all(earlier < later for earlier, later in itertools.pairwise(values))
    return rising and len(values) == len(numbers) > 1


def weights_elsewhere(model: Network, device: torch.device) -> int:
    """Bytes of the parameters that a run on `device` first has to move there."""
    return sum(p.nbytes for p in model.parameters() if p.device.type != device.type)


def _settings(
    model: Network, options: ReconstructOptions, chosen: Preflight, views: LoadedViews
) -> dict[str, Any]:
    """Everything that decides the numbers of a result, and nothing that does not."""
    info = model.info
    return {
        "manyview": __version__,
        # A model that was built in Python and not loaded has no provenance to tell.
        "model": "unnamed" if info is None else info.name,
        "weights_sha256": None if info is None else info.weights_sha256,
        "weights_licence": None if info is None else info.licence,
        "accel": str(chosen.request.plan),
        "precision": precision_name(chosen.request.dtype),
        "size_policy": model.config.size_policy if options.size_policy == "auto" else options.size_policy,
        "network_size": [chosen.request.width, chosen.request.height],
        "heads": list(chosen.request.heads),
        "pixel_centres": options.pixel_centres,
        "views": len(views.records),
        "images_sha256": _images_hash(views),
    }


def _images_hash(views: LoadedViews) -> str:
    digest = hashlib.sha256()
    for some in views.images.split(64):
        digest.update(some.numpy().data)
        views.let_go()
    return digest.hexdigest()


def _assemble(
    predictions: Predictions,
    ready: Prepared,
    timings: dict[str, float],
    memory: dict[str, int],
    notes: tuple[str, ...],
    receipt: dict[str, Any] | None = None,
) -> Reconstruction:
    records = ready.views.records
    good = usable_views(predictions)
    notes = (*notes, *leave_out(good, tuple(r.name for r in records), ready.settings["precision"]))

    images = ready.views.images if bool(good.all()) else ready.views.images[good]

    def array(tensor: torch.Tensor | None, dtype: Any) -> np.ndarray | None:
        kept = keep(tensor, good)
        # Converted on the CPU: Apple's GPU has no float64. Nothing is copied that is right as it is.
        return None if kept is None else np.ascontiguousarray(kept.numpy().astype(dtype, copy=False))

    fields: dict[str, Any] = {
        "cam_from_world": array(predictions.cam_from_world, np.float64),
        "intrinsics": array(predictions.intrinsics, np.float64),
        "z_depth": array(predictions.z_depth, np.float32),
        "depth_conf": array(predictions.depth_conf, np.float32),
        "head_points": array(predictions.world_points, np.float32),
        "head_points_conf": array(predictions.world_points_conf, np.float32),
    }
    return Reconstruction(
        images=np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()),
        views=tuple(record for record, usable in zip(records, good.tolist(), strict=True) if usable),
        settings=ready.settings,
        timings_s=timings,
        memory_bytes=memory,
        notes=notes,
        pixel_centres=ready.settings["pixel_centres"],
        receipt=receipt,
        **fields,
    )
