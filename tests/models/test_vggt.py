"""The model as a pure function: pieces, batches, dtypes, recorders and plans."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.models.alternating import normalise_images
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import VGGTConfig
from manyview.models.vggt.model import Predictions

from .tiny import TINY, tiny_vggt

HEADS = ("camera", "depth", "points")


def images(frames: int = 5, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (batch, frames, 3, 42, 56), generator=generator, dtype=torch.uint8)


def tensors(p: Predictions) -> dict[str, torch.Tensor]:
    assert p.z_depth is not None and p.world_points is not None
    return {"pose": p.pose_encoding, "depth": p.z_depth, "conf": p.depth_conf, "points": p.world_points}


@pytest.mark.parametrize("pieces", [(1, 1, 1), (2, 7, 3), (3, 1000, 2), (100, None, None)])
@pytest.mark.parametrize("spec", ["dense", "frame", "0-1:frame,2-3:dense"])
def test_pieces_never_change_the_result(pieces, spec):
    model = tiny_vggt(torch.float64)
    plan = Plan.parse(spec, 4)
    whole = RunOptions(head_frames_per_chunk=None, heads=HEADS)
    split = RunOptions(
        frames_per_chunk=pieces[0],
        mlp_tokens_per_chunk=pieces[1],
        head_frames_per_chunk=pieces[2],
        heads=HEADS,
    )
    with torch.no_grad():
        want = tensors(model(images(batch=2), plan, whole))
        got = tensors(model(images(batch=2), plan, split))
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-10, atol=1e-10)


def test_training_and_inference_paths_agree():
    model = tiny_vggt(torch.float64)
    with torch.no_grad():
        inference = tensors(model(images(), options=RunOptions(frames_per_chunk=2, heads=HEADS)))
    training = tensors(model(images(), options=RunOptions(heads=HEADS)))
    assert training["depth"].requires_grad
    for name in training:
        torch.testing.assert_close(inference[name], training[name].detach(), rtol=1e-10, atol=1e-10)


def test_a_batch_is_its_scenes():
    model = tiny_vggt(torch.float64)
    both = images(batch=2)
    with torch.no_grad():
        together = tensors(model(both, options=RunOptions(heads=HEADS)))
        second = tensors(model(both[1], options=RunOptions(heads=HEADS)))
    for name in together:
        torch.testing.assert_close(together[name][1:], second[name], rtol=1e-10, atol=1e-10)


def test_running_leaves_nothing_behind():
    model = tiny_vggt()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    picture = images()
    kept = picture.clone()
    with torch.no_grad():
        first = tensors(
            model(picture, options=RunOptions(dtype=torch.bfloat16, frames_per_chunk=2, heads=HEADS))
        )
        model(picture, Plan.frame_only(4))
        again = tensors(
            model(picture, options=RunOptions(dtype=torch.bfloat16, frames_per_chunk=2, heads=HEADS))
        )
    assert torch.equal(picture, kept)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_low_precision_stays_near():
    model = tiny_vggt()
    with torch.no_grad():
        full = tensors(model(images(), options=RunOptions(heads=HEADS)))
        low = tensors(model(images(), options=RunOptions(dtype=torch.bfloat16, heads=HEADS)))
    for name in full:
        assert low[name].dtype == torch.float32
        error = (low[name] - full[name]).norm() / full[name].norm()
        assert 0 < error < 0.1, (name, float(error))


def test_frame_only_plan_keeps_frames_apart():
    model = tiny_vggt(torch.float64)
    one, other = images(), images()
    other[:, 3] = 255 - other[:, 3]
    with torch.no_grad():
        a = model(one, Plan.frame_only(4)).z_depth
        b = model(other, Plan.frame_only(4)).z_depth
        dense = model(other).z_depth - model(one).z_depth
    assert torch.equal(a[:, :3], b[:, :3]) and torch.equal(a[:, 4], b[:, 4])
    assert dense[:, 0].abs().max() > 1e-6


def test_other_frames_can_be_permuted_but_not_the_first():
    model = tiny_vggt(torch.float64)
    order = torch.tensor([0, 3, 1, 4, 2])
    swap = torch.tensor([1, 0, 2, 3, 4])
    with torch.no_grad():
        straight = model(images()).z_depth
        permuted = model(images()[:, order]).z_depth
        swapped = model(images()[:, swap]).z_depth
    torch.testing.assert_close(permuted, straight[:, order], rtol=1e-9, atol=1e-9)
    assert (swapped - straight[:, swap]).abs().max() > 1e-6


def test_uint8_and_float_images_are_the_same():
    model = tiny_vggt()
    with torch.no_grad():
        a, b = model(images()).z_depth, model(images().float() / 255).z_depth
    torch.testing.assert_close(a, b)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert normalise_images(mean, torch.float32).abs().max() < 1e-6


def test_recorder_sees_queries_keys_and_tokens():
    class Recorder:
        def __init__(self):
            self.qk, self.tokens, self.stages = {}, {}, []

        def global_attention(self, layer, q, k):
            self.qk[layer] = (q.shape, k.shape)

        def global_tokens(self, layer, tokens):
            self.tokens[layer] = tokens.shape

        def mark(self, stage):
            self.stages.append(stage)

    recorder = Recorder()
    tiny_vggt()(images(), recorder=recorder, options=RunOptions(heads=HEADS))
    assert recorder.qk[3] == ((1, 2, 5 * 17, 16), (1, 2, 5 * 17, 16)) and len(recorder.qk) == 4
    assert recorder.tokens[0] == (1, 5, 17, 32)
    assert recorder.stages.count("global layers") == 4 and recorder.stages[-1] == "points head"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m(torch.zeros(1, 2, 3, 40, 56)), "multiples of 14"),
        (lambda m: m(torch.zeros(1, 2, 4, 42, 56)), "shape"),
        (lambda m: m(images().int()), "uint8, or floating in .* not int32"),
        (lambda m: m(images(), Plan.dense(7)), "7 layers"),
        (lambda m: m(images(), options=RunOptions(heads=("track",))), "no track head"),
    ],
)
def test_misuse_is_explained(call, says):
    with pytest.raises(UsageError, match=says):
        call(tiny_vggt())


def test_config_round_trip_and_checks():
    assert VGGTConfig.from_json(TINY.to_json()) == TINY
    assert VGGTConfig.from_json(VGGTConfig().to_json()) == VGGTConfig()
    for wrong in ({"taps": (0, 1, 2, 9)}, {"num_heads": 3}, {"taps": (0, 1)}):
        with pytest.raises(ValueError):
            dataclasses.replace(TINY, **wrong)
    with pytest.raises(ValueError, match="head"):
        RunOptions(heads=("cameras",))
    with pytest.raises(ValueError, match="at least 1"):
        RunOptions(frames_per_chunk=0)
