"""Size policies: the arithmetic of the transform, the pixels, and VGGT's own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from tools.conformance.preprocess import run_preprocess_case

from manyview.errors import InputError, UsageError
from manyview.files.schema import parse_json
from manyview.models.config import SizePolicy
from manyview.reconstruction.inputs.preprocess import (
    SIZE_POLICIES,
    area_size,
    centre_on_canvas,
    paste_on_canvas,
    plan_view,
    render_view,
    shared_canvas,
)
from manyview.reconstruction.inputs.resample import Kernel, resample
from manyview.reconstruction.inputs.views import ViewTransform

# Sides whose ratio keeps the short side above half a patch for every patch and target drawn below.
_sides = st.integers(16, 6000)
_policies = st.sampled_from(SIZE_POLICIES)
_sizings = st.sampled_from([(518, 14), (504, 14), (224, 14), (256, 16), (128, 8)])


def _drawn_plan(width: int, height: int, policy: SizePolicy, sizing: tuple[int, int]) -> ViewTransform | None:
    try:
        return plan_view(width, height, policy, *sizing)
    except InputError:
        assert max(width, height) / min(width, height) > sizing[0] / sizing[1] / 2
        return None


@given(_sides, _sides, _policies, _sizings)
def test_network_sizes_are_whole_patches_and_box_is_inside(
    width: int, height: int, policy: SizePolicy, sizing: tuple[int, int]
) -> None:
    transform = _drawn_plan(width, height, policy, sizing)
    if transform is None:
        return
    target, patch = sizing
    assert transform.network_width % patch == 0
    assert transform.network_height % patch == 0
    if policy == "balanced":
        patches = transform.network_width * transform.network_height / patch**2
        # Each side is rounded to half a patch, the shorter one is at least 0.7 of a square's.
        assert abs(patches / (target / patch) ** 2 - 1) <= 1.1 * (0.5 / 0.7 + 0.5) * patch / target
    elif policy.startswith("lower_bound"):
        assert min(transform.network_width, transform.network_height) == target
    else:
        assert max(transform.network_width, transform.network_height) == target
    left, top, right, bottom = transform.content_box
    assert 0 <= left < right <= transform.network_width
    assert 0 <= top < bottom <= transform.network_height
    assert transform.content_mask().sum() == (right - left) * (bottom - top)
    # No pixel of the box lies beyond the picture.
    corners = transform.network_from_upright @ [[0, width], [0, height], [1, 1]]
    assert corners[0, 0] <= left + 1e-3 and corners[0, 1] >= right - 1e-3
    assert corners[1, 0] <= top + 1e-3 and corners[1, 1] >= bottom - 1e-3


@given(_sides, _sides, st.sampled_from(["fit", "pad", "square"]), _sizings)
def test_the_whole_picture_is_kept(
    width: int, height: int, policy: SizePolicy, sizing: tuple[int, int]
) -> None:
    transform = _drawn_plan(width, height, policy, sizing)
    if transform is None:
        return
    assert not transform.cropped
    right = transform.offset_x + transform.scale_x * width
    bottom = transform.offset_y + transform.scale_y * height
    assert transform.offset_x >= 0 and right <= transform.network_width + 1e-6
    assert transform.offset_y >= 0 and bottom <= transform.network_height + 1e-6


@given(_sides, _sides, st.sampled_from(["balanced", "max_size"]), _sizings)
def test_an_elongated_picture_is_cut_to_two_to_one_around_its_centre(
    width: int, height: int, policy: SizePolicy, sizing: tuple[int, int]
) -> None:
    transform = _drawn_plan(width, height, policy, sizing)
    if transform is None:
        return
    shown = (transform.network_width / transform.scale_x, transform.network_height / transform.scale_y)
    longer = 2 * min(width, height)
    np.testing.assert_allclose(shown, (min(width, longer), min(height, longer)))
    middle = (transform.network_width / 2, transform.network_height / 2)
    found = (transform.network_from_upright @ [width / 2, height / 2, 1.0])[:2]
    assert abs(found - middle).max() <= 0.5 * max(transform.scale_x, transform.scale_y) + 1e-6


def test_cutting_comes_before_resizing() -> None:
    """White beyond the cut must not bleed into what is kept."""
    picture = np.full((100, 400, 3), 255, dtype=np.uint8)
    picture[:, 100:300] = 0
    transform = plan_view(400, 100, "balanced", 64, 16)
    assert (transform.network_width, transform.network_height) == (96, 48)
    assert (render_view(Image.fromarray(picture), transform, "balanced") == 0).all()


@given(_sides, _sides, _sizings)
def test_fit_wastes_no_pixel_and_bends_the_aspect_by_less_than_a_patch(
    width: int, height: int, sizing: tuple[int, int]
) -> None:
    transform = _drawn_plan(width, height, "fit", sizing)
    if transform is None:
        return
    assert transform.content_box == (0, 0, transform.network_width, transform.network_height)
    target, patch = sizing
    scale = target / max(width, height)
    assert abs(transform.network_width - scale * width) <= patch / 2 + 1e-6
    assert abs(transform.network_height - scale * height) <= patch / 2 + 1e-6


@given(_sides, _sides, _sizings)
def test_crop_is_marked_exactly_when_rows_are_lost(width: int, height: int, sizing: tuple[int, int]) -> None:
    transform = _drawn_plan(width, height, "crop", sizing)
    if transform is None:
        return
    resized_height = round(transform.scale_y * height)
    assert transform.cropped == (resized_height > transform.network_height)
    assert transform.network_width == sizing[0]


@given(_sides, _sides, _policies, _sizings, st.floats(100, 5000), st.floats(0.2, 0.8))
def test_intrinsics_return_to_the_source_pixels(
    width: int, height: int, policy: SizePolicy, sizing: tuple[int, int], focal: float, centre: float
) -> None:
    transform = _drawn_plan(width, height, policy, sizing)
    if transform is None:
        return
    transform = centre_on_canvas(transform, transform.network_height + 28, transform.network_width + 14)
    upright = np.array([[focal, 0, centre * width], [0, 1.1 * focal, centre * height], [0, 0, 1.0]])
    network = transform.network_from_upright @ upright
    np.testing.assert_allclose(transform.upright_intrinsics(network), upright, rtol=1e-9, atol=1e-6)


@given(_sides, _sides, st.integers(1, 8))
def test_transform_survives_json(width: int, height: int, orientation: int) -> None:
    transform = plan_view(width, height, "square", 518, 2, orientation)
    assert parse_json(json.dumps(transform.to_json()), ViewTransform) == transform
    stored = (transform.stored_width, transform.stored_height)
    assert stored == ((width, height) if orientation < 5 else (height, width))


@settings(max_examples=25)
@given(st.integers(16, 300), st.integers(16, 300), _policies)
def test_rendered_pixels_have_the_planned_shape_and_padding(
    width: int, height: int, policy: SizePolicy
) -> None:
    transform = _drawn_plan(width, height, policy, (56, 14))
    if transform is None:
        return
    grey = Image.new("RGB", (width, height), (100, 100, 100))
    pixels = render_view(grey, transform, policy)
    assert pixels.shape == (transform.network_height, transform.network_width, 3)
    mask = transform.content_mask()
    padding = 0 if policy == "square" else 255
    left, top, right, bottom = transform.content_box
    if policy == "square":  # the filter blends bar and picture next to the edge
        left, top, right, bottom = left + 3, top + 3, right - 3, bottom - 3
        mask[max(top - 6, 0) : bottom + 6, max(left - 6, 0) : right + 6] = True
    assert (pixels[top:bottom, left:right] == 100).all()
    assert (pixels[~mask] == padding).all()


def test_a_point_lands_where_the_transform_says() -> None:
    """A small white square is found, by its centre of mass, where `network_from_upright` puts it."""
    picture = np.zeros((900, 600, 3), dtype=np.uint8)
    picture[400:440, 200:240] = 255
    for policy in SIZE_POLICIES:
        transform = plan_view(600, 900, policy, 518, 14)
        pixels = render_view(Image.fromarray(picture), transform, policy)[..., 0] / 255.0
        pixels = pixels * transform.content_mask()
        rows, columns = np.indices(pixels.shape) + 0.5
        found = [(columns * pixels).sum() / pixels.sum(), (rows * pixels).sum() / pixels.sum()]
        expected = transform.network_from_upright @ [220.0, 420.0, 1.0]
        np.testing.assert_allclose(found, expected[:2], atol=0.05)


def test_vggt_sizes() -> None:
    """Sizes that VGGT's loader gives, from its documentation of shapes."""
    wide = plan_view(1920, 1080, "crop", 518, 14)
    assert (wide.network_width, wide.network_height) == (518, 294)
    tall = plan_view(1080, 1920, "crop", 518, 14)
    assert (tall.network_width, tall.network_height) == (518, 518)
    assert tall.cropped
    whole = plan_view(1080, 1920, "fit", 518, 14)
    assert (whole.network_width, whole.network_height) == (294, 518)
    padded = plan_view(1080, 1920, "pad", 518, 14)
    assert (padded.network_width, padded.network_height) == (518, 518)
    assert padded.content_box == (112, 0, 406, 518)
    assert padded.scale_x != padded.scale_y


@given(_sides, _sides, st.sampled_from([(255_000, 14), (60_000, 14), (20_000, 8)]))
def test_an_area_is_whole_patches_below_the_limit_and_about_the_shape(
    width: int, height: int, sizing: tuple[int, int]
) -> None:
    limit, patch = sizing
    if max(width, height) / min(width, height) > 20:
        return
    w, h = area_size(width, height, limit, patch)
    assert w % patch == h % patch == 0 and 0 < w * h <= limit
    exact = ((limit * width / height) ** 0.5, (limit * height / width) ** 0.5)
    assert abs(w - exact[0]) <= 1.5 * patch and abs(h - exact[1]) <= 1.5 * patch


def test_pi3_sizes() -> None:
    """4:3 rounds up beyond the limit, so a column goes; 16:9 and a tall picture by hand."""
    assert area_size(640, 480, 255_000, 14) == (574, 434)
    assert area_size(4000, 3000, 255_000, 14) == (574, 434)
    assert area_size(1920, 1080, 255_000, 14) == (672, 378)
    assert area_size(1080, 1920, 255_000, 14) == (378, 672)
    with pytest.raises(InputError, match="8000x1 "):
        area_size(8000, 1, 255_000, 14)


def test_views_of_two_shapes_share_a_centred_canvas() -> None:
    transforms = [plan_view(640, 480, "fit", 518, 14), plan_view(480, 640, "fit", 518, 14)]
    assert shared_canvas(transforms, "fit") == (518, 518)
    placed = [centre_on_canvas(t, 518, 518) for t in transforms]
    assert placed[0].content_box == (0, 63, 518, 455)
    assert placed[1].content_box == (63, 0, 455, 518)
    for before, after in zip(transforms, placed, strict=True):
        assert after.scale_x == before.scale_x
        left, top = after.content_box[:2]
        np.testing.assert_allclose(after.network_from_upright @ [0, 0, 1.0], [left, top, 1.0])


def test_sizes_of_depth_anything_3() -> None:
    """Halves of a patch are rounded up; a panorama keeps few rows, or many columns."""
    for (width, height), policy, size in (
        ((1920, 1080), "upper_bound", (504, 280)),
        ((4032, 3024), "upper_bound", (504, 378)),
        ((504, 371), "upper_bound", (504, 378)),
        ((504, 385), "upper_bound", (504, 392)),
        ((300, 200), "upper_bound", (504, 336)),
        ((2000, 300), "upper_bound", (504, 70)),
        ((504, 391), "upper_bound_crop", (504, 378)),
        ((1920, 1080), "lower_bound", (896, 504)),
        ((1080, 1920), "lower_bound_crop", (504, 896)),
    ):
        transform = plan_view(width, height, policy, 504, 14)  # type: ignore[arg-type]
        assert (transform.network_width, transform.network_height) == size
    cut = plan_view(504, 391, "upper_bound_crop", 504, 14)
    assert (cut.scale_y, cut.offset_y) == (1.0, -6.0)


def test_views_cut_to_the_smallest_show_their_centres() -> None:
    transforms = [plan_view(*size, "upper_bound", 56, 14) for size in ((640, 480), (480, 640))]
    assert shared_canvas(transforms, "upper_bound") == (42, 42)
    picture = np.broadcast_to(np.arange(56, dtype=np.uint8)[None, :, None], (42, 56, 3))
    canvas = np.zeros((42, 42, 3), dtype=np.uint8)
    cut = paste_on_canvas(canvas, picture, transforms[0])
    assert (canvas == np.arange(7, 49)[:, None]).all()
    assert cut.content_box == (0, 0, 42, 42) and cut.offset_x == -7 and cut.cropped


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["cubic", "area"]))
def test_resampling_keeps_what_is_flat_and_the_mean(width: int, height: int, kernel: Kernel) -> None:
    flat = Image.new("RGB", (40, 40), (7, 100, 255))
    assert (resample(flat, width, height, kernel) == (7, 100, 255)).all()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    found = resample(Image.fromarray(noise), 40, 40, kernel)
    assert (found == noise).all()
    if kernel == "area":
        smaller = resample(Image.fromarray(noise), width, height, kernel)
        np.testing.assert_allclose(smaller.mean((0, 1)), noise.mean((0, 1)), atol=0.51)


def test_area_rounds_halves_up_when_it_halves_and_to_even_elsewhere() -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[::2, ::2] = 2  # a mean of 1/2 in each 2x2
    assert (resample(Image.fromarray(pixels), 4, 4, "area") == 1).all()
    assert (resample(Image.fromarray(pixels), 2, 2, "area") == 0).all()


def test_cubic_is_keys_kernel() -> None:
    """A bright column, enlarged four times, becomes the kernel around its centre."""
    pixels = np.full((1, 9, 3), 50, dtype=np.uint8)
    pixels[:, 4] = 150
    found = resample(Image.fromarray(pixels), 36, 1, "cubic")[0, :, 0].astype(float)
    x = np.abs((np.arange(36) + 0.5) / 4 - 4.5)
    near, far = 1.25 * x**3 - 2.25 * x**2 + 1, -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
    kernel = np.where(x <= 1, near, np.where(x < 2, far, 0))
    np.testing.assert_allclose(found, 50 + 100 * kernel, atol=0.51)


def test_an_odd_margin_goes_right_and_below() -> None:
    transform = centre_on_canvas(plan_view(64, 64, "fit", 14, 14), 17, 19)
    assert transform.content_box == (2, 1, 16, 15)


@pytest.mark.parametrize("policy", SIZE_POLICIES)
def test_a_picture_thinner_than_half_a_patch_is_refused(policy: SizePolicy) -> None:
    with pytest.raises(InputError, match="8000x20 "):
        plan_view(8000, 20, policy, 518, 14)


def test_impossible_sizes_and_policies_are_refused() -> None:
    with pytest.raises(UsageError, match=r"520 .*14"):
        plan_view(640, 480, "fit", 520, 14)
    with pytest.raises(UsageError, match=r"'stretch'.*fit, crop, pad, square"):
        plan_view(640, 480, "stretch", 518, 14)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["landscape_odd", "mixed_rgba", "portrait_tall", "wide"])
def test_vggt_pixels_exactly(shared_reference: Path, name: str) -> None:
    cases = json.loads((shared_reference / "cases.json").read_text())
    entry = next(case for case in cases if case["id"] == f"preprocess/{name}")
    tensors = load_file(shared_reference / entry["file"])
    inputs = {key[3:]: value for key, value in tensors.items() if key.startswith("in.")}
    expected = {key[4:]: value for key, value in tensors.items() if key.startswith("out.vggt.")}
    actual = run_preprocess_case(entry, inputs, expected)
    assert actual.keys() == expected.keys()
    for key, want in expected.items():
        if want.is_floating_point():
            tolerance = entry["outputs"][key]
            torch.testing.assert_close(actual[key], want, atol=tolerance["atol"], rtol=tolerance["rtol"])
        else:
            assert torch.equal(actual[key], want), key


def test_only_outputs_that_are_asked_for_are_made() -> None:
    images = {"image0": torch.full((20, 30, 3), 128, dtype=torch.uint8)}
    wanted = {"vggt.crop.shape": torch.zeros(4), "unheard.shape": torch.zeros(4)}
    outputs = run_preprocess_case({}, images, wanted)
    assert outputs.keys() == {"vggt.crop.shape"}
    assert outputs["vggt.crop.shape"].tolist() == [1, 3, 350, 518]
