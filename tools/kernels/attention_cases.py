"""Cases of parity for attention with terms and for merging, at the sizes that AVGGT and HTTM give them."""

from __future__ import annotations

import torch
from manyview.attention.softmax.extended import attend_extended
from torch import Tensor

from manyview.attention.layout import TokenLayout
from manyview.attention.merging.blocks import MergePlan
from manyview.attention.merging.matching import match
from manyview.attention.merging.means import slot_means
from manyview.attention.merging.outliers import separate_outliers
from manyview.attention.methods.httm import SpaceTimeBlocks, merge_plan
from manyview.kernels import attention, merge, merge_means, merge_outliers
from tools.kernels.cases import CaseSize, KernelCase, Trial

_SCORES = 1 << 26  # in float64 at once


def attention_cases() -> tuple[KernelCase, ...]:
    """Attention and merging beside plain operations."""
    return (
        # A value is a mean of values with a rounded share each; both sides round alike.
        KernelCase("attention, weights and self terms", _terms, roundings=2),
        KernelCase("attention, heads of several lengths", _lengths, roundings=2),
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


def _exact(q: Tensor, k: Tensor, v: Tensor, weight: Tensor | None, logit: Tensor, value: Tensor) -> Tensor:
    """The softmax written out, some queries at a time; own logits of minus infinity are no terms."""
    rows, found = max(1, _SCORES // (q.shape[1] * k.shape[2])), []
    for part, own, beside in zip(q.split(rows, 2), logit.split(rows, 2), value.split(rows, 2), strict=True):
        scores = part @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = torch.cat([scores if weight is None else scores + weight, own[..., None]], -1).softmax(-1)
        found.append(scores[..., :-1] @ v + scores[..., -1:] * beside)
    return torch.cat(found, 2)


def _terms(size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Trial:
    """AVGGT with one key in nine: all queries, a ninth of the keys, the diagonal, one heavy mean."""
    keys = -(-size.tokens // 9)
    q, own = (_drawn(size, size.tokens, dtype, device, generator) for _ in range(2))
    k, v = (_drawn(size, keys, dtype, device, generator) for _ in range(2))
    logit = torch.randn(1, size.heads, size.tokens, generator=generator, device=device)
    weight = torch.zeros(keys, device=device)
    weight[-1] = 3.0

    def plain(*x: Tensor) -> tuple[Tensor, ...]:
        return (_exact(*x) if x[0].dtype == torch.float64 else attend_extended(*x),)

    # Queries and own values in, outputs out, a ninth twice. Plain, with 72 channels of which 68 are real:
    # joined (2.06), scaled (2.13), padded (2.19), attended (2.25), own values weighed (2) and added (3);
    # keys likewise and with the null key 7.5, values 7.3 ninths.
    return Trial(
        (q, k, v, weight, logit, own),
        lambda *x: (attention.attend_terms(*x),),
        plain,
        3.2,
        15.3,
    )


def _lengths(size: CaseSize, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Trial:
    """HTTM: a fifth of the queries, of which heads have different numbers, three tenths of the keys."""
    queries, keys = -(-size.tokens // 5), -(-3 * size.tokens // 10)
    q = _drawn(size, queries, dtype, device, generator)
    k, v = (_drawn(size, keys, dtype, device, generator) for _ in range(2))
    share = torch.rand(1, size.heads, generator=generator, device=device)
    lengths = (queries * (0.7 + 0.3 * share)).round().to(torch.float32)

    def plain(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        if q.dtype != torch.float64:
            return (attend_extended(q, k, v, lengths=lengths.long()),)
        none = torch.full(q.shape[:3], float("-inf"), dtype=q.dtype, device=q.device)
        live = torch.arange(queries, device=q.device) < lengths[..., None]
        return (_exact(q, k, v, None, none, torch.zeros_like(q)) * live[..., None],)

    # Read and written once; plain joins the common part and the heads' rests, which it pads first.
    return Trial(
        (q, k, v, lengths),
        lambda q, k, v, lengths: (attention.attend_terms(q, k, v, lengths=lengths.long()),),
        plain,
        1.0,
        1.6,
    )


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
        short, places, _ = merge_outliers.leave_far_means(q, slot, plan.table(q.device), many)
        return short, _marks(places)

    def plain(q: Tensor) -> tuple[Tensor, ...]:
        short, places, _ = separate_outliers(q, slot, plan, many)
        return short, (_exact_marks if q.dtype == torch.float64 else _marks)(places)

    # Read for the means, the distances and the means again (3); means (0.5), who leaves (0.2), selection.
    # Plain: sums (8), means to all and differences from them (20), the rest.
    return Trial((q,), fused, plain, 3.9, 28)
