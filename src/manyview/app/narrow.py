"""Of the many addresses that Gradio answers, those that the page needs; with limits, and its files only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import OutputError
from ..files.schema import parse_json
from ..files.writing import require_space
from ..serve.answers import sentence
from ..serve.limits import Limits

_API = "/gradio_api/"
_UPLOAD, _FILE = f"{_API}upload", f"{_API}file="
_NEEDED = (
    *("info", "queue/join", "queue/data", "call/", "cancel", "upload", "upload_progress", "heartbeat/"),
    *("reset", "startup-events", "app_id", "user", "login_check", "theme.css", "file="),
)
_CALLS = (f"{_API}queue/join", f"{_API}call/")
_MOST_BYTES = 4 * 2**20  # of a call: names of files and values of controls
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'; object-src 'none'"
)


class Narrow:
    """The application of a page whose files are in `cache`; browsers load nothing from elsewhere."""

    def __init__(self, app: ASGIApp, cache: Path, limits: Limits) -> None:
        self._app, self._cache, self._limits = app, cache, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Content-Security-Policy", _POLICY)
            await send(message)

        path = scope["path"]
        refused = self._refusal(path, Headers(scope=scope))
        if refused is None and scope["method"] == "POST" and path.startswith(_CALLS):
            body = await _read(receive)
            refused, receive = self._call_refusal(body), _again(body, receive)
        if refused is None:
            await self._app(scope, receive, sent)
        else:
            await sentence(*refused)(scope, receive, sent)

    def _refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason."""
        if not path.startswith(_API):
            return None
        if not path.removeprefix(_API).startswith(_NEEDED):
            return 404, f"{path} is no part of this page"
        if path.startswith(_FILE):
            return self._file_refusal(path.removeprefix(_FILE))
        if path.rstrip("/") == _UPLOAD:
            return self._upload_refusal(headers.get("content-length", ""))
        return None

    def _file_refusal(self, name: str) -> tuple[int, str] | None:
        try:
            inside = Path(name).resolve().is_relative_to(self._cache)
        except (OSError, ValueError):
            inside = False
        return None if inside else (403, "this file is not one of the page")

    def _call_refusal(self, body: bytes) -> tuple[int, str] | None:
        """Of a call whose files were not uploaded: Gradio would copy or fetch them before we are asked."""
        if len(body) > _MOST_BYTES:
            return 413, f"a call may have {_MOST_BYTES >> 20} MiB; upload files instead"
        try:
            named = list(_paths(parse_json(body, dict[str, Any])))
        except (ValueError, RecursionError):
            return 400, "the call cannot be read as JSON"
        return next(filter(None, map(self._file_refusal, named)), None)

    def _upload_refusal(self, length: str) -> tuple[int, str] | None:
        if not length.isdecimal():
            return 411, "say how long the upload is (Content-Length)"
        if int(length) > self._limits.upload_bytes:
            most = self._limits.max_upload_mib
            return 413, f"a job may bring {most} MiB; send fewer or smaller images"
        try:
            require_space(self._cache, int(length))
        except OutputError as error:
            return 507, str(error)
        return None


def _paths(value: Any) -> Iterator[str]:
    """The paths of all files in the data of a call."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "path":
                yield str(inner)
            else:
                yield from _paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner)


async def _read(receive: Receive) -> bytes:
    """The body of a request, or a little more of it than a call may have."""
    found, more = b"", True
    while more and len(found) <= _MOST_BYTES:
        message = await receive()
        found, more = found + message.get("body", b""), message.get("more_body", False)
    return found


def _again(body: bytes, rest: Receive) -> Receive:
    """What `receive` gave, from the start."""
    given = False

    async def receive() -> Message:
        nonlocal given
        if given:
            return await rest()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
