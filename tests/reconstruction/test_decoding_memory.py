"""Memory while images are read: sizes come first, decoding keeps a budget, a want is no damage."""

from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from manyview.errors import MemoryLimitError
from manyview.reconstruction.inputs import decode_pool
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.header import expected_views
from manyview.reconstruction.inputs.load import read_views
from manyview.reconstruction.inputs.network_image import Sizing
from manyview.reconstruction.plan.decoding import plan_decoding
from manyview.reconstruction.plan.machine import Machine
from manyview.reconstruction.run import prepare as prepare_module
from manyview.reconstruction.run.engine import reconstruct
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.reconstruction.run.prepare import prepare
from tests.models.tiny import tiny_vggt

SIZING = Sizing("fit", 56, 14)


def _photo(path: Path, width: int = 40, height: int = 30, **options: object) -> Path:
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(path, **options)  # type: ignore[arg-type]
    return path


def _announced(path: Path, width: int, height: int) -> Path:
    """A PNG that announces a size and holds almost nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def _machine(free_bytes: int) -> Machine:
    return Machine(torch.device("cpu"), "test machine", free_bytes, free_bytes)


@pytest.mark.parametrize("size", [100_002, 19_992])
def test_what_cannot_fit_is_refused_before_anything_is_decoded(tmp_path, monkeypatch, size):
    for name in ("a.png", "b.png"):
        _photo(tmp_path / name)
    model = tiny_vggt()
    size -= size % model.config.patch_size

    def never(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(decode_pool, "decode_image", never)
    for call in (prepare, reconstruct):
        with pytest.raises(MemoryLimitError, match="--image-size"):
            call(tmp_path, model, ReconstructOptions(image_size=size, memory_limit_gib=4))


def test_an_image_that_does_not_fit_is_named_with_its_size(tmp_path):
    _photo(tmp_path / "a.png")
    _announced(tmp_path / "large.png", 13_000, 13_000)
    with pytest.raises(MemoryLimitError, match=r"large\.png .*13000x13000"):
        prepare(tmp_path, tiny_vggt(), ReconstructOptions(memory_limit_gib=0.5))


def test_headers_announce_what_is_read(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    _photo(tmp_path / "a.jpg", 64, 40, exif=exif)
    _photo(tmp_path / "b.png", 64, 48)
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8\xff")  # damaged: left to the reader
    found = find_inputs(tmp_path)
    expected = expected_views(found, SIZING)
    read = read_views(found, target_size=56)
    assert expected is not None
    assert (expected.views, 3, expected.height, expected.width) == tuple(read.images.shape)
    assert expected.largest.startswith("a.jpg")  # turned, which takes a copy
    assert expected_views(find_inputs(tmp_path / "c.jpg"), SIZING) is None


def test_images_at_full_resolution_are_in_work_as_the_budget_allows(tmp_path, monkeypatch):
    for index in range(8):
        _photo(tmp_path / f"{index}.png", 400, 300)
    found = find_inputs(tmp_path)
    expected = expected_views(found, SIZING)
    assert expected is not None
    alive, most, lock = 0, 0, threading.Lock()
    original = decode_pool.decode_image

    def counting(image: Image.Image, ignore: bool = False) -> object:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        threading.Event().wait(0.02)
        try:
            return original(image, ignore)
        finally:
            with lock:
                alive -= 1

    monkeypatch.setattr(decode_pool, "decode_image", counting)
    for budget, allowed in ((1, 1), (int(2.5 * expected.largest_bytes), 2), (1 << 30, 4)):
        most = 0
        read_views(found, target_size=56, threads=4, budget_bytes=budget)
        assert most == allowed


def test_the_budget_keeps_the_limit_and_is_part_of_the_estimate(tmp_path):
    for index in range(4):
        _announced(tmp_path / f"{index}.png", 5000, 4000)
    expected = expected_views(find_inputs(tmp_path), SIZING)
    assert expected is not None and expected.largest_bytes >= 4 * 5000 * 4000
    limited = plan_decoding(expected, _machine(2 * expected.largest_bytes), on_disk=False)
    assert expected.largest_bytes <= limited.budget_bytes < 2 * expected.largest_bytes
    assert limited.budget_bytes <= limited.peak_bytes <= 2 * expected.largest_bytes
    with pytest.raises(MemoryLimitError, match=r"\d\.png"):
        plan_decoding(expected, _machine(expected.largest_bytes), on_disk=False)


def test_reading_is_part_of_the_expected_peak(tmp_path):
    _photo(tmp_path / "large.png", 4000, 3000)
    ready = prepare(tmp_path, tiny_vggt())
    assert ready.chosen.peak_bytes >= 4 * 4000 * 3000


@pytest.mark.parametrize("stage", ["open_input", "decode_image", "make_network_image"])
@pytest.mark.parametrize("strict", [False, True])
def test_a_want_of_memory_is_no_damage(tmp_path, monkeypatch, stage, strict):
    for name in ("a.png", "b.png"):
        _photo(tmp_path / name)

    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decode_pool, stage, no_memory)
    with pytest.raises(MemoryLimitError, match=r"a\.png") as refused:
        read_views(find_inputs(tmp_path), target_size=56, strict=strict)
    assert stage == "open_input" or "40x30" in str(refused.value)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")]
)
def test_memory_that_runs_out_anywhere_is_a_memory_limit_error(tmp_path, monkeypatch, error):
    _photo(tmp_path / "a.png")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(prepare_module, "run_settings", fail)
    with pytest.raises(MemoryLimitError):
        reconstruct(tmp_path, tiny_vggt())
