"""Cases of parity for attention with terms and for merging, at the sizes that AVGGT and HTTM give them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from manyview.attention.layout import TokenLayout
from manyview.attention.merging.blocks import MergePlan
from manyview.attention.merging.matching import match
from manyview.attention.merging.means import slot_means
from manyview.attention.merging.outliers import separated
from manyview.attention.methods.httm import SpaceTimeBlocks, merge_plan
from manyview.attention.softmax.terms import MeanTerm, OwnTerm, merge_terms
from manyview.kernels import merge, merge_means
from manyview.kernels import merge_terms as kernel
from tools.kernels.cases import CaseSize, KernelCase, Trial


def attention_cases() -> tuple[KernelCase, ...]:
    """Attention and merging beside plain operations."""
    return (
        KernelCase("attention, diagonal and mean terms", _diagonal_and_mean),
        KernelCase("attention, own-frame term", _own_frame),
        # Half a rounding in bfloat16 is less than one place in 97 makes; nothing but places is told.
        KernelCase("block merge, matching", _matching, roundings=0.5),
        KernelCase("block merge, means of keys and values", _means),
        KernelCase("block merge, outliers", _outliers, roundings=0.5),
    )


def _drawn(
    size: CaseSize, tokens: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Tensor:
    """Heads as a projection leaves them in memory."""
    shape = (1, tokens, size.heads, size.head_dim)
    x = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
    return x.to(dtype).transpose(1, 2)


def _diagonal_and_mean(
    size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Trial:
    """AVGGT: each dropped token's own key, one mean key, beside attention to the shared keys."""
    q, shared, key, value = (_drawn(size, size.tokens, dtype, device, generator) for _ in range(4))
    lse = torch.randn(1, size.heads, size.tokens, generator=generator, device=device)
    means = torch.randn(2, 1, size.heads, size.head_dim, generator=generator, device=device)
    absent = torch.arange(size.tokens, device=device)[None] % 9 == 0

    def fused(q: Tensor, shared: Tensor, lse: Tensor, key: Tensor, value: Tensor, means: Tensor) -> Any:
        terms = (value, None, key, absent, means[0], means[1], 3.0)
        return (kernel.merge_terms(q, shared, lse, *terms),)

    def plain(q: Tensor, shared: Tensor, lse: Tensor, key: Tensor, value: Tensor, means: Tensor) -> Any:
        own, mean = OwnTerm(value, key=key, absent=absent), MeanTerm(means[0], means[1], 3.0)
        return (merge_terms(q, shared, lse, own, mean),)

    # Four read, one written. Plain, in single precision: queries widened (3), logits of the diagonal (7) and
    # the mean (5), three parts weighed (8) and added (12), rounded (3) and put back (2).
    return Trial((q, shared, lse, key, value, means), fused, plain, 5, 40)


def _own_frame(size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Trial:
    """Anchors: attention within the own frame beside attention to the anchors."""
    q, shared, value = (_drawn(size, size.tokens, dtype, device, generator) for _ in range(3))
    lse, logit = torch.randn(2, 1, size.heads, size.tokens, generator=generator, device=device)
    absent = torch.arange(size.tokens, device=device)[None] < size.tokens // 9

    def fused(shared: Tensor, lse: Tensor, value: Tensor, logit: Tensor) -> tuple[Tensor, ...]:
        return (kernel.merge_terms(q, shared, lse, value, logit, None, absent, None, None, 0.0),)

    def plain(shared: Tensor, lse: Tensor, value: Tensor, logit: Tensor) -> tuple[Tensor, ...]:
        return (merge_terms(q, shared, lse, OwnTerm(value, logit, absent=absent)),)

    # Two read, one written. Plain: both weighed (6) and added (6), rounded (3) and put back (2).
    return Trial((shared, lse, value, logit), fused, plain, 3, 17)


def _plan(size: CaseSize, share: float) -> MergePlan:
    return merge_plan(TokenLayout(size.frames, size.special_tokens, size.grid), SpaceTimeBlocks(), share)


def _marks(places: Tensor) -> Tensor:
    """Places as numbers from 0 to 1 of which neighbours differ by more than a rounding of any precision."""
    return (places.to(torch.float32) % 97 / 97)[..., None]


def _exact_marks(places: Tensor) -> Tensor:
    return (places.to(torch.float64) % 97 / 97)[..., None]


def _grouped(
    size: CaseSize,
    plan: MergePlan,
    far: float,
    dtype: torch.dtype,
    device: torch.device,
    seed: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Heads whose sources lie near one token to join each, in turn, and their slots.

    The first source of each group lies `far` away, so that no rounding decides who joins or leaves.
    """
    source = torch.arange(size.tokens)
    slot, distance, first = (
        torch.zeros(size.tokens, dtype=torch.long),
        torch.zeros(size.tokens),
        len(plan.alone),
    )
    slot[plan.alone] = torch.arange(first)
    source[plan.alone] = plan.alone
    for blocks in plan.blocks:
        many = torch.arange(len(blocks.sources)) % len(blocks.into)
        starts = first + torch.arange(len(blocks.tokens))[:, None] * blocks.slots
        slot[blocks.tokens[:, blocks.into]] = starts + torch.arange(len(blocks.into))
        slot[blocks.tokens[:, blocks.sources]] = starts + many
        source[blocks.tokens[:, blocks.sources]] = blocks.tokens[:, blocks.into][:, many]
        distance[blocks.tokens[:, blocks.sources]] = 0.1
        distance[blocks.tokens[:, blocks.sources[: len(blocks.into)]]] = far
        first += len(blocks.tokens) * blocks.slots
    x, noise = (_drawn(size, size.tokens, torch.float32, device, seed) for _ in range(2))
    x = (x[:, :, source.to(device)] + distance.to(device)[:, None] * noise).to(dtype)
    x = x.transpose(1, 2).contiguous().transpose(1, 2)
    return x, slot.to(device).expand(1, size.heads, -1).contiguous()


def _matching(size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Trial:
    plan = _plan(size, 0.7)
    x, slots = _grouped(size, plan, 0.1, dtype, device, generator)

    def plain(x: Tensor) -> tuple[Tensor, ...]:
        return (_exact_marks(slots) if x.dtype == torch.float64 else _marks(match(x, plan)),)

    # Unit vectors of 0.3 laid out, 0.7 read, slots of 8 bytes beside the 128 of a head's token. Plain: all
    # gathered, widened, normalised and rounded (14), scores of 1,152 for each of 0.7 written and read (25).
    return Trial(
        (x,),
        lambda x: (_marks(merge.join_most_similar(x, plan.table(x.device))),),
        plain,
        1.4,
        40,
    )


def _means(size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Trial:
    plan = _plan(size, 0.7)
    k, slot = _grouped(size, plan, 0.1, dtype, device, generator)
    v = _drawn(size, size.tokens, dtype, device, generator)

    def fused(k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        keys, values, count = merge_means.slot_means(k, v, slot, plan.table(k.device), k.dtype)
        assert values is not None
        return keys, values, count[..., None]

    def plain(k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        keys, values, count = slot_means(k, v, slot, plan)
        assert values is not None
        return keys, values, count[..., None]

    # Two read, 0.3 of each written, slots. Plain, for each: laid out by head (2), widened (3), zeros and
    # their copy (1.8), added (2.6), divided (1.2), rounded (0.9).
    return Trial((k, v), fused, plain, 2.7, 23)


def _outliers(size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Trial:
    plan = _plan(size, 0.9)
    q, slot = _grouped(size, plan, 1.0, dtype, device, generator)
    many = size.heads * sum(len(b.tokens) * min(len(b.into), len(b.sources)) for b in plan.blocks)

    def fused(q: Tensor) -> tuple[Tensor, ...]:
        short, places, _ = separated(q, slot, plan, many, True)
        return short, _marks(places)

    def plain(q: Tensor) -> tuple[Tensor, ...]:
        short, places, _ = separated(q, slot, plan, many, False)
        return short, (_exact_marks if q.dtype == torch.float64 else _marks)(places)

    # Read for the means, the distances and the means again (3); means (0.5), who leaves (0.2), selection.
    # Plain: sums (8), means to all and differences from them (20), the rest.
    return Trial((q,), fused, plain, 3.9, 28)
