"""Everything before the forward pass: images are read, and plan, precision and chunk sizes are chosen."""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..._option_checks import check_instance
from ...attention.plan import Plan
from ...attention.visible_keys import hide_keys
from ...distributed.ranks import Ranks
from ...errors import ManyViewError, UsageError, memory_errors
from ...models.families import suited_plans
from ...models.network import Network
from ..inputs.decode_pool import decoding_threads
from ..inputs.find import Inputs, find_inputs
from ..inputs.header import expected_views
from ..inputs.load import LoadedViews, SkippedFile, read_views, usable_photos
from ..inputs.network_image import Sizing
from ..inputs.options import InputSet
from ..inputs.preprocess import check_sizes
from ..inputs.view_masks import ViewMasks, read_view_masks
from ..known.known import KnownInputs, check_accepts_priors, read_known
from ..plan.decoding import DecodingPlan, plan_decoding
from ..plan.defaults import default_run_options
from ..plan.machine import inspect_machine, measure_flops, pick_device, pick_dtype
from ..plan.preflight import Preflight, Request
from ..plan.ranks import RankPreflight
from ..plan.shorter import SHORT_S, views_within
from ..result.load import load_reconstruction
from .anchored import why_not_anchored
from .choosing import Chooser, Chosen
from .comparison import ComparisonOptions
from .options import ReconstructOptions
from .over_ranks import check_same_input, check_shareable, own_frames, shared_machine
from .progress import ProgressCallback
from .settings import image_digests, image_digests_sha256, images_sha256, run_settings
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
        images_sha256: that hash, which a thread makes while the device computes (None: several ranks).
        notes: what the user should know.
        timings_s: seconds so far by stage.
        comparison: the comparison with dense attention that was asked for, if any.
        known: known cameras and depth of the views, if any.
        single_view: the network that adds metres or sky to the result, if any.
        warnings: what is to be said above all else of the result.
        masks: what is hidden of the views, if anything.
        mask_sky: whether sky counts as masked.
        visible_plan: the plan of the pass where masked patches are no keys (None: that of `chosen`).
        everyone: all ranks of a run over several, those without views included. Then `views.images` are this
            rank's alone.
        ranks: those of them that have views (None: one process, or this rank has none).
        own: which views this rank has.
        shared: what was chosen for several ranks that share one pass, and what to expect of it.
        image_digests_sha256: with several ranks, the hash in place of `images_sha256`.
    """

    views: LoadedViews
    chosen: Preflight
    own_settings: dict[str, Any]
    images_sha256: Future[str] | None
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
    own: slice = dataclasses.field(default_factory=lambda: slice(None))
    shared: RankPreflight | None = None
    image_digests_sha256: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the numbers of the result, as JSON types; waits for the images' hash."""
        if self.images_sha256 is None:
            return self.settings_by_image
        return {**self.own_settings, "images_sha256": self.images_sha256.result()}

    @property
    def settings_by_image(self) -> dict[str, Any]:
        """`settings` with the hash that several ranks can make together; of one process, it is made here."""
        digest = self.image_digests_sha256
        if digest is None:
            digest = image_digests_sha256(image_digests(self.views.images.numpy(), self.views.release))
        return {**self.own_settings, "image_digests_sha256": digest}

    def made(self, folder: Path, settings: Mapping[str, Any]) -> bool:
        """Whether this run, over however many ranks, would make the result in `folder` that has `settings`.

        Not collective: where there are several ranks one of them asks.
        """
        if "image_digests_sha256" in settings:
            return settings == self.settings_by_image
        if self.images_sha256 is not None:
            return settings == self.settings
        own = {**self.own_settings, "images_sha256": settings.get("images_sha256")}
        return settings == own and _stored_digest(folder) == self.image_digests_sha256


def _stored_digest(folder: Path) -> str | None:
    """The hash of the images of all views of the result in `folder`; None where views were left out."""
    try:
        scene = load_reconstruction(folder)
    except ManyViewError:
        return None
    if len(scene) != scene.settings.get("views"):
        return None
    return image_digests_sha256(image_digests(scene.images.transpose(0, 3, 1, 2)))


@memory_errors()
def prepare(
    inputs: Inputs | InputSet,
    model: Network,
    options: ReconstructOptions | None = None,
    progress: ProgressCallback | None = None,
    ranks: Ranks | None = None,
) -> PreparedRun:
    """Read the views and decide how to run.

    Args:
        inputs: as `reconstruct` takes them, or what `find_inputs` found.
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
    config = model.config
    if ranks is not None:
        check_shareable(options)
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
    accel = options.accel if options.accel is not None else suited.trained_for or "dense"
    plan = Plan.dense(config.depth) if accel == "auto" else Plan.parse(accel, config.depth)
    start = time.perf_counter()
    found = find_inputs(inputs, options.inputs)
    if ranks is not None:
        check_same_input(ranks, found, model)
    many = found.kind == "video" or len(found.files) > _MANY_FILES
    policy = config.size_policy if options.size_policy == "auto" else options.size_policy
    size, patch = options.image_size or config.image_size, config.patch_size
    sizing = Sizing(policy, size, patch, config.pixel_limit if options.image_size is None else None)
    check_sizes(policy, size, patch)
    on_disk = options.chunk is not None or (accel == "auto" and many) or why_not_anchored(model, plan) is None
    limit = None if options.memory_limit_gib is None else int(options.memory_limit_gib * 2**30)
    machine = inspect_machine(device, limit, reserve_bytes=weights_elsewhere(model, device))
    host = machine if device.type == "cpu" else inspect_machine(torch.device("cpu"))
    among = None
    if ranks is not None:
        among = shared_machine(ranks, machine, host)
        machine, host = among.machine, among.host
    leads = ranks is None or ranks.split.rank == 0
    whole = "--metric and --sky need the whole result in memory" if single_view else None
    chooser = Chooser(
        model, machine, options.accel, suited, _ordered(found), options.chunk,
        measure_flops(device, dtype) if leads else 0.0, whole, among.rank_bytes if among else (),
    )  # fmt: skip

    def requested(count: int, height: int, width: int, given: tuple[str, ...] = ()) -> Request:
        return Request(
            config, count, height, width, plan, heads, dtype, given, run.kernels, options.linear_precision,
            run.head_dtype, run.channels_last, options.reference_view, options.camera_from_rays,
        )  # fmt: skip

    def choose(count: int, height: int, width: int, given: tuple[str, ...]) -> Chosen:
        """Plan and chunk sizes for so many views, which the first rank chooses. Raises MemoryLimitError."""
        request = requested(count, height, width, given)
        if ranks is None:
            return chooser.choose(request)
        chosen: Chosen = ranks.objects(chooser.choose(request) if leads else None)[0]
        here = dataclasses.replace(chosen.preflight, machine=machine)
        return dataclasses.replace(chosen, preflight=here)

    # What headers say is enough to refuse what cannot fit before anything is decoded, and to deal photos out.
    skipped: tuple[SkippedFile, ...] = ()
    photos = found.kind == "photos"
    if ranks is not None and photos:
        found, skipped = usable_photos(found, sizing, options.strict, ranks)
    expected = expected_views(found, sizing)
    own, decoding = slice(None), DecodingPlan()
    if expected is not None:
        if (
            not photos and found.options.by_default and accel != "auto"
        ):  # which takes longer videos in its stride
            one = requested(1, expected.height, expected.width)
            found = dataclasses.replace(
                found, most_frames=views_within(one, device, SHORT_S, found.most_frames)
            )
        together = choose(expected.views, expected.height, expected.width, ()).together()
        if ranks is not None and photos:
            own = own_frames(ranks, expected.views, together)
            expected = dataclasses.replace(expected, views=max(1, own.stop - own.start))
        decoding = plan_decoding(expected, host, on_disk)
    views = read_views(
        found,
        policy,
        size,
        patch,
        strict=options.strict,
        pixel_limit=sizing.pixel_limit,
        progress=None if progress is None else lambda done, total: progress("read", done, total),
        threads=None if among is None else max(1, decoding_threads() // among.on_host),
        on_disk=on_disk or (ranks is not None and not photos),
        budget_bytes=decoding.budget_bytes,
        everyone=ranks,
        own=own,
    )
    digest = None
    if ranks is None:
        hashing = ThreadPoolExecutor(1, thread_name_prefix="manyview-hash")
        digest = hashing.submit(images_sha256, views)
        hashing.shutdown(wait=device.type == "cpu")  # which has the pass to compute
    masks = None
    if options.masks is not None:
        step = None if progress is None else lambda done, total: progress("masks", done, total)
        masks = read_view_masks(options.masks, views.records, options.strict, step)
        views = dataclasses.replace(views, records=masks.records)
    count, (height, width) = len(views.records), views.images.shape[2:]
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
    made = choose(count, height, width, () if known is None else known.given)
    chosen = made.preflight
    group, tree = None, None
    if ranks is not None:
        dealt = own_frames(ranks, count, made.together())
        if photos and dealt != own:
            raise ManyViewError(
                "decoded images have other sizes than their headers say: name a plan (--accel)"
            )
        if not photos:  # every rank has read the whole video
            views = dataclasses.replace(views, images=views.images[dealt])
        own, views = dealt, dataclasses.replace(views, skipped=(*skipped, *views.skipped))
        tree = image_digests_sha256(
            b"".join(ranks.objects(image_digests(views.images.numpy(), views.release)))
        )
        group = ranks.with_split(count, made.together(), made.shared is not None and made.shared.ring)
    if device.type == "cpu":  # the same memory, one after the other
        peak = max(chosen.peak_bytes, decoding.peak_bytes)
        chosen = dataclasses.replace(chosen, peak_bytes=peak)
    if found.kind == "video" and found.options.by_default and (chosen.seconds or 0) >= _PATIENCE_S:
        hint = f"{count} frames of the video are used, --fps or --max-frames takes fewer"
        chosen = dataclasses.replace(chosen, hint=hint)
    notes = (
        *(() if model.info is None else model.info.notes),
        *found.warnings,
        *views.warnings,
        *((made.reason,) if made.reason else ()),
        *filter(None, [chosen.request.plan.why_dense(chosen.request.layout)]),
        *(() if made.shared is None else made.shared.notes()),
        *(known.notes if known else not_shown),
        *(masks.notes if masks else ()),
    )
    settings = run_settings(model, options, chosen, views, known, single_view, masks)
    visible_plan = None
    if masks is not None and options.masked_keys == "hidden":
        hidden = masks.hidden_patches(patch, own)
        patches = torch.from_numpy(hidden if ranks is None else np.concatenate(ranks.objects(hidden)))
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
        masks, options.mask_sky, visible_plan, ranks, group, own, made.shared, tree,
    )  # fmt: skip


def weights_elsewhere(model: Network, device: torch.device) -> int:
    """Bytes of the parameters that a run on `device` first has to move there."""
    return sum(p.nbytes for p in model.parameters() if p.device.type != device.type)


def _ordered(found: InputSet) -> bool:
    """Whether the views are a sequence: a video, or images whose names end in rising numbers."""
    if found.kind == "video":
        return True
    numbers = [re.search(r"(\d+)$", Path(file.name).stem) for file in found.files]
    values = [int(n.group()) for n in numbers if n is not None]
    rising = all(earlier < later for earlier, later in itertools.pairwise(values))
    return rising and len(values) == len(numbers) > 1
