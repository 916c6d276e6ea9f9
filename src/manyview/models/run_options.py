"""How one forward pass is carried out; what changes the result beyond rounding says so."""

from __future__ import annotations

import dataclasses

import torch

from ..distributed.ranks import Ranks
from ..kernels import KERNELS

HEADS = ("camera", "depth", "points", "track", "text", "sky", "rays")
REFERENCE_VIEWS = ("saddle_balanced", "first", "middle", "saddle_sim_range")
LINEAR_PRECISIONS = ("plain", "fp8")
GELUS = ("exact", "tanh")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Precision, pieces and heads of a forward pass.

    `dtype`: precision of the trunk (None: that of the parameters); heads run in the parameters' own, but
    the convolutions of dense heads in `head_dtype` if it is given, and in the memory order of tokens with
    `channels_last` (None: on CPUs without gradients, where that is faster). `frames_per_chunk`: frames that
    the per-frame parts and the projections of global layers handle at a time. `mlp_tokens_per_chunk`: tokens
    that pass an MLP of a global layer at a time. `head_frames_per_chunk`: frames a dense head handles at
    a time. None stands for no splitting; with gradients on nothing but `head_frames_per_chunk` splits.
    `linear_precision`: arithmetic of the trunk's linear layers, "plain" (that of `dtype`) or "fp8" (e4m3
    codes with a scale for each token and output channel). `keep_weights`: weights that the run converts are
    converted once and kept while they are in use, not converted anew for each piece. `kernels`: "plain",
    "norms" or "triton" (docs/kernels.md).
    `reference_view`: how the view that defines the world is chosen, of `REFERENCE_VIEWS`, for networks that
    choose (None: as the network does). `camera_from_rays`: cameras are fitted to the rays of the dense
    head, in place of those of the camera head, for networks with "rays". `host_outputs`: maps of dense heads
    with which a network does nothing more come in host memory, from CUDA piece by piece while the next
    piece is computed. `gelu`: of the trunk, "exact" or "tanh", an approximation that matrix products of 16
    bits on CUDA apply themselves (docs/precision.md). `ranks`: the images, and what is known of
    them, are this rank's frames of a scene that several ranks share (None: they are the whole scene); what
    comes out is of these frames. No gradients flow.
    """

    dtype: torch.dtype | None = None
    frames_per_chunk: int | None = None
    mlp_tokens_per_chunk: int | None = None
    head_frames_per_chunk: int | None = 8
    heads: tuple[str, ...] = ("camera", "depth")
    linear_precision: str = "plain"
    keep_weights: bool = True
    head_dtype: torch.dtype | None = None
    channels_last: bool | None = None
    kernels: str = "plain"
    reference_view: str | None = None
    camera_from_rays: bool = False
    host_outputs: bool = False
    gelu: str = "exact"
    ranks: Ranks | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", tuple(self.heads))
        unknown = set(self.heads) - set(HEADS)
        if unknown:
            raise ValueError(f"unknown head {sorted(unknown)[0]!r}: choose from {', '.join(HEADS)}")
        choices = (("linear_precision", LINEAR_PRECISIONS), ("kernels", KERNELS), ("gelu", GELUS))
        for name, known in choices:
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose from {', '.join(known)}")
        if self.reference_view not in (None, *REFERENCE_VIEWS):
            rules = ", ".join(REFERENCE_VIEWS)
            raise ValueError(f"unknown reference_view {self.reference_view!r}: choose from {rules}")
        for name in ("frames_per_chunk", "mlp_tokens_per_chunk", "head_frames_per_chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
