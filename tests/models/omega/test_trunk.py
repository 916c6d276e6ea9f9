"""VGGT-Ω's trunk: exact against its description, positions, masked biases, register layers under any plan."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.models.omega.blocks import RotaryPeriods
from manyview.models.omega.config import OmegaConfig
from manyview.models.omega.model import Omega
from manyview.models.run_options import RunOptions

from .naive import last_tokens
from .tiny_omega import SMALL, tiny_omega

ALL = RunOptions(heads=("camera", "depth", "text"))
METHODS = (
    "frame", "0:dense,1-2:frame", "avggt:early=1,stride=2x2", "flash:r=2", "flash:version=v2",
    "httm:space=2,time=2", "fastvggt", "anchors:frames=2", "anchors:frames=2,cameras=all", "random:keep=0.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Omega:
    return tiny_omega().double()


def images(frames: int = 4, batch: int = 1, height: int = 48, width: int = 64) -> torch.Tensor:
    return torch.rand(batch, frames, 3, height, width, dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize(("frames", "height", "width"), [(3, 32, 64), (1, 48, 32), (2, 48, 48)])
def test_tokens_are_those_of_the_description(network, frames, height, width):
    pictures, found = images(frames, 1, height, width), []
    network.aggregator.run_layers(
        pictures,
        Plan.dense(SMALL.depth),
        RunOptions(),
        lambda pair, frame, across, _: found.append(torch.cat([frame, across], -1)),
    )
    weights = dict(network.aggregator.state_dict())
    expected = last_tokens(pictures[0], weights, SMALL)
    # Periods and angles are float32 in the network.
    torch.testing.assert_close(found[-1][0], expected, rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_a_dense_plan_is_no_plan(network):
    pictures = images(batch=2)
    plain, told = network(pictures, options=ALL), network(pictures, Plan.parse("dense", SMALL.depth), ALL)
    for name in ("z_depth", "depth_conf", "pose_encoding", "text_alignment_embedding"):
        assert torch.equal(getattr(plain, name), getattr(told, name))


@torch.no_grad()
@pytest.mark.parametrize("spec", METHODS)
def test_methods_change_global_layers_and_leave_register_layers_alone(network, spec):
    seen: dict[int, list[torch.Tensor]] = {pair: [] for pair in range(SMALL.pairs)}
    handles = [
        network.aggregator.global_block(pair).register_forward_pre_hook(
            lambda block, args, pair=pair: seen[pair].append(args[0].clone())
        )
        for pair in range(SMALL.pairs)
    ]
    outputs = {}
    handles += [
        network.aggregator.global_block(pair).register_forward_hook(
            lambda block, args, out, pair=pair: outputs.setdefault(pair, out.clone())
        )
        for pair in SMALL.register_layers
    ]
    try:
        pictures = images()
        answer = network(pictures, Plan.parse(spec, SMALL.depth), ALL)
    finally:
        for handle in handles:
            handle.remove()
    dense = network(pictures, options=ALL)
    assert answer.z_depth.isfinite().all() and (answer.z_depth - dense.z_depth).abs().max() > 1e-6
    tokens = {pair: inputs[0].shape[1] for pair, inputs in seen.items()}
    specials, everything = 4 * SMALL.special_tokens, answer.layout.tokens
    assert tokens == {pair: specials if pair in (1, 3) else everything for pair in range(SMALL.pairs)}
    for pair, out in outputs.items():  # plain attention among these tokens, whatever the plan
        torch.testing.assert_close(network.aggregator.global_block(pair)(seen[pair][0]), out)


@torch.no_grad()
@pytest.mark.parametrize("spec", ["avggt:early=0,stride=1x1", "anchors:frames=4", "httm:space=1,time=1"])
def test_methods_with_nothing_left_out_are_dense(network, spec):
    pictures = images()
    dense, found = network(pictures, options=ALL), network(pictures, Plan.parse(spec, SMALL.depth), ALL)
    torch.testing.assert_close(found.z_depth, dense.z_depth)
    torch.testing.assert_close(found.pose_encoding, dense.pose_encoding)


@torch.no_grad()
def test_frames_meet_in_the_camera_head_as_the_plan_says(network):
    pictures = images()
    anchored, joined = (
        network(pictures, Plan.parse(f"anchors:frames=2,cameras={cameras}", SMALL.depth), ALL)
        for cameras in ("anchors", "all")
    )
    assert torch.equal(anchored.z_depth, joined.z_depth)
    assert (anchored.pose_encoding - joined.pose_encoding).abs().max() > 1e-6
    every = network(pictures, Plan.parse("anchors:frames=4", SMALL.depth), ALL)
    torch.testing.assert_close(every.pose_encoding, network(pictures, options=ALL).pose_encoding)


@torch.no_grad()
def test_other_frames_may_come_in_any_order(network):
    pictures, order = images(4), torch.tensor([0, 3, 1, 2])
    straight, turned = network(pictures, options=ALL), network(pictures[:, order], options=ALL)
    torch.testing.assert_close(straight.pose_encoding[:, order], turned.pose_encoding)
    torch.testing.assert_close(straight.text_alignment_token, turned.text_alignment_token)
    moved = network(pictures[:, [1, 0, 2, 3]], options=ALL)
    assert (moved.pose_encoding[:, [1, 0, 2, 3]] - straight.pose_encoding).abs().max() > 1e-4


@torch.no_grad()
def test_biases_of_keys_do_not_matter_and_others_do(network):
    pictures, before = images(2), network(images(2) * 0 + 0.5).z_depth
    pictures = torch.full_like(pictures, 0.5)
    changed = tiny_omega().double()
    for name, value in changed.named_parameters():
        if name.endswith("qkv.bias"):
            value[len(value) // 3 : 2 * len(value) // 3] += 3
    assert torch.equal(changed(pictures).z_depth, before)
    changed.aggregator.frame_blocks[0].attn.qkv.bias[-1] += 3
    assert not torch.equal(changed(pictures).z_depth, before)


def test_positions_keep_the_shape_of_the_image():
    turn = RotaryPeriods(16, 100.0).rotation((2, 4), 3)
    assert turn.period == 3 + 8 and (turn.cos[:3] == 1).all() and (turn.sin[:3] == 0).all()
    angle = torch.atan2(turn.sin, turn.cos)[3:, :, -1] / (2 * torch.pi) * 100 ** (3 / 4)
    expected = [[y, x] for y in (-0.75, -0.25) for x in (-0.75, -0.25, 0.25, 0.75)]
    torch.testing.assert_close(angle, torch.tensor(expected), atol=1e-5, rtol=0)


@torch.no_grad()
def test_pieces_do_not_change_the_result(network):
    pictures = images(5, 2, 32, 48)
    whole = network(pictures, options=RunOptions(head_frames_per_chunk=None))
    pieces = network(
        pictures, options=RunOptions(frames_per_chunk=2, mlp_tokens_per_chunk=7, head_frames_per_chunk=2)
    )
    torch.testing.assert_close(pieces.z_depth, whole.z_depth)
    torch.testing.assert_close(pieces.pose_encoding, whole.pose_encoding)


def test_with_and_without_gradients_the_same(network):
    pictures = images(3)
    with torch.no_grad():
        before = network(pictures, options=ALL)
    after = network(pictures, options=ALL)
    torch.testing.assert_close(after.z_depth, before.z_depth)
    torch.testing.assert_close(after.pose_encoding, before.pose_encoding)


def test_gradients_reach_every_parameter(network):
    answer = network(images(2), options=ALL)
    loss = answer.z_depth.square().mean() + answer.depth_conf.mean() + answer.pose_encoding.square().sum()
    (loss + answer.text_alignment_embedding[..., 0].sum()).backward()
    unused = {"aggregator.patch_embed.mask_token"}
    missing = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    network.zero_grad()
    assert missing == unused


@torch.no_grad()
def test_half_precision_stays_near(network):
    model, pictures = tiny_omega(), images(3).float()
    exact = model(pictures, options=ALL)
    half = model(pictures, options=RunOptions(dtype=torch.bfloat16, heads=ALL.heads))
    assert half.z_depth.dtype == torch.float32
    torch.testing.assert_close(half.z_depth, exact.z_depth, rtol=0.1, atol=0.05)
    torch.testing.assert_close(half.pose_encoding, exact.pose_encoding, rtol=0.05, atol=0.05)


@torch.no_grad()
def test_the_text_embedding_is_a_direction_and_changes_nothing_else(network):
    pictures = images(2, batch=2)
    with_text, without = network(pictures, options=ALL), network(pictures)
    norms = with_text.text_alignment_embedding.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones(2, dtype=torch.float64))
    assert without.text_alignment_embedding is None
    assert torch.equal(with_text.pose_encoding, without.pose_encoding)


@torch.no_grad()
def test_fields_of_view_are_at_least_a_hundredth(network):
    model = tiny_omega().double()
    model.camera_head.camera_branch[2].bias[7:] = -5.0
    pose = model(images(2)).pose_encoding
    assert (pose[..., 7:] == 0.01).all() and model(images(2)).intrinsics.isfinite().all()


def test_what_cannot_be_is_refused(network):
    with pytest.raises(UsageError, match=r"points head.*camera, depth, text"):
        network(images(1), options=RunOptions(heads=("points",)))
    with pytest.raises(UsageError, match="multiples of 16"):
        network(images(1, 1, 48, 60))
    with pytest.raises(UsageError, match=r"5 layers.* 3 global layers"):
        network(images(1), Plan.dense(SMALL.pairs))
    for wrong in ({"register_layers": (24,)}, {"register_layers": tuple(range(24))}, {"taps": (0, 1, 2, 24)},
                  {"num_heads": 7}, {"patch_size": 14}):  # fmt: skip
        with pytest.raises(ValueError):
            OmegaConfig(**wrong)
