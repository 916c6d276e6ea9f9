"""π³: equal in any order of the images, consistent points, intrinsics from points."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan
from manyview.bench.live_bytes import LiveBytes
from manyview.errors import UsageError, WeightsError
from manyview.models.flops import forward_flops
from manyview.models.footprint import HeadFootprint
from manyview.models.load import load
from manyview.models.pi3.checkpoint import PRIOR_KEYS
from manyview.models.pi3.config import PI3, PI3X, Pi3XConfig
from manyview.models.pi3.heads import nearest_rotation
from manyview.models.pi3.intrinsics import focal_from_points
from manyview.models.pi3.model import Pi3
from manyview.models.pi3.model_x import Pi3X
from manyview.models.pi3.spec import PI3_SPEC, PI3X_SPEC
from manyview.models.priors import Priors
from manyview.models.run_options import RunOptions
from manyview.reconstruction.plan.footprint import estimate_peak_bytes

from .test_flops import counting
from .tiny_pi3 import SMALL, SMALL_X, tiny_pi3, tiny_pi3x, write_pi3

ALL = RunOptions(heads=("camera", "depth", "points"))


@pytest.fixture(scope="module")
def network() -> Pi3:
    return tiny_pi3().double()


@torch.no_grad()
@pytest.mark.parametrize(
    "spec", ["dense", "frame", "avggt:early=1,stride=2x2", "flash:r=2", "httm:space=4,time=2"]
)
def test_any_order_of_the_images_gives_the_same(network, spec):
    images = torch.rand(1, 4, 3, 42, 56, dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1])
    plan = Plan.parse(spec, SMALL.depth)
    if spec.startswith("httm"):  # blocks of consecutive frames depend on the order, as HTTM says
        order = torch.tensor([2, 3, 0, 1])
    straight, turned = network(images, plan, ALL), network(images[:, order], plan, ALL)
    for name in ("world_from_cam", "local_points", "confidence_logits"):
        torch.testing.assert_close(getattr(straight, name)[:, order], getattr(turned, name))


@torch.no_grad()
def test_world_points_and_cameras_agree_with_local_points(network):
    answer = network(torch.rand(3, 3, 42, 56, dtype=torch.float64), options=ALL)
    rotation, translation = answer.cam_from_world[..., :3], answer.cam_from_world[..., 3]
    back = torch.einsum("bsij,bshwj->bshwi", rotation, answer.world_points) + translation[:, :, None, None]
    torch.testing.assert_close(back, answer.local_points)
    torch.testing.assert_close(answer.z_depth, answer.local_points[..., 2])
    assert (answer.depth_conf >= 1).all()
    torch.testing.assert_close(1 - 1 / answer.depth_conf, answer.confidence_logits[..., 0].sigmoid())


@torch.no_grad()
def test_pieces_do_not_change_the_result(network):
    images = torch.rand(5, 3, 28, 42, dtype=torch.float64)
    whole = network(images, options=RunOptions(head_frames_per_chunk=None))
    pieces = network(
        images, options=RunOptions(frames_per_chunk=2, mlp_tokens_per_chunk=7, head_frames_per_chunk=2)
    )
    torch.testing.assert_close(pieces.local_points, whole.local_points)
    torch.testing.assert_close(pieces.world_from_cam, whole.world_from_cam)


def test_gradients_reach_every_parameter(network):
    answer = network(torch.rand(2, 3, 28, 28, dtype=torch.float64), options=ALL)
    (answer.world_points.square().mean() + answer.confidence_logits.square().mean()).backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    network.zero_grad()
    assert missing == []


def test_nearest_rotation_is_a_rotation_and_keeps_one():
    found = nearest_rotation(torch.randn(50, 9, dtype=torch.float64))
    torch.testing.assert_close(
        found @ found.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(50, 3, 3)
    )
    assert (torch.linalg.det(found) > 0.99).all()
    torch.testing.assert_close(nearest_rotation(2.5 * found.flatten(1)), found)


@pytest.mark.parametrize("outliers", [0.0, 0.2])
def test_focal_lengths_come_back_from_points(outliers):
    torch.manual_seed(0)
    height, width, fx, fy = 30, 40, 37.0, 52.0
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    z = 1 + 3 * torch.rand(height, width)
    points = torch.stack([(x - width / 2) / fx * z, (y - height / 2) / fy * z, z], -1)
    wrong = torch.rand(height, width) < outliers
    points[wrong] += torch.randn(int(wrong.sum()), 3) * torch.tensor([1.0, 1.0, 0.0])
    found = focal_from_points(points[None], torch.ones(1, height, width))[0]
    tolerance = 1e-4 if outliers == 0 else 0.02
    assert found[0, 0] == pytest.approx(fx, rel=tolerance) and found[1, 1] == pytest.approx(fy, rel=tolerance)
    assert found[0, 2] == width / 2 and found[1, 2] == height / 2


def test_focal_length_of_a_flat_answer_is_the_longer_side():
    points = torch.tensor([0.0, 0.0, 1.0]).expand(1, 10, 20, 3)
    found = focal_from_points(points, torch.ones(1, 10, 20))[0]
    assert found[0, 0] == 20 and found[1, 1] == 20


def test_sizes_are_read_off_the_shapes():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in Pi3(SMALL).state_dict().items()}
        public = {k: tuple(v.shape) for k, v in Pi3(PI3).state_dict().items()}
        public_x = {k: tuple(v.shape) for k, v in Pi3X(PI3X).state_dict().items()}
    assert PI3X_SPEC.config_from_shapes(public_x) == PI3X
    assert PI3_SPEC.config_from_shapes(shapes) == SMALL
    assert PI3_SPEC.config_from_shapes(public) == PI3
    del shapes["register_token"]
    with pytest.raises(WeightsError, match="register_token"):
        PI3_SPEC.config_from_shapes(shapes)


def test_a_head_it_lacks_and_wrong_images_are_refused(network):
    with pytest.raises(UsageError, match="track head"):
        network(torch.rand(1, 3, 28, 28), options=RunOptions(heads=("track",)))
    with pytest.raises(UsageError, match="multiples of 14"):
        network(torch.rand(1, 3, 28, 30, dtype=torch.float64))


def test_a_published_file_loads_as_pi3(tmp_path):
    model = load(write_pi3(tmp_path / "model.safetensors"))
    assert isinstance(model, Pi3) and model.config == SMALL
    images = torch.rand(2, 3, 28, 42)
    with torch.no_grad():
        torch.testing.assert_close(model(images).local_points, tiny_pi3()(images).local_points)
    with pytest.raises(UsageError, match="track head"):
        load(tmp_path / "model.safetensors", heads="track")


def test_a_published_pi3x_loads_with_and_without_its_optional_inputs(tmp_path):
    model = load(write_pi3(tmp_path / "x.safetensors", tiny_pi3x()))
    assert isinstance(model, Pi3X) and model.config == SMALL_X
    state = {k: v for k, v in tiny_pi3x().state_dict().items() if not k.startswith(PRIOR_KEYS)}
    save_file({k: v.clone().contiguous() for k, v in state.items()}, tmp_path / "less.safetensors")
    less = load(tmp_path / "less.safetensors")
    images, known = torch.rand(2, 3, 28, 42), Priors(torch.eye(4).expand(1, 2, 4, 4))
    with torch.no_grad():
        torch.testing.assert_close(less(images).local_points, model(images).local_points)
        for network, about in ((less, "loaded without"), (tiny_pi3(), "need Pi3X")):
            with pytest.raises(UsageError, match=about):
                network(images, priors=known)
        with pytest.raises(UsageError, match="intrinsics"):
            model(images, priors=Priors(intrinsics=torch.eye(3).expand(1, 3, 3, 3)))


def _known(frames: int = 3) -> Priors:
    torch.manual_seed(5)
    poses = torch.eye(4, dtype=torch.float64).repeat(1, frames, 1, 1)
    poses[..., :3, :3] = nearest_rotation(torch.randn(1, frames, 9, dtype=torch.float64))
    poses[..., :3, 3] = torch.randn(1, frames, 3, dtype=torch.float64)
    k = torch.tensor([[40.0, 0, 21], [0, 40, 14], [0, 0, 1]], dtype=torch.float64).expand(1, frames, 3, 3)
    return Priors(poses, k, 1 + torch.rand(1, frames, 28, 42, dtype=torch.float64))


@torch.no_grad()
def test_known_cameras_and_depth_matter_but_not_their_world_or_unit():
    model, images = tiny_pi3x().double(), torch.rand(3, 3, 28, 42, dtype=torch.float64)
    known = _known()
    plain, told = model(images), model(images, priors=known)
    assert (plain.local_points - told.local_points).abs().max() > 1e-3
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = nearest_rotation(torch.randn(9, dtype=torch.float64))
    turn[:3, 3] = torch.randn(3, dtype=torch.float64)
    poses = known.world_from_cam.clone()
    poses[..., :3, 3] *= 2.5
    moved = dataclasses.replace(known, world_from_cam=turn @ poses, z_depth=2.5 * known.z_depth)
    torch.testing.assert_close(
        model(images, priors=moved).local_points, told.local_points, rtol=1e-5, atol=1e-6
    )


@torch.no_grad()
def test_masked_frames_say_nothing():
    model, images = tiny_pi3x().double(), torch.rand(3, 3, 28, 42, dtype=torch.float64)
    known, nobody = _known(), torch.zeros(1, 3, dtype=torch.bool)
    silent = dataclasses.replace(known, has_pose=nobody, has_intrinsics=nobody, has_depth=nobody)
    torch.testing.assert_close(model(images, priors=silent).local_points, model(images).local_points)
    some = torch.tensor([[True, True, False]])
    two = dataclasses.replace(known, z_depth=None, has_intrinsics=some)
    other = dataclasses.replace(
        two, intrinsics=torch.cat([two.intrinsics[:, :2], 3 * two.intrinsics[:, 2:]], 1)
    )
    torch.testing.assert_close(
        model(images, priors=two).local_points, model(images, priors=other).local_points
    )


def test_pieces_and_masks_do_not_change_what_is_known():
    model, images = tiny_pi3x().double(), torch.rand(2, 4, 3, 28, 42, dtype=torch.float64)
    one = _known(4)
    masks = {
        name: torch.tensor([[True, False, True, True], [False, True, True, False]])
        for name in ("has_pose", "has_intrinsics", "has_depth")
    }
    both = Priors(
        *(torch.cat([t, 1.1 * t]) for t in (one.world_from_cam, one.intrinsics, one.z_depth)), **masks
    )
    both.world_from_cam[1, :, :3, :3] /= 1.1
    both.world_from_cam[1, :, 3, 3] = 1
    at_once = model(images, priors=both).local_points  # with gradients, in one piece
    assert at_once.requires_grad
    with torch.no_grad():
        pieces = RunOptions(None, 2, 5, 1)
        torch.testing.assert_close(model(images, None, pieces, priors=both).local_points, at_once)
        for i in range(2):  # scenes of a batch do not know of each other
            own = Priors(**{f.name: getattr(both, f.name)[i : i + 1] for f in dataclasses.fields(Priors)})
            torch.testing.assert_close(model(images[i : i + 1], priors=own).local_points, at_once[i : i + 1])


@torch.no_grad()
def test_the_pose_of_a_single_frame_is_ignored():
    model, images = tiny_pi3x().double(), torch.rand(1, 3, 28, 42, dtype=torch.float64)
    alone = Priors(_known(1).world_from_cam)
    torch.testing.assert_close(model(images, priors=alone).local_points, model(images).local_points)


@torch.no_grad()
def test_metres_scale_points_depth_and_translations_alike():
    model, images = tiny_pi3x().double(), torch.rand(3, 3, 28, 42, dtype=torch.float64)
    before = model(images, options=ALL)
    model.metric_head.bias.add_(torch.tensor(3.0).log())
    after = model(images, options=ALL)
    for name in ("metric_scale", "z_depth", "local_points", "world_points"):
        torch.testing.assert_close(getattr(after, name), 3 * getattr(before, name))
    torch.testing.assert_close(after.cam_from_world[..., 3], 3 * before.cam_from_world[..., 3])
    torch.testing.assert_close(after.cam_from_world[..., :3], before.cam_from_world[..., :3])


@pytest.mark.parametrize("build", [tiny_pi3, tiny_pi3x])
@pytest.mark.parametrize("plan", ["dense", "0:frame,1:dense"])
def test_operations_are_those_counted(plan, build):
    layout = TokenLayout(3, SMALL.special_tokens, (3, 4), None)
    expected = forward_flops(build().config, layout, Plan.parse(plan, 2), ALL.heads)
    with counting() as stages:
        build()(torch.rand(3, 3, 42, 56), Plan.parse(plan, 2), ALL, stages)
    for name in ("encoder", "frame layers", "global layers"):
        assert stages.flops[name] == expected[name]
    # The fit of focal lengths and the turned points are not counted as a network's operations.
    heads = sum(value for name, value in stages.flops.items() if name.endswith("head"))
    assert heads == pytest.approx(sum(v for k, v in expected.items() if k.endswith("head")), rel=0.02)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("pieces", "dtype"),
    [((None, None, None), torch.float32), ((4, 4000, 2), torch.bfloat16), ((8, 9000, 4), torch.float32)],
)
@pytest.mark.parametrize(("public", "kind"), [(PI3, Pi3), (PI3X, Pi3X)])
def test_memory_estimate_is_near_and_not_below_counted_bytes(pieces, dtype, public, kind):
    config = dataclasses.replace(public, dim=256, depth=3, num_heads=4, decoder_dim=256, decoder_heads=4,
                                 decoder_depth=2, point_dim=256, confidence_dim=256, camera_dim=128,
                                 encoder=dataclasses.replace(public.encoder, depth=2))  # fmt: skip
    with torch.device("meta"):
        model = kind(config)
        images = torch.empty(1, 24, 3, 140, 196, dtype=torch.uint8)
    options = RunOptions(dtype, *pieces, heads=ALL.heads)
    with torch.no_grad(), LiveBytes() as live:
        model(images, options=options)
    counted = live.peak + images.numel()
    estimate = estimate_peak_bytes(config, model.config.layout(24, 140, 196), options, dtype.itemsize)
    assert counted <= estimate <= 1.5 * counted


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("pieces", "dtype"), [((2, 2000, 1), torch.bfloat16), ((8, 9000, 4), torch.float32)])
@pytest.mark.parametrize("known", [("poses",), ("depth",), ("intrinsics",), ("poses", "intrinsics", "depth")])
def test_memory_estimate_counts_what_is_known(monkeypatch, pieces, dtype, known):
    encoder = dataclasses.replace(PI3X.encoder, depth=2)
    config = dataclasses.replace(PI3X, dim=256, depth=2, num_heads=4, encoder=encoder)
    shapes = {"poses": (4, 4), "intrinsics": (3, 3), "depth": (140, 196)}
    fields = {"poses": "world_from_cam", "intrinsics": "intrinsics", "depth": "z_depth"}
    with torch.device("meta"):
        model = Pi3X(config)
        images = torch.empty(1, 24, 3, 140, 196, dtype=torch.uint8)
        priors = Priors(**{fields[name]: torch.empty(1, 24, *shapes[name]) for name in known})
    options = RunOptions(dtype, *pieces, keep_weights=False)
    layout, told = model.config.layout(24, 140, 196), model._known(priors, images, options)
    with torch.no_grad(), LiveBytes() as live:
        model.run_layers(images, Plan.dense(2), options, _NoTaps(), known=told)
    counted = live.peak + images.numel() + (priors.z_depth.nbytes if "depth" in known else 0)
    monkeypatch.setattr(Pi3XConfig, "head_footprint", lambda *_: HeadFootprint(0, 0, 0, 0, 0))
    estimate = estimate_peak_bytes(config, layout, options, dtype.itemsize, known)
    assert counted <= estimate <= 1.35 * counted
    plain = estimate_peak_bytes(config, layout, options, dtype.itemsize)
    assert "poses" not in known or pieces[0] > 2 or plain < counted


class _NoTaps:
    """Nothing of the trunk is read."""

    layers: frozenset[int] = frozenset()

    def __call__(self, *_: object) -> None:
        raise AssertionError("no layer was asked for")
