"""Pillow images, arrays and tensors as inputs: the result of files, stored, exported and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import manyview
from manyview.errors import InputError, UsageError
from manyview.reconstruction.inputs.find import find_inputs
from tests.models.tiny import tiny_vggt


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """RGB [4, 96, 128, 3]."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 255, (4, 6, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(image).resize((128, 96))) for image in small])


def test_every_form_gives_the_result_of_the_files(pixels: np.ndarray, tmp_path: Path) -> None:
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    model = tiny_vggt()
    want = manyview.reconstruct(tmp_path, model)
    channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    mixed = [
        str(tmp_path / "0.png"),
        Image.fromarray(pixels[1]),
        pixels[2].astype(np.float64) / 255,
        channels_first[3].float() / 255,
    ]
    for inputs in (mixed, pixels, channels_first.clone(), list(channels_first), [pixels[:2], *pixels[2:]]):
        got = manyview.reconstruct(inputs, model)
        np.testing.assert_array_equal(got.images, want.images)
        np.testing.assert_array_equal(got.z_depth, want.z_depth)
        assert got.settings == want.settings
    got = manyview.reconstruct(mixed, model)
    assert got.names == ("0.png", "view-0002", "view-0003", "view-0004")
    assert [view.source for view in got.views] == [str(tmp_path / "0.png"), "", "", ""]
    # Every second one, and an order that automatic plans can rely on.
    options = manyview.InputOptions(stride=2)
    assert manyview.reconstruct(pixels, model, inputs=options).names == ("view-0001", "view-0003")


@pytest.mark.parametrize("policy", ["fit", "crop", "pad"])
def test_stored_and_exported(pixels: np.ndarray, tmp_path: Path, policy: str) -> None:
    tall = np.ascontiguousarray(pixels.swapaxes(1, 2))  # 96 wide, 128 high: cropped by "crop"
    scene = manyview.reconstruct(tall, tiny_vggt(), size_policy=policy)
    scene.save(tmp_path / "result")
    stored = manyview.load_reconstruction(tmp_path / "result")
    assert stored.names == scene.names and stored.source_image_names[0] == "view-0001.png"
    for name in ("ply", "npz", "depth", "overview", "report", "nerfstudio"):
        assert scene.export(tmp_path / "out", name)
    assert scene.source_images_size() > 0
    scene.write_source_images(tmp_path / "first")
    np.testing.assert_array_equal(_read(tmp_path / "first" / "view-0001.png"), tall[0])
    # The pixels given are not stored, those of the network are.
    if policy == "crop":
        with pytest.raises(InputError, match="view-0001"):
            stored.write_source_images(tmp_path / "later")
        return
    stored.write_source_images(tmp_path / "later")
    again = _read(tmp_path / "later" / "view-0001.png")
    assert again.shape == tall[0].shape
    assert np.abs(again.astype(float) - tall[0]).mean() < 12


def test_a_pillow_image_stays_open_and_upright(tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((64, 96)).save(tmp_path / "turned.jpg", exif=_exif(6))
    with Image.open(tmp_path / "turned.jpg") as image:
        scene = manyview.reconstruct([image, image], tiny_vggt())
        image.getpixel((0, 0))
        assert [view.transform.orientation for view in scene.views] == [6, 6]
        assert (scene.views[0].transform.upright_width, scene.views[0].transform.upright_height) == (96, 64)
        scene.write_source_images(tmp_path / "out")
    with Image.open(tmp_path / "out" / "view-0002.png") as written:
        assert written.size == (96, 64)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (np.zeros((8, 8), np.uint8), "[8, 8]"),
        (np.zeros((3, 8, 8), np.uint8), "[3, 8, 8]"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (torch.zeros(8, 8, 3), "[8, 8, 3]"),
        (torch.zeros(3, 8, 8, dtype=torch.int32), "int32"),
        (17, "int"),
    ],
)
def test_what_is_no_image_is_refused(wrong: object, named: str) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(UsageError) as error:
        find_inputs([image, wrong])  # type: ignore[list-item]
    assert "input 1" in str(error.value) and named in str(error.value)


def test_values_and_options_that_do_not_suit(pixels: np.ndarray, tmp_path: Path) -> None:
    for wrong in (pixels[0].astype(np.float32), np.full((16, 16, 3), np.nan)):
        with pytest.raises(UsageError, match="view-0002"):
            manyview.reconstruct([pixels[0], wrong], tiny_vggt())
    with pytest.raises(UsageError, match="fps"):
        manyview.reconstruct(pixels, tiny_vggt(), inputs=manyview.InputOptions(fps=1))
    with pytest.raises(InputError, match=r"absent\.png"):
        manyview.reconstruct([pixels[0], tmp_path / "absent.png"], tiny_vggt())


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif
