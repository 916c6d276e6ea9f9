"""The HTTP server in a thread beside the queue, on a socket that is bound before."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from ..errors import ManyViewError
from ..view.access import Access
from ..view.viewer import free_port

_PATIENCE_S = 20.0


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to an address. Raises UsageError for one that cannot be had."""
    port = free_port(host, port, tried=1)
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        yield bound


@contextlib.contextmanager
def serving(application: ASGIApp, access: Access, bound: socket.socket) -> Iterator[str]:
    """Answer requests in a thread meanwhile; yields the address."""
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([bound],), name="manyview-http", daemon=True)
    thread.start()
    end = time.monotonic() + _PATIENCE_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end:
            raise ManyViewError("the HTTP server could not be started; run again with --debug for details")
        time.sleep(0.01)
    try:
        yield access.url(bound.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_S)
