"""Preflight of several ranks: against today's of one, against counted bytes, and how it grows."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from manyview.attention.plan import Plan
from manyview.errors import MemoryLimitError, UsageError
from manyview.models.vggt.config import VGGT_1B
from manyview.reconstruction.plan.device_model import known_devices
from manyview.reconstruction.plan.links import known_links, likely_link, link_named
from manyview.reconstruction.plan.machine import Machine
from manyview.reconstruction.plan.preflight import Request, preflight
from manyview.reconstruction.plan.ranks import RankPreflight, preflight_ranks, traffic

H100 = known_devices()["NVIDIA H100"]
NVLINK, ETHERNET = known_links()["nvlink4"], known_links()["ethernet-10"]
SPECS = (
    "dense", "0-5:frame,6-23:dense", "avggt", "random", "flash", "httm", "anchors", "gotohunt", "spark3r",
    "avggt:early=2,stride=2x2+httm:time=2,space=4",
)  # fmt: skip


def request(spec: str, views: int = 1000) -> Request:
    plan = Plan.parse(spec, VGGT_1B.depth)
    return Request(VGGT_1B, views, 392, 518, plan, ("camera", "depth"), torch.bfloat16)


def over(one: Request, ranks: int, gibibytes: float = 1e6, link=NVLINK, **more) -> RankPreflight:
    return preflight_ranks(one, ranks, [int(gibibytes * 2**30)] * ranks, link, rates=H100, **more)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_one_rank_is_one_process(spec, kind):
    machine = Machine(torch.device(kind), "test machine", 2**36, 2**36)
    alone = preflight(request(spec, 200), machine, flops_per_s=1e13)
    rank = preflight_ranks(
        request(spec, 200), 1, [2**36], device=machine.device, rates=H100 if kind == "cuda" else None,
        flops_per_s=1e13,
    )  # fmt: skip
    assert (rank.peak_bytes, rank.options) == (alone.peak_bytes, alone.options)
    if not torch.cuda.is_available():
        assert rank.seconds == pytest.approx(alone.seconds)
    assert rank.received == rank.waiting_s == 0 and not rank.notes()


@pytest.mark.parametrize("spec", SPECS)
def test_more_ranks_take_less_memory_and_less_computing_each(spec):
    for views in (40, 100_000):
        one = request(spec, views)
        found = [over(one, ranks) for ranks in (1, 2, 3, 8, 64)]
        for less, more in itertools.pairwise(found):
            assert more.peak_bytes <= less.peak_bytes
            assert more.seconds - more.waiting_s <= less.seconds - less.waiting_s
            assert sum(more.received_per_layer) >= sum(less.received_per_layer)
            assert more.split.frames == views
        assert found[-1].waiting_s <= over(one, 64, link=ETHERNET).waiting_s


def test_frames_of_plans_that_cut_into_blocks():
    found = over(request("httm", 64), 4)
    assert found.split.counts == (30, 30, 4)
    assert any("3 of 4 ranks" in note for note in found.notes())
    assert over(request("dense", 3), 5).split.counts == (1, 1, 1)


def test_dense_keys_go_round_only_where_they_do_not_fit():
    plenty = over(request("dense", 2000), 8, 80)
    assert not plenty.ring
    tight = over(request("dense", 10_000), 8, 70)
    assert tight.ring and tight.peak_bytes <= 0.9 * 70 * 2**30
    assert tight.received_per_layer == over(request("dense", 10_000), 8).received_per_layer
    assert tight.waiting_s <= over(request("dense", 10_000), 8).waiting_s  # behind attention


def test_what_would_fit_is_said_and_fits():
    with pytest.raises(MemoryLimitError, match="1000 views") as refused:
        over(request("flash"), 2, 6)
    said = str(refused.value)
    ranks = int(said.partition(" ranks;")[0].rpartition(" ")[2])
    views = int(said.partition("--max-frames ")[2].partition(" ")[0])
    over(request("flash"), ranks, 6)
    over(request("flash", views), 2, 6)
    for short in ((request("flash"), ranks - 1), (request("flash", views + 1), 2)):
        with pytest.raises(MemoryLimitError):
            over(*short, 6)


def test_refusals():
    with pytest.raises(UsageError, match="fastvggt cannot run over several ranks"):
        over(request("fastvggt", 20), 2)
    assert over(request("fastvggt", 20), 1).split.ranks == 1
    with pytest.raises(UsageError, match="2 ranks"):
        preflight_ranks(request("dense", 20), 2, [2**36])
    with pytest.raises(UsageError, match="nvlink4"):
        link_named("string")


def test_the_least_memory_counts():
    one = request("anchors")
    found = preflight_ranks(one, 3, [2**36, 2**35, 2**36], NVLINK)
    assert found.free_bytes == 2**35 and found.seconds is None and "3 ranks" in found.sentence()
    assert likely_link(torch.device("cpu")).name == "loopback"
    assert likely_link(torch.device("cuda"), (8, 0)) != likely_link(torch.device("cuda"), (9, 0))


def test_links_have_sources():
    for link in known_links().values():
        assert link.source and link.about and (link.measured or "not measured" in link.source)
        assert link.seconds(0, 8) == link.seconds(10**9, 1) == 0
        assert link.seconds(10**9, 2) < link.seconds(10**9, 8) < link.seconds(2 * 10**9, 8)


def test_received_bytes_of_the_full_size_network():
    """Figures that can be worked out by hand: 1041 tokens of 1024 bf16 numbers, keys and values."""
    frame = 2 * 1041 * 1024 * 2
    assert traffic(request("dense"), 4).layers == (round(1000 * frame * 3 / 4),) * 24
    assert traffic(request("anchors"), 4).layers == (round(25 * frame * 3 / 4),) * 24
    assert traffic(request("spark3r", 10_000), 2).layers[12] == 40 * frame // 2
    assert traffic(request("avggt"), 2).layers[:9] == (0,) * 9
    cameras = 16 * 2 * 2048 * 4
    assert traffic(request("dense"), 2).besides == 1000 * cameras // 2
    assert traffic(request("anchors"), 2).besides == (25 * cameras + 1000 * 1024 * 4) // 2


def test_waiting_can_be_most_of_the_time():
    slow = over(request("dense", 40), 32, link=ETHERNET)
    assert slow.waits_most and any("wait longer" in note for note in slow.notes())
    assert not over(request("anchors"), 8).waits_most
    assert not dataclasses.replace(slow, seconds=None).waits_most
