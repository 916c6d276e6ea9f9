"""One picture file of any kind to upright RGB, and the reason why a damaged one cannot be used."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from manyview.reconstruction.inputs.decode import (
    DecodedImage,
    HeifSupportError,
    ImageReadError,
    decode_image,
    open_image,
)

_RNG = np.random.default_rng(0)


def _decode(path: Path) -> DecodedImage:
    with open_image(path) as image:
        return decode_image(image)


def _pixels(path: Path) -> np.ndarray:
    picture = _decode(path).image
    assert picture.mode == "RGB"
    return np.asarray(picture)


def _smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """A picture without edges, so that lossy formats keep it to within a few levels."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([40 + 2 * x, 60 + 3 * y, 200 - x - y], axis=-1).astype(np.uint8)


# EXIF orientation -> the stored pixels of an upright picture, written out with numpy alone.
_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "lzw.tiff", "webp", "jpg", "avif"])
def test_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    upright = _smooth()
    stored = Image.fromarray(np.ascontiguousarray(_STORED[orientation](upright)))
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if suffix == "webp" else {"quality": 95}
    if suffix == "lzw.tiff":
        options = {"compression": "tiff_lzw"}  # type: ignore[dict-item]
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **options)
    picture = _decode(tmp_path / f"a.{suffix}")
    assert picture.orientation == orientation
    error = np.abs(np.asarray(picture.image).astype(int) - upright)
    assert error.max() <= (8 if suffix in ("jpg", "avif") else 0)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_senseless_orientation_is_none(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[274] = value
    Image.fromarray(_smooth()).save(tmp_path / "a.png", exif=exif)
    assert _decode(tmp_path / "a.png").orientation == 1
    assert (_pixels(tmp_path / "a.png") == _smooth()).all()


@pytest.mark.parametrize(
    ("value", "found"), [(28, 28.0), (0, None), (70_000, None), ("28", None), (None, None)]
)
def test_focal_length_of_exif(tmp_path: Path, value: object, found: float | None) -> None:
    exif = Image.Exif()
    if value is not None:
        exif.get_ifd(0x8769)[0xA405] = value
    Image.fromarray(_smooth()).save(tmp_path / "a.jpg", exif=exif)
    assert _decode(tmp_path / "a.jpg").focal_35mm == found


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(path: Path, pixels: np.ndarray, bits: int, colour_type: int) -> Path:
    """A PNG file by hand: Pillow writes neither 16-bit colour nor 16-bit alpha."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(raw)) + _chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 48 * 64).reshape(48, 64).round().astype(np.uint16)
    expected = np.rint(levels / 257.0)
    for path in [_png(tmp_path / "a.png", levels, 16, 0), tmp_path / "a.tiff"]:
        if path.suffix == ".tiff":
            Image.fromarray(levels).save(path)
        pixels = _pixels(path)
        assert (pixels == expected[..., None]).all()


def test_16_bit_colour_is_scaled_not_clipped(tmp_path: Path) -> None:
    levels = _RNG.integers(0, 65536, (48, 64, 3))
    pixels = _pixels(_png(tmp_path / "a.png", levels, 16, 2))
    assert np.abs(pixels - levels / 257.0).max() <= 1.0


def test_16_bit_alpha_is_laid_on_white(tmp_path: Path) -> None:
    levels = np.full((48, 64, 4), 65535 // 2)
    levels[:, :32, 3] = 0
    levels[:, 32:, 3] = 65535
    picture = _decode(_png(tmp_path / "a.png", levels, 16, 6))
    pixels = np.asarray(picture.image)
    assert picture.transparent
    assert (pixels[:, :32] == 255).all()
    assert (np.abs(pixels[:, 32:].astype(int) - 127) <= 1).all()


def test_float_pictures_between_0_and_1(tmp_path: Path) -> None:
    levels = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
    Image.fromarray(levels).save(tmp_path / "a.tiff")
    assert (_pixels(tmp_path / "a.tiff") == np.rint(levels * 255)[..., None]).all()
    Image.fromarray(levels * 9).save(tmp_path / "b.tiff")
    with pytest.raises(ImageReadError, match=r"0\.\.1"):
        _decode(tmp_path / "b.tiff")


def test_soft_alpha_is_laid_on_white(tmp_path: Path) -> None:
    colour, alpha = _smooth(), _RNG.integers(0, 256, (48, 64, 1)).astype(np.uint8)
    expected = (colour * (alpha / 255.0) + 255.0 * (1 - alpha / 255.0))[..., :]
    Image.fromarray(np.concatenate([colour, alpha], axis=-1)).save(tmp_path / "rgba.png")
    assert np.abs(_pixels(tmp_path / "rgba.png") - expected).max() <= 1.0
    grey = colour[..., :1]
    Image.fromarray(np.concatenate([grey, alpha], axis=-1), "LA").save(tmp_path / "la.png")
    expected = np.repeat(grey * (alpha / 255.0) + 255.0 * (1 - alpha / 255.0), 3, axis=-1)
    assert np.abs(_pixels(tmp_path / "la.png") - expected).max() <= 1.0


def test_opaque_alpha_changes_nothing_and_is_not_told(tmp_path: Path) -> None:
    Image.fromarray(_smooth()).convert("RGBA").save(tmp_path / "a.png")
    picture = _decode(tmp_path / "a.png")
    assert not picture.transparent
    assert (np.asarray(picture.image) == _smooth()).all()


def test_palettes(tmp_path: Path) -> None:
    indexed = Image.fromarray(_smooth()).quantize(64)
    indexed.save(tmp_path / "opaque.png")
    assert (_pixels(tmp_path / "opaque.png") == np.asarray(indexed.convert("RGB"))).all()
    indexed.save(tmp_path / "clear.png", transparency=int(np.asarray(indexed)[0, 0]))
    picture = _decode(tmp_path / "clear.png")
    hidden = np.asarray(indexed) == np.asarray(indexed)[0, 0]
    assert picture.transparent
    assert (np.asarray(picture.image)[hidden] == 255).all()
    assert (np.asarray(picture.image)[~hidden] == np.asarray(indexed.convert("RGB"))[~hidden]).all()


def test_a_colour_declared_transparent(tmp_path: Path) -> None:
    pixels = _smooth()
    pixels[:10, :10] = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=(1, 2, 3))
    decoded = _pixels(tmp_path / "a.png")
    assert (decoded[:10, :10] == 255).all()
    assert (decoded[10:] == pixels[10:]).all()


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    """Pillow writes CMYK as Adobe does, inverted and marked; the marker has to be honoured."""
    Image.fromarray(_smooth()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    assert np.abs(_pixels(tmp_path / "a.jpg").astype(int) - _smooth()).mean() < 4


@pytest.mark.parametrize("name", ["a.jpg", "p.jpg", "a.webp", "a.bmp", "a.ppm", "a.gif", "jpeg.png"])
def test_containers(tmp_path: Path, name: str) -> None:
    formats = {"p.jpg": {"progressive": True}, "jpeg.png": {"format": "JPEG"}}
    Image.fromarray(_smooth()).save(tmp_path / name, **formats.get(name, {}))
    assert np.abs(_pixels(tmp_path / name).astype(int) - _smooth()).mean() < 6


def test_mpo_and_animations_give_their_first_frame(tmp_path: Path) -> None:
    first = Image.fromarray(_smooth())
    other = Image.new("RGB", first.size, (255, 0, 0))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[other])
    assert np.abs(_pixels(tmp_path / "a.mpo").astype(int) - _smooth()).mean() < 6
    for suffix in ["gif", "webp", "png", "tiff"]:
        first.copy().save(tmp_path / f"a.{suffix}", save_all=True, append_images=[other.copy()])
        picture = _decode(tmp_path / f"a.{suffix}")
        assert picture.frame_count == 2
        assert np.abs(np.asarray(picture.image).astype(int) - _smooth()).mean() < 6


def test_heic(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = Image.fromarray(_smooth())
    pillow_heif.from_pillow(buffer).save(tmp_path / "a.heic", quality=95)
    before = dict(Image.OPEN)
    assert np.abs(_pixels(tmp_path / "a.heic").astype(int) - _smooth()).mean() < 4
    assert before.keys() == dict(Image.OPEN).keys()  # Pillow itself is left as it was
    # Phones and messengers rename: the content decides.
    (tmp_path / "renamed.jpg").write_bytes((tmp_path / "a.heic").read_bytes())
    assert _pixels(tmp_path / "renamed.jpg").shape == (48, 64, 3)
    data = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "cut.heic").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageReadError):
        _decode(tmp_path / "cut.heic")


def test_heic_turned_by_its_container_is_upright_once(tmp_path: Path) -> None:
    """Phones write the rotation into the container and into EXIF; applying both would turn twice."""
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[274] = 6
    stored = np.ascontiguousarray(_STORED[6](_smooth()))
    height, width = stored.shape[:2]
    tag = {"exif": exif.tobytes(), "quality": 95}
    pillow_heif.encode("RGB", (width, height), stored.tobytes(), tmp_path / "a.heic", **tag)
    assert b"irot" in (tmp_path / "a.heic").read_bytes()
    pixels = _pixels(tmp_path / "a.heic")
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - _smooth()).mean() < 4


def test_heic_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x1cftypheic\x00\x00\x00\x00mif1heicmiaf" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(HeifSupportError, match=r"manyview\[heif\]"):
        open_image(tmp_path / "a.heic")


def _jpeg_bytes(width: int = 200, height: int = 150) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_RNG.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(buffer, format="JPEG")
    return buffer.getvalue()


def _png_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_RNG.integers(0, 256, (150, 200, 3)).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def _bomb() -> bytes:
    """A PNG that announces a picture of 30000 x 30000 pixels."""
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"hello, I am a text", "text"),
        (b"<!DOCTYPE html><p>caf\xc3\xa9", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(64), "video"),
        (bytes(range(256)), "header"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "text"),
        (_jpeg_bytes()[:180], "header|truncated"),
        (_jpeg_bytes()[: len(_jpeg_bytes()) * 2 // 5], "truncated"),
        (_jpeg_bytes()[:-200], "truncated"),
        (_png_bytes()[: len(_png_bytes()) // 2], "truncated"),
        (_png_bytes()[:60] + b"\xff" * 400 + _png_bytes()[460:], "damaged"),
        (_bomb(), "pixels"),
    ],
)
def test_damaged_files_give_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageReadError, match=reason) as caught:
        _decode(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)


def test_no_random_damage_escapes(tmp_path: Path) -> None:
    """Whatever bytes are changed, the file decodes or gives a reason; nothing else is raised."""
    rng = np.random.default_rng(1)
    outcomes = {"decoded": 0, "refused": 0}
    for original in [_jpeg_bytes(64, 48), _png_bytes(), _tiff_bytes(), _webp_bytes()]:
        for _ in range(25):
            data = np.frombuffer(original, dtype=np.uint8).copy()
            places = rng.integers(0, min(len(data), 600), 8)
            data[places] = rng.integers(0, 256, 8)
            (tmp_path / "a.img").write_bytes(data.tobytes())
            try:
                assert _pixels(tmp_path / "a.img").ndim == 3
                outcomes["decoded"] += 1
            except ImageReadError:
                outcomes["refused"] += 1
    assert outcomes["refused"] > 20


def _tiff_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_smooth()).save(buffer, format="TIFF", compression="tiff_lzw")
    return buffer.getvalue()


def _webp_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_smooth()).save(buffer, format="WEBP")
    return buffer.getvalue()


def test_pillow_is_left_strict() -> None:
    from PIL import ImageFile

    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(_smooth()).save(tmp_path / "a.png")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageReadError, match="Permission denied"):
        open_image(tmp_path / "a.png")


def test_real_exif_variants_agree(shared_data: Path) -> None:
    folder = shared_data / "odd-formats" / "exif-orientation"
    upright = np.asarray(Image.open(folder / "view_upright_no_exif.png").convert("RGB")).astype(int)
    for orientation in (1, 2, 3, 6, 8):
        picture = _decode(folder / f"view_orientation_{orientation}.jpg")
        assert picture.orientation == orientation
        assert picture.image.size == (480, 640)
        assert np.abs(np.asarray(picture.image).astype(int) - upright).mean() < 3


def test_real_pixel_modes(shared_data: Path) -> None:
    """Eight views of one scene in eight pixel modes: none is black, clipped or inverted."""
    for path in sorted((shared_data / "odd-formats" / "pixel-modes").iterdir()):
        pixels = _pixels(path)
        assert pixels.shape == (256, 384, 3)
        centre = pixels[80:200, 120:280].astype(float)
        assert 60 < centre.mean() < 130, path.name
        assert centre.std() > 25, path.name


def test_real_containers_and_broken_files(shared_data: Path) -> None:
    folder = shared_data / "odd-formats"
    for path in sorted((folder / "containers").iterdir()):
        assert _pixels(path).std() > 25, path.name
    opened = []
    for path in sorted((folder / "broken").iterdir()):
        try:
            opened.append(_decode(path) and path.name)
        except ImageReadError:
            continue
    assert opened == ["flipped_bytes.jpg", "good.jpg"]


def test_transposing_matches_pillow_on_a_real_photo(shared_data: Path) -> None:
    path = shared_data / "odd-formats" / "exif-orientation" / "view_orientation_6.jpg"
    expected = ImageOps.exif_transpose(Image.open(path))
    assert (_pixels(path) == np.asarray(expected)).all()
