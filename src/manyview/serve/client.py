"""A client of `manyview serve`: jobs are sent, followed and fetched over HTTP; errors are one sentence."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import GenericAlias, TracebackType
from typing import Any, TypeVar

import httpx2
import msgspec

from ..errors import ServerError, UsageError
from ..files.naming import counted, printable
from ..files.schema import Natural, check_regular, open_regular, parse_json
from ..files.writing import output_errors
from ..reconstruction.inputs.options import InputFile
from ..view.access import LOOPBACK
from .job import JobView, Submission, encoded

_PIECE = 2**18
_TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
_ESCAPES = {'"': "%22", "\r": "%0D", "\n": "%0A"}
_AWAY_S = 120.0
"""A server that does not answer for so long, such as one that is started anew, is given up."""
_MISUSE = range(400, 500)

Progress = Callable[[int, int], None]
T = TypeVar("T")


class ServerLimits(msgspec.Struct, frozen=True):
    """`Limits` of a server."""

    max_upload_mib: Natural
    max_images: Natural
    max_pixels: Natural


class ServerInfo(msgspec.Struct, frozen=True):
    """What a server says of itself; newer ones may say more."""

    manyview: str
    model: str
    device: str
    limits: ServerLimits
    needs_token: bool = False
    licence: str = ""
    notes: tuple[str, ...] = ()


class _Refusal(msgspec.Struct, frozen=True):
    error: str


class AwayError(ServerError):
    """There is no answer."""


class ServerClient:
    """A connection to a server. Every method raises ServerError where it refuses or cannot be reached."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Raises UsageError for an address or a token that cannot be."""
        try:
            address = httpx2.URL(url)
        except (httpx2.InvalidURL, ValueError) as error:
            raise UsageError(f"--server {printable(url)[:80]!r} is no address ({error})") from error
        if address.scheme not in ("http", "https") or not address.host:
            raise UsageError(
                f"--server is an address such as http://127.0.0.1:7870, not {printable(url)[:80]!r}"
            )
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise UsageError("the token of the server holds characters that no token has")
        self.url = str(address).rstrip("/")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # A proxy leads to other machines, never to this one.
        own = address.host in LOOPBACK
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=_TIMEOUT, trust_env=not own)

    def __enter__(self) -> ServerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def info(self) -> ServerInfo:
        """What the server is; it refuses a token that is wrong, or missing."""
        found = self._ask("GET", "/health", ServerInfo)
        if found.needs_token and "Authorization" not in self._http.headers:
            raise ServerError("the server needs its token: give --token, or set MANYVIEW_TOKEN", 2)
        return found

    def submit(
        self,
        files: Sequence[InputFile],
        options: Mapping[str, Any],
        asked: Submission,
        progress: Progress = lambda done, total: None,
    ) -> JobView:
        """Send files under their views' names; `progress` counts them. OSError for an unreadable one."""
        boundary = secrets.token_hex(16)
        texts = {"options": encoded(options), "about": encoded(asked)}
        heads = [_head(boundary, "files", file.name) for file in files]
        sizes = [check_regular(file.path) for file in files]
        start = b"".join(_head(boundary, name) + text + b"\r\n" for name, text in texts.items())
        end = f"--{boundary}--\r\n".encode()
        length = len(start) + len(end) + sum(map(len, heads)) + sum(sizes) + 2 * len(files)

        def body() -> Iterator[bytes]:
            yield start
            for done, (file, head, size) in enumerate(zip(files, heads, sizes, strict=True), start=1):
                yield head
                yield from _exactly(file.path, size)
                yield b"\r\n"
                progress(done, len(files))
            yield end

        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(length),
        }
        return self._ask("POST", "/jobs", JobView, content=body(), headers=headers)

    def jobs(self) -> list[JobView]:
        """All jobs, in the order in which they came."""
        return self._ask("GET", "/jobs", list[JobView])

    def job(self, id: str) -> JobView:
        """A job as it is now."""
        return self._ask("GET", f"/jobs/{id}", JobView)

    def remove(self, id: str) -> None:
        """Cancel a job, or remove one that has ended with its files."""
        self._ask("DELETE", f"/jobs/{id}", JobView)

    def followed(self, id: str) -> Iterator[JobView]:
        """A job as it changes, until it is done or has failed; waits while a server is away."""
        pause_s, seen = 0.05, time.monotonic()
        while True:
            try:
                job = self.job(id)
            except AwayError as error:
                if time.monotonic() - seen > _AWAY_S:
                    raise ServerError(f"{error}; the job is {id}, which it goes on with") from error
            else:
                seen = time.monotonic()
                yield job
                if job.state in ("done", "failed"):
                    return
                if job.state == "cancelled":
                    raise ServerError(f"job {id} was cancelled on the server")
            time.sleep(pause_s)
            pause_s = min(1.0, 1.1 * pause_s)

    def files(self, id: str) -> dict[str, int]:
        """Names and sizes in bytes of the files of a result."""
        return self._ask("GET", f"/jobs/{id}/files", dict[str, Natural])

    def fetch(self, id: str, name: str, target: Path, progress: Progress = lambda done, total: None) -> None:
        """Write a file of a result to `target`; `progress` counts MiB. Raises OutputError for a full disk."""
        with self._errors(), self._http.stream("GET", f"/jobs/{id}/files/{name}") as answer:
            if answer.status_code != 200:
                answer.read()
                raise _refused(answer)
            total = int(answer.headers.get("content-length", 0))
            with output_errors(target, total), open(target, "xb") as file:
                for piece in answer.iter_bytes(_PIECE):
                    file.write(piece)
                    progress(file.tell() >> 20, total >> 20)

    def _ask(self, method: str, path: str, kind: type[T] | GenericAlias, **more: Any) -> T:
        with self._errors():
            answer = self._http.request(method, path, **more)
        if answer.status_code not in (200, 201):
            raise _refused(answer)
        try:
            return parse_json(answer.content, kind)
        except ValueError as error:
            raise ServerError(f"{self.url} answers, but not as manyview serve does ({error})") from error

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            raise AwayError(f"{self.url} cannot be reached ({str(error) or type(error).__name__})") from error


def check_limits(files: Sequence[InputFile], limits: ServerLimits) -> None:
    """UsageError for more files or bytes than a server takes, before anything is sent."""
    if len(files) > limits.max_images:
        raise UsageError(
            f"the server takes {counted(limits.max_images, 'image')} at once, not {len(files)}: use fewer "
            "(--max-frames)"
        )
    sent = sum(check_regular(file.path) for file in files)
    if sent > limits.max_upload_mib * 2**20:
        raise UsageError(
            f"the server takes {limits.max_upload_mib} MiB at once, not {sent >> 20}: use fewer images "
            "(--max-frames)"
        )


def _head(boundary: str, part: str, name: str | None = None) -> bytes:
    text = f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"'
    if name is not None:
        for letter, escape in _ESCAPES.items():
            name = name.replace(letter, escape)
        text += '; filename="' + name.replace("\\", "\\\\") + '"'
    return f"{text}\r\n\r\n".encode()


def _exactly(path: Path, size: int) -> Iterator[bytes]:
    with open_regular(path) as file:
        left = size
        while left:
            piece = file.read(min(_PIECE, left))
            if not piece:
                raise OSError(None, "it became shorter while it was sent", str(path))
            left -= len(piece)
            yield piece


def _refused(answer: httpx2.Response) -> ServerError:
    try:
        said = parse_json(answer.content, _Refusal).error
    except ValueError:
        said = f"{answer.url} answers with status {answer.status_code}"
    return ServerError(f"the server refuses: {printable(said)}", 2 if answer.status_code in _MISUSE else 1)
