"""Options of `reconstruct`, as a dataclass and as keyword arguments that editors and type checkers know."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, TypedDict

from ..._deprecation import RenamedAttribute, accepts_renamed, new_names, renamed_arguments
from ..._option_checks import check_options
from ...errors import UsageError
from ...kernels import KERNELS
from ...models.config import SizePolicy
from ...models.network import Network
from ...models.run_options import LINEAR_PRECISIONS, REFERENCE_VIEWS
from ..inputs.options import InputOptions
from ..inputs.view_masks import Masks, check_masks
from ..known.arrays import KnownViews
from ..known.files import KnownFiles
from ..plan.defaults import HeadPrecision
from ..plan.machine import PRECISIONS


@accepts_renamed
@dataclasses.dataclass(frozen=True)
class ReconstructOptions:
    """How to reconstruct; every default is what most inputs want.

    Args:
        accel: attention plan of the global layers, such as "dense" or "avggt:stride=2x2", or "auto"
            (None: the plan that the weights were trained for, which is "dense" for most).
        inputs: which images or video frames to use.
        size_policy: "auto" is the model's own; "fit" keeps whole images, "crop", "pad" and "square" are
            VGGT's, "area" is π³'s, "balanced" and "max_size" are VGGT-Ω's, "upper_bound" and the others
            Depth Anything 3's.
        image_size: longer side of the network images in pixels (None: what the weights were made for).
        device: "auto" (CUDA if there is any, else the CPU), "cpu", "cuda", "cuda:1" or "mps".
        precision: of the trunk: "auto", "fp32", "bf16" or "fp16".
        point_head: also run the point head; its points are kept beside those from depth.
        pixel_centres: "half" is consistent, "integer" is upstream VGGT's convention.
        strict: raise DamagedInputError for a damaged file instead of skipping it.
        memory_limit_gib: plan for at most this much memory, in GiB.
        known: known cameras and depth, from files or as arrays, for networks that accept them (Pi3X).
        known_where_taken: leave out of `known`, with a note, what the network does not take, in place of
            refusing it: for a refinement afterwards, which takes known cameras beside every network.
        compare: first run the plan and dense attention on a sample of the views, and keep the time saved and
            the deviation in the result.
        compare_views: views in that sample (None: up to 24).
        chunk: attach so many views at a time to anchors solved once, with results on the disk (None: only if
            one pass does not fit in memory). For plans of anchors; the result is the same.
        kernels: "plain", "norms" for fused norms, sums and rotations, or "triton" for fused token merging too
            (docs/kernels.md); "auto": "norms" on CUDA where Triton compiles them, else "plain".
        head_precision: of the convolutions of dense heads: "fp32", "bf16" or "fp16"; "auto": bf16 on CUDA
            where the trunk has 16 bits, else that of the weights (docs/precision.md).
        metric: put the result in metres by `metric_model` on a few views; refused, with a note, where its
            depth and the result's do not agree.
        sky: mark the sky of every view by `metric_model`, which leaves it out of the points.
        masks: what of the images is hidden, as a folder of masks called like them or as one mask a view:
            arrays (bool, uint8 or float in [0, 1]; True or white is kept) or Pillow images (docs/masks.md).
            Masked pixels give no points and no statistics.
        mask_sky: sky counts as masked too, where the network gives it or `sky` finds it.
        masked_keys: patches of which masks hide everything are no keys of global attention ("hidden", where
            the plan allows it), or seen as all others ("kept").
        metric_model: depth in metres and sky of single views: a network, or what `manyview.load` takes.
        reference_view: how the view that the others refer to is chosen, for networks that choose one:
            "saddle_balanced", "first", "middle" or "saddle_sim_range" (None: as the network does).
        camera_from_rays: fit cameras to the rays that the network gives beside depth, in place of those of
            its camera head (Depth Anything 3).
        linear_precision: "plain", or "fp8" to run the trunk's linear layers on 8-bit floating-point codes
            (docs/precision.md).

    Raises:
        UsageError: for a value that cannot be, or options that exclude each other.
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
    known_where_taken: bool = False
    compare: bool = False
    compare_views: int | None = None
    chunk: int | None = None
    kernels: str = "auto"
    head_precision: HeadPrecision = "auto"
    linear_precision: str = "plain"
    reference_view: str | None = None
    camera_from_rays: bool = False
    metric: bool = False
    sky: bool = False
    metric_model: Network | str | Path = "da3-metric-large"
    masks: Masks | None = None
    mask_sky: bool = False
    masked_keys: Literal["hidden", "kept"] = "hidden"

    receipt = RenamedAttribute("compare")
    receipt_views = RenamedAttribute("compare_views")
    linears = RenamedAttribute("linear_precision")

    def __post_init__(self) -> None:
        check_options(
            self, at_least={"image_size": 1, "chunk": 1, "compare_views": 1}, above={"memory_limit_gib": 0}
        )
        if self.pixel_centres not in ("half", "integer"):
            raise UsageError(f"pixel_centres must be 'half' or 'integer', not {self.pixel_centres!r}")
        if self.kernels not in ("auto", *KERNELS):
            raise UsageError(f"kernels are {', '.join(('auto', *KERNELS))}, not {self.kernels!r}")
        if self.head_precision not in ("auto", *PRECISIONS):
            known = ", ".join(("auto", *PRECISIONS))
            raise UsageError(f"head_precision is one of {known}, not {self.head_precision!r}")
        if self.reference_view not in (None, *REFERENCE_VIEWS):
            known = ", ".join(REFERENCE_VIEWS)
            raise UsageError(f"reference_view is one of {known}, not {self.reference_view!r}")
        if self.linear_precision not in LINEAR_PRECISIONS:
            known = " or ".join(LINEAR_PRECISIONS)
            raise UsageError(f"linear_precision is {known}, not {self.linear_precision!r}")
        check_masks(self.masks)
        if self.compare_views is not None and not self.compare:
            raise UsageError("--receipt-views is the size of the sample of --receipt: give --receipt too")
        if self.metric and self.known:
            raise UsageError("--metric finds a scale, and what is known has one: leave out either")
        if self.chunk is not None and (self.metric or self.sky):
            raise UsageError("--metric and --sky need the whole result in memory: leave out --chunk")
        if self.reference_view is not None and self.known:
            raise UsageError("--reference-view has no effect with known cameras: leave out either")
        if self.compare and self.known:
            raise UsageError("--receipt compares plans on images alone: leave out known cameras and depth")


class ReconstructChanges(TypedDict, total=False):
    """The fields of `ReconstructOptions` as keyword arguments."""

    accel: str | None
    inputs: InputOptions
    size_policy: SizePolicy | Literal["auto"]
    image_size: int | None
    device: str
    precision: str
    point_head: bool
    pixel_centres: str
    strict: bool
    memory_limit_gib: float | None
    known: KnownFiles | KnownViews
    known_where_taken: bool
    compare: bool
    compare_views: int | None
    chunk: int | None
    kernels: str
    head_precision: HeadPrecision
    linear_precision: str
    reference_view: str | None
    camera_from_rays: bool
    metric: bool
    sky: bool
    metric_model: Network | str | Path
    masks: Masks | None
    mask_sky: bool
    masked_keys: Literal["hidden", "kept"]


def changed_options(options: ReconstructOptions | None, changes: ReconstructChanges) -> ReconstructOptions:
    """`options` (None: the defaults) with `changes`. Raises UsageError for a name that is no option."""
    if not isinstance(options, ReconstructOptions | None):
        raise UsageError(
            f"options are ReconstructOptions or keyword arguments, not a {type(options).__name__}"
        )
    named = renamed_arguments(changes, new_names(ReconstructOptions), stacklevel=3)
    names = [field.name for field in dataclasses.fields(ReconstructOptions)]
    unknown = [name for name in named if name not in names]
    if unknown:
        raise UsageError(f"there is no option {unknown[0]!r}; there are: {', '.join(names)}")
    return dataclasses.replace(options or ReconstructOptions(), **named)
