"""Every piece of the network against a plain twin in float64, and gradients where they must not flow."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from manyview.models.blocks import Attention, Block
from manyview.models.dense_head import DenseHead, Fusion
from manyview.models.dense_ops import (
    add_image_plane,
    convolved_plane,
    embed_image_plane,
    image_plane,
    plane_parts,
)
from manyview.models.encoder import DinoEncoder
from manyview.models.feature_taps import FeatureTaps
from manyview.models.layers import Conv2d, LayerNorm, LayerScale, Linear, Mlp, in_pieces
from manyview.models.part_configs import DenseHeadConfig, EncoderConfig
from manyview.models.precision import PLAIN, Compute
from manyview.models.rotary import frame_positions, rotation_for
from manyview.models.run_options import RunOptions
from manyview.models.vggt.camera_head import CameraHead
from manyview.models.vggt.config import CameraHeadConfig

from .tiny import TINY, tiny_vggt


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fill(module: torch.nn.Module, seed: int = 5) -> torch.nn.Module:
    """Weights of order one over the square root of the fan-in, everything else of order one, in float64."""
    module = module.double().eval()
    for number, parameter in enumerate(module.parameters()):
        value = noise(*parameter.shape, seed=seed + number)
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data.copy_(value / fan_in**0.5)
    return module


def test_rotary_positions_turn_complex_numbers():
    grid, specials, dim, frames = (3, 4), 5, 16, 2
    positions = frame_positions(grid, specials)
    rotation = rotation_for(positions, dim)
    x = noise(1, 2, frames * len(positions), dim)
    turned = rotation.apply(x)
    quarter = dim // 4
    for token in range(x.shape[2]):
        place = token % (specials + 12) - specials
        row, column = (0, 0) if place < 0 else (place // 4 + 1, place % 4 + 1)
        for half, angle in ((0, row), (1, column)):
            start = half * dim // 2
            for i in range(quarter):
                a, b = start + i, start + i + quarter
                turn = complex(
                    math.cos(angle * 100 ** (-i / quarter)), math.sin(angle * 100 ** (-i / quarter))
                )
                for head in range(2):
                    got = complex(float(turned[0, head, token, a]), float(turned[0, head, token, b]))
                    want = complex(float(x[0, head, token, a]), float(x[0, head, token, b])) * turn
                    assert abs(got - want) < 1e-5  # the angles are float32
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    special = (torch.arange(x.shape[2]) % (specials + 12)) < specials
    assert torch.equal(turned[:, :, special], x[:, :, special])


def test_rotary_products_depend_on_the_difference_of_places_alone():
    rotation = rotation_for(frame_positions((6, 6), 0), 16)
    q, k = (noise(1, 1, 1, 16, seed=s).expand(1, 1, 36, 16) for s in (1, 2))
    scores = (rotation.apply(q) @ rotation.apply(k).mT).reshape(6, 6, 6, 6)
    torch.testing.assert_close(scores[0, 1, 2, 4], scores[3, 0, 5, 3], rtol=1e-5, atol=1e-5)
    assert (scores[0, 1, 2, 4] - scores[0, 1, 4, 2]).abs() > 1e-3


def test_positions_of_a_width_that_does_not_split_are_refused():
    with pytest.raises(ValueError, match="got 10"):
        rotation_for(frame_positions((2, 2), 1), 10)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_attention_is_softmax_of_scaled_products(qk_norm):
    attention = fill(Attention(32, 2, qk_norm))
    x, rotation = noise(2, 14, 32), rotation_for(frame_positions((2, 3), 1), 16)
    with torch.no_grad():
        q, k, v = (
            F.linear(x, attention.qkv.weight, attention.qkv.bias).view(2, 14, 3, 2, 16).permute(2, 0, 3, 1, 4)
        )
        if qk_norm:
            q, k = attention.q_norm(q), attention.k_norm(k)
        q, k = rotation.apply(q), rotation.apply(k)
        weights = (q @ k.mT / 4.0).softmax(-1)
        want = F.linear(
            (weights @ v).transpose(1, 2).reshape(2, 14, 32), attention.proj.weight, attention.proj.bias
        )
        torch.testing.assert_close(attention(x, rotation), want, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(attention.queries(x, rotation, piece=7), q, rtol=1e-12, atol=1e-12)
        keys, values = attention.keys_values(x, rotation, piece=7)
        torch.testing.assert_close(keys, k, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(values, v, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("piece", [None, 1, 4, 100])
def test_a_block_in_place_is_the_block(piece):
    block = fill(Block(32, 2, qk_norm=True))
    x = noise(2, 9, 32)
    kept = x.clone()
    with torch.no_grad():
        want = block(x)
        assert torch.equal(x, kept)
        got = block(x, mlp_tokens_per_chunk=piece, inplace=True)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert got.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("shape", [(1, 4_300_000, 1024), (1, 16, 4_300_000, 64), (4031, 1041, 1024)])
def test_norms_are_in_pieces_below_2_to_the_32_numbers(shape):
    """PyTorch 2.11 counts them in 32 bits on CUDA."""
    seen = []

    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "layer_norm" in func.name():
                seen.append(args[0].numel())
            return func(*args, **(kwargs or {}))

    with torch.device("meta"), torch.no_grad(), Calls():
        norm = LayerNorm(shape[-1]).bfloat16()
        assert norm(torch.empty(shape, dtype=torch.bfloat16)).shape == shape
    assert max(seen) < 2**32 and sum(seen) == math.prod(shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_tanh_form_of_gelu_is_close_to_the_exact_one(dtype):
    mlp = Mlp(16, 64).to(dtype)
    x = 3 * torch.randn(1, 200, 16, dtype=dtype)
    with torch.no_grad():
        exact, found = mlp(x), mlp(x, Compute(gelu="tanh"))
        hidden = F.gelu(mlp.fc1(x), approximate="tanh")
    assert torch.equal(found, mlp.fc2(hidden))
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, atol=2e-3 if dtype == torch.float32 else 2e-2, rtol=0)


def test_layers_take_the_precision_of_their_input_and_keep_their_own():
    linear, norm, scale = Linear(6, 4), LayerNorm(6), LayerScale(6)
    x = noise(3, 6).bfloat16()
    assert linear(x).dtype == norm(x).dtype == scale.add_to(x, x).dtype == torch.bfloat16
    assert {p.dtype for m in (linear, norm, scale) for p in m.parameters()} == {torch.float32}
    want = F.linear(x, linear.weight.bfloat16(), linear.bias.bfloat16())
    assert torch.equal(linear(x), want)
    linear(x).float().sum().backward()  # and gradients arrive at the parameters, in their precision
    assert linear.weight.grad is not None and linear.weight.grad.dtype == torch.float32


def test_pieces_are_joined_along_another_dimension_and_never_split_under_gradients():
    calls = []

    def swap(part):
        calls.append(part.shape[1])
        return part.transpose(1, 2) * 2

    x = noise(2, 7, 3)
    with torch.no_grad():
        joined = in_pieces(swap, x, 3, out_dim=2)
    assert calls == [3, 3, 1] and torch.equal(joined, x.transpose(1, 2) * 2)
    in_pieces(swap, x, 3, out_dim=2)
    assert calls == [3, 3, 1, 7]


def test_the_position_table_is_used_as_it_is_at_its_own_size_and_resized_elsewhere():
    config = EncoderConfig(depth=1, num_heads=2, native_grid=4, registers=2)
    encoder = fill(DinoEncoder(32, 14, config))
    with torch.no_grad():
        assert encoder.position_embedding((4, 4)) is encoder.pos_embed
        wide = encoder.position_embedding((4, 6))
        # Bicubic and antialiased keep a table that is the same everywhere.
        encoder.pos_embed[0, 1:] = encoder.pos_embed[0, 1]
        flat = encoder.position_embedding((3, 7))
    assert wide.shape == (1, 25, 32) and flat.shape == (1, 22, 32)
    assert torch.equal(wide[:, 0].double(), encoder.pos_embed[:, 0].float().double())
    torch.testing.assert_close(
        flat[:, 1:].double(), encoder.pos_embed[:, 1:2].expand(1, 21, 32), rtol=1e-5, atol=1e-6
    )


def test_the_position_table_is_resized_along_each_axis_by_itself():
    encoder = fill(DinoEncoder(32, 14, EncoderConfig(depth=1, num_heads=2, native_grid=4)))
    with torch.no_grad():
        encoder.pos_embed[0, 1:] = torch.arange(4.0).repeat_interleave(4)[:, None]  # the row number
        table = encoder.position_embedding((8, 3))[0, 1:].reshape(8, 3, 32)
    torch.testing.assert_close(table[:, 0], table[:, 2])
    assert (table[1:, 0, 0] > table[:-1, 0, 0]).all()
    assert table[3, 0, 0] + table[4, 0, 0] == pytest.approx(3.0, abs=1e-5)  # symmetric about the middle


def test_a_smaller_position_table_averages_over_all_of_the_larger_one():
    encoder = fill(DinoEncoder(32, 14, EncoderConfig(depth=1, num_heads=2, native_grid=4)))
    rim = torch.ones(4, 4)
    rim[1:3, 1:3] = 0
    with torch.no_grad():
        encoder.pos_embed[0, 1:] = rim.flatten()[:, None]
        (value,) = encoder.position_embedding((1, 1))[0, 1:, 0]
    assert 0.6 < value < 0.75  # without antialiasing: -0.4, from the four in the middle alone


def test_encoder_tokens_come_in_the_order_class_registers_patches():
    encoder = fill(DinoEncoder(32, 14, EncoderConfig(depth=0, num_heads=2, native_grid=2, registers=3)))
    images = noise(2, 3, 28, 28)
    with torch.no_grad():
        tokens = encoder.all_tokens(images, encoder.position_embedding((2, 2)))
        patches = encoder.patch_embed(images) + encoder.pos_embed[:, 1:]
        want = torch.cat([(encoder.cls_token + encoder.pos_embed[:, :1]).expand(2, 1, 32),
                          encoder.register_tokens.expand(2, 3, 32), patches], 1)  # fmt: skip
    torch.testing.assert_close(tokens, encoder.norm(want).detach(), rtol=1e-10, atol=1e-10)
    assert torch.equal(encoder(images, encoder.position_embedding((2, 2))), encoder.all_tokens(
        images, encoder.position_embedding((2, 2)))[:, 4:])  # fmt: skip


def camera_head() -> CameraHead:
    return fill(CameraHead(16, CameraHeadConfig(depth=1, num_heads=2, iterations=3)))


def test_the_camera_head_accumulates_raw_estimates():
    head, tokens = camera_head(), noise(2, 4, 16)
    head.pose_branch.fc2.bias.data[7] -= 5.0
    with torch.no_grad():
        results = head(tokens)
        normed = head.token_norm(tokens)
        raw = torch.zeros(2, 4, 9, dtype=torch.float64)
        current = head.empty_pose_tokens.expand(2, 4, 9)
        for result in results:
            shift, scale, gate = head.poseLN_modulation(head.embed_pose(current)).chunk(3, -1)
            x = head.trunk[0](normed + gate * (F.layer_norm(normed, (16,), eps=1e-6) * (1 + scale) + shift))
            raw = raw + head.pose_branch(head.trunk_norm(x))
            current = raw
            torch.testing.assert_close(result[..., :7], raw[..., :7], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(result[..., 7:], raw[..., 7:].clamp(min=0), rtol=1e-10, atol=1e-10)
    # What the next pass embeds is not what is returned.
    assert (raw[..., 7] < 0).all() and (raw[..., 8] > 0).any()
    assert len(head(tokens, iterations=2)) == 2


def test_gradients_do_not_flow_through_the_embedding_of_an_estimate():
    head = camera_head()
    tokens = noise(1, 3, 16)
    first, second = head(tokens, iterations=2)[:2]
    # The second estimate is the first plus a correction that knows it as a number only: the empty token
    # reaches it through the first estimate alone.
    through_first = torch.autograd.grad(first[..., :7].sum(), head.empty_pose_tokens, retain_graph=True)[0]
    through_second = torch.autograd.grad(second[..., :7].sum(), head.empty_pose_tokens)[0]
    assert through_first.abs().max() > 0
    torch.testing.assert_close(through_second, through_first, rtol=1e-10, atol=1e-10)


def with_plane(x: torch.Tensor, aspect: float) -> torch.Tensor:
    """As published: the embedding at full size."""
    plane = embed_image_plane(image_plane(*x.shape[-2:], aspect), x.shape[1])
    return x + 0.1 * plane.to(x.dtype).permute(2, 0, 1)


def test_the_image_plane_is_added_in_any_order_and_with_gradients():
    x = noise(2, 8, 3, 5)
    kept, want = x.clone(), with_plane(x, 5 / 3)
    with torch.no_grad():
        parts = plane_parts(x, 5 / 3, 0.1)
        for order in (torch.contiguous_format, torch.channels_last):
            fresh = add_image_plane(x, parts, order)
            assert torch.equal(x, kept) and fresh.is_contiguous(memory_format=order)
            torch.testing.assert_close(fresh, want, rtol=1e-6, atol=1e-6)
    trained = add_image_plane(kept.requires_grad_(), parts)
    torch.testing.assert_close(trained, want, rtol=1e-6, atol=1e-6)
    trained.sum().backward()
    assert torch.equal(kept.grad, torch.ones_like(kept))


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 3), (4, 7)])
def test_places_convolved_apart_are_places_convolved_with_the_map(kernel, size):
    head = fill(DenseHead(24, DenseHeadConfig(16, (4, 6, 8, 8)), 2, plane_dtype=torch.float64))
    conv = fill(Conv2d(8, 3, kernel, padding=kernel // 2))
    x, aspect = noise(2, 8, *size).requires_grad_(), size[1] / size[0]
    parts = plane_parts(x, aspect, 0.1, dtype=torch.float64)
    torch.testing.assert_close(
        convolved_plane(conv.weight, parts)[None] + conv(x),
        conv(with_plane(x, aspect)),
        rtol=1e-12,
        atol=1e-12,
    )
    found = head.conv_with_plane(conv, x, aspect, PLAIN)
    torch.testing.assert_close(found, conv(with_plane(x, aspect)), rtol=1e-12, atol=1e-12)
    wanted = torch.autograd.grad(conv(with_plane(x, aspect)).square().sum(), (x, conv.weight))
    for gradient, want in zip(
        torch.autograd.grad(found.square().sum(), (x, conv.weight)), wanted, strict=True
    ):
        torch.testing.assert_close(gradient, want, rtol=1e-10, atol=1e-10)


def test_a_fusion_projects_before_it_resizes_with_the_same_result():
    fusion, x = fill(Fusion(8)), noise(2, 8, 4, 6)
    refined = fusion.resConfUnit2(x + fusion.resConfUnit1(2 * x))
    resized = F.interpolate(refined, (7, 13), mode="bilinear", align_corners=True)
    want = fusion.out_conv(resized)
    torch.testing.assert_close(fusion(x, 2 * x, (7, 13)), want, rtol=1e-12, atol=1e-12)


def test_places_are_made_once_a_pass_and_not_for_each_piece(monkeypatch):
    made = []
    monkeypatch.setattr(
        "manyview.models.dense_head.plane_parts", lambda *given: made.append(given) or plane_parts(*given)
    )
    images = torch.randint(0, 256, (1, 5, 3, 28, 42), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        tiny_vggt()(images, options=RunOptions(head_frames_per_chunk=1, heads=("depth",)))
    assert len(made) == 5  # four maps and the output


def test_the_image_plane_is_symmetric_and_longer_along_the_longer_side():
    plane = image_plane(4, 6, 1.5)
    torch.testing.assert_close(plane, -plane.flip(0, 1))
    assert plane[0, -1, 0] > plane[-1, 0, 1] > 0
    corner = torch.tensor([1.5, 1.0]) / math.hypot(1.5, 1.0) * torch.tensor([5 / 6, 3 / 4])
    torch.testing.assert_close(plane[-1, -1], corner)


def test_projecting_when_a_tap_is_made_is_the_convolution_afterwards():
    head = fill(DenseHead(24, DenseHeadConfig(8, (4, 6, 8, 8)), 2))
    tokens = noise(3, 12, 24)
    for index, conv in enumerate(head.projects):
        maps = head.norm(tokens).transpose(1, 2).unflatten(2, (3, 4))
        want = conv(maps).flatten(2).transpose(1, 2)
        torch.testing.assert_close(head.project(tokens, index), want, rtol=1e-10, atol=1e-10)


def test_a_layer_that_is_tapped_twice_feeds_both_projections():
    config = dataclasses.replace(TINY, taps=(1, 1, 3, 3))
    model = tiny_vggt(torch.float64, config)
    store = FeatureTaps(config, {"depth": model.depth_head}, RunOptions(head_frames_per_chunk=2))
    assert store.layers == {1, 3}
    made = {layer: (noise(1, 3, 8, 32, seed=layer), noise(1, 3, 8, 32, seed=9 + layer)) for layer in range(4)}
    with torch.no_grad():
        for layer, (frame, across) in made.items():
            store(layer, frame, across)
        taps = store.take("depth")
        for index, layer in enumerate(config.taps):
            both = torch.cat(made[layer], -1)[0, :, config.special_tokens :]
            torch.testing.assert_close(
                taps[index], model.depth_head.project(both, index), rtol=1e-12, atol=1e-12
            )
    assert torch.equal(store.camera_tokens, torch.cat(made[3], -1)[:, :, 0])


def test_a_network_tapped_twice_at_one_layer_runs_in_pieces_or_whole():
    config = dataclasses.replace(TINY, taps=(1, 1, 3, 3))
    model = tiny_vggt(torch.float64, config)
    images = torch.randint(0, 256, (1, 3, 3, 42, 56), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        whole = model(images, options=RunOptions(head_frames_per_chunk=None))
        pieces = model(
            images, options=RunOptions(frames_per_chunk=1, mlp_tokens_per_chunk=5, head_frames_per_chunk=1)
        )
    torch.testing.assert_close(pieces.z_depth, whole.z_depth, rtol=1e-10, atol=1e-10)
