"""viser's server behind `Access`: requests are checked before viser sees them, and nothing is printed."""

from __future__ import annotations

import asyncio
import contextlib
import http
import io
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import ManyViewError, optional_module
from .access import Access

logger = logging.getLogger(__name__)
_PATCHING = threading.Lock()


def guarded_server(access: Access, port: int) -> Any:
    """A `viser.ViserServer` that answers only what `access` lets in.

    Raises MissingExtraError without viser, ManyViewError for a viser that cannot be guarded.
    """
    viser = optional_module("viser", "the viewer", "view")
    with _guarding(access, f"viser-v{viser.__version__}") as guarded, quiet():
        server = viser.ViserServer(host=access.host, port=port, label="ManyView", verbose=False)
    if not guarded:
        server.stop()
        raise ManyViewError(
            f"viser {viser.__version__} starts its server in a way that ManyView cannot protect; "
            "install another version: pip install viser==1.1.1"
        )
    return server


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep viser from printing a banner and a farewell on standard output, which it has no option for."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def logged(callback: Callable[..., None]) -> Callable[..., None]:
    """`callback` for viser, which prints a traceback where a control was set to what cannot be."""

    def call(*arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception:
            logger.debug("viewer: a change was not applied", exc_info=True)

    return call


@contextlib.contextmanager
def _guarding(access: Access, protocol: str) -> Iterator[list[int]]:
    """Servers that viser starts on `access.host` meanwhile ask `access` first; yields their ports.

    viser hands no options on to `websockets.serve`, so that function is replaced while viser starts.
    """
    from websockets.asyncio import server as module

    guarded: list[int] = []
    with _PATCHING:
        serve = module.serve

        def serve_guarded(handler: Any, host: str, port: int, **options: Any) -> Any:
            if host != access.host or not str(handler.__module__).startswith("viser."):
                return serve(handler, host, port, **options)  # somebody else's, on another thread
            guarded.append(port)
            # What a broken message does to a callback of viser's is no news for the terminal.
            asyncio.get_running_loop().set_exception_handler(_log)
            options["process_request"] = _Guard(access, protocol, options["process_request"])
            return serve(handler, host, port, logger=_silent_logger(), **options)

        module.serve = serve_guarded  # type: ignore[assignment,misc]
        try:
            yield guarded
        finally:
            module.serve = serve  # type: ignore[misc]


class _Guard:
    """`process_request` of a websockets server: refuses, or hands over to `inner`, viser's."""

    def __init__(self, access: Access, protocol: str, inner: Any) -> None:
        self._access, self._protocol, self._inner = access, protocol, inner

    def __call__(self, connection: Any, request: Any) -> Any:
        problem = self._access.refusal(request.path, request.headers)
        if problem is not None:
            return connection.respond(http.HTTPStatus.FORBIDDEN, f"{problem}\n")
        if "Upgrade" in request.headers and self._protocol not in _protocols(request):
            return connection.respond(http.HTTPStatus.BAD_REQUEST, f"expected {self._protocol}\n")
        answer = self._inner(connection, request)
        if answer is not None:
            answer.headers["Referrer-Policy"] = "no-referrer"
            if self._access.query_token(request.path):
                answer.headers["Set-Cookie"] = self._access.cookie
        return answer


def _protocols(request: Any) -> list[str]:
    listed = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
    return [name.strip() for name in listed.split(",")]


def _silent_logger() -> logging.Logger:
    """For websockets, which logs the traceback of whatever a client makes it stumble over."""
    silent = logging.getLogger(f"{__name__}.connections")
    silent.setLevel(logging.CRITICAL)
    silent.propagate = False
    return silent


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logger.debug("viewer: %s", context.get("message"), exc_info=context.get("exception"))
