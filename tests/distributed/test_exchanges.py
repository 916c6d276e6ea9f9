"""Exchanges between ranks, and dense attention over ranks, against the same in one process."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.dense import AllKeys
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.models.run_options import RunOptions

from ..models.tiny import tiny_vggt
from .threads import own_frames, run

SPLITS = [(5, 2), (7, 3), (4, 4), (2, 4), (3, 1)]


@pytest.mark.parametrize(("frames", "ranks"), SPLITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.bool])
def test_what_is_gathered_is_whole_and_in_order(frames, ranks, dtype):
    whole = torch.randint(0, 2, (2, 3, frames * 4, 5)).to(dtype)

    def exchange(group):
        own = whole.unflatten(2, (frames, 4))
        own = own_frames(own, group, 2).flatten(2, 3)
        before = group.received
        joined = group.gather(own, 2).wait()
        assert group.received - before == whole.nbytes - own.nbytes
        # Sizes that differ, of which one is none.
        rows = torch.full((group.split.rank,), group.split.rank).to(dtype)
        mixed = group.gather(rows, 0, range(group.split.ranks)).wait()
        return joined, mixed, group.sizes(len(rows))

    for joined, mixed, sizes in run(frames, ranks, exchange):
        assert torch.equal(joined, whole)
        active = min(frames, ranks)
        assert torch.equal(mixed, torch.arange(active).repeat_interleave(torch.arange(active)).to(dtype))
        assert sizes == tuple(range(active))


@pytest.mark.parametrize(("frames", "ranks"), SPLITS)
def test_chosen_frames_and_another_order(frames, ranks):
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(3, frames, 2, 5, generator=generator)
    chosen = torch.randint(0, frames, (3, 6), generator=generator)  # repeated, and others in each scene
    order = torch.stack([torch.randperm(frames, generator=generator) for _ in range(3)])
    order[0] = torch.arange(frames)
    rows = torch.arange(3)[:, None]

    def exchange(group):
        own = own_frames(whole, group)
        return group.take(own, chosen), group.place(own, order)

    results = run(frames, ranks, exchange)
    for taken, _ in results:
        assert torch.equal(taken, whole[rows, chosen])
    assert torch.equal(torch.cat([placed for _, placed in results], 1), whole[rows, order])


def test_frames_that_stay_on_their_rank_do_not_travel():
    whole = torch.randn(1, 6, 10)
    order = torch.tensor([[3, 0, 1, 2, 4, 5]])  # one frame crosses in each direction

    def exchange(group):
        before = group.received
        group.place(own_frames(whole, group), order)
        return group.received - before

    assert run(6, 2, exchange) == [40, 40]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_values_by_rank_are_exact(ranks):
    values = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    values[0, :10], values[1, :5], values[2, 0], values[2, 1] = 0.25, -0.0, float("inf"), -1e-40
    wanted = values.flatten().sort().values

    def exchange(group):
        own = own_frames(values, group, 0).flatten()
        return torch.stack([group.kth_value(own, rank) for rank in (0, 1, 74, 75, 76, 148, 149)])

    for found in run(3, ranks, exchange):
        assert torch.equal(found, wanted[[0, 1, 74, 75, 76, 148, 149]])


def test_sums_rings_and_objects():
    def exchange(group):
        rank = group.split.rank
        total = group.sum(torch.full((2,), 2**40 + rank)), group.sum(torch.tensor(0.5))
        before = group.to_next(torch.full((rank + 1,), rank), [(rank - 1) % 3 + 1]).wait()
        return total, before.tolist(), group.objects({"rank": rank, "text": "x" * rank})

    for rank, ((integers, number), before, objects) in enumerate(run(3, 3, exchange)):
        assert integers.tolist() == [3 * 2**40 + 3] * 2 and number == 1.5
        assert before == [(rank - 1) % 3] * ((rank - 1) % 3 + 1)
        assert objects == [{"rank": r, "text": "x" * r} for r in range(3)]


def test_sizes_that_do_not_fit_raise():
    with pytest.raises(ValueError, match="rank 0 has 3 rows"):
        run(4, 2, lambda group: group.gather(torch.zeros(3), 0, (2, 2)).wait())
    with pytest.raises(ValueError, match="each of 2 frames"):
        run(4, 2, lambda group: group.gather(torch.zeros(3), 0).wait())


IMAGES = torch.randint(
    0, 255, (2, 7, 3, 28, 42), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.mark.parametrize(("frames", "ranks"), [(5, 2), (7, 3), (2, 3)])
@pytest.mark.parametrize(
    ("spec", "dtype", "rtol"),
    [
        ("dense", torch.float32, 1e-5),
        ("0-1:frame,2-3:dense", torch.float64, 1e-10),
        ("anchors:frames=2", torch.float64, 1e-10),  # by features of all frames, and in the camera head too
    ],
    ids=["dense-float32", "frame-float64", "anchors-float64"],
)
@torch.no_grad()
def test_a_network_over_ranks_gives_what_one_process_gives(frames, ranks, spec, dtype, rtol):
    model, images = tiny_vggt(dtype), IMAGES[:, :frames]
    options = RunOptions(heads=("camera", "depth", "points"), frames_per_chunk=2, mlp_tokens_per_chunk=20)
    plan = Plan.parse(spec, 4)
    want = model(images, plan, options)

    def own(group):
        return model(own_frames(images, group), plan, dataclasses.replace(options, ranks=group))

    parts = run(frames, ranks, own)
    for name in ("z_depth", "depth_conf", "world_points", "world_points_conf"):
        got = torch.cat([getattr(part, name) for part in parts], 1)
        _assert_close(got, getattr(want, name), rtol)
    for turn, pose in enumerate(want.pose_encoding_list):
        _assert_close(torch.cat([part.pose_encoding_list[turn] for part in parts], 1), pose, rtol)


def _assert_close(got: torch.Tensor, want: torch.Tensor, rtol: float) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max() <= rtol * want.abs().max()


@torch.no_grad()
def test_dense_layers_receive_what_their_exchange_says():
    model, images = tiny_vggt(), IMAGES[:, :6]

    def received(group):
        model(own_frames(images, group), options=RunOptions(heads=("depth",), ranks=group))
        return group.received

    config = model.config
    whole = config.layout(6, 28, 42)
    tokens = sum(e.tokens for e in Plan.dense(4).exchange(whole, config.num_heads, config.dim))
    assert tokens == 4 * whole.tokens
    assert run(6, 3, received) == [2 / 3 * len(IMAGES) * 2 * tokens * config.dim * 4] * 3


@dataclasses.dataclass(frozen=True)
class _SilentKeys(AllKeys):
    def exchange(self, whole, num_heads, dim):
        return super(AllKeys, self).exchange(whole, num_heads, dim)


@torch.no_grad()
def test_what_cannot_be_shared_is_refused():
    model = tiny_vggt()

    def share(plan=None, images=IMAGES, recorder=None, **options):
        return lambda group: model(
            own_frames(images, group), plan, RunOptions(ranks=group, **options), recorder
        )

    silent = Plan((*Plan.dense(3).layers, GlobalAttention(keys=_SilentKeys())))
    with pytest.raises(UsageError, match="layer 3 _SilentKeys"):
        run(7, 2, share(silent))
    with pytest.raises(UsageError, match="rank 0 has 3 frames of the scene, but 2 images"):
        run(5, 2, lambda group: model(IMAGES[:, :2], options=RunOptions(ranks=group)))

    class Recorder:
        def global_attention(self, layer, q, k):
            raise AssertionError

    with pytest.raises(UsageError, match="recorded"):
        run(7, 2, share(recorder=Recorder()))
    with torch.enable_grad(), pytest.raises(UsageError, match="no_grad"):
        run(7, 2, share())
