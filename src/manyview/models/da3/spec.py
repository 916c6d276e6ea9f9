"""Depth Anything 3's any-view networks as a family: their keys, and weights that have a name."""

from __future__ import annotations

from ...attention.auto import SuitedPlans
from ..checkpoints.named import NamedModel
from ..config import NetworkConfig
from ..spec import ModelSpec
from .checkpoint import PREFIX, infer_config, used_tensors
from .config import DA3_BASE, DA3_GIANT, DA3_LARGE, DA3_SMALL, DA3Config
from .model import DA3

_METHODS = "all but AVGGT, which is known to fail on it; Spark3R is known to keep its accuracy"


def _named(name: str, repository: str, megabytes: int, config: NetworkConfig, notes: str) -> NamedModel:
    free = config in (DA3_SMALL, DA3_BASE)
    return NamedModel(
        name=name,
        hub_id=f"depth-anything/{repository}",
        licence="Apache-2.0" if free else "CC-BY-NC-4.0",
        commercial_use=free,
        notes=notes,
        predicts="cameras, depth",
        images="longer side 504, patches of 14",
        methods=_METHODS,
        config=config,
        size_bytes=megabytes * 10**6,
    )


_KNOWN = "known cameras as optional input"

SPEC = ModelSpec(
    name="Depth Anything 3",
    keys=(f"{PREFIX}camera_token", "cam_dec.", "head.scratch."),
    config=DA3Config,
    network=DA3,
    infer_config=infer_config,
    head_keys={"camera": "cam_dec.", "depth": "head."},
    example="depth-anything/DA3-BASE",
    used=used_tensors,
    # AVGGT: re-run in arXiv 2607.03612. Of 14 layers 3 to 12 are sensitive: Spark3R (2605.06270).
    suited=SuitedPlans(coarse_keys=False, sensitive=(3 / 14, 13 / 14)),
    models=(
        _named("da3-small", "DA3-SMALL", 137, DA3_SMALL, f"the smallest; {_KNOWN}"),
        _named("da3-base", "DA3-BASE", 541, DA3_BASE, f"good on photographs, and runs on a CPU; {_KNOWN}"),
        _named("da3-large", "DA3-LARGE-1.1", 1644, DA3_LARGE, f"non-commercial; {_KNOWN}"),
        _named(
            "da3-giant",
            "DA3-GIANT-1.1",
            5423,
            DA3_GIANT,
            f"non-commercial, the most accurate of the four; {_KNOWN}; its Gaussian head is not built",
        ),
    ),
)
