"""What a file really is, by its first bytes: names and suffixes lie often enough."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 512

_PICTURE_STARTS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\x00",  # TIFF, both byte orders
    b"MM\x00*",
    b"\x00\x00\x00\x0cjP  ",  # JPEG 2000
)
_STILL_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
_AVIF_BRANDS = {b"avif", b"avis"}


def read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _brands(head: bytes) -> set[bytes]:
    """Brands of an ISO base media file (MP4, QuickTime, HEIF, AVIF share that container); else empty."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12]} | {head[start : start + 4] for start in range(16, end - 3, 4)}


def is_heif(head: bytes) -> bool:
    """True for HEIC and HEIF stills, False for AVIF, which Pillow reads by itself."""
    brands = _brands(head)
    return bool(brands & _STILL_BRANDS) and not brands & _AVIF_BRANDS


def is_video(head: bytes) -> bool:
    """True for MP4, QuickTime, Matroska, WebM and AVI."""
    return video_container(head) is not None


def video_container(head: bytes) -> str | None:
    """FFmpeg's name of the container of a video: MP4 and QuickTime, Matroska and WebM, AVI; else None."""
    brands = _brands(head)
    if brands:
        return None if brands & _STILL_BRANDS else "mov"
    if head[4:8] in {b"moov", b"mdat", b"wide", b"free", b"skip"}:
        return "mov"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:11] == b"AVI" else None


def is_image(head: bytes) -> bool:
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_PICTURE_STARTS) or webp or bool(_brands(head) & _STILL_BRANDS)


def is_text(head: bytes) -> bool:
    """True if the bytes read as UTF-8 without control characters; a cut last character is forgiven."""
    if not head:
        return False
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\r\n\t\f\ufeff" for character in text)
