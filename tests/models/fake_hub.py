"""A hub on this machine: the answers of the real one that a download depends on, and its failures."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 4000
"""Files from so many bytes on are kept as the hub keeps large ones: elsewhere, by their SHA-256."""

_PATH = re.compile(r"/(?P<cdn>cdn/)?(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<name>.+)")


@dataclasses.dataclass
class FakeHub:
    """Files by repository and name, and what goes wrong.

    `cut` holds for each of the next answers with a large file after how many bytes the connection is closed;
    `spoilt` sends other bytes than promised; `gated` repositories answer 403; `hang_s` is how long
    every answer takes. `asked` lists (method, path, Range header, whether a token was sent).
    """

    files: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    gated: set[str] = dataclasses.field(default_factory=set)
    cut: list[int] = dataclasses.field(default_factory=list)
    spoilt: bool = False
    hang_s: float = 0.0
    asked: list[tuple[str, str, str | None, bool]] = dataclasses.field(default_factory=list)

    def put(self, repo_id: str, folder: Path) -> None:
        """Offer the files of a folder as a repository."""
        self.files[repo_id] = {path.name: path.read_bytes() for path in folder.iterdir()}

    @property
    def fetched(self) -> list[str]:
        """What was sent of large files: the ranges asked for, "" for all."""
        return [span or "" for method, path, span, _ in self.asked if method == "GET" and "/cdn/" in path]


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: Any) -> None:
            pass

        def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            span, token = self.headers.get("Range"), "Authorization" in self.headers
            hub.asked.append((self.command, self.path, span, token))
            threading.Event().wait(hub.hang_s)  # time.sleep does nothing, see below
            match = re.fullmatch(
                r"/(?P<cdn>cdn/)?(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<name>.+)", self.path
            )
            if match is None or match["repo"] not in hub.files:
                return self.answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "no such repo"})
            if match["repo"] in hub.gated:
                return self.answer(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask first"})
            data = hub.files[match["repo"]].get(match["name"])
            if data is None:
                return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            if match["cdn"]:
                return self.large(data)
            if len(data) < LARGE:
                etag = hashlib.sha1(data).hexdigest()
                return self.answer(200, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}, data)
            host = f"http://localhost:{self.server.server_address[1]}"  # another host than the hub's
            self.answer(
                302,
                {
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                    "X-Linked-Size": str(len(data)),
                    "Location": f"{host}/cdn{self.path}",
                },
            )
            return None

        def large(self, data: bytes) -> None:
            if hub.spoilt:
                data = bytes(len(data))
            span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(span[1]) if span else 0
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if span else {}
            stop = hub.cut.pop(0) if hub.cut else None
            self.send_response(206 if span else 200)
            for name, value in {"Content-Length": str(len(data) - start), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[start:] if stop is None else data[start : start + stop])
            self.close_connection = stop is not None

        do_GET = do_HEAD

    return Handler


@contextlib.contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A running hub that the hub's library takes for the real one, with a cache of its own."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    endpoint, constants = f"http://127.0.0.1:{server.server_address[1]}", huggingface_hub.constants
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
