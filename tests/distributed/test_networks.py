"""Networks whose frames several ranks share, against the same in one process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.distributed.ranks import Ranks
from manyview.errors import UsageError
from manyview.models.da3 import ray_cameras
from manyview.models.da3.mono import DA3Mono
from manyview.models.da3.nested import DA3Nested
from manyview.models.da3.ray_cameras import cameras_from_rays
from manyview.models.network import Network
from manyview.models.predictions import Predictions
from manyview.models.priors import Priors
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import TrackHeadConfig
from manyview.models.vggt.model import VGGT

from ..models.da3.tiny_da3 import tiny_da3
from ..models.da3.tiny_mono import tiny_mono
from ..models.da3.tiny_nested import tiny_nested
from ..models.omega.tiny_omega import tiny_omega
from ..models.tiny import TINY, tiny_vggt
from ..models.tiny_pi3 import tiny_pi3, tiny_pi3x
from .threads import own_frames, run

ALL = {"heads": ("camera", "depth", "points")}
NETWORKS: dict[str, tuple[Callable[[], Network], dict[str, Any]]] = {
    "vggt": (tiny_vggt, ALL),
    "pi3": (tiny_pi3, ALL),
    "pi3x": (tiny_pi3x, ALL),
    "da3": (tiny_da3, {"heads": ("camera", "depth", "rays")}),
    "da3 nested": (lambda: with_sky(tiny_nested()), {}),
    "omega": (tiny_omega, {"heads": ("camera", "depth", "text")}),
    "da3 mono": (lambda: with_sky(tiny_mono()), {"heads": ("depth", "sky")}),
}
PLANS = ["dense", "flash:r=2,keyframes=2", "anchors:frames=2", "avggt:early=1,stride=2x2"]
FEWER = {"da3 mono": 1, "pi3x": 2, "da3 nested": 2}
"""Networks with no layers of a plan, or with those of another."""
TRACKS = TrackHeadConfig(16, (8, 8, 16, 16), 32, corr_levels=2, time_depth=1, space_depth=1, num_heads=2)
OF_A_SCENE = ("metric_scale", "text_alignment_token", "text_alignment_embedding")


@cache
def network(name: str) -> Network:
    return NETWORKS[name][0]()


def images_of(frames: int, batch: int = 1, patch: int = 14) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, frames, 3, 3 * patch, 4 * patch, generator=generator)


@torch.no_grad()
def with_sky(model: DA3Mono | DA3Nested) -> Network:
    """The same with sky on about a third of the pixels."""
    single = model if isinstance(model, DA3Mono) else model.da3_metric
    last = single.head.scratch.sky_output_conv2[-1]
    last.bias.fill_(100)  # so that no score is cut off at 0
    score = single.single_views(images_of(7, batch=2), RunOptions())[1] - 100
    last.weight.div_(score.std())
    last.bias.fill_(float(0.4 - score.quantile(0.7) / score.std()))
    return model


def tensors(result: Predictions) -> dict[str, Tensor]:
    """Every tensor of the predictions under a name."""
    found: dict[str, Tensor] = {}
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        several = value if isinstance(value, list | tuple) else [value]
        found |= {f"{field.name} {i}": x for i, x in enumerate(several) if isinstance(x, Tensor)}
    return found


@torch.no_grad()
def over_ranks(
    name: str,
    images: Tensor,
    ranks: int,
    spec: str = "dense",
    priors: Priors | None = None,
    ring: bool = False,
    **options: Any,
) -> tuple[float, list[int]]:
    """The largest difference from one process, in parts of an array's largest number; frames of each rank."""
    model, options = network(name), NETWORKS[name][1] | options
    plan = Plan.parse(spec, model.config.depth)
    more = {} if priors is None else {"priors": priors}
    whole = model(images, plan, RunOptions(**options), **more)

    def own(group: Ranks) -> Predictions:
        frames = slice(group.split.first, group.split.stop)
        given = {} if priors is None else {"priors": priors.of_frames(frames)}
        return model(own_frames(images, group), plan, RunOptions(ranks=group, **options), **given)

    results = run(images.shape[1], ranks, own, ring=ring)
    parts, worst = [tensors(result) for result in results], 0.0
    assert all(part.keys() == tensors(whole).keys() for part in parts)
    for key, want in tensors(whole).items():
        of_each = [part[key] for part in parts]
        for got in of_each if key.split()[0] in OF_A_SCENE else [torch.cat(of_each, 1)]:
            assert got.shape == want.shape and got.dtype == want.dtype and want.any(), key
            difference = (got.double() - want.double()).abs().max() / want.double().abs().max()
            worst = max(worst, float(difference))
    return worst, [result.layout.frames for result in results]


@pytest.mark.parametrize(
    ("name", "spec"),
    [(name, spec) for name in NETWORKS for spec in PLANS[: FEWER.get(name)]],
)
def test_ranks_give_what_one_process_gives(name, spec):
    """Two scenes of seven frames on three ranks, in float32."""
    worst, counts = over_ranks(name, images_of(7, 2, network(name).config.patch_size), 3, spec)
    assert counts == [3, 2, 2]
    assert worst <= 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_more_ranks_than_frames(name):
    worst, counts = over_ranks(name, images_of(3, patch=network(name).config.patch_size), 5)
    assert counts == [1, 1, 1] and worst <= 1e-5


def test_pieces_and_a_ring_change_rounding_alone():
    pieces = {"frames_per_chunk": 2, "mlp_tokens_per_chunk": 40, "head_frames_per_chunk": 1}
    worst, counts = over_ranks("vggt", images_of(10), 4, ring=True, **pieces)
    assert counts == [3, 3, 2, 2] and worst <= 1e-5


@pytest.mark.parametrize("ring", [False, True])
def test_bfloat16_is_as_near_as_one_process_is_to_float32(ring):
    """In bfloat16 another order of sums, or of kernels, rounds otherwise: no nearer than the precision is."""
    model, images = network("vggt"), images_of(14)
    worst, _ = over_ranks("vggt", images, 4, ring=ring, dtype=torch.bfloat16)
    with torch.no_grad():
        exact, rounded = (
            tensors(model(images, options=RunOptions(dtype=dtype, **ALL)))
            for dtype in (torch.float32, torch.bfloat16)
        )
    own = max(float((exact[key] - x).abs().max() / exact[key].abs().max()) for key, x in rounded.items())
    assert worst <= own


@pytest.mark.parametrize("rule", ["middle", "saddle_sim_range"])
def test_the_reference_view_is_that_of_the_scene(rule):
    """It comes from another rank, and every rank hands one of its views to the next."""
    worst, _ = over_ranks("da3", images_of(7, batch=2), 3, reference_view=rule)
    assert worst <= 1e-5


def test_cameras_from_rays(monkeypatch):
    """Where many rays agree some are drawn, view by view in the order of the scene."""
    generator = torch.Generator().manual_seed(5)
    rays = torch.rand(2, 5, 6, 8, 6, generator=generator) + torch.tensor([0, 0, 1, 0, 0, 0])
    confidence = 1 + torch.rand(2, 5, 6, 8, generator=generator)
    every = cameras_from_rays(rays, confidence, (48, 64))
    monkeypatch.setattr(ray_cameras, "_MOST_FITTED", 6)
    whole = cameras_from_rays(rays, confidence, (48, 64))
    assert not torch.equal(every[0], whole[0])
    parts = run(
        5,
        3,
        lambda group: cameras_from_rays(
            own_frames(rays, group), own_frames(confidence, group), (48, 64), ranks=group
        ),
    )
    for want, *got in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat(got, 1), want)


@pytest.mark.parametrize(("name", "known"), [("da3", "all"), ("pi3x", "some"), ("pi3x", "some with depth")])
def test_known_cameras_and_depth(name, known):
    """Where they are of some frames, the second scene's cameras are known on the first rank alone."""
    generator = torch.Generator().manual_seed(1)
    poses = torch.eye(4).repeat(2, 7, 1, 1)
    poses[..., :3, 3] = torch.randn(2, 7, 3, generator=generator)
    intrinsics = torch.tensor([[60, 0, 28], [0, 60, 21], [0, 0, 1.0]]).expand(2, 7, 3, 3)
    priors = Priors(poses, intrinsics)
    if known != "all":
        has_pose = torch.tensor([[1, 0, 1, 1, 0, 1, 1], [1, 0, 1, 0, 0, 0, 0]], dtype=torch.bool)
        priors = dataclasses.replace(priors, has_pose=has_pose)
    if known == "some with depth":
        depth = torch.rand(2, 7, 42, 56, generator=generator)
        priors = dataclasses.replace(priors, z_depth=depth, has_depth=~has_pose)
    worst, _ = over_ranks(name, images_of(7, batch=2), 3, priors=priors)
    assert worst <= 1e-5


@torch.no_grad()
def pass_of(
    model: Network, images: Tensor, heads: tuple[str, ...], more: dict[str, Any], ranks: Ranks
) -> Predictions:
    return model(own_frames(images, ranks), options=RunOptions(heads=heads, ranks=ranks), **more)


class Recorder:
    def global_attention(self, layer: int, q: Tensor, k: Tensor) -> None: ...


def test_what_needs_one_process_is_refused():
    images, model, tracking = images_of(3), network("vggt"), dataclasses.replace(TINY, track_head=TRACKS)
    alone = tiny_vggt()
    alone.why_not_distributed = "it sees one frame"
    for refusing, heads, more, named in (
        (model, ("depth",), {"recorder": Recorder()}, "recorded"),
        (model, ("depth",), {"plan": Plan.parse("fastvggt", TINY.depth)}, "fastvggt"),
        (VGGT(tracking), ("track",), {}, "track"),
        (alone, ("depth",), {}, alone.why_not_distributed),
    ):
        with pytest.raises(UsageError, match=named):
            run(3, 2, partial(pass_of, refusing, images, heads, more))
    with pytest.raises(UsageError, match="gradients"):
        run(3, 2, lambda group: model(own_frames(images, group), options=RunOptions(ranks=group)))
    with torch.no_grad(), pytest.raises(UsageError, match="3 images"):
        run(3, 2, lambda group: model(images, options=RunOptions(ranks=group)))
