"""Depth Anything 3's networks of single views as a family: its keys, and weights that have a name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import WeightsError
from ..checkpoints.named import NamedModel
from ..checkpoints.shapes import Shapes
from ..spec import ModelSpec
from .checkpoint import PREFIX
from .mono import DA3Mono
from .mono_config import DA3_METRIC, DA3_MONO, DA3MonoConfig

_HEAD_DIM = 64
_KIND = re.compile(r"metric|mono")


def infer_config(
    read: Shapes, num_heads: int | None = None, taps: Sequence[int] | None = None
) -> DA3MonoConfig:
    """Sizes of a network of single views.

    Shapes do not tell the number of heads, which are 64 wide in all published networks, nor which blocks
    the head reads, which is known for the published number of blocks, nor whether depth is metric: the
    last "metric" or "mono" in the path of the file does.
    """
    published = DA3_MONO
    dim = read(f"{PREFIX}cls_token", 3, (1, 1, published.dim))[-1]
    layers = read.count(re.escape(PREFIX) + r"blocks\.(\d+)\.")
    if taps is None and layers != published.layers:
        raise WeightsError(
            f"{read.source} has {layers} blocks and does not say which the head reads: only the published "
            f"{published.layers} are known"
        )
    kinds = _KIND.findall(read.source.lower())
    return DA3MonoConfig(
        dim=dim,
        layers=layers,
        num_heads=num_heads or max(dim // _HEAD_DIM, 1),
        mlp_ratio=read.mlp_ratio(f"{PREFIX}blocks.0."),
        patch_size=read(f"{PREFIX}patch_embed.proj.weight", 4, (dim, 3, 14, 14))[-1],
        native_grid=read.grid(f"{PREFIX}pos_embed", dim),
        taps=tuple(taps or published.taps),  # type: ignore[arg-type]
        head=read.dense_head("head."),
        metric=bool(kinds) and kinds[-1] == "metric",
    )


_SINGLE = "longer side 504, patches of 14"

MONO_SPEC = ModelSpec(
    name="Depth Anything 3 (single views)",
    keys=(PREFIX, "head.scratch.sky_output_conv2."),
    config=DA3MonoConfig,
    network=DA3Mono,
    infer_config=infer_config,
    models=(
        NamedModel(
            name="da3-metric-large",
            hub_id="depth-anything/DA3METRIC-LARGE",
            licence="Apache-2.0",
            commercial_use=True,
            size_bytes=1_337_000_000,
            notes="one view at a time: for --metric and --sky, not for a reconstruction",
            predicts="depth in metres, sky",
            images=_SINGLE,
            methods="none: there is no global layer",
            config=DA3_METRIC,
        ),
        NamedModel(
            name="da3-mono-large",
            hub_id="depth-anything/DA3MONO-LARGE",
            licence="Apache-2.0",
            commercial_use=True,
            size_bytes=1_337_000_000,
            notes="one view at a time: for --sky, not for a reconstruction",
            predicts="depth, sky",
            images=_SINGLE,
            methods="none: there is no global layer",
            config=DA3_MONO,
        ),
    ),
)
