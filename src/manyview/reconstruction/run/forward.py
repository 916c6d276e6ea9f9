"""One forward pass; it is repeated with smaller chunks when memory runs out."""

from __future__ import annotations

import dataclasses
import gc
import logging

import torch
from torch import Tensor

from ...attention.plan import Plan
from ...distributed.ranks import Ranks
from ...errors import MemoryLimitError, out_of_memory
from ...models.network import Network, Predictions
from ...models.priors import Priors
from ...models.recording import stage_counts
from ...models.run_options import RunOptions
from ...models.transfer import to_device
from ..plan.preflight import Preflight, memory_limit_error, run_options_candidates
from .progress import ProgressCallback, StageClock

logger = logging.getLogger(__name__)


def run_forward(
    model: Network,
    images: Tensor,
    chosen: Preflight,
    progress: ProgressCallback | None = None,
    priors: Priors | None = None,
    plan: Plan | None = None,
    ranks: Ranks | None = None,
) -> tuple[Predictions, dict[str, float], RunOptions]:
    """Predictions for uint8 images [S, 3, H, W], seconds by stage, and the run options that went through.

    `priors`: what is known beside the images, for a network that takes it. `plan`: in place of the request's.
    `ranks`: those that share the scene, of which the images are this one's; then nothing is repeated, as all
    would have to. Raises MemoryLimitError when even the smallest chunks do not fit.
    """
    device = chosen.machine.device
    known = {} if priors is None else {"priors": priors.to(device)}
    smaller = [o for o in run_options_candidates(chosen.request) if _tokens(o) <= _tokens(chosen.options)]
    for options in smaller if ranks is None else [chosen.options]:
        clock = StageClock(device, sum(stage_counts(model.config.depth, options.heads).values()), progress)
        try:
            with torch.inference_mode():
                result = model(
                    to_device(images, device),
                    plan or chosen.request.plan,
                    dataclasses.replace(options, host_outputs=True, ranks=ranks),
                    clock,
                    **known,
                )
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if ranks is not None:
                raise MemoryLimitError(
                    f"memory ran out in a pass over {ranks.split.count} of {ranks.split.frames} views; use "
                    "more ranks, fewer views (--max-frames), smaller images (--image-size) or "
                    "--precision bf16"
                ) from error
            logger.warning("out of memory with %d frames at a time; trying fewer", options.frames_per_chunk)
        else:
            return result, clock.seconds, options
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    raise memory_limit_error(
        chosen.request, dataclasses.replace(chosen.machine, free_bytes=_now_free(chosen))
    )


def _tokens(options: RunOptions) -> int:
    return options.mlp_tokens_per_chunk or 0


def _now_free(chosen: Preflight) -> int:
    # The estimate said it fits and it did not: the estimate of what would fit must be below it.
    return min(chosen.machine.free_bytes, int(0.7 * chosen.peak_bytes))
