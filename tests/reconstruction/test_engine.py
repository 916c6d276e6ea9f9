"""From files to a result: the Python face, memory running out, numbers that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.attention.layout import TokenLayout
from manyview.errors import ManyViewError, MemoryLimitError, UsageError, out_of_memory
from manyview.geometry.unproject import world_points
from manyview.models.predictions import Predictions
from manyview.models.vggt.camera_head import CameraHead
from manyview.models.vggt.trunk import Trunk
from manyview.reconstruction.result.view_validity import valid_views
from manyview.reconstruction.run import prepare as prepare_module
from manyview.reconstruction.run import whole
from manyview.reconstruction.run.engine import reconstruct
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare
from tests.models.tiny import tiny_vggt


def test_result_is_what_the_model_says(photos):
    model = tiny_vggt()
    scene = reconstruct(photos, model)
    with torch.no_grad():
        direct = model(torch.from_numpy(scene.images.copy()).permute(0, 3, 1, 2))
    np.testing.assert_allclose(scene.z_depth, direct.z_depth[0].numpy(), rtol=1e-4)
    np.testing.assert_allclose(scene.cam_from_world, direct.cam_from_world[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(scene.intrinsics, direct.intrinsics[0].numpy(), rtol=1e-4)
    assert scene.head_points is None and scene.timings_s["forward"] > 0
    stages = {"encoder", "frame layers", "global layers", "camera head", "depth head"}
    parts = {f"forward: {stage}" for stage in stages}
    assert set(scene.timings_s) == {"read", "forward", "quality"} | parts
    assert sum(scene.timings_s[part] for part in parts) <= 1.05 * scene.timings_s["forward"]


def test_pixel_centres_and_point_head(photos):
    scene = reconstruct(photos, tiny_vggt(), pixel_centres="integer", point_head=True)
    assert scene.pixel_centres == "integer" and scene.head_points is not None
    want = world_points(
        torch.from_numpy(scene.z_depth.astype(np.float64)),
        torch.from_numpy(scene.cam_from_world.copy()),
        torch.from_numpy(scene.intrinsics.copy()),
        "integer",
    )
    np.testing.assert_allclose(scene.world_points, want.numpy(), rtol=1e-4, atol=1e-4)


def test_prepared_input_runs_the_same(photos):
    model = tiny_vggt()
    ready = prepare(photos, model)
    a, b = reconstruct(ready, model), reconstruct(photos, model)
    assert a.settings == b.settings and np.array_equal(a.z_depth, b.z_depth)


def test_weights_that_still_have_to_move_are_not_free_memory(photos, monkeypatch):
    model, asked = tiny_vggt(), []
    weights = sum(4 * p.numel() for p in model.parameters())
    plain = prepare_module.inspect_machine

    def look(device, limit=None, reserve_bytes=0):
        asked.append((device.type, reserve_bytes))
        return plain(torch.device("cpu"), limit, reserve_bytes)

    monkeypatch.setattr(prepare_module, "inspect_machine", look)
    monkeypatch.setattr(prepare_module, "measure_flops", lambda *_: 1e12)
    monkeypatch.setattr(prepare_module, "pick_device", lambda _: torch.device("cuda"))
    prepare(photos, model, ReconstructOptions(precision="fp32"))
    monkeypatch.setattr(prepare_module, "pick_device", lambda _: torch.device("cpu"))
    prepare(photos, model)
    assert asked == [("cuda", weights), ("cpu", 0), ("cpu", 0)]  # images are decoded in the CPU's memory


def test_arrays_are_not_copied_when_they_are_right_as_they_are(photos, monkeypatch):
    made = []
    plain = whole.run_forward

    def remember(*args):
        made.append(plain(*args))
        return made[-1]

    monkeypatch.setattr(whole, "run_forward", remember)
    model = tiny_vggt()
    ready = prepare(photos, model)
    scene = reconstruct(ready, model)
    assert np.shares_memory(scene.images, ready.views.images.numpy())
    assert scene.images.flags.c_contiguous
    assert np.shares_memory(scene.z_depth, made[0][0].z_depth.numpy())
    assert np.shares_memory(scene.depth_conf, made[0][0].depth_conf.numpy())


def test_settings_tell_apart_what_changes_numbers(photos):
    model = tiny_vggt()
    base = prepare(photos, model).settings
    assert prepare(photos, model, ReconstructOptions(memory_limit_gib=5)).settings == base
    for change in ({"accel": "frame"}, {"precision": "bf16"}, {"image_size": 42}, {"point_head": True}):
        assert prepare(photos, model, ReconstructOptions(**change)).settings != base
    Image.new("RGB", (128, 96)).save(photos / "2.png")
    assert prepare(photos, model).settings != base


def test_less_memory_than_expected_means_smaller_pieces(photos, monkeypatch):
    model, calls = tiny_vggt(), []
    plain = Trunk.forward

    def scarce(self, images, plan, options, *rest, **named):
        calls.append(options.frames_per_chunk)
        if options.frames_per_chunk > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, images, plan, options, *rest, **named)

    want = reconstruct(photos, model)
    monkeypatch.setattr(Trunk, "forward", scarce)
    got = reconstruct(photos, model)
    assert len(calls) > 1 and calls == sorted(calls, reverse=True)
    np.testing.assert_allclose(got.z_depth, want.z_depth, rtol=1e-5)
    assert any("memory ran out" in note for note in got.notes)


def test_memory_that_never_suffices_is_refused_with_numbers(photos, monkeypatch):
    def never(*_args, **_named):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 99 bytes")

    monkeypatch.setattr(Trunk, "forward", never)
    with pytest.raises(MemoryLimitError, match="--image-size"):
        reconstruct(photos, tiny_vggt(), image_size=280)


def test_other_errors_are_not_taken_for_memory(photos, monkeypatch):
    def broken(*_args, **_named):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Trunk, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        reconstruct(photos, tiny_vggt())
    assert out_of_memory(MemoryError()) and not out_of_memory(RuntimeError("shapes"))


def test_numbers_that_are_not_finite_are_refused(photos):
    model = tiny_vggt()
    model.depth_head.scratch.output_conv2[2].bias.data.fill_(200.0)  # exp overflows float32
    with pytest.raises(ManyViewError, match="fp32"):
        reconstruct(photos, model)


@pytest.mark.parametrize("broken", ["not finite", "no field of view", "no turn"])
def test_a_view_without_a_camera_is_left_out_and_the_rest_kept(photos, monkeypatch, broken):
    want = reconstruct(photos, tiny_vggt())
    plain = CameraHead.forward

    def spoil(self, *args, **named):
        encodings = plain(self, *args, **named)
        if broken == "not finite":
            encodings[-1][:, 2, 0] = float("nan")
        elif broken == "no field of view":
            encodings[-1][:, 2, 8] = 0.0
        else:
            encodings[-1][:, 2, 3:7] = 0.0
        return encodings

    monkeypatch.setattr(CameraHead, "forward", spoil)
    got = reconstruct(photos, tiny_vggt())
    assert got.names == ("0.png", "1.png", "3.png")
    assert any("1 of 4 views left out" in note and "2.png" in note for note in got.notes)
    np.testing.assert_array_equal(got.z_depth, want.z_depth[[0, 1, 3]])
    np.testing.assert_array_equal(got.images, want.images[[0, 1, 3]])


def test_one_finite_depth_makes_a_view_valid():
    found = Predictions(40, 56, TokenLayout(3, 1, (5, 7)))
    found.z_depth = torch.full((1, 3, 40, 56), float("nan"))
    found.z_depth[0, 0] = 1.0
    found.z_depth[0, 2, 39, 55] = 1.0
    intrinsics = torch.tensor([[50.0, 0, 28], [0, 50, 20], [0, 0, 1]])
    found.cameras = torch.eye(3, 4).expand(1, 3, 3, 4), intrinsics.expand(1, 3, 3, 3)
    assert valid_views(found).tolist() == [True, False, True]


def test_misuse(photos):
    with pytest.raises(UsageError, match="acceleration"):
        reconstruct(photos, tiny_vggt(), acceleration="dense")
    with pytest.raises(UsageError, match="pixel_centres"):
        ReconstructOptions(pixel_centres="both")
    with pytest.raises(UsageError, match="memory_limit"):
        ReconstructOptions(memory_limit_gib=0)


def test_progress_reaches_the_end(photos):
    seen = []
    reconstruct(photos, tiny_vggt(), progress=lambda *step: seen.append(step))
    assert ("read", 4, 4) in seen
    last = [s for s in seen if s[0] == "reconstruct"][-1]
    assert last[1] == last[2]
