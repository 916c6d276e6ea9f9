"""Chunk-recursive streaming: against one masked pass over all frames, the offline plan, and goldens."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from tools.conformance.folder import read_cases
from tools.conformance.runner import run_cases, select

from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.flashvggt import DescriptorKeys
from manyview.attention.plan import Plan
from manyview.attention.protocols import Keys, LayerInput, LayerRun
from manyview.errors import UsageError
from manyview.models.run_options import RunOptions
from manyview.streaming.plan_memory import retained_frames
from manyview.streaming.recursive import RecursiveEngine, RecursiveOptions
from manyview.streaming.recursive_keys import LayerMemory, RecursiveKeys
from tests.attention.settings import small_layer
from tests.models.tiny import tiny_vggt
from tests.models.tiny_pi3 import tiny_pi3

ALL = {"memory_frames": None, "camera_window": None, "revise": True}


@dataclasses.dataclass(frozen=True)
class MaskedTwin(Keys):
    """All frames at once; a mask leaves each what it would see in a stream. Scores are materialised."""

    keys: DescriptorKeys
    chunks: tuple[int, ...]
    options: RecursiveOptions

    per_query = True

    def attend_layer(self, layer: LayerInput) -> torch.Tensor:
        layout, attention = layer.layout, layer.attention
        frames = layer.tokens.unflatten(1, (layout.frames, -1))
        rows, columns = layout.grid
        r, n = self.keys.reduction, layout.special_tokens
        h, w = max(1, rows // r), max(1, columns // r)
        short_at = [*range(n)]
        short_at += [n + i * rows // h * columns + j * columns // w for i in range(h) for j in range(w)]
        vectors, positions, owner, is_whole = [], [], [], []
        for frame in range(layout.frames):
            patches = frames[:, frame, n:].unflatten(1, layout.grid).permute(0, 3, 1, 2)
            small = torch.nn.functional.interpolate(patches, (h, w), mode=self.keys.resample)
            small = small.flatten(2).transpose(1, 2)
            vectors += [frames[:, frame, :n], small]
            positions += short_at
            owner += [frame] * len(short_at)
            is_whole += [False] * len(short_at)
        vectors.append(frames[:, 0, n:])
        positions += range(n, layout.tokens_per_frame)
        owner += [0] * layout.patches_per_frame
        is_whole += [True] * layout.patches_per_frame
        turn = layer.rotation.select(torch.tensor(positions))
        k, v = attention.keys_values(torch.cat(vectors, 1), turn)
        q = attention.queries(layer.tokens, layer.rotation)
        seen = torch.tensor(
            [[w or o in self.seen_by(f) for o, w in zip(owner, is_whole)] for f in range(layout.frames)]
        )
        mask = seen.repeat_interleave(layout.tokens_per_frame, 0)
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
        return attention.output(scores.softmax(-1) @ v)

    def seen_by(self, frame: int) -> set[int]:
        o, first = self.options, 0
        past: set[int] = set()
        for size in self.chunks:
            if frame < first + size:
                own = range(first, first + size, o.keep_one_in if o.semantics == "released" else 1)
                if o.semantics == "paper":
                    past = set(retained_frames(first, o.keep_one_in, o.memory_frames))
                return past | set(own)
            past |= set(range(first, first + size, o.keep_one_in))
            first += size
        raise AssertionError

    def plan(self, plan: Plan) -> Plan:
        return Plan(
            tuple(
                GlobalAttention(keys=dataclasses.replace(self, keys=layer.keys))
                if isinstance(layer.keys, DescriptorKeys)
                else layer
                for layer in plan.layers
            )
        )


def _images(frames: int, height: int = 42, width: int = 70) -> torch.Tensor:
    return torch.rand(frames, 3, height, width, dtype=torch.float64)


def _pushed(
    engine: RecursiveEngine, images: torch.Tensor, chunks: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    updates = [engine.push(part) for part in images.split(chunks)]
    assert [u.first for u in updates] == [sum(chunks[:i]) for i in range(len(chunks))]
    names = ("cam_from_world", "intrinsics", "z_depth", "depth_conf")
    return {name: torch.cat([getattr(u, name) for u in updates]) for name in names}


@pytest.mark.parametrize(
    "options",
    [
        RecursiveOptions("flash:r=2", keep_one_in=1, **ALL),
        RecursiveOptions("flash:r=2", keep_one_in=2, **ALL),
        RecursiveOptions("flash:r=2", keep_one_in=2, semantics="released", **ALL),
        RecursiveOptions("flash:version=v2", keep_one_in=2, **ALL),
        RecursiveOptions("flash:r=2", keep_one_in=1, memory_frames=3, camera_window=None, revise=True),
    ],
)
@pytest.mark.parametrize("chunks", [(3, 2, 3), (1,) * 6])
def test_a_stream_is_one_masked_pass(options, chunks):
    model = tiny_vggt(torch.float64)
    images = _images(sum(chunks))
    engine = RecursiveEngine(model, options)
    got = _pushed(engine, images, chunks)
    plan = Plan.parse(options.accel, model.config.depth)
    twin = MaskedTwin(DescriptorKeys(), chunks, options).plan(plan)
    with torch.no_grad():
        want = model(images, twin)
    # Bilinear weights are single precision in the method.
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(got["z_depth"], want.z_depth[0].float(), **close)
    torch.testing.assert_close(got["depth_conf"], want.depth_conf[0].float(), **close)
    cameras, intrinsics = engine.cameras()
    torch.testing.assert_close(cameras, want.cam_from_world[0].float(), **close)
    # The last chunk saw all camera tokens, so its cameras were final.
    torch.testing.assert_close(got["cam_from_world"][-chunks[-1] :], cameras[-chunks[-1] :], **close)
    torch.testing.assert_close(got["intrinsics"][-chunks[-1] :], intrinsics[-chunks[-1] :], **close)


@pytest.mark.parametrize(
    "accel", ["flash:r=2", "flash", "flash:version=v2", "flash:r=2,count_bias=0.5,duplicates=False"]
)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_one_chunk_that_keeps_all_is_the_single_pass(accel, frames):
    model = tiny_vggt(torch.float64)
    images = _images(frames)
    with torch.no_grad():
        want = model(images, Plan.parse(accel, model.config.depth))
    for p, semantics in ((1, "released"), (5, "paper")):
        options = RecursiveOptions(accel, keep_one_in=p, semantics=semantics, memory_frames=None)
        engine = RecursiveEngine(model, options)
        update = engine.push(images)
        assert torch.equal(update.cam_from_world, want.cam_from_world[0].float())
        assert torch.equal(update.intrinsics, want.intrinsics[0].float())
        assert torch.equal(update.z_depth, want.z_depth[0].float())
        assert torch.equal(update.depth_conf, want.depth_conf[0].float())


def test_pieces_and_half_precision_change_little():
    model, images = tiny_vggt(), _images(5).float()
    plain = _pushed(RecursiveEngine(model, RecursiveOptions("flash:r=2")), images, (3, 2))
    pieces = RunOptions(frames_per_chunk=1, mlp_tokens_per_chunk=20, head_frames_per_chunk=1)
    got = _pushed(RecursiveEngine(model, RecursiveOptions("flash:r=2"), pieces), images, (3, 2))
    torch.testing.assert_close(got["z_depth"], plain["z_depth"], rtol=1e-4, atol=1e-5)
    half = RecursiveEngine(model, RecursiveOptions("flash:r=2"), RunOptions(dtype=torch.bfloat16))
    rough = _pushed(half, images, (3, 2))
    assert rough["z_depth"].dtype == torch.float32
    assert (rough["z_depth"] / plain["z_depth"]).log().abs().median() < 0.1
    assert half.state()["layer0.short.k"].dtype == torch.bfloat16


@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_what_is_kept_does_not_depend_on_the_size_of_chunks(chunk):
    engine = RecursiveEngine(tiny_vggt(), RecursiveOptions(keep_one_in=3))
    for part in _images(10, 28, 28).float().split(chunk):
        engine.push(part)
    assert engine.frames_in_memory == (0, 3, 6, 9)


@pytest.mark.parametrize("p", [1, 5])
@pytest.mark.parametrize("limit", [2, 3, 7, 8])
def test_a_bound_keeps_the_latest_and_an_even_past(p, limit):
    before: tuple[int, ...] = ()
    for arrived in range(1, 300):
        kept = retained_frames(arrived, p, limit)
        assert kept[0] == 0 and len(kept) <= limit and all(frame % p == 0 for frame in kept)
        assert set(kept) <= {*before, arrived - 1}  # nothing comes back that was dropped
        assert (arrived - 1) // p * p in kept
        if arrived > p * limit:
            gaps = [b - a for a, b in itertools.pairwise(kept)]
            assert max(gaps) < 4 * arrived / (limit / 2)
        before = kept


def test_memory_is_flat_with_bounds_and_reported_exactly():
    bounded = RecursiveOptions(keep_one_in=2, memory_frames=4, camera_window=4)
    engine = RecursiveEngine(tiny_vggt(), bounded)
    sizes = [engine.push(part).memory_bytes for part in _images(48, 28, 28).float().split(2)]
    frame_0, each, camera = 4 * 2 * 4 * 32 * 4, 4 * 2 * 6 * 32 * 4, 64 * 4  # layers, k and v, tokens, dim
    assert max(sizes) == frame_0 + 4 * (each + camera) == max(sizes[12:])
    held = sum(t.nbytes for name, t in engine.state().items() if name not in ("kept", "arrived", "size"))
    assert sizes[-1] == held and engine.cameras() is None
    growing = RecursiveEngine(tiny_vggt(), RecursiveOptions(keep_one_in=2))
    grown = [growing.push(part).memory_bytes for part in _images(24, 28, 28).float().split(2)]
    assert all(a < b for a, b in itertools.pairwise(grown))


def test_a_camera_window_sees_frame_0_the_latest_and_the_chunk():
    model, images = tiny_vggt(torch.float64), _images(9, 28, 28)
    engine = RecursiveEngine(model, RecursiveOptions("flash:r=2", camera_window=4, revise=True))
    for part in images[:7].split(1):
        engine.push(part)
    tokens = torch.cat([engine.state()["camera tokens"]], 1)
    window = torch.tensor(retained_frames(7, 1, 4))
    assert torch.equal(engine.state()["camera window"], tokens[:, window])
    update = engine.push(images[7:])
    with torch.no_grad():
        new = engine.state()["camera tokens"][:, 7:]
        encoding = model.camera_head(torch.cat([tokens[:, window], new], 1))[-1]
    torch.testing.assert_close(update.cam_from_world[..., 3], encoding[0, -2:, :3].float())


def test_a_restored_engine_goes_on_identically():
    model, images = tiny_vggt(), _images(8, 28, 28).float()
    options = RecursiveOptions("flash:r=2", keep_one_in=2, memory_frames=3, revise=True)
    whole = RecursiveEngine(model, options)
    for part in images[:6].split(2):
        whole.push(part)
    state = {name: tensor.clone() for name, tensor in whole.state().items()}
    again = RecursiveEngine(model, options)
    again.restore(state)
    assert again.frames == 6 and again.memory_bytes == whole.memory_bytes
    a, b = whole.push(images[6:]), again.push(images[6:])
    assert torch.equal(a.z_depth, b.z_depth) and torch.equal(a.cam_from_world, b.cam_from_world)
    assert torch.equal(whole.cameras()[0], again.cameras()[0])
    with pytest.raises(ValueError, match="state"):
        RecursiveEngine(model, RecursiveOptions("flash:version=v2", revise=True)).restore(state)
    with pytest.raises(ValueError, match="state"):
        RecursiveEngine(model, RecursiveOptions("flash:r=2")).restore(state)


def test_a_failed_push_takes_nothing_in(monkeypatch):
    model, images = tiny_vggt(), _images(6, 28, 28).float()
    engine, other = (RecursiveEngine(model, RecursiveOptions("flash:r=2")) for _ in range(2))
    for e in (engine, other):
        e.push(images[:2])
    with pytest.raises(UsageError, match=r"\(28, 28\)"):
        engine.push(torch.rand(2, 3, 42, 28))
    with monkeypatch.context() as patch:
        patch.setattr(model.camera_head, "forward", lambda tokens: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.push(images[2:4])
    assert engine.frames == 2
    assert torch.equal(engine.push(images[4:]).z_depth, other.push(images[4:]).z_depth)


def test_only_frame_0_of_the_stream_defines_the_world():
    model, image = tiny_vggt(), _images(1, 28, 28).float()
    engine = RecursiveEngine(model, RecursiveOptions("flash:r=2"))
    first, second = engine.push(image), engine.push(image)
    assert not torch.equal(first.z_depth, second.z_depth)  # the same picture, with other special tokens
    assert first.whole == (0,) and second.whole == ()


def test_what_cannot_be_streamed_is_refused():
    model = tiny_vggt()
    for accel in ("dense", "avggt", "flash+httm"):
        with pytest.raises(UsageError, match="--accel flash"):
            RecursiveEngine(model, RecursiveOptions(accel))
    with pytest.raises(UsageError, match="keyframes"):
        RecursiveEngine(model, RecursiveOptions("flash:keyframes=3"))
    with pytest.raises(UsageError, match="cannot be streamed"):
        RecursiveEngine(tiny_pi3())
    for wrong in (
        {"keep_one_in": 0},
        {"semantics": "other"},
        {"memory_frames": 1},
        {"camera_window": 0},
        {"memory_frames": 4, "semantics": "released"},
    ):
        with pytest.raises(ValueError):
            RecursiveOptions(**wrong)


def test_constant_values_stay_and_gradients_flow():
    layout = TokenLayout(3, 2, (5, 7))
    attention, tokens, rotation = small_layer(layout)
    memory = LayerMemory()
    keys = RecursiveKeys(DescriptorKeys(2), memory, seen=(0, 2))
    for _ in range(2):
        tokens = tokens.detach().requires_grad_()
        out = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun())
        (gradient,) = torch.autograd.grad(out.sum(), tokens, retain_graph=True)
        assert gradient.isfinite().all() and (gradient != 0).any(-1).all()
        memory.commit(torch.arange(2 if memory.short is None else 4))
    with torch.no_grad():
        dim = tokens.shape[-1]
        attention.qkv.weight[2 * dim :] = 0
        attention.qkv.bias[2 * dim :] = 1
        attention.proj.weight.copy_(torch.eye(dim))
        attention.proj.bias.zero_()
        memory = LayerMemory()
        keys = RecursiveKeys(DescriptorKeys(2, count_bias=0.5), memory)
        for _ in range(2):
            out = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun())
            torch.testing.assert_close(out, torch.ones_like(out))
            layer = LayerInput(attention, tokens, layout, rotation, LayerRun())
            assert keys.count(layout) == keys.select(layer).k.shape[2]
            memory.commit(torch.arange(3))


def test_golden_streams_of_both_releases(shared_reference):
    cases = select(read_cases(shared_reference), ("flash_v?/stream_*",))
    assert len(cases) == 6
    assert run_cases(cases, lambda line: None).passed == 6
