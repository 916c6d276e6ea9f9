"""What every network family's configuration says, and what follows from sizes without weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from torch import Tensor

from ..attention.layout import TokenLayout
from ..attention.plan import Plan
from ..distributed.ranks import Ranks
from ..errors import UsageError
from ..files.schema import convert
from .footprint import HeadFootprint, KnownFootprint
from .part_configs import EncoderConfig
from .run_options import RunOptions

AnyConfig = TypeVar("AnyConfig", bound="NetworkConfig")
SizePolicy = Literal[
    "fit",
    "crop",
    "pad",
    "square",
    "area",
    "balanced",
    "max_size",
    "upper_bound",
    "upper_bound_crop",
    "lower_bound",
    "lower_bound_crop",
]


class NetworkConfig:
    """Sizes of a network. Each family derives a frozen dataclass from it.

    Fields or properties of every family: `dim`, the width of a token; `depth`, the global layers, which is
    the number of layers of a plan; `num_heads`, `mlp_ratio`, `rope_base` of the trunk's blocks; `patch_size`
    and `image_size` (the longer side that the weights were made for) in pixels; `special_tokens` of a frame;
    the `encoder` (None: a plain patch convolution). `head_fields` names the field of each head that weights
    may lack (None in the field).
    """

    head_fields: ClassVar[Mapping[str, str]] = {}

    if TYPE_CHECKING:  # a property here would be taken for the default of a field

        @property
        def dim(self) -> int: ...
        @property
        def depth(self) -> int: ...
        @property
        def num_heads(self) -> int: ...
        @property
        def mlp_ratio(self) -> float: ...
        @property
        def rope_base(self) -> float: ...
        @property
        def patch_size(self) -> int: ...
        @property
        def image_size(self) -> int: ...
        @property
        def special_tokens(self) -> int: ...
        @property
        def encoder(self) -> EncoderConfig | None: ...

    @property
    def pairs(self) -> int:
        """Pairs of a frame and a global block."""
        return self.depth

    @property
    def unpaired(self) -> int:
        """Global blocks of a plan without a frame block in front."""
        return 0

    @property
    def mlp_numbers(self) -> int:
        """Numbers of a token in an MLP's hidden layer, before and after its activation, in token widths."""
        return 2 * math.ceil(self.mlp_ratio)

    @property
    def reference_frame(self) -> int | None:
        """The frame whose camera is the world; None where all frames are equal."""
        return 0

    @property
    def reference_views(self) -> tuple[str, ...]:
        """How the reference view can be chosen, the network's own way first; empty: there is no choice."""
        return ()

    def require_reference_view(self, wanted: str | None, plan: Plan) -> None:
        """UsageError for a choice of the reference view that there is not, or not under this plan."""
        if wanted is not None and wanted not in self.reference_views:
            rules = ", ".join(self.reference_views)
            remedy = f"choose from {rules}" if rules else "leave it out"
            raise UsageError(f"this network does not choose its reference view by {wanted!r}: {remedy}")
        if plan.has_anchors and wanted not in (None, "first"):
            raise UsageError(
                f"the reference view by {wanted!r} depends on all views, and under {plan} each view depends "
                "on the anchors and itself alone: leave it out, or use another plan"
            )

    @property
    def size_policy(self) -> SizePolicy:
        """How images are resized where the user does not say: "fit" is whole, longer side `image_size`."""
        return "fit"

    @property
    def pixel_limit(self) -> int | None:
        """Most pixels of an image under the policy "area"; None where `image_size` says how large it is."""
        return None

    @property
    def metric_focal(self) -> float | None:
        """Depth of single views is in metres at this focal length in pixels, and in proportion at others.

        None where depth has no unit.
        """
        return None

    @property
    def why_no_priors(self) -> str | None:
        """Why known cameras and depth cannot be given beside the images; None where they can."""
        return (
            "takes images only: known cameras need Depth Anything 3 (--model da3-base) or Pi3X "
            "(--model pi3x), known depth needs Pi3X; or leave them out"
        )

    @property
    def camera_memory_bytes(self) -> int:
        """Bytes of keys and values that the camera head keeps of one frame that others attend to."""
        return 0

    @property
    def available_heads(self) -> tuple[str, ...]:
        """Names of the heads that these sizes have, of `run_options.HEADS`."""
        return tuple(head for head, field in self.head_fields.items() if getattr(self, field) is not None)

    def require_heads(self, heads: Collection[str]) -> None:
        """UsageError for a head that these sizes lack."""
        for head in heads:
            if head not in self.available_heads:
                have = ", ".join(self.available_heads) or "none"
                raise UsageError(f"this network has no {head} head; it has: {have}")

    def with_heads(self: AnyConfig, keep: Collection[str]) -> AnyConfig:
        """The same without the heads that are not in `keep`; heads without a field of their own stay."""
        dropped = {field: None for head, field in self.head_fields.items() if head not in keep}
        return dataclasses.replace(self, **dropped)  # type: ignore[type-var]

    def head_flops(self, layout: TokenLayout, heads: Collection[str], query_points: int) -> dict[str, float]:
        """Floating-point operations of some of its heads, by stage.

        Stages are "NAME head"; to what is counted with "frame layers" and "global layers" it is added.
        """
        raise NotImplementedError

    def head_footprint(self, layout: TokenLayout, options: RunOptions, element_bytes: int) -> HeadFootprint:
        """Bytes of the heads for one scene; `element_bytes`: size of a number in the trunk's precision."""
        raise NotImplementedError

    def check_known(self, known: Mapping[str, Sequence[bool]], names: Sequence[str]) -> None:
        """UsageError where too little is known of the views `names`.

        `known`: of "poses", "intrinsics" and "depth", whether each view has it.
        """

    def known_footprint(
        self, layout: TokenLayout, options: RunOptions, element_bytes: int, known: tuple[str, ...]
    ) -> KnownFootprint:
        """Bytes for one scene of which `known` ("poses", "intrinsics", "depth") of all frames is given."""
        return KnownFootprint()

    def layout(self, frames: int, height: int, width: int) -> TokenLayout:
        """Token layout of `frames` images of `height` x `width` pixels.

        Raises:
            UsageError: A side is not a multiple of the patch.
        """
        patch = self.patch_size
        if height % patch or width % patch:
            raise UsageError(f"image sides must be multiples of {patch} pixels, got {height}x{width}")
        grid = (height // patch, width // patch)
        return TokenLayout(frames, self.special_tokens, grid, self.reference_frame)

    def whole_layout(self, images: Tensor, ranks: Ranks | None) -> TokenLayout:
        """Token layout of the scene of images [B, S, 3, H, W]; with `ranks` they are one rank's frames of it.

        Raises:
            UsageError: A side is not a multiple of the patch, or another number of frames than the rank's.
        """
        _, frames, _, height, width = images.shape
        if ranks is None:
            return self.layout(frames, height, width)
        if frames != ranks.split.count:
            raise UsageError(
                f"rank {ranks.split.rank} has {ranks.split.count} frames of the scene, but {frames} images"
            )
        return self.layout(ranks.split.frames, height, width)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON stores them in weights files."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls: type[AnyConfig], data: Any) -> AnyConfig:
        """The configuration of such fields. Raises ValueError, which names the field that does not fit."""
        return convert(data, cls, known_only=True)


def check_heads(dim: int, num_heads: int) -> None:
    """ValueError unless `num_heads` heads, each a multiple of 4 wide for the rotary positions, make `dim`."""
    if dim % num_heads or (dim // num_heads) % 4:
        raise ValueError(f"width {dim} does not split into {num_heads} heads of a multiple of 4")
