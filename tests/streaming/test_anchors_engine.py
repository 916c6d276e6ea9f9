"""The anchor engine: the offline pass in pieces, growth by its rule, memory within the budget, going on."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.global_attention import GlobalAttention
from manyview.attention.methods.anchors import AnchorKeys
from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.models.run_options import RunOptions
from manyview.streaming.anchor_rule import first_uncovered, spacing
from manyview.streaming.anchors import AnchorEngine, AnchorOptions
from manyview.streaming.stream import make_engine, stream
from tests.models.omega.tiny_omega import tiny_omega
from tests.models.tiny import TINY, tiny_vggt
from tests.models.tiny_pi3 import tiny_pi3, tiny_pi3x

STILL = AnchorOptions(accel="anchors:frames=3", start=5, beyond=None)


def _video(count: int = 12) -> torch.Tensor:
    """A window that moves over a picture: frames differ the more the further they are apart."""
    torch.manual_seed(2)
    wide = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 24), scale_factor=8, mode="bilinear")[0]
    return torch.stack([wide[:, :28, 9 * i : 9 * i + 42] for i in range(count)])


def _run(engine: AnchorEngine, images: torch.Tensor, sizes: list[int]):
    updates = [engine.push(part) for part in images.split(sizes)]
    assert [u.first for u in updates] == [sum(sizes[:i]) for i in range(len(sizes))]
    joined = {
        n: torch.cat([getattr(u, n) for u in updates])
        for n in ("cam_from_world", "intrinsics", "z_depth", "depth_conf")
    }
    return joined, updates


@pytest.mark.parametrize("sizes", [[12], [5, 7], [5, 3, 3, 1], [7, 5], [5] + [1] * 7])
@pytest.mark.parametrize("accel", ["anchors:frames=3", "anchors:frames=3,early=1,own_frame=false"])
def test_a_set_that_does_not_grow_is_the_offline_pass_with_these_anchors(sizes, accel):
    model, images = tiny_vggt(torch.float64), _video().double()
    engine = AnchorEngine(model, dataclasses.replace(STILL, accel=accel))
    got, updates = _run(engine, images, sizes)
    assert len(engine.anchors) == 3 and engine.anchors[0] == 0 and updates[0].whole == engine.anchors
    plan = Plan.parse(accel, TINY.depth)

    def named(answer):
        if not isinstance(answer.keys, AnchorKeys):
            return answer
        return GlobalAttention(keys=dataclasses.replace(answer.keys, indices=engine.anchors))

    offline = Plan(tuple(named(a) for a in plan.layers), camera=named(plan.camera))
    with torch.no_grad():
        want = model(images, offline)
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, getattr(want, name)[0].float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sizes", [[12], [5, 7], [3, 4, 1, 4], [5] + [1] * 7])
def test_a_network_without_reference_streams_in_frame_0s_world(sizes):
    model, images = tiny_pi3().double(), _video().double()
    engine = AnchorEngine(model, STILL)
    got, updates = _run(engine, images, sizes)
    layer = GlobalAttention(keys=AnchorKeys(indices=engine.anchors))
    assert len(engine.anchors) == 3 and engine.anchors[0] == 0
    with torch.no_grad():
        want = model(images, Plan((layer,) * model.config.depth))
    final = 0 if sizes[0] >= 5 else 5  # pushes before the anchors stand say what they know
    for name, tensor in got.items():
        torch.testing.assert_close(
            tensor[final:], getattr(want, name)[0, final:].float(), rtol=1e-5, atol=1e-6
        )
    torch.testing.assert_close(got["cam_from_world"][0], torch.eye(3, 4))
    assert updates[-1].whole == (engine.anchors if len(updates) == 1 else ())


def test_a_stream_of_pi3_goes_on_identically():
    model, images = tiny_pi3(), _video()
    options = dataclasses.replace(STILL, beyond=0.8)
    engine = AnchorEngine(model, options)
    engine.push(images[:7])
    again = AnchorEngine(model, options)
    again.restore({name: tensor.clone() for name, tensor in engine.state().items()})
    got, want = again.push(images[7:]), engine.push(images[7:])
    assert torch.equal(got.cam_from_world, want.cam_from_world) and torch.equal(got.z_depth, want.z_depth)
    assert again.anchors == engine.anchors and len(again.anchors) > 3


@pytest.mark.parametrize(
    ("model", "engine", "named"),
    [
        (tiny_pi3, "chunks", "use --engine anchors"),
        (tiny_pi3x, "chunks", "use `manyview reconstruct`"),
        (tiny_pi3x, "anchors", "anchors"),
        (tiny_omega, "chunks", "use `manyview reconstruct`"),
        (tiny_omega, "anchors", "anchors"),
    ],
)
def test_what_cannot_be_streamed_raises_one_sentence(model, engine, named):
    network = model()
    with pytest.raises(UsageError, match=network.name) as error:
        make_engine(engine, network)
    assert named in str(error.value)
    assert "\n" not in str(error.value) and ". " not in str(error.value)


def test_first_frames_are_solved_again_with_every_push_and_then_stand():
    model, images = tiny_vggt(), _video()
    one, many = AnchorEngine(model, STILL), AnchorEngine(model, STILL)
    whole, _ = _run(one, images, [12])
    got, updates = _run(many, images, [2, 2, 4, 4])
    assert updates[0].memory_bytes == images[:2].nbytes and many.anchors == one.anchors
    torch.testing.assert_close(got["z_depth"][4:], whole["z_depth"][4:])
    assert not torch.allclose(got["z_depth"][:2], whole["z_depth"][:2])


@pytest.mark.parametrize("sizes", [[12], [5, 7], [4, 4, 4], [6] + [1] * 6])
def test_growth_follows_the_rule_whatever_the_chunks(sizes):
    model, images = tiny_vggt(torch.float64), _video().double()
    options = dataclasses.replace(STILL, beyond=0.8)
    whole = AnchorEngine(model, options)
    want, updates = _run(whole, images, [5, 7])
    assert len(whole.anchors) > 4 and whole.anchors[:3] == updates[0].whole
    assert updates[1].whole == whole.anchors[3:] and min(updates[1].whole) >= 5
    engine = AnchorEngine(model, options)
    got, _ = _run(engine, images, sizes)
    assert engine.anchors == whole.anchors and engine.memory_bytes == whole.memory_bytes
    for name in got:
        torch.testing.assert_close(got[name][5:], want[name][5:], rtol=1e-6, atol=1e-7)
    still, _ = _run(AnchorEngine(model, STILL), images, [5, 7])
    grew = whole.anchors[3]  # its own answer is from before it became an anchor, later ones see it
    torch.testing.assert_close(still["z_depth"][: grew + 1], want["z_depth"][: grew + 1])
    assert not torch.allclose(still["z_depth"][grew + 1 :], want["z_depth"][grew + 1 :])


@pytest.mark.parametrize("anchors", [2, 4])
@pytest.mark.parametrize("network", [tiny_vggt, tiny_pi3])
def test_memory_stays_within_the_budget_with_one_note(anchors, network):
    model, images = network(), _video()
    probe = AnchorEngine(model, dataclasses.replace(STILL, accel="anchors:frames=1"))
    probe.push(images)
    budget = anchors * probe.memory_bytes
    options = dataclasses.replace(STILL, beyond=1e-3, budget_bytes=budget)
    engine = AnchorEngine(model, options)
    updates = [engine.push(part) for part in images.split([5, 2, 2, 3])]
    assert max(u.memory_bytes for u in updates[0:]) == engine.memory_bytes == budget
    assert len(engine.anchors) == anchors and engine.frames == 12
    told = [note for u in updates for note in u.notes]
    assert len(told) == 1 and "no further anchor" in told[0]
    with pytest.raises(UsageError, match="MiB"):
        AnchorEngine(model, dataclasses.replace(STILL, budget_bytes=100)).push(images)


@pytest.mark.parametrize("stop", [2, 5, 9])
def test_what_was_kept_goes_on_identically(stop):
    model, images = tiny_vggt(), _video()
    options = dataclasses.replace(STILL, beyond=0.8)
    engine = AnchorEngine(model, options)
    engine.push(images[:stop])
    kept = {name: tensor.clone() for name, tensor in engine.state().items()}
    again = AnchorEngine(model, options)
    again.restore(kept)
    assert (again.frames, again.anchors, again.memory_bytes) == (stop, engine.anchors, engine.memory_bytes)
    for start in (stop, 10):
        got, want = (e.push(images[start : max(stop + 1, start + 2)]) for e in (again, engine))
        assert torch.equal(got.z_depth, want.z_depth) and torch.equal(got.cam_from_world, want.cam_from_world)
        assert got.first == want.first and got.whole == want.whole
    del kept["frames"]
    with pytest.raises(ValueError, match="state"):
        again.restore(kept)
    with pytest.raises(ValueError, match="state"):
        AnchorEngine(model, dataclasses.replace(options, accel="anchors:early=1")).restore(engine.state())


def test_a_push_that_fails_changes_nothing(monkeypatch):
    model, images = tiny_vggt(), _video()
    engine = AnchorEngine(model, dataclasses.replace(STILL, beyond=0.8))
    engine.push(images[:6])
    frames, anchors, held = engine.frames, engine.anchors, engine.memory_bytes
    plain, calls = model.camera_head.forward, []

    def fails(*args, **named):
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError("no more")
        return plain(*args, **named)

    monkeypatch.setattr(model.camera_head, "forward", fails)
    with pytest.raises(RuntimeError, match="no more"):
        engine.push(images[6:])
    monkeypatch.undo()
    assert (engine.frames, engine.anchors, engine.memory_bytes) == (frames, anchors, held)
    with pytest.raises(UsageError, match=r"\(14, 42\)"):
        engine.push(images[:, :, :14])


def test_updates_are_plain_tensors():
    model, images = tiny_vggt(), _video()
    engine = AnchorEngine(model, dataclasses.replace(STILL, beyond=0.8))
    with torch.inference_mode():  # whatever ran before, such as a reconstruction with the same layout
        model(images, Plan.parse(STILL.accel, TINY.depth))
    for update in [engine.push(part) for part in images.split([3, 4, 5])]:
        for tensor in (update.cam_from_world, update.intrinsics, update.z_depth, update.depth_conf):
            assert not tensor.is_inference() and not tensor.requires_grad
            tensor.mul_(2)
        scale = torch.ones((), requires_grad=True)
        (scale * update.z_depth).mean().backward()
        assert scale.grad is not None and scale.grad != 0
    assert not any(tensor.is_inference() for tensor in engine.state().values())


def test_the_rule():
    anchors = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    assert spacing(anchors) == pytest.approx((1 + 1 + 2) / 3) and spacing(anchors[:1]) == 0
    frames = torch.tensor([[0.5, 0.0], [1.0, 3.0], [2.0, 0.0], [9.0, 9.0]])
    assert first_uncovered(frames, anchors, 1.0) == 2 and first_uncovered(frames, anchors, 2.0) == 3
    assert first_uncovered(frames[:2], anchors, 1.0) is None
    assert first_uncovered(frames, anchors[:1], 1.0) == 0


def test_by_name_and_misuse():
    model = tiny_vggt()
    updates = list(stream(iter(_video()), model, "anchors", chunk=5, start=3, accel="anchors:frames=2"))
    assert [len(u) for u in updates] == [5, 5, 2] and updates[0].whole[0] == 0
    assert isinstance(make_engine("anchors", model, RunOptions()), AnchorEngine)
    for wrong in ({"start": 0}, {"beyond": 0.0}, {"budget_bytes": 0}, {"pace": 3}):
        with pytest.raises(UsageError):
            make_engine("anchors", model, None, wrong)
    with pytest.raises(UsageError, match="anchors"):
        AnchorEngine(model, AnchorOptions(accel="dense"))
