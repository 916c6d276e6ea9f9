"""Whole input sets to the network's batch: order, padding, skipped files, and what the user is told."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.errors import DamagedInputError, InputError, MissingExtraError, OutputError, UsageError
from manyview.models.config import SizePolicy
from manyview.reconstruction.inputs.decode import DecodedImage
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import LoadedViews, read_views
from manyview.reconstruction.inputs.network_image import Sizing, make_network_image
from manyview.reconstruction.inputs.preprocess import (
    plan_view,
    render_view,
)
from manyview.reconstruction.run.settings import images_sha256
from tests.interrupting import LISTENS_TO_CTRL_C


def _photo(path: Path, width: int = 96, height: int = 64, seed: int = 0, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(30, 226, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("colour", [(255, 255, 255), (128, 128, 128), (0, 0, 0), (20, 90, 200)])
def test_an_image_of_one_colour_is_told(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    _photo(tmp_path / "good.png")
    Image.new("RGB", (96, 64), colour).save(tmp_path / "plain.jpg")
    views = _read(tmp_path)
    (note,) = views.warnings
    assert "plain.jpg" in note and "good.png" not in note and len(views.records) == 2


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    _photo(tmp_path / "a.png")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "w+b"))  # noqa: SIM115
    with pytest.raises(OutputError) as caught:
        _read(tmp_path, on_disk=True)
    assert "TMPDIR" in str(caught.value) and tempfile.gettempdir() in str(caught.value)

    def nowhere(**options: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", nowhere)
    with pytest.raises(OutputError, match="TMPDIR"):
        _read(tmp_path, on_disk=True)


def _read(folder: object, **options: object) -> LoadedViews:
    return read_views(find_inputs(folder), target_size=112, **options)  # type: ignore[arg-type]


def _names(views: LoadedViews) -> list[str]:
    return [record.name for record in views.records]


def test_pixels_and_records_of_a_plain_folder(tmp_path: Path) -> None:
    for seed, name in enumerate(["1.png", "2.png", "sub/1.png"]):
        _photo(tmp_path / name, seed=seed)
    views = _read(tmp_path)
    assert views.images.dtype == torch.uint8
    assert views.images.shape == (3, 3, 70, 112)
    assert _names(views) == ["1.png", "2.png", "sub/1.png"]
    assert views.skipped == () and views.warnings == ()
    for record, image in zip(views.records, views.images, strict=True):
        source = Image.open(record.source)
        transform = plan_view(96, 64, "fit", 112, 14)
        assert record.transform == transform
        assert record.video_frame is None and record.time_s is None
        assert os.path.isabs(record.source)
        expected = render_view(source, transform, "fit")
        assert (image.permute(1, 2, 0).numpy() == expected).all()


@pytest.mark.parametrize("policy", ["fit", "crop", "pad", "square", "max_size"])
def test_mixed_shapes_are_centred_on_white(tmp_path: Path, policy: SizePolicy) -> None:
    _photo(tmp_path / "1_wide.png", 96, 64)
    _photo(tmp_path / "2_tall.png", 64, 96)
    _photo(tmp_path / "3_panorama.png", 200, 40)
    views = _read(tmp_path, policy=policy)
    assert views.images.shape == (3, 3, 112, 112)
    assert any("3 different sizes (1 of 96x64, 1 of 64x96, 1 of 200x40)" in told for told in views.warnings)
    padded = any("padded with white to 112x112" in told for told in views.warnings)
    assert padded == (policy in ("fit", "crop", "max_size"))
    cut = any(
        "cut at both ends by the max_size policy, down to 40% of the longer" in t for t in views.warnings
    )
    assert cut == (policy == "max_size")
    for record, image in zip(views.records, views.images, strict=True):
        outside = ~record.transform.content_mask()
        if policy != "square":
            assert (image.numpy()[:, outside] == 255).all()
        assert record.transform.network_width == record.transform.network_height == 112
        # The centre of the source picture is the centre of the network image.
        centre = [record.transform.upright_width / 2, record.transform.upright_height / 2, 1.0]
        np.testing.assert_allclose(record.transform.network_from_upright @ centre, [56, 56, 1], atol=0.51)


@pytest.mark.parametrize("on_disk", [False, True])
def test_mixed_shapes_are_cut_to_the_smallest_for_depth_anything_3(tmp_path: Path, on_disk: bool) -> None:
    _photo(tmp_path / "1_wide.png", 96, 64)
    _photo(tmp_path / "2_tall.png", 64, 96)
    views = _read(tmp_path, policy="upper_bound", on_disk=on_disk)
    assert views.images.shape == (2, 3, 70, 70)
    assert any("cut around their centres to 70x70" in told for told in views.warnings)
    for record in views.records:
        assert record.transform.content_mask().all() and record.transform.cropped
        centre = [record.transform.upright_width / 2, record.transform.upright_height / 2, 1.0]
        np.testing.assert_allclose(record.transform.network_from_upright @ centre, [35, 35, 1], atol=0.51)


def test_area_gives_all_pictures_the_size_of_the_first_usable_one(tmp_path: Path) -> None:
    (tmp_path / "0_damaged.png").write_bytes(b"")
    _photo(tmp_path / "1_wide.png", 96, 64)
    _photo(tmp_path / "2_tall.png", 64, 96)
    views = _read(tmp_path, policy="area", pixel_limit=10_000)
    # Enlarged to 122 x 82: 9 x 6 patches of 14 are 10584 pixels, in the wanted ratio, so a row goes.
    assert views.images.shape == (2, 3, 70, 126)
    assert all(record.transform.content_mask().all() for record in views.records)
    assert views.records[1].transform.scale_x == 126 / 64 and views.records[1].transform.scale_y == 70 / 96
    assert any("stretched to 126x70, the shape of the first" in told for told in views.warnings)
    assert _read(tmp_path, policy="area").images.shape == (2, 3, 70, 112)  # a longer side, no limit


def test_area_ignores_transparency_and_the_others_lay_it_on_white(tmp_path: Path) -> None:
    pixels = np.full((56, 56, 4), 40, dtype=np.uint8)
    pixels[..., 3] = 0
    Image.fromarray(pixels).save(tmp_path / "1.png")
    area, fit = _read(tmp_path, policy="area"), _read(tmp_path, policy="fit")
    bound = _read(tmp_path, policy="upper_bound")
    assert (bound.images == 40).all() and "ignored" in bound.warnings[-1]
    assert (area.images == 40).all() and (fit.images == 255).all()
    assert "ignored" in area.warnings[-1] and "laid on white" in fit.warnings[-1]


def test_result_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    for seed in range(24):
        size = (400, 300) if seed % 5 else (60, 50)  # quick ones in between finish out of order
        _photo(tmp_path / f"{seed}.png", *size, seed=seed)
    (tmp_path / "7.png").write_bytes(b"")
    one, many = _read(tmp_path, threads=1), _read(tmp_path, threads=8)
    assert torch.equal(one.images, many.images)
    assert one.records == many.records
    assert one.skipped == many.skipped and one.warnings == many.warnings


def test_damaged_files_are_named_skipped_and_counted(tmp_path: Path) -> None:
    _photo(tmp_path / "good.png")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("I am no photo")
    whole = _photo(tmp_path / "sub" / "cut.jpg", 300, 200).read_bytes()
    (tmp_path / "sub" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    views = _read(tmp_path)
    assert _names(views) == ["good.png"]
    assert [(Path(file.path).name, file.reason) for file in views.skipped] == [
        ("empty.jpg", "is empty (0 bytes)"),
        ("cut.jpg", "is cut off (truncated)"),
        ("text.jpg", "holds text, not an image"),
    ]
    (told,) = views.warnings
    assert told == (
        "3 of 4 images skipped: empty.jpg is empty (0 bytes); sub/cut.jpg is cut off (truncated); "
        "text.jpg holds text, not an image"
    )


def test_strict_refuses_the_first_damaged_file(tmp_path: Path) -> None:
    _photo(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "2.png").write_text("text")
    with pytest.raises(DamagedInputError, match=r"1\.png.*0 bytes") as caught:
        _read(tmp_path, strict=True)
    assert caught.value.exit_code == 1


def test_no_usable_view_is_an_error_that_lists_the_files(tmp_path: Path) -> None:
    for index in range(7):
        (tmp_path / f"{index}.jpg").write_text("text")
    with pytest.raises(InputError, match=r"0\.jpg .*1\.jpg .*2 more") as caught:
        _read(tmp_path)
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match=r"0\.jpg"):
        _read(tmp_path / "0.jpg")


def test_pictures_too_small_or_too_thin_are_skipped(tmp_path: Path) -> None:
    _photo(tmp_path / "a.png", 9, 8)
    _photo(tmp_path / "b.png", 1, 1)
    _photo(tmp_path / "c.png", 300, 8)
    views = _read(tmp_path)
    assert _names(views) == ["a.png"]
    reasons = [file.reason for file in views.skipped]
    assert reasons[0] == "is too small (1x1 pixels; at least 8 a side are needed)"
    assert "300x8 pixels is too elongated" in reasons[1]
    assert any("1 image much smaller than the 112 pixels" in told for told in views.warnings)


def test_a_file_that_vanishes_is_skipped(tmp_path: Path) -> None:
    _photo(tmp_path / "1.png")
    _photo(tmp_path / "2.png")
    found = find_inputs(tmp_path)
    (tmp_path / "1.png").unlink()
    views = read_views(found, target_size=112)
    assert _names(views) == ["2.png"]
    assert "cannot be read" in views.skipped[0].reason


def test_what_is_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    _photo(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.full((96, 64, 4), 120, np.uint8)).save(tmp_path / "clear.png")
    masked = np.random.default_rng(0).integers(30, 226, (96, 64, 3)).astype(np.uint8)
    masked[:40] = 0
    Image.fromarray(masked).save(tmp_path / "masked.png")
    pages = [Image.fromarray(masked[40:].repeat(2, 0)), Image.new("RGB", (64, 112))]
    pages[0].save(tmp_path / "pages.tiff", save_all=True, append_images=pages[1:])
    told = _read(tmp_path, policy="crop").warnings
    assert any(t.startswith("1 image turned upright by EXIF orientation (turned.jpg)") for t in told)
    assert any(t.startswith("1 image with transparency, laid on white (clear.png)") for t in told)
    assert any(t.startswith("1 image with solid black areas, up to ") and "masked.png" in t for t in told)
    assert any(
        t.startswith("1 image with several frames or pages; the first is used (pages.tiff)") for t in told
    )
    cut = next(t for t in told if "cut at top and bottom by the crop policy" in t)
    assert cut.startswith("4 images") and "the fit policy keeps them whole" in cut


def test_dark_scenery_is_not_taken_for_a_mask(tmp_path: Path) -> None:
    night = np.random.default_rng(0).integers(0, 30, (64, 96, 3)).astype(np.uint8)
    Image.fromarray(night).save(tmp_path / "night.png")
    assert _read(tmp_path).warnings == ()


def test_heic_without_its_library_is_refused_even_beside_other_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heicmiaf" + bytes(100))
    with pytest.raises(MissingExtraError, match=r"manyview\[heif\]"):
        _read(tmp_path)
    # Whole photos must not silently be missing from a result.
    _photo(tmp_path / "b.png")
    for strict in (False, True):
        with pytest.raises(MissingExtraError, match=r"a\.heic"):
            _read(tmp_path, strict=strict)


def test_progress_counts_every_file(tmp_path: Path) -> None:
    for index in range(5):
        _photo(tmp_path / f"{index}.png")
    (tmp_path / "3.png").write_bytes(b"")
    seen: list[tuple[int, int]] = []
    _read(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 5) for done in range(1, 6)]


def test_impossible_size_is_refused_before_any_work(tmp_path: Path) -> None:
    _photo(tmp_path / "1.png")
    with pytest.raises(UsageError, match=r"100 .*14"):
        read_views(find_inputs(tmp_path), target_size=100)


def test_threads_end_when_reading_is_interrupted(tmp_path: Path) -> None:
    for index in range(30):
        _photo(tmp_path / f"{index}.png", 400, 300)

    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _read(tmp_path, threads=4, progress=interrupt)
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("manyview-decode") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "decoding threads are still running"
        time.sleep(0.01)


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_stops_promptly(tmp_path: Path) -> None:
    photo = _photo(tmp_path / "a.png", 2500, 2000, compress_level=1)
    for index in range(150):
        (tmp_path / f"link_{index}.png").symlink_to(photo)
    program = LISTENS_TO_CTRL_C + (
        "import sys\nfrom manyview.reconstruction.inputs.find import find_inputs\n"
        "from manyview.reconstruction.inputs.load import read_views\n"
        "tell = lambda done, total: print(done, flush=True)\n"
        "try:\n    read_views(find_inputs(sys.argv[1]), progress=tell, threads=2)\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "1\n"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert time.monotonic() - started < 10
        assert process.stdout.read().count("\n") < 100


def test_memory_holds_few_full_pictures(tmp_path: Path) -> None:
    """No more pictures are open at once than twice the threads, however many there are."""
    from manyview.reconstruction.inputs import decode_pool

    for index in range(20):
        _photo(tmp_path / f"{index}.png")
    opened, most = 0, 0
    original_open, original_work = decode_pool.open_input, decode_pool._decode_and_prepare
    lock = threading.Lock()

    def counting_open(item: object, name: str) -> Image.Image:
        nonlocal opened, most
        with lock:
            opened += 1
            most = max(most, opened)
        return original_open(item, name)  # type: ignore[arg-type]

    def counting_work(*arguments: object) -> object:
        nonlocal opened
        result = original_work(*arguments)  # type: ignore[arg-type]
        with lock:
            opened -= 1
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_pool, "open_input", counting_open)
        patch.setattr(decode_pool, "_decode_and_prepare", counting_work)
        assert len(_read(tmp_path, threads=2).records) == 20
    assert 1 <= most <= 4


def test_real_odd_files_together(shared_data: Path) -> None:
    views = read_views(find_inputs(shared_data / "odd-formats"), target_size=224)
    assert len(views.records) == 35 and len(views.skipped) == 7
    assert len(set(_names(views))) == 35
    assert views.images.shape == (35, 3, 224, 224)
    told = " ".join(views.warnings)
    assert "7 of 42 images skipped" in told
    assert "4 images turned upright by EXIF orientation" in told
    assert "2 images with transparency, laid on white" in told


def test_real_photos(shared_data: Path) -> None:
    street = read_views(find_inputs(shared_data / "photos-lund-street"))
    assert street.images.shape == (29, 3, 392, 518) and street.warnings == ()
    door = find_inputs(shared_data / "photos-lund-door-colmap")
    whole = read_views(door)
    assert whole.images.shape == (12, 3, 518, 350) and whole.warnings == ()
    cropped = read_views(door, "crop")
    assert cropped.images.shape == (12, 3, 518, 518)
    assert cropped.warnings[0].startswith("12 images cut at top and bottom by the crop policy, down to 67%")
    # The middle rows of both policies show the same part of the scene.
    assert cropped.records[0].transform.offset_y == -(770 - 518) / 2


@pytest.mark.parametrize("spot", [None, (0, 0), (13, 37), (39, 55)])
def test_facts_of_an_image_that_one_pixel_changes(spot: tuple[int, int] | None) -> None:
    pixels = np.zeros((40, 56, 3), dtype=np.uint8)
    if spot is not None:
        pixels[spot][1] = 200
    decoded = DecodedImage(Image.fromarray(pixels))
    found = make_network_image(decoded, Sizing("fit", 56, 8))
    assert found.one_colour == (spot is None)
    assert found.black_share == pytest.approx(1.0 if spot is None else 34 / 35)


def test_the_hash_is_that_of_channels_before_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index in range(11):
        noise = rng.integers(0, 255, (42, 56, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{index:02d}.png")
    views = read_views(find_inputs(tmp_path), target_size=56)
    together = np.ascontiguousarray(views.images.numpy())
    assert images_sha256(views) == hashlib.sha256(together.tobytes()).hexdigest()
