"""In front of every request: by which name and from which page it comes, and whether it has the token."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import in_one_sentence
from ..view.access import Access
from .answers import sentence

OPEN_PATHS = frozenset({"/health", "/docs", "/openapi.json"})
"""What holds nothing of anybody's, and is answered without a token (but not with a wrong one)."""
_ONCE = ("host", "origin", "authorization")

logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application behind `access`; with a `token`, for those who send it as a bearer token."""

    def __init__(self, app: ASGIApp, access: Access, token: str | None) -> None:
        self._app, self._access, self._token = app, access, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # there are no websockets here
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refused = self._refusal(scope["path"], Headers(scope=scope))
        try:
            await (refused or self._app)(scope, receive, send)
        except Exception as error:  # the client has its answer already
            logger.warning("%s %s: %s", scope["method"], scope["path"], in_one_sentence(error)[0])
            logger.debug("a request failed", exc_info=True)

    def _refusal(self, path: str, headers: Headers) -> Response | None:
        if any(len(headers.getlist(name)) > 1 for name in _ONCE):
            return sentence(400, "a header is repeated")
        problem = self._access.foreign(headers)
        if problem is not None:
            return sentence(403, problem)
        given = headers.get("Authorization", "")
        if self._token is None or (path in OPEN_PATHS and not given):
            return None
        kind, _, token = given.partition(" ")
        if kind.lower() == "bearer" and self._access.is_token(token.strip()):
            return None
        answer = sentence(401, "the token is missing or wrong; send the header Authorization: Bearer TOKEN")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer
