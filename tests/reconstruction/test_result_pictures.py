"""Source pictures written anew: names others can read, upright pixels, video frames."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyview.errors import DamagedInputError, InputError
from manyview.reconstruction.inputs.source_images import (
    source_image_names,
    source_images_size,
    write_source_images,
)
from manyview.reconstruction.inputs.views import ViewRecord
from tests.analytic_scene import fit_transform, room_scene, write_sources

TRANSFORM = fit_transform((48, 32), (42, 28))


def record(name: str, source: Path | str = "/nowhere", **changes: object) -> ViewRecord:
    return ViewRecord(name, str(source), dataclasses.replace(TRANSFORM, **changes))  # type: ignore[arg-type]


def test_names_are_readable_by_others_and_unique() -> None:
    names = [
        "a b.jpg",
        "a_b.jpg",
        "c.HEIC",
        "c.jpg",
        "d.gif",
        "e.WEBP",
        "f",
        "g.d/h",
        "x.JPG",
        "y.tiff",
        "c.heif",
    ]
    assert source_image_names([record(name) for name in names]) == (
        "a_b_2.jpg",
        "a_b.jpg",
        "c_2.jpg",
        "c.jpg",
        "d.png",
        "e.WEBP",
        "f.jpg",
        "g.d/h.jpg",
        "x.JPG",
        "y.tiff",
        "c_3.jpg",
    )


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_written_pictures_are_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = (240, 320) if orientation in (6, 8) else (320, 240)
    scene, truth = room_scene([fit_transform(upright, (56, 56), orientation)], [f"sub/a.{suffix}"])
    scene = write_sources(scene, truth, tmp_path / "in")
    calls: list[tuple[int, int]] = []
    scene.write_source_images(tmp_path / "out", lambda done, total: calls.append((done, total)))
    assert calls == [(1, 1)]
    path = tmp_path / "out" / "sub" / f"a.{suffix}"
    with Image.open(path) as picture:
        assert picture.getexif().get(0x0112, 1) == 1 and picture.size == upright
        error = np.abs(np.asarray(picture.convert("RGB")).astype(float) - truth.upright_image(0))
    assert error.mean() < (0.5 if suffix in ("png", "tiff") else 12)
    same = path.read_bytes() == (tmp_path / "in" / "sub" / f"a.{suffix}").read_bytes()
    assert same == (orientation == 1)
    assert scene.source_images_size() >= 0.5 * path.stat().st_size


def test_a_format_few_programs_read_is_converted(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.ppm")
    views = [record("a.ppm", tmp_path / "a.ppm")]
    assert source_image_names(views) == ("a.png",)
    write_source_images(views, source_image_names(views), tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), pixels)


def test_a_picture_whose_content_belies_its_name_is_converted(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", format="PPM")
    views = [record("a.png", tmp_path / "a.png")]
    write_source_images(views, ["a.png"], tmp_path / "out")
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_heic_becomes_jpeg(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    smooth = np.linspace(0, 255, 48 * 32 * 3).reshape(32, 48, 3).astype(np.uint8)
    pillow_heif.from_pillow(Image.fromarray(smooth)).save(tmp_path / "a.heic", quality=95)
    views = [record("a.heic", tmp_path / "a.heic")]
    write_source_images(views, source_image_names(views), tmp_path / "out")
    with Image.open(tmp_path / "out" / "a.jpg") as picture:
        assert picture.format == "JPEG" and np.abs(np.asarray(picture).astype(float) - smooth).mean() < 8


def test_gone_changed_and_damaged_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png.*images none"):
        write_source_images([record("a.png")], ["a.png"], tmp_path / "out")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: .*40x30.* 48x32"):
        write_source_images([record("a.png", tmp_path / "a.png")], ["a.png"], tmp_path / "out")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(DamagedInputError, match=r"a\.png"):
        write_source_images([record("a.png", tmp_path / "a.png")], ["a.png"], tmp_path / "out")


def make_video(path: Path, frames: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 48, 32, "yuv420p", 4_000_000
        for index in range(frames):
            picture = np.full((32, 48, 3), 20 * index + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_frames_of_a_video_are_decoded_again(tmp_path: Path) -> None:
    make_video(tmp_path / "walk.mp4", 10)
    views = [
        dataclasses.replace(record(f"frame_{index:06d}.png", tmp_path / "walk.mp4"), video_frame=index)
        for index in (7, 0, 3)
    ]
    calls: list[tuple[int, int]] = []
    write_source_images(
        views, source_image_names(views), tmp_path / "out", lambda done, total: calls.append((done, total))
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    for view in views:
        with Image.open(tmp_path / "out" / view.name) as picture:
            assert np.asarray(picture).mean() == pytest.approx(20 * (view.video_frame or 0) + 20, abs=6)
    assert source_images_size(views) > 0
    late = dataclasses.replace(views[0], video_frame=99)
    with pytest.raises(InputError, match=r"walk\.mp4: .*99"):
        write_source_images([late], ["x.png"], tmp_path / "late")
    with pytest.raises(InputError, match=r"nowhere\.mp4"):
        write_source_images(
            [dataclasses.replace(views[0], source="/nowhere.mp4")], ["x.png"], tmp_path / "late"
        )
