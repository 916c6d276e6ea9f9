"""Who may talk to a server of ours: who knows its token, under a name that it is served by."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_UNREADABLE = "the request cannot be read"
ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})


@dataclasses.dataclass(frozen=True)
class Access:
    """Checks of a request to a server on `host`.

    Any program of this machine, and any page open in its browser, can send requests to a loopback address.
    Origin shows a page of another site; Host shows one whose name was made to point here (DNS rebinding);
    and everything else lacks the token.
    """

    host: str
    token: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    def refusal(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Why a request of a browser is refused, for the person who sent it; None if it is not.

        `path` has the query; `headers` may raise LookupError for one that is repeated.
        """
        problem = self.foreign(headers)
        if problem is not None:
            return problem
        try:
            cookies = headers.get("Cookie") or ""
        except LookupError:
            return _UNREADABLE
        if not self.brings_token(path, cookies):
            return "open the whole address that ManyView printed, with its token"
        return None

    def brings_token(self, path: str, cookies: str) -> bool:
        """Whether the address (with its query) or the cookies of a request have the token."""
        return self.is_token(self.query_token(path)) or self.is_token(self._cookie_token(cookies))

    def foreign(self, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused that comes from a page of another site, or by another name of ours."""
        try:
            host = headers.get("Host") or ""
            origin = headers.get("Origin")
            name = urlsplit(f"//{host}").hostname or ""
            site = None if origin is None else urlsplit(origin).netloc
        except (LookupError, ValueError):
            return _UNREADABLE
        if not self._is_served_as(name):
            return f"nothing is served here as {name!r}"
        if site is not None and site.lower() != host.lower():
            return f"pages of {origin!r} may not ask here"
        return None

    def url(self, port: int) -> str:
        """The address of the server for a program on this machine."""
        host = "127.0.0.1" if self.host in ANY_ADDRESS else self.host
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def query_token(self, path: str) -> str:
        """The token in an address, right or wrong; empty if there is none."""
        return parse_qs(path.partition("?")[2]).get("token", [""])[0]

    @property
    def cookie(self) -> str:
        """What a browser is to send with the requests that follow, those of the websocket too."""
        return f"{self._cookie_name}={self.token}; Path=/; HttpOnly; SameSite=Strict"

    @property
    def _cookie_name(self) -> str:
        # Cookies of one host are shared by all of its ports, and so by all viewers.
        return f"manyview-{hashlib.sha256(self.token.encode()).hexdigest()[:12]}"

    def _cookie_token(self, text: str) -> str:
        try:
            found = SimpleCookie(text).get(self._cookie_name)
        except CookieError:
            return ""
        return "" if found is None else found.value

    def is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode("utf-8", "surrogateescape"), self.token.encode())

    def _is_served_as(self, name: str) -> bool:
        if name in LOOPBACK or (name and name == self.host.lower()):
            return True
        if self.host not in ANY_ADDRESS:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == socket.gethostname().lower()
        return True  # an address is no name that somebody else could make point here
