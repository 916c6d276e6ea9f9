"""Attaching against solved anchors is the offline pass: trunk, depth, points and cameras."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.anchor_memory import ChosenAnchors
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.anchors import AnchorKeys
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerRun
from manyview.errors import UsageError
from manyview.models.run_options import RunOptions
from manyview.reconstruction.run.anchored import encoder_features, solve_anchors
from tests.models.tiny import TINY, tiny_vggt
from tests.models.tiny_pi3 import tiny_pi3

HEADS = RunOptions(heads=("camera", "depth", "points"))


def _images(count: int = 7) -> torch.Tensor:
    torch.manual_seed(5)
    return torch.rand(count, 3, 28, 42, dtype=torch.float64)


def _plan(indices: tuple[int, ...], depth: int = TINY.depth) -> Plan:
    layer = GlobalAttention(keys=AnchorKeys(indices=indices))
    return Plan((layer,) * depth, camera=layer)


def _same(got, want, rows, columns) -> None:
    for name in ("cam_from_world", "intrinsics", "z_depth", "depth_conf", "world_points"):
        a, b = getattr(got, name)[0, rows], getattr(want, name)[0, columns]
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("network", ["vggt", "pi3"])
@pytest.mark.parametrize("order", [(1, 3, 4, 6), (6, 1, 4, 3)])
@pytest.mark.parametrize("anchors", [(0, 2, 5), (2, 5, 0), (5, 2)])
def test_any_chunks_in_any_order_are_the_offline_pass(network, order, anchors):
    model = tiny_vggt(torch.float64) if network == "vggt" else tiny_pi3().double()
    images, plan = _images(), _plan(anchors, model.config.depth)
    with torch.inference_mode():
        want = model(images, plan, HEADS)
        chosen = ChosenAnchors.of(plan, len(images), model.config.reference_frame, None)
        solved, first = solve_anchors(model, images[list(chosen.frames)], chosen, HEADS)
        _same(first, want, list(range(len(chosen.frames))), list(chosen.frames))
        for size in (1, 3, len(order)):
            for start in range(0, len(order), size):
                part = list(order[start : start + size])
                _same(solved.attach(images[part]), want, list(range(len(part))), part)


def test_as_many_anchors_as_frames_is_dense_cameras_too():
    model, images = tiny_vggt(torch.float64), _images(4)
    with torch.inference_mode():
        dense = model(images, options=HEADS)
        everything = model(images, Plan.parse("anchors:frames=9", TINY.depth), HEADS)
    _same(everything, dense, slice(None), slice(None))


@pytest.mark.parametrize("own", [True, False])
def test_the_camera_head_joins_each_frame_with_the_anchors_only(own):
    """Against the head's own arithmetic with a materialised mask over frames."""
    head = tiny_vggt(torch.float64).camera_head
    torch.manual_seed(4)
    tokens, frames = torch.randn(2, 6, 64, dtype=torch.float64), torch.arange(6)
    keys = AnchorKeys(own_frame=own, indices=(0, 4))
    layout = TokenLayout(6, 0, (1, 1))
    seen = torch.isin(frames, torch.tensor([0, 4]))[None] | (own & (frames[:, None] == frames))

    def masked(place, attention, x):
        q, (k, v) = attention.queries(x), attention.keys_values(x)
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~seen, float("-inf"))
        return attention.output(scores.softmax(-1) @ v)

    def sparse(place, attention, x):
        return GlobalAttention(keys=keys)(attention, x, layout, None, LayerRun(place))

    with torch.inference_mode():
        want, got = head(tokens, across_frames=masked), head(tokens, across_frames=sparse)
        plain = head(tokens)
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(
            head(tokens, across_frames=lambda _, attention, x: attention.module(x)), plain
        )
    assert not torch.allclose(got[-1], plain[-1])


@pytest.mark.parametrize("piece", [1, 2, 7])
def test_anchors_are_chosen_as_one_pass_chooses(piece):
    model, images = tiny_vggt(torch.float64), _images()
    plan = Plan.parse("anchors:frames=3,sensitive=1x2,fewer=2", TINY.depth)
    options, passing = RunOptions(frames_per_chunk=piece), {}
    with torch.inference_mode():
        want = model(images, plan, options, memory=passing)
        features = encoder_features(model, lambda a, b: images[a:b], len(images), options)
        torch.testing.assert_close(features, passing["frame features"][0])
        chosen = ChosenAnchors.of(plan, len(images), 0, features[None])
        solved, first = solve_anchors(model, images[list(chosen.frames)], chosen, options)
        others = [i for i in range(7) if i not in chosen.frames]
        got = solved.attach(images[others])
    assert len(chosen.frames) == 3
    for answer, frames in ((first, list(chosen.frames)), (got, others)):
        torch.testing.assert_close(answer.z_depth[0], want.z_depth[0, frames], rtol=1e-9, atol=0)
        torch.testing.assert_close(
            answer.pose_encoding[0], want.pose_encoding[0, frames], rtol=1e-9, atol=1e-11
        )


def test_adopted_anchors_leave_earlier_ones_as_they_are():
    model, images, plan = tiny_vggt(torch.float64), _images(), _plan((0, 2))
    with torch.inference_mode():
        solved, _ = solve_anchors(model, images[[0, 2]], ChosenAnchors.of(plan, 7, 0, None), HEADS)
        before = solved.attach(images[[4]])
        more = solved.adopt(images[[5]])
        assert more.memory.bytes == 1.5 * solved.memory.bytes
        again, changed = solved.attach(images[[4]]), more.attach(images[[4]])
    assert torch.equal(before.z_depth, again.z_depth) and not torch.allclose(changed.z_depth, again.z_depth)


def test_networks_that_join_frames_elsewhere_are_refused():
    plan = Plan.parse("anchors:cameras=all", TINY.depth)
    with pytest.raises(ValueError, match="camera head"):
        ChosenAnchors.of(plan, 7, 0, torch.zeros(1, 7, 4))
    model = tiny_vggt()
    odd = ChosenAnchors((0,), plan)
    with pytest.raises(UsageError, match="anchors"):
        solve_anchors(model, _images()[:1], odd, HEADS)
