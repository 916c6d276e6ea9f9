"""One softmax over shared keys and over terms of each query's own, merged by their log-sum-exp."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...kernels import fused
from .logsumexp import attend_with_lse

_NUMBERS_AT_ONCE, _NUMBERS_CPU = 1 << 26, 1 << 18  # of outputs that plain operations merge


@dataclasses.dataclass(frozen=True)
class OwnTerm:
    """A key and value of each query's own, or many of them whose softmax is known.

    The logit is given (of many keys: their log-sum-exp), or it is that of the query with `key`. Tokens that
    are `absent` have no such term.
    """

    value: Float[Tensor, "batch heads tokens dim"]
    logit: Float[Tensor, "batch heads tokens"] | None = None
    key: Float[Tensor, "batch heads tokens dim"] | None = None
    absent: Bool[Tensor, "batch tokens"] | None = None


@dataclasses.dataclass(frozen=True)
class MeanTerm:
    """One more key and value that all queries see, with `log_weight` added to its logits."""

    key: Float[Tensor, "batch heads dim"]
    value: Float[Tensor, "batch heads dim"]
    log_weight: float = 0.0


def merge_terms(
    q: Float[Tensor, "batch heads tokens dim"],
    shared: Float[Tensor, "batch heads tokens dim"],
    lse: Float[Tensor, "batch heads tokens"],
    own: OwnTerm | None = None,
    mean: MeanTerm | None = None,
    *,
    kernels: str = "plain",
) -> Float[Tensor, "batch heads tokens dim"]:
    """The softmax over shared keys and further terms, from its part over the shared keys.

    Args:
        q: Queries; logits are q·key / sqrt(dim).
        shared: Outputs of attention to the shared keys; overwritten where no gradients flow.
        lse: Log-sum-exp of their logits.
        own: A term that differs from query to query.
        mean: A key that all queries see.
        kernels: With "norms" or "triton" one kernel does it in a single pass over the tokens.

    Returns:
        The outputs, computed in float32 or better and rounded once.
    """
    if own is None and mean is None:
        return shared
    given = [x for term in (own, mean) if term is not None for x in vars(term).values()]
    tensors = [q, shared, lse, *(x for x in given if isinstance(x, Tensor))]
    if fused(kernels, *tensors):
        from ...kernels import merge_terms as kernel  # imports Triton

        if kernel.takes(shared):
            own_parts = (None,) * 4 if own is None else (own.value, own.logit, own.key, own.absent)
            mean_parts = (None, None, 0.0) if mean is None else (mean.key, mean.value, mean.log_weight)
            return kernel.merge_terms(q, shared, lse, *own_parts, *mean_parts)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return _merged(q, shared, lse, own, mean, slice(None))
    budget = _NUMBERS_CPU if q.device.type == "cpu" else _NUMBERS_AT_ONCE
    step = max(1, budget // max(1, q[:, :, :1].numel()))
    for start in range(0, q.shape[2], step):
        some = slice(start, start + step)
        shared[:, :, some] = _merged(q, shared, lse, own, mean, some)
    return shared


def _merged(
    q: Tensor, shared: Tensor, lse: Tensor, own: OwnTerm | None, mean: MeanTerm | None, some: slice
) -> Tensor:
    """Outputs of some tokens."""
    scale, query = q.shape[-1] ** -0.5, q[:, :, some]
    logits, values = [lse[:, :, some]], [shared[:, :, some]]
    if own is not None:
        if own.logit is not None:
            logit = own.logit[:, :, some].to(lse.dtype)
        else:
            assert own.key is not None
            logit = (query.to(lse.dtype) * own.key[:, :, some]).sum(-1) * scale
        if own.absent is not None:
            logit = logit.masked_fill(own.absent[:, None, some], float("-inf"))
        logits.append(logit)
        values.append(own.value[:, :, some])
    if mean is not None:
        products = query.to(lse.dtype) @ mean.key.to(lse.dtype)[..., None]
        logits.append(products[..., 0] * scale + mean.log_weight)
        values.append(mean.value[:, :, None])
    shares = torch.stack(logits).softmax(0)
    total = shares[0, ..., None] * values[0]
    for share, value in zip(shares[1:], values[1:], strict=True):
        total = total + share[..., None] * value
    return total.to(shared.dtype)


def attend_own_frame(
    q: Float[Tensor, "batch heads tokens dim"],
    k: Float[Tensor, "batch heads tokens dim"],
    v: Float[Tensor, "batch heads tokens dim"],
    frames: int,
    frames_per_chunk: int | None = None,
) -> OwnTerm:
    """Each query's attention within its own frame, as one term.

    Frames are a dimension of the batch, without copies for one scene. On a CPU it takes `frames_per_chunk`
    of them at a time (None: all), whose copies some of its kernels hold.
    """
    batch, heads, tokens, dim = q.shape
    split = [x.unflatten(2, (frames, -1)).transpose(1, 2) for x in (q, k, v)]
    if frames_per_chunk is None or frames_per_chunk >= frames or q.device.type != "cpu":
        found = attend_with_lse(*(x.flatten(0, 1) for x in split))
        value, logit = (x.unflatten(0, (batch, frames)).transpose(1, 2).flatten(2, 3) for x in found)
        return OwnTerm(value, logit)
    value = q.new_empty(batch, frames, tokens // frames, heads, dim).transpose(2, 3)
    logit = q.new_empty(
        batch, frames, heads, tokens // frames, dtype=torch.promote_types(q.dtype, torch.float32)
    )
    for start in range(0, frames, frames_per_chunk):
        some = slice(start, start + frames_per_chunk)
        part, log_sum = attend_with_lse(*(x[:, some].flatten(0, 1) for x in split))
        value[:, some], logit[:, some] = (x.unflatten(0, (batch, -1)) for x in (part, log_sum))
    return OwnTerm(*(x.transpose(1, 2).flatten(2, 3) for x in (value, logit)))
