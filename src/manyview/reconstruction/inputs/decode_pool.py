"""Photos to network images, decoded by a pool of threads, in order, with bounded memory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from ...errors import MemoryLimitError
from .decode import ImageReadError, decode_image
from .header import decoding_bytes, rendering_bytes
from .in_memory import open_input
from .network_image import NetworkImage, Sizing, make_network_image, network_transform
from .options import InputFile

_MOST_THREADS = 16
DECODING_BYTES = 1 << 30  # unless a caller has less to give
_REMEDY = "make it smaller or leave it out, or give the program more memory"


def load_network_images(
    files: Sequence[InputFile], sizing: Sizing, threads: int | None = None, budget_bytes: int = DECODING_BYTES
) -> Generator[tuple[InputFile, NetworkImage | ImageReadError], None, None]:
    """Every file in order with its network image, or with the reason why it cannot be used.

    Pillow decodes and resizes outside the interpreter lock, so threads help. In work at a time are twice as
    many files as threads at most, and as many as their headers let fit in `budget_bytes`, but always one.
    Closing the iterator (or Ctrl-C) drops what has not started. Raises MemoryLimitError for an image that
    does not fit in memory.
    """
    workers = threads or decoding_threads()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="manyview-decode")
    in_work: deque[_InWork] = deque()
    try:
        for file in files:
            work = _opened(file, sizing)
            while in_work and (
                len(in_work) >= 2 * workers - 1 or work.needed + _alive(in_work) > budget_bytes
            ):
                yield in_work.popleft().result()
            if work.image is not None:
                work.future = pool.submit(_decode_and_prepare, work.image, sizing)
            in_work.append(work)
        while in_work:
            yield in_work.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclasses.dataclass(eq=False)
class _InWork:
    """An opened image on its way; `needed` bytes are alive while it is decoded."""

    file: InputFile
    image: Image.Image | None
    needed: int
    future: Future[NetworkImage]

    def result(self) -> tuple[InputFile, NetworkImage | ImageReadError]:
        try:
            return self.file, self.future.result()
        except ImageReadError as error:
            return self.file, error
        except MemoryError as error:
            size = "" if self.image is None else f" of {self.image.width}x{self.image.height} pixels"
            raise _too_large(self.file, size) from error


def _opened(file: InputFile, sizing: Sizing) -> _InWork:
    failed: Future[NetworkImage] = Future()
    try:
        image = _open(file)
    except ImageReadError as error:
        failed.set_exception(error)
        return _InWork(file, None, 0, failed)
    except MemoryError as error:
        raise _too_large(file, "") from error
    # Opened files are in memory whole.
    on_disk = file.path.stat().st_size if file.image is None else 0
    needed = decoding_bytes(image, on_disk)
    with contextlib.suppress(ImageReadError):
        needed += rendering_bytes(network_transform(image.size, 1, sizing))
    return _InWork(file, image, needed, failed)


def _alive(in_work: Iterable[_InWork]) -> int:
    return sum(work.needed for work in in_work if not work.future.done())


def _too_large(file: InputFile, size: str) -> MemoryLimitError:
    return MemoryLimitError(f"there is not enough memory to read the image '{file.name}'{size}; {_REMEDY}")


def decoding_threads() -> int:
    """How many images are decoded side by side, unless a caller chooses."""
    return min(_MOST_THREADS, _usable_cores())


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open(file: InputFile) -> Image.Image:
    return open_input(file.path if file.image is None else file.image, file.name)


def _decode_and_prepare(image: Image.Image, sizing: Sizing) -> NetworkImage:
    with image:
        return make_network_image(decode_image(image, sizing.ignores_transparency), sizing)


def with_size_of_first(files: Sequence[InputFile], sizing: Sizing) -> Sizing:
    """The sizing, with the size of the first usable image for all where the policy is `area`."""
    if sizing.policy != "area":
        return sizing
    for file in files:
        try:
            return sizing.with_size_of(_decode_and_prepare(_open(file), sizing).transform)
        except ImageReadError:
            continue  # reported when all are read
        except MemoryError as error:
            raise _too_large(file, "") from error
    return sizing
