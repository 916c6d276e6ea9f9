"""π³ and Pi3X as families: their keys, and weights that have a name."""

from __future__ import annotations

from ..checkpoints.named import NamedModel
from ..spec import ModelSpec
from .checkpoint import infer_config, infer_config_x
from .config import PI3, PI3X, Pi3Config, Pi3XConfig
from .model import Pi3
from .model_x import Pi3X

_NO_REFERENCE = "all; without a whole reference frame"
_IMAGES = "up to 255,000 pixels in the first image's shape (574x434 at 4:3), patches of 14"

PI3_SPEC = ModelSpec(
    name="Pi3",
    keys=("point_decoder.", "conf_decoder.", "register_token"),
    config=Pi3Config,
    network=Pi3,
    infer_config=infer_config,
    example="yyfz233/Pi3",
    models=(
        NamedModel(
            name="pi3",
            hub_id="yyfz233/Pi3",
            licence="CC-BY-NC-4.0",
            commercial_use=False,
            notes="no reference frame, the same in any order; focal lengths are fitted to its points",
            images=_IMAGES,
            methods=_NO_REFERENCE,
            config=PI3,
            size_bytes=3_835_000_000,
        ),
    ),
)

PI3X_SPEC = ModelSpec(
    name="Pi3X",
    keys=("point_decoder.", "conf_decoder.", "metric_decoder.", "register_token"),
    config=Pi3XConfig,
    network=Pi3X,
    infer_config=infer_config_x,
    example="yyfz233/Pi3X",
    models=(
        NamedModel(
            name="pi3x",
            hub_id="yyfz233/Pi3X",
            licence="CC-BY-NC-4.0",
            commercial_use=False,
            notes="as pi3, smoother points; known cameras, intrinsics and depth as optional input",
            predicts="cameras, depth, points, metric scale",
            images=_IMAGES,
            methods=_NO_REFERENCE,
            config=PI3X,
            size_bytes=5_440_000_000,
        ),
    ),
)
