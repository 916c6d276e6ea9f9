"""Attention in bf16 on CPUs that multiply bf16: matrix products and a softmax, some queries at a time.

PyTorch's fused CPU kernel multiplies bf16 as slowly as float32; its matrix products are several times
faster, but round every logit to bf16. Here a query's largest logit is guessed from some of the keys and
subtracted inside the product, before the rounding: logits that matter are then small, and so is their error.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_CPU_FACTS = Path("/proc/cpuinfo")
# x86 with AVX512-BF16 or tiles, Arm with matrix or dot products.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "avx10_2", "bf16"}
# Intel's CPUs issue AVX512-BF16 at a quarter of the rate of float32, so only their tiles are faster.
_SLOW_FLAGS = {"GenuineIntel": {"avx512_bf16"}}
_SCORES = 1 << 21  # logits at a time: what a core's caches hold; several cores share twice as many
_LOG2_E = 1 / math.log(2)
_GUESS_FROM = 8  # the largest logit is guessed from one key in so many
# Token tensors that products hold beside queries, keys, values and output: keys and values with a channel
# more, one of the two on its way, queries in another order, and the keys guessed from.
SCRATCH = 4.3


@functools.lru_cache(maxsize=1)
def cpu_multiplies_bf16() -> bool:
    """Whether this machine's CPU says that it multiplies bf16 itself, and faster than float32."""
    if not _CPU_FACTS.is_file():
        return False
    words = set(_CPU_FACTS.read_text().split("\n\n")[0].split())
    slow = {flag for vendor in words & _SLOW_FLAGS.keys() for flag in _SLOW_FLAGS[vendor]}
    return not (_BF16_FLAGS - slow).isdisjoint(words)


def pays(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether these go through products: bf16 without gradients on a CPU that multiplies it."""
    return (
        q.device.type == "cpu"
        and q.dtype == k.dtype == v.dtype == torch.bfloat16
        and not (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad))
        and not torch.compiler.is_compiling()
        and k.shape[2] > 0
        and cpu_multiplies_bf16()
    )


def scratch_bytes() -> int:
    """Logits and weights, which a fused kernel does not hold."""
    return 2 * 2 * _scores()


def _scores() -> int:
    return _SCORES if torch.get_num_threads() == 1 else 2 * _SCORES


def attend_by_products(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys value_dim"],
    scale: float | None = None,
    scores: int | None = None,
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries"]]:
    """softmax(q kᵀ scale) v and the log-sum-exp of the logits, whose `scale` is 1 / sqrt(dim) if None.

    About `scores` logits (None: as caches suit) exist at a time, twice.

    A logit is off by its distance from the guess times the rounding of the inputs' precision. Weights are
    powers of two of what is left, a column of ones among the values gives their sum: half a softmax's time.
    """
    if scores is None:
        scores = _scores()
    batch, heads, queries, dim = q.shape
    scale = dim**-0.5 if scale is None else scale
    keys, width = v.shape[2:]
    pairs = batch * heads
    # One product for many pairs of few queries (frame attention), or for some queries of one pair.
    together = min(pairs, max(1, scores // max(1, queries * keys)))
    rows = queries if together > 1 else min(queries, max(64, scores // keys))
    flat_q, flat_k, flat_v = (x.reshape(pairs, *x.shape[2:]) for x in (q, k, v))
    some = torch.cat([flat_k[:, ::_GUESS_FROM], flat_k[:, -1:]], 1).transpose(1, 2)
    flat_k = F.pad(flat_k, (0, 1), value=1.0).transpose(1, 2)  # takes what a query has beside its channels
    flat_v = F.pad(flat_v, (0, 1), value=1.0)
    out = q.new_empty(pairs, queries, width)
    log_sums = q.new_empty(pairs, queries, 1, dtype=torch.promote_types(q.dtype, torch.float32))
    logits = q.new_empty(together * rows * keys)
    weights = torch.empty_like(logits)
    for first in range(0, pairs, together):
        pair = slice(first, min(first + together, pairs))
        for start in range(0, queries, rows):
            part = flat_q[pair, start : start + rows]
            guess = torch.bmm(part, some[pair]).amax(-1, keepdim=True)
            part = torch.cat([part, -guess], -1)
            shape = (*part.shape[:2], keys)
            here, there = (x[: shape[0] * shape[1] * keys].view(shape) for x in (logits, weights))
            torch.baddbmm(here, part, flat_k[pair], beta=0, alpha=_LOG2_E * scale, out=here)
            sums = torch.bmm(torch.exp2(here, out=there), flat_v[pair])
            log_sum = sums[..., width:].to(log_sums.dtype).log()
            if not log_sum.isfinite().all():  # a logit far from the guess
                log_sum = here.mul_(1 / _LOG2_E).to(log_sums.dtype).logsumexp(-1, keepdim=True)
                sums = torch.bmm(torch.softmax(here, -1, out=there), flat_v[pair])
            torch.div(sums[..., :width], sums[..., width:], out=out[pair, start : start + rows])
            torch.add(log_sum, guess, alpha=scale, out=log_sums[pair, start : start + rows])
    return out.view(batch, heads, queries, width), log_sums.view(batch, heads, queries)
