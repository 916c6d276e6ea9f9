"""Masks: which file is whose, what it hides, and that nothing hidden counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.errors import DamagedInputError, InputError, UsageError
from manyview.reconstruction.inputs.masks import network_mask, read_mask
from manyview.reconstruction.inputs.view_masks import read_view_masks
from manyview.reconstruction.inputs.views import ViewRecord
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.masks import kept_pixels, with_masked_sky, with_masks, write_masks
from manyview.reconstruction.run.engine import reconstruct
from manyview.refine.mapping.originals import original_names, write_view_masks
from tests.analytic_scene import crop_transform, fit_transform, pad_transform
from tests.models.tiny import tiny_vggt

LEFT = np.arange(64)[None] < 32
LEFT = np.broadcast_to(LEFT, (48, 64)).copy()  # kept: the left half


def saved(folder, name, kept=LEFT):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(kept.astype(np.uint8) * 255).save(path)
    return path


def record(name="0.png", upright=(64, 48), orientation=1, **fields):
    return ViewRecord(name, "", fit_transform(upright, (56, 42), orientation), **fields)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "alpha only", "I;16", "F"])
def test_any_kind_of_image_is_a_mask(tmp_path, mode):
    grey = Image.fromarray(LEFT.astype(np.uint8) * 255)
    path = tmp_path / "0.png"
    if mode == "alpha only":
        black = Image.new("RGBA", grey.size)
        black.putalpha(grey)
        black.save(path)
    elif mode == "I;16":
        Image.fromarray(LEFT.astype(np.uint16) * 40_000).save(path)
    elif mode == "F":
        path = path.with_suffix(".tif")
        Image.fromarray(LEFT.astype(np.float32)).save(path)
    else:
        grey.convert(mode).save(path)
    np.testing.assert_array_equal(read_mask(record(mask=str(path))), LEFT)


def test_names_of_masks(tmp_path):
    for name in ("a/0.png", "1.jpg.png", "1.png", "frame_000007.bmp", "view-0001.png"):
        saved(tmp_path, name)
    names = ["a/0.jpg", "1.jpg", "frame_000007.png", "view-0001", "5.jpg"]
    found = read_view_masks(tmp_path, [record(name) for name in names])
    masks = [None if r.mask is None else r.mask.removeprefix(f"{tmp_path}/") for r in found.records]
    assert masks == ["a/0.png", "1.jpg.png", "frame_000007.bmp", "view-0001.png", None]
    assert "5.jpg" in " ".join(found.notes) and found.facts["views"] == 4
    with pytest.raises(InputError, match=r"5\.jpg"):
        read_view_masks(tmp_path, [record(name) for name in names], strict=True)
    with pytest.raises(InputError, match=r"b\.jpg"):
        read_view_masks(tmp_path, [record("b.jpg")])
    saved(tmp_path, "a/0.bmp")
    with pytest.raises(InputError, match=r"0\.bmp"):
        read_view_masks(tmp_path, [record("a/0.jpg")])


def test_masks_that_are_none(tmp_path):
    saved(tmp_path, "0.png")
    (tmp_path / "1.png").write_bytes(b"no image")
    saved(tmp_path, "2.png", LEFT[:, :40])
    Image.fromarray(LEFT.astype(np.uint8)).save(tmp_path / "3.png")
    for name in ("1.png", "3.png"):  # damaged; 0 and 1 in place of 0 and 255
        found = read_view_masks(tmp_path, [record("0.png"), record(name)])
        assert name in " ".join(found.notes) and found.records[1].mask is None
        assert not found.hidden([1]).any() and found.hidden([0]).any()
        with pytest.raises(DamagedInputError, match=name):
            read_view_masks(tmp_path, [record("0.png"), record(name)], strict=True)
        with pytest.raises(DamagedInputError, match=name):
            read_view_masks(tmp_path, [record(name)])
    with pytest.raises(InputError, match=r"2\.png"):
        read_view_masks(tmp_path, [record("0.png"), record("2.png")])
    with pytest.raises(InputError, match="nowhere"):
        read_view_masks(tmp_path / "nowhere", [record()])
    with pytest.raises(InputError, match="itself"):
        image = dataclasses.replace(record(), source=str(tmp_path / "0.png"))
        read_view_masks(tmp_path, [image])
    for wrong in ([LEFT], [LEFT.astype(int), None], [LEFT[None], None], [LEFT.astype(np.uint8), None]):
        with pytest.raises((UsageError, DamagedInputError)):
            read_view_masks(wrong, [record(), record("1.png")], strict=len(wrong) == 2)


def test_mask_of_stored_pixels_is_turned_and_enlarged():
    stored = np.zeros((24, 32), dtype=bool)  # half the size
    stored[:, :16] = True
    turned = record(upright=(48, 64), orientation=6)  # stored 64x48, turned clockwise
    assert turned.transform.stored_width == 64
    kept = read_mask(dataclasses.replace(turned, mask="", mask_image=stored))
    want = np.zeros((64, 48), dtype=bool)
    want[:32] = True  # left of the stored image is the top of the upright one
    np.testing.assert_array_equal(kept, want)
    upright = read_mask(dataclasses.replace(turned, mask="", mask_image=want))
    np.testing.assert_array_equal(upright, want)


@pytest.mark.parametrize("transform", [fit_transform, crop_transform, pad_transform])
def test_network_pixels_and_source_pixels_agree(transform):
    view = transform((64, 48), (56, 42))
    hidden = network_mask(LEFT, view)
    assert not hidden[~view.content_mask()].any()
    x = (np.arange(56) + 0.5 - view.offset_x) / view.scale_x
    right = np.broadcast_to(x > 32, hidden.shape) & view.content_mask()
    assert (hidden != right).mean() < 0.03


@pytest.fixture
def masked(photos, tmp_path):
    folder = tmp_path / "masks"
    for index in range(3):
        saved(folder, f"{index}.png.png")
    return reconstruct(photos, tiny_vggt(), masks=folder)


def test_masked_pixels_do_not_count(masked, photos, tmp_path):
    hidden = masked.masked
    assert hidden.shape == masked.z_depth.shape and not hidden[3].any()
    assert 0.45 < hidden[:3].mean() < 0.55 and not masked.valid[hidden].any()
    assert masked.settings["masks"]["views"] == 3 and any("3.png" in note for note in masked.notes)
    plain = reconstruct(photos, tiny_vggt())
    assert plain.masked is None and "masks" not in plain.settings
    assert len(masked.point_cloud(0)) == plain.valid.sum() - (plain.valid & hidden).sum()
    assert masked.settings_hash != plain.settings_hash
    later = with_masks(plain, tmp_path / "masks")
    np.testing.assert_array_equal(later.masked, hidden)
    assert later.settings["masks"] | {"keys": "hidden"} == masked.settings["masks"]


def test_masked_patches_are_no_keys_unless_kept(photos):
    fits, thin = [LEFT] * 4, [np.roll(np.eye(48, 64, dtype=bool), i, 1) | LEFT for i in range(4)]
    model = tiny_vggt()
    hidden = reconstruct(photos, model, masks=fits)
    kept = reconstruct(photos, model, masks=fits, masked_keys="kept")
    plain = reconstruct(photos, model)
    np.testing.assert_array_equal(kept.z_depth, plain.z_depth)
    np.testing.assert_array_equal(kept.masked, hidden.masked)
    assert not np.allclose(hidden.z_depth, kept.z_depth, rtol=1e-3)
    assert hidden.settings["masks"]["keys"] == "hidden" and "keys" not in kept.settings["masks"]
    assert hidden.settings["accel"] == kept.settings["accel"] == "dense"
    assert any("keys" in note for note in hidden.notes)
    partly = read_view_masks(thin, plain.views).hidden_patches(14)
    whole = read_view_masks(fits, plain.views).hidden_patches(14)
    assert whole.sum() == 4 * 2 * 3 and (partly <= whole).all() and partly.sum() < whole.sum()
    grid = whole.reshape(4, 3, 4)
    assert grid[:, :, 2:].all() and not grid[:, :, :2].any()


def test_views_attached_chunk_by_chunk(photos):
    scene = reconstruct(
        photos, tiny_vggt(), accel="anchors:frames=2", chunk=1, masks=[LEFT, None, LEFT, None]
    )
    np.testing.assert_array_equal(scene.masked.any((1, 2)), [True, False, True, False])
    assert any("keeps masked patches" in note for note in scene.notes)


def test_masks_in_memory_and_stored(photos, tmp_path):
    masks = [LEFT, torch.from_numpy(LEFT), Image.fromarray(LEFT), LEFT.astype(np.float32)]
    scene = reconstruct(photos, tiny_vggt(), masks=masks)
    for index in range(4):
        np.testing.assert_array_equal(scene.masked[index], scene.masked[0])
        np.testing.assert_array_equal(kept_pixels(scene, index), LEFT)
    scene.save(tmp_path / "out")
    loaded = load_reconstruction(tmp_path / "out")
    np.testing.assert_array_equal(loaded.masked, scene.masked)
    assert (kept_pixels(loaded, 0) != LEFT).mean() < 0.05  # at the network's resolution
    heads = reconstruct(photos, tiny_vggt(), masks=masks, point_head=True)
    assert len(heads.point_cloud(0, source="head")) <= (~heads.masked).sum()


def test_resolution_of_the_source_while_the_file_is_there(masked, tmp_path, caplog):
    masked.save(tmp_path / "out")
    loaded = load_reconstruction(tmp_path / "out")
    assert loaded.views == masked.views
    np.testing.assert_array_equal(kept_pixels(loaded, 0), LEFT)
    assert kept_pixels(loaded, 3) is None
    saved(tmp_path / "masks", "0.png.png", ~LEFT)  # another mask by now
    assert (kept_pixels(loaded, 0) != LEFT).mean() < 0.05 and "0.png.png" in caplog.text
    (tmp_path / "masks" / "1.png.png").unlink()
    assert (kept_pixels(loaded, 1) != LEFT).mean() < 0.05 and "1.png.png" in caplog.text


def test_sky_as_a_mask(masked):
    np.testing.assert_array_equal(with_masked_sky(masked).masked, masked.masked)
    assert any("sky" in note for note in with_masked_sky(masked).notes)
    sky = np.zeros(masked.z_depth.shape, dtype=bool)
    sky[:, :20] = True
    seen = dataclasses.replace(masked, sky=sky)
    assert not np.array_equal(kept_pixels(seen, 0, sky=True), kept_pixels(seen, 0))
    both = with_masked_sky(seen)
    np.testing.assert_array_equal(both.masked, sky | masked.masked)
    for index in range(4):
        kept = kept_pixels(both, index)
        assert not kept[:20].any() and kept[30:, :32].all()
        np.testing.assert_array_equal(kept, kept_pixels(both, index, sky=True))


def test_masks_as_files(masked, tmp_path):
    names = ("a/0.jpg", "1.jpg", "2.jpg", "3.jpg")
    write_masks(masked, tmp_path / "out" / "masks", names, factors=(2,))
    for index, name in enumerate(names):
        want = LEFT if index < 3 else np.ones_like(LEFT)
        for folder, step in (("masks", 1), ("masks_2", 2)):
            found = np.asarray(Image.open(tmp_path / "out" / folder / f"{name}.png"))
            np.testing.assert_array_equal(found, want[::step, ::step] * np.uint8(255))
    again = read_view_masks(tmp_path / "out" / "masks", [record(name) for name in names])
    assert again.facts["views"] == 4  # they are found by the names of the views
    assert not write_view_masks(dataclasses.replace(masked, masked=None), tmp_path / "none")
    sky = np.zeros(masked.z_depth.shape, dtype=bool)
    sky[:, :20] = True
    assert write_view_masks(dataclasses.replace(masked, sky=sky), tmp_path / "sky")
    for name in original_names(masked):
        assert not np.asarray(Image.open(tmp_path / "sky" / f"{name}.png"))[:20].any()
