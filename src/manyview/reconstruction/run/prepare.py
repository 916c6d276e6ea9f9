"""Everything before the forward pass: images are read, and plan, precision and chunk sizes are chosen."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ..._option_checks import check_instance
from ...attention.auto import ExpectedTime, choose_plan, misfit
from ...attention.plan import Plan
from ...attention.visible_keys import hide_keys
from ...distributed.ranks import Ranks
from ...errors import MemoryLimitError, UsageError, memory_errors
from ...models.families import suited_plans
from ...models.network import Network
from ..inputs.find import Inputs, find_inputs
from ..inputs.header import expected_views
from ..inputs.load import LoadedViews, read_views
from ..inputs.network_image import Sizing
from ..inputs.options import InputSet
from ..inputs.preprocess import check_sizes
from ..inputs.view_masks import ViewMasks, read_view_masks
from ..known.known import KnownInputs, check_accepts_priors, read_known
from ..plan.chunked_plan import preflight_chunks
from ..plan.decoding import DecodingPlan, plan_decoding
from ..plan.defaults import default_run_options
from ..plan.device_model import device_model
from ..plan.estimate import total_seconds
from ..plan.machine import Machine, inspect_machine, measure_flops, pick_device, pick_dtype
from ..plan.preflight import Preflight, Request, preflight
from .anchored import why_not_anchored
from .comparison import ComparisonOptions
from .options import ReconstructOptions
from .progress import ProgressCallback
from .settings import images_sha256, run_settings
from .single_view import SingleView
from .unlike_training import model_warnings

# From here on network images are kept on the disk if the run may turn out to be one in chunks.
_MANY_FILES = 300
# From so many seconds on the run logs how a video would take less time.
_PATIENCE_S = 30.0


@dataclasses.dataclass(frozen=True)
class PreparedRun:
    """Views read and settings chosen: everything but the forward pass.

    Attributes:
        views: network images and their records.
        chosen: plan, precision, device and chunk sizes, with the expected memory and time.
        own_settings: `settings` without the hash of the images.
        images_sha256: that hash, which a thread makes while the device computes.
        notes: what the user should know.
        timings_s: seconds so far by stage.
        comparison: the comparison with dense attention that was asked for, if any.
        known: known cameras and depth of the views, if any.
        single_view: the network that adds metres or sky to the result, if any.
        warnings: what is to be said above all else of the result.
        masks: what is hidden of the views, if anything.
        mask_sky: whether sky counts as masked.
        visible_plan: the plan of the pass where masked patches are no keys (None: that of `chosen`).
        everyone: all ranks of a run over several, those without frames included.
        ranks: those of them that share the scene (None: one process, or this rank has no frames).
    """

    views: LoadedViews
    chosen: Preflight
    own_settings: dict[str, Any]
    images_sha256: Future[str]
    notes: tuple[str, ...]
    timings_s: dict[str, float]
    comparison: ComparisonOptions | None = None
    known: KnownInputs | None = None
    single_view: SingleView | None = None
    warnings: tuple[str, ...] = ()
    masks: ViewMasks | None = None
    mask_sky: bool = False
    visible_plan: Plan | None = None
    everyone: Ranks | None = None
    ranks: Ranks | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the numbers of the result, as JSON types; waits for the images' hash."""
        return {**self.own_settings, "images_sha256": self.images_sha256.result()}

    def made(self, folder: Path, settings: Mapping[str, Any]) -> bool:
        """Whether this run, over however many ranks, would make the result in `folder` that has `settings`.

        Not collective: where there are several ranks one of them asks.
        """
        return settings == self.settings


@memory_errors()
def prepare(
    inputs: Inputs,
    model: Network,
    options: ReconstructOptions | None = None,
    progress: ProgressCallback | None = None,
    ranks: Ranks | None = None,
) -> PreparedRun:
    """Read the views and decide how to run.

    Args:
        inputs: as `reconstruct` takes them.
        model: a network from `manyview.load`; it is not moved.
        options: None for the defaults.
        progress: called with (stage, done, total).
        ranks: all ranks of a run over several (`MeshRanks.of_environment`), which call it with the same
            arguments; each reads its own views (None: one process).

    Raises:
        InputError: if nothing usable was found.
        DamagedInputError: with `ranks`, or where reading is strict, an image that cannot be decoded.
        UsageError: for options that do not suit the input, the network or the machine.
        MemoryLimitError: if the run does not fit in memory; the message names settings that would.
    """
    options = options or ReconstructOptions()
    check_instance("model", model, Network)
    if ranks is not None:
        raise UsageError("several ranks cannot share a scene yet")
    config = model.config
    known_given = bool(options.known)
    if known_given and not options.known_where_taken:
        check_accepts_priors(config, model.name)
    if options.point_head and "points" not in config.available_heads:
        raise UsageError(
            f"{model.name} has no point head: leave out --point-head, its points come from depth, or take a "
            "model that has one, such as vggt-1b"
        )
    heads = ("camera", "depth", *(("points",) if options.point_head else ()))
    heads = (*heads, "rays") if options.camera_from_rays else heads
    config.require_heads(heads)
    config.require_reference_view(options.reference_view, Plan.dense(config.depth))
    single_view = SingleView.wanted(options.metric, options.sky, options.metric_model)
    device = pick_device(options.device)
    dtype = pick_dtype(device, options.precision)
    run = default_run_options(device, dtype, options.kernels, options.head_precision)
    # A wrong plan is refused before anything is read; what auto picks depends on what was read.
    suited = suited_plans(model)
    trained_for = suited.trained_for
    accel = options.accel if options.accel is not None else trained_for or "dense"
    plan = Plan.dense(config.depth) if accel == "auto" else Plan.parse(accel, config.depth)
    start = time.perf_counter()
    found = find_inputs(inputs, options.inputs)
    many = found.kind == "video" or len(found.files) > _MANY_FILES
    policy = config.size_policy if options.size_policy == "auto" else options.size_policy
    size, patch = options.image_size or config.image_size, config.patch_size
    pixel_limit = config.pixel_limit if options.image_size is None else None
    check_sizes(policy, size, patch)
    on_disk = options.chunk is not None or (accel == "auto" and many) or why_not_anchored(model, plan) is None
    limit = None if options.memory_limit_gib is None else int(options.memory_limit_gib * 2**30)
    machine = inspect_machine(device, limit, reserve_bytes=weights_elsewhere(model, device))
    host = machine if device.type == "cpu" else inspect_machine(torch.device("cpu"))
    flops_per_s = measure_flops(device, dtype)
    decoding = DecodingPlan()

    def choose(count: int, height: int, width: int, given: tuple[str, ...]) -> tuple[Preflight, str | None]:
        """Plan and chunk sizes for so many views, and why this plan. Raises MemoryLimitError."""
        shape = (count, height, width)
        reason: str | None
        whole = "--metric and --sky need the whole result in memory" if single_view else None
        request = Request(
            config, *shape, plan, heads, dtype, given, run.kernels, options.linear_precision,
            run.head_dtype, run.channels_last, options.reference_view, options.camera_from_rays,
        )  # fmt: skip
        if accel == "auto":
            ordered = _ordered(found)
            expected = _expected_time(
                request,
                lambda one: _preflight(model, one, machine, options.chunk, flops_per_s, whole),
                device,
            )
            picked, reason = choose_plan(count, ordered, config.depth, request.layout, suited, expected)
            request = dataclasses.replace(request, plan=picked)
        elif options.accel is None and trained_for is not None:
            reason = f"{trained_for}, which these weights were trained for; --accel chooses another plan"
        else:
            reason = misfit(plan, suited)
        config.require_reference_view(options.reference_view, request.plan)
        return _preflight(model, request, machine, options.chunk, flops_per_s, whole), reason

    # What headers say is enough to refuse what cannot fit, before anything is decoded.
    expected = expected_views(found, Sizing(policy, size, patch, pixel_limit))
    if expected is not None:
        choose(expected.views, expected.height, expected.width, ())
        decoding = plan_decoding(expected, host, on_disk)
    views = read_views(
        found,
        policy,
        size,
        patch,
        strict=options.strict,
        pixel_limit=pixel_limit,
        progress=None if progress is None else lambda done, total: progress("read", done, total),
        on_disk=on_disk,
        budget_bytes=decoding.budget_bytes,
    )
    hashing = ThreadPoolExecutor(1, thread_name_prefix="manyview-hash")
    digest = hashing.submit(images_sha256, views)
    hashing.shutdown(wait=device.type == "cpu")  # which has the pass to compute
    masks = None
    if options.masks is not None:
        step = None if progress is None else lambda done, total: progress("masks", done, total)
        masks = read_view_masks(options.masks, views.records, options.strict, step)
        views = dataclasses.replace(views, records=masks.records)
    count, _, height, width = views.images.shape
    known: KnownInputs | None = None
    not_shown: tuple[str, ...] = ()
    if known_given and config.why_no_priors is None:
        known = read_known(options.known, views.records, (height, width))
        try:
            known.check(config, views.records)
        except UsageError:
            if not options.known_where_taken:
                raise
            known = None
    if known_given and known is None:
        not_shown = (f"what is known was not shown to {model.name}, which does not take it",)
    read_s = time.perf_counter() - start
    chosen, reason = choose(count, height, width, () if known is None else known.given)
    if device.type == "cpu":  # the same memory, one after the other
        peak = max(chosen.peak_bytes, decoding.peak_bytes)
        chosen = dataclasses.replace(chosen, peak_bytes=peak)
    if found.kind == "video" and found.options.every_frame and (chosen.seconds or 0) >= _PATIENCE_S:
        hint = f"{count} frames of the video are used, --fps or --max-frames takes fewer"
        chosen = dataclasses.replace(chosen, hint=hint)
    notes = (
        *(() if model.info is None else model.info.notes),
        *found.warnings,
        *views.warnings,
        *((reason,) if reason else ()),
        *filter(None, [chosen.request.plan.why_dense(chosen.request.layout)]),
        *(known.notes if known else not_shown),
        *(masks.notes if masks else ()),
    )
    settings = run_settings(model, options, chosen, views, known, single_view, masks)
    visible_plan = None
    if masks is not None and options.masked_keys == "hidden":
        patches = torch.from_numpy(masks.hidden_patches(patch))
        if patches.any():
            visible_plan, note = hide_keys(chosen.request.plan, patches)
            notes = (*notes, note)
            settings["masks"]["keys"] = "hidden"
    comparison = ComparisonOptions(options.compare_views) if options.compare else None
    notes = tuple(dict.fromkeys(notes))
    warnings = model_warnings(model.info, views.records)
    timings = {"read": read_s}
    return PreparedRun(
        views, chosen, settings, digest, notes, timings, comparison, known, single_view, warnings,
        masks, options.mask_sky, visible_plan,
    )  # fmt: skip


def weights_elsewhere(model: Network, device: torch.device) -> int:
    """Bytes of the parameters that a run on `device` first has to move there."""
    return sum(p.nbytes for p in model.parameters() if p.device.type != device.type)


def _expected_time(
    request: Request, prepared: Callable[[Request], Preflight], device: torch.device
) -> ExpectedTime | None:
    """What plans are expected to take, where `prepared` lets them run; None for a device of unknown rates."""
    rates = device_model(device)
    if rates is None:
        return None

    def seconds(plan: Plan) -> float:
        one = dataclasses.replace(request, plan=plan)
        try:
            return total_seconds(prepared(one).request, rates)
        except (MemoryLimitError, UsageError):
            return math.inf

    return ExpectedTime(seconds, rates.said())


def _preflight(
    model: Network,
    request: Request,
    machine: Machine,
    chunk: int | None,
    flops_per_s: float,
    whole: str | None = None,
) -> Preflight:
    """One pass over all views; or chunks, if asked for or if one pass does not fit and the plan allows it.

    `whole`: why the result must be a whole one.
    """
    problem = whole or why_not_anchored(model, request.plan)
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


def _ordered(found: InputSet) -> bool:
    """Whether the views are a sequence: a video, or images whose names end in rising numbers."""
    if found.kind == "video":
        return True
    numbers = [re.search(r"(\d+)$", Path(file.name).stem) for file in found.files]
    values = [int(n.group()) for n in numbers if n is not None]
    rising = all(earlier < later for earlier, later in itertools.pairwise(values))
    return rising and len(values) == len(numbers) > 1
