"""In front of every request: by which name and from which page it comes, and whether it has the token."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import in_one_sentence
from ..view.access import Access
from .answers import sentence

OPEN_PATHS = frozenset({"/health", "/docs", "/openapi.json"})
"""What holds nothing of anybody's, and is answered without a token (but not with a wrong one)."""
_ONCE = ("host", "origin", "authorization")

logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application behind `access`; with a `token`, for those who send it as a bearer token.

    With `browsers`, also for those whose address has it (?token=), who get a cookie that stands for it.
    """

    def __init__(self, app: ASGIApp, access: Access, token: str | None, browsers: bool = False) -> None:
        self._app, self._access, self._token, self._browsers = app, access, token, browsers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # there are no websockets here
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        address = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
        refused = self._refusal(address, Headers(scope=scope))
        if self._browsers and refused is None and self._access.query_token(address):
            send = self._with_cookie(send)
        try:
            await (refused or self._app)(scope, receive, send)
        except Exception as error:  # the client has its answer already
            logger.warning("%s %s: %s", scope["method"], scope["path"], in_one_sentence(error)[0])
            logger.debug("a request failed", exc_info=True)

    def _refusal(self, address: str, headers: Headers) -> Response | None:
        if any(len(headers.getlist(name)) > 1 for name in _ONCE):
            return sentence(400, "a header is repeated")
        problem = self._access.foreign(headers)
        if problem is not None:
            return sentence(403, problem)
        given = headers.get("Authorization", "")
        if self._token is None or (address.partition("?")[0] in OPEN_PATHS and not given):
            return None
        kind, _, token = given.partition(" ")
        if kind.lower() == "bearer" and self._access.is_token(token.strip()):
            return None
        if self._browsers and not given and self._access.brings_token(address, headers.get("Cookie", "")):
            return None
        whole = "open the whole address that was printed, or " if self._browsers else ""
        answer = sentence(
            401, f"the token is missing or wrong; {whole}send the header Authorization: Bearer TOKEN"
        )
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _with_cookie(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [("Set-Cookie", self._access.cookie), ("Referrer-Policy", "no-referrer")]
                for name, value in added:
                    MutableHeaders(scope=message).append(name, value)
            await send(message)

        return sent
