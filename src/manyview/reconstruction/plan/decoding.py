"""Memory while images are read, before the forward pass."""

from __future__ import annotations

import dataclasses

from ...errors import MemoryLimitError
from ..inputs.decode_pool import DECODING_BYTES, decoding_threads
from ..inputs.header import ExpectedViews
from .machine import Machine
from .preflight import format_gib


@dataclasses.dataclass(frozen=True)
class DecodingPlan:
    """`budget_bytes` for images at full resolution; `peak_bytes` with the network images that are ready."""

    budget_bytes: int = DECODING_BYTES
    peak_bytes: int = 0


def plan_decoding(expected: ExpectedViews, host: Machine, on_disk: bool) -> DecodingPlan:
    """How much images at full resolution may take: a gibibyte, less where the network images need the rest.

    Args:
        expected: what the headers say.
        host: the machine's memory, with the limit of the run.
        on_disk: network images wait in a file.

    Raises:
        MemoryLimitError: if an image does not fit by itself.
    """
    # While all images are put together there are up to two of each.
    kept = 0 if on_disk else 2 * 3 * expected.views * expected.height * expected.width
    free = int(host.usable_bytes) - kept
    if expected.largest_bytes > free:
        beside = f" beside {format_gib(kept)} of resized images" if kept > expected.largest_bytes else ""
        raise MemoryLimitError(
            f"the image {expected.largest} takes about {format_gib(expected.largest_bytes)} to read{beside}, "
            f"and {host.name} has {format_gib(host.free_bytes)} free; make it smaller or leave it out"
        )
    budget = max(expected.largest_bytes, min(DECODING_BYTES, free))
    at_once = min(decoding_threads(), expected.views) * expected.largest_bytes
    return DecodingPlan(budget, kept + min(budget, at_once))
