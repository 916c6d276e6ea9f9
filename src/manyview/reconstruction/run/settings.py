"""What decides the numbers of a result: stored with it, and compared before a run is repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ..._version import __version__
from ...models.network import Network
from ..inputs.load import LoadedViews
from ..inputs.view_masks import ViewMasks
from ..known.known import KnownInputs
from ..plan.machine import precision_name
from ..plan.preflight import Preflight
from .options import ReconstructOptions
from .single_view import SingleView

_HASHED_TOGETHER = 8  # images, which are copied into the order of the hash


def run_settings(
    model: Network,
    options: ReconstructOptions,
    chosen: Preflight,
    views: LoadedViews,
    known: KnownInputs | None = None,
    single_view: SingleView | None = None,
    masks: ViewMasks | None = None,
) -> dict[str, Any]:
    """Everything that decides the numbers of a result but its images, and nothing else, as JSON types."""
    info = model.info
    settings: dict[str, Any] = {
        "manyview": __version__,
        # A model that was built in Python and not loaded has no provenance.
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
    }
    if known is not None:
        settings["known"] = known.facts
    if single_view is not None:
        settings["single_view"] = single_view.settings()
    if masks is not None:
        settings["masks"] = masks.facts
    if options.mask_sky:
        settings["mask_sky"] = True
    # Only where they change the rounding, so that results stored before they existed keep their settings.
    if chosen.request.kernels != "plain":
        settings["kernels"] = chosen.request.kernels
    if chosen.request.head_dtype is not None:
        settings["head_precision"] = precision_name(chosen.request.head_dtype)
    if options.linear_precision != "plain":
        settings["linears"] = options.linear_precision
    if options.reference_view is not None:
        settings["reference_view"] = options.reference_view
    if options.camera_from_rays:
        settings["camera_from_rays"] = True
    return settings


def images_sha256(views: LoadedViews) -> str:
    """SHA-256 of the images as [views, 3, height, width], whatever their order in memory."""
    digest = hashlib.sha256()
    for some in views.images.split(_HASHED_TOGETHER):
        digest.update(some.contiguous().numpy().data)
        views.release()
    return digest.hexdigest()


def image_digests(
    images: UInt8[np.ndarray, "views 3 height width"], release: Callable[[], None] = lambda: None
) -> bytes:
    """SHA-256 of each image, one after the other, whatever their order in memory.

    `release` is called every few images.
    """
    digests = []
    for place, image in enumerate(images):
        digests.append(hashlib.sha256(np.ascontiguousarray(image).data).digest())
        if place % _HASHED_TOGETHER == 0:
            release()
    return b"".join(digests)


def image_digests_sha256(digests: bytes) -> str:
    """SHA-256 of all `image_digests`, which several ranks can make together."""
    return hashlib.sha256(digests).hexdigest()
