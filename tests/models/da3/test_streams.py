"""Streams and long inputs: what comes in chunks is one pass whose reference is the first view."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.global_attention import GlobalAttention
from manyview.attention.methods.anchors import AnchorKeys
from manyview.attention.plan import Plan
from manyview.models.run_options import RunOptions
from manyview.streaming.anchors import AnchorEngine, AnchorOptions
from manyview.streaming.recursive import RecursiveEngine, RecursiveOptions
from manyview.streaming.stream import stream, suited_engine
from tests.models.da3.tiny_da3 import tiny_da3
from tests.models.tiny import tiny_vggt
from tests.models.tiny_pi3 import tiny_pi3

FIELDS = ("cam_from_world", "intrinsics", "z_depth", "depth_conf")


def _video(frames):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(frames, 3, 28, 42, generator=generator, dtype=torch.float64)


def _pushed(engine, images, sizes):
    updates = [engine.push(part) for part in images.split(sizes)]
    return {name: torch.cat([getattr(u, name) for u in updates]) for name in FIELDS}


@pytest.mark.parametrize("sizes", [[8], [5, 3], [5, 1, 1, 1]])
def test_anchors_in_chunks_are_one_pass(sizes):
    model, images = tiny_da3().double(), _video(8)
    engine = AnchorEngine(model, AnchorOptions("anchors:frames=3", start=5, beyond=None))
    got = _pushed(engine, images, sizes)
    layer = GlobalAttention(keys=AnchorKeys(indices=engine.anchors))
    with torch.no_grad():
        want = model(images, Plan((layer,) * model.config.depth))
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, getattr(want, name)[0].float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "engine"), [(tiny_da3, "anchors"), (tiny_pi3, "anchors"), (tiny_vggt, "chunks")]
)
def test_the_engine_is_the_one_that_suits_the_network(model, engine):
    network = model()
    name, why = suited_engine(network)
    assert name == engine and (why is None) == (engine == "chunks")
    images = _video(3)[..., :28, :28].float()
    got, want = (
        next(iter(stream(list(images), network, chosen, chunk=3, image_size=28)))
        for chosen in ("auto", engine)
    )
    assert torch.equal(got.z_depth, want.z_depth)


def test_a_stream_in_chunks_refers_to_its_first_frame():
    model, images = tiny_da3().double(), _video(4)
    with torch.no_grad():
        want = model(images, Plan.parse("flash:r=2", 4), RunOptions(reference_view="first"))
    engine = RecursiveEngine(model, RecursiveOptions("flash:r=2", keep_one_in=1, memory_frames=None))
    first = engine.push(images)
    later = engine.push(images)  # frames that continue the scene: none is the reference
    for name in FIELDS:
        torch.testing.assert_close(getattr(first, name), getattr(want, name)[0].float(), rtol=1e-4, atol=1e-5)
    assert later.z_depth.isfinite().all() and not torch.equal(later.z_depth[0], first.z_depth[0])
