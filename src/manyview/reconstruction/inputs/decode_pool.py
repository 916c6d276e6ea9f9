"""Photos to network images, decoded by a pool of threads, in order, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image

from .decode import ImageReadError, decode_image
from .in_memory import open_input
from .network_image import NetworkImage, Sizing, make_network_image
from .options import InputFile

# Each thread holds one image at full resolution, up to about a gigabyte for the largest allowed.
_MOST_THREADS = 8


def load_network_images(
    files: Sequence[InputFile], sizing: Sizing, threads: int | None = None
) -> Generator[tuple[InputFile, NetworkImage | ImageReadError], None, None]:
    """Every file in order with its network image, or with the reason why it cannot be used.

    Pillow decodes and resizes outside the interpreter lock, so threads help; at most twice as many files
    as threads are in work at a time. Closing the iterator (or Ctrl-C) drops what has not started.
    """
    workers = threads or min(_MOST_THREADS, _usable_cores())
    pool = ThreadPoolExecutor(workers, thread_name_prefix="manyview-decode")
    in_work: deque[tuple[InputFile, Future[NetworkImage]]] = deque()
    try:
        for file in files:
            in_work.append((file, _submit(pool, file, sizing)))
            if len(in_work) >= 2 * workers:
                yield _finished(*in_work.popleft())
        while in_work:
            yield _finished(*in_work.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _submit(pool: ThreadPoolExecutor, file: InputFile, sizing: Sizing) -> Future[NetworkImage]:
    try:
        return pool.submit(_decode_and_prepare, _open(file), sizing)
    except ImageReadError as error:
        failed: Future[NetworkImage] = Future()
        failed.set_exception(error)
        return failed


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
    return sizing


def _finished(file: InputFile, work: Future[NetworkImage]) -> tuple[InputFile, NetworkImage | ImageReadError]:
    try:
        return file, work.result()
    except ImageReadError as error:
        return file, error
