"""Merging inside blocks in kernels, against index lists in float64 and the plain path."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.layout import TokenLayout
from manyview.attention.merging.matching import match
from manyview.attention.merging.means import copy_back, slot_means
from manyview.attention.merging.outliers import copy_packed, separate_outliers
from manyview.attention.methods.httm import SpaceTimeBlocks, merge_plan

pytest.importorskip("triton")

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LAYOUT = TokenLayout(3, 2, (4, 5))
CUT = SpaceTimeBlocks(space=14, time=2)  # whole and short runs, whole and short groups of frames
PLAN = merge_plan(LAYOUT, CUT, 0.7)


def drawn(device, dtype=torch.float32, dim=32, seed=0, layout=LAYOUT, batch=1):
    torch.manual_seed(seed)
    return torch.randn(batch, 2, layout.tokens, dim, device=device).to(dtype)


def both(run):
    """What `run` gives with kernels and with plain operations."""
    return run("triton"), run("plain")


def twin_slots(x, plan):
    """Slot of every token of one head x [tokens, dim]: the nearest by cosine in its block."""
    x = torch.nn.functional.normalize(x.double().cpu(), dim=-1)
    slots = torch.full((len(x),), -1)
    slots[plan.alone] = torch.arange(len(plan.alone))
    first = len(plan.alone)
    for blocks in plan.blocks:
        for tokens in blocks.tokens:
            into = tokens[blocks.into]
            slots[into] = first + torch.arange(len(into))
            for token in tokens[blocks.sources]:
                slots[token] = first + int((x[into] @ x[token]).argmax())
            first += len(into)
    return slots


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [16, 64])
def test_each_joins_the_most_similar_of_its_block(triton, dtype, dim):
    x = drawn(triton, dtype, dim)
    slot, plain = both(lambda kernels: match(x, PLAN, kernels=kernels))
    assert slot.dtype == plain.dtype
    for head in range(2):
        want = twin_slots(x[0, head], PLAN).to(triton)
        if dtype == torch.float32:
            assert torch.equal(slot[0, head], want)
        # In half precision near equals may swap: the one chosen is as similar but for a rounding.
        unit = torch.nn.functional.normalize(x[0, head].double(), dim=-1)
        means = torch.zeros(PLAN.slots, dim, dtype=torch.float64, device=triton)
        for blocks in PLAN.blocks:
            into = blocks.tokens[:, blocks.into].flatten().to(triton)
            means[want[into]] = unit[into]
        near = [(unit * means[place]).sum(-1) for place in (slot[0, head], want)]
        assert (near[0] >= near[1] - 8 * torch.finfo(dtype).eps).all()
    if triton.type == "cpu":
        assert (slot == plain).float().mean() >= (1 if dtype == torch.float32 else 0.95)


def test_the_first_of_equals_is_joined(triton):
    x = torch.zeros_like(drawn(triton))
    x[..., 3] = 2.0  # cosines of exactly one in any order of summing
    slot, plain = both(lambda kernels: match(x, PLAN, kernels=kernels))
    assert torch.equal(slot, plain)


def test_a_block_larger_than_a_tile(triton):
    layout = TokenLayout(4, 1, (9, 10))
    plan = merge_plan(layout, SpaceTimeBlocks(90, 4), 0.7)  # 252 look for one of 108
    x = drawn(triton, layout=layout)[:, :1]
    slot, plain = both(lambda kernels: match(x, plan, kernels=kernels))
    assert torch.equal(slot, plain)
    found, plain = both(lambda kernels: slot_means(x, None, slot, plan, kernels))
    (means, _, count), (want, _, members) = found, plain
    torch.testing.assert_close(means, want, rtol=1e-5, atol=1e-5)
    assert torch.equal(count, members)


@pytest.mark.parametrize("dtype", DTYPES)
def test_means_of_both_are_those_of_their_members(triton, dtype):
    x, beside = drawn(triton, dtype), drawn(triton, dtype, seed=1)
    slot = match(x, PLAN, kernels="triton")
    means, others, count = slot_means(x, beside, slot, PLAN, "triton")
    for head in range(2):
        for place in range(PLAN.slots):
            members = (slot[0, head] == place).nonzero()[:, 0]
            assert count[0, head, place] == len(members) > 0
            for got, source in ((means, x), (others, beside)):
                want = source[0, head, members].double().mean(0)
                eps = torch.finfo(dtype).eps
                torch.testing.assert_close(got[0, head, place].double(), want, rtol=eps, atol=eps)


def test_strided_heads_are_read_in_place(triton):
    x = drawn(triton, batch=2)
    cut = x.transpose(1, 2).contiguous().transpose(1, 2)
    got, want = (match(one, PLAN, kernels="triton") for one in (cut, x))
    assert torch.equal(got, want)
    found = slot_means(cut, x, got, PLAN, "triton"), slot_means(x, cut, want, PLAN, "triton")
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("many", [0, 13, 10_000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_farthest_leave_their_means(triton, dtype, many):
    x = drawn(triton, dtype)
    slot = match(x, PLAN, kernels="triton")
    (short, places, lengths), plain = both(lambda kernels: separate_outliers(x, slot, PLAN, many, kernels))
    torch.testing.assert_close(places, plain[1], rtol=0, atol=0)
    torch.testing.assert_close(lengths, plain[2], rtol=0, atol=0)
    eps = 2 * torch.finfo(dtype).eps
    assert short.shape == plain[0].shape == (1, 1, int(lengths.sum()), x.shape[-1])
    torch.testing.assert_close(short, plain[0], rtol=eps, atol=eps)
    start = 0
    for head in range(2):
        place = places[0, head] - start
        alone = slot[0, head] < len(PLAN.alone)
        assert torch.equal(place[alone], slot[0, head, alone])
        out = (place >= PLAN.slots).nonzero()[:, 0]
        assert torch.equal(short[0, 0, start + place[out]], x[0, head, out])
        start += int(lengths[0, head])
    copied, plain = both(lambda kernels: copy_packed(short, places, kernels))
    assert torch.equal(copied, plain) and copied.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("one", [True, False])
def test_outputs_are_copied_to_members(triton, one):
    """Slots of each head, or one list for all; rows as attention leaves them in memory."""
    x = drawn(triton, torch.bfloat16, batch=2)
    slot = match(x, PLAN, kernels="triton")
    slot = slot[:, :1] if one else slot
    short = torch.randn(2, PLAN.slots, 2, 32, device=triton).bfloat16().transpose(1, 2)
    got, want = both(lambda kernels: copy_back(short, slot, kernels))
    assert torch.equal(got, want)
    assert got.transpose(1, 2).is_contiguous()


def test_what_selects_or_is_too_wide_stays_plain(triton, monkeypatch):
    from manyview.kernels import merge

    monkeypatch.setattr(merge, "join_most_similar", lambda *a: pytest.fail("the kernel ran"))
    match(drawn(triton, dim=256), PLAN, kernels="triton")
    match(drawn(triton, torch.float64), PLAN, kernels="triton")


def test_kernels_are_taken_where_they_are_asked_for(triton, calls):
    from manyview.kernels import merge, merge_means, merge_outliers

    calls(merge, "join_most_similar")
    calls(merge_means, "slot_means")
    taken = calls(merge_outliers, "distances", "copy_rows")
    x = drawn(triton)
    for kernels in ("plain", "triton"):
        slot = match(x, PLAN, kernels=kernels)
        short, _, _ = slot_means(x, None, slot, PLAN, kernels)
        separate_outliers(x, slot, PLAN, 3, kernels)
        copy_back(short, slot, kernels)
        assert bool(taken) == (kernels == "triton")
    assert taken["join_most_similar"] == taken["distances"] == taken["copy_rows"] == 1
    assert taken["slot_means"] >= 1
