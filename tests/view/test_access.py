"""Who the viewer answers: the holder of its token, under its own name; and what garbage does to it."""

from __future__ import annotations

import dataclasses
import gc
import random
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from manyview.errors import ManyViewError
from manyview.view import Viewer, ViewOptions, server, start_viewer
from manyview.view.access import Access

from .scenes import wall_scene

viser = pytest.importorskip("viser", reason="the viewer needs the extra 'view'")
msgspec = pytest.importorskip("msgspec")
from websockets.exceptions import InvalidStatus  # noqa: E402
from websockets.sync.client import ClientConnection, connect  # noqa: E402

PROTOCOL = f"viser-v{viser.__version__}"


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with start_viewer(wall_scene(), ViewOptions(port=0, conf_percentile=0)) as running:
        yield running


def page(url: str, **headers: str) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            assert b"<script" in answer.read()
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as refused:
        return refused.code, dict(refused.headers)


def websocket(viewer: Viewer, query: str = "", protocol: str = PROTOCOL, **headers: str) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{viewer.port}/{query}", subprotocols=[protocol], additional_headers=headers,
        max_size=None, proxy=None,
    )  # fmt: skip


def status_of(viewer: Viewer, query: str = "", **more: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        websocket(viewer, query, **more)
    return refused.value.response.status_code


def test_the_token_opens_the_page_whose_cookie_opens_the_rest(viewer: Viewer):
    address, _, query = viewer.url.partition("?")
    status, headers = page(viewer.url)
    assert status == 200 and headers["Referrer-Policy"] == "no-referrer"
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert page(address, Cookie=f"other=1; {cookie}")[0] == 200
    with websocket(viewer, Cookie=cookie, Origin=address.rstrip("/")) as connection:
        assert len(connection.recv(timeout=10)) > 0
    with websocket(viewer, f"?{query}") as connection:
        assert len(connection.recv(timeout=10)) > 0


def test_no_token_or_a_wrong_one(viewer: Viewer):
    address = viewer.url.partition("?")[0]
    name = page(viewer.url)[1]["Set-Cookie"].partition("=")[0]
    for url in (
        address,
        f"{address}?token=",
        f"{address}?token=wrong",
        f"{viewer.url}x",
        f"{address}nothing",
    ):
        status, headers = page(url)
        assert status == 403 and "Set-Cookie" not in headers
    assert page(address, Cookie=f"{name}=wrong")[0] == page(address, Cookie="a b;;=@")[0] == 403
    assert status_of(viewer) == status_of(viewer, "?token=wrong") == 403
    assert status_of(viewer, Cookie=f"{name}=wrong") == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "http://127.0.0.1.evil"],
)
def test_pages_of_other_sites(viewer: Viewer, origin: str):
    query = "?" + viewer.url.partition("?")[2]
    assert page(viewer.url, Origin=origin)[0] == 403
    assert status_of(viewer, query, Origin=origin) == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil", "192.0.2.1", "[::2]", "[", ""]
)
def test_other_names(viewer: Viewer, host: str):
    assert page(viewer.url, Host=host)[0] in (400, 403)


def test_names_of_the_viewer(viewer: Viewer):
    # Another port: that of a tunnel.
    for host in ("localhost", "LOCALHOST:9000", "[::1]:8080", f"127.0.0.1:{viewer.port}"):
        assert page(viewer.url, Host=host)[0] == 200
        assert page(viewer.url, Host=host, Origin=f"http://{host.lower()}")[0] == 200


def test_names_of_a_viewer_for_other_machines():
    def is_served(access: Access, host: str) -> bool:
        return access.refusal(f"/?token={access.token}", {"Host": host}) is None

    one, every = Access("box.example"), Access("0.0.0.0")
    assert is_served(one, "box.example:8080") and is_served(one, "localhost")
    assert not is_served(one, "192.0.2.1") and not is_served(one, "evil.example")
    assert is_served(every, "192.0.2.1:8080") and is_served(every, "[2001:db8::1]")
    assert not is_served(every, "evil.example") and not is_served(every, "")
    assert every.token != one.token and every.token not in repr(every)


def test_garbage_is_dropped_quietly(viewer: Viewer, capfd: pytest.CaptureFixture[str]):
    query, generator = "?" + viewer.url.partition("?")[2], random.Random(0)
    slider, points_of = (control._impl.uuid for control in (viewer.panel.percentile, viewer.panel.points_of))
    messages = [
        "text", b"", b"\xc1", b"\x91" * 5000 + b"\x90", msgspec.msgpack.encode([1, 2]),
        *(msgspec.msgpack.encode(m) for m in (
            {}, {"type": "NoSuchMessage"}, {"type": 3}, {"type": "ViewerCameraMessage"},
            {"type": "GuiUpdateMessage", "uuid": slider, "updates": {"value": "much"}},
            {"type": "GuiUpdateMessage", "uuid": slider, "updates": {"no such": 1}},
            {"type": "GuiUpdateMessage", "uuid": slider, "updates": 7},
            {"type": "GuiUpdateMessage", "uuid": points_of, "updates": {"value": "nobody"}},
            {"type": "SceneNodeClickMessage", "name": 3},
        )),
        *(generator.randbytes(40) for _ in range(20)),
        bytes(51 * 2**20),
    ]  # fmt: skip
    for message in messages:
        with websocket(viewer, query) as connection:
            connection.recv(timeout=10)
            connection.send(message)
    assert status_of(viewer, query, protocol="chat") == 400
    with websocket(viewer, query) as connection:
        assert len(connection.recv(timeout=10)) > 0
    assert viewer.shown_points == 3 * 12 * 16
    gc.collect()  # asyncio tells of errors that nobody asked for when their task goes
    assert capfd.readouterr() == ("", "")


def test_a_control_that_is_set_to_what_cannot_be(viewer: Viewer, capfd: pytest.CaptureFixture[str]):
    server.logged(lambda: 1 / 0)()
    assert capfd.readouterr() == ("", "")


def test_a_viser_that_cannot_be_guarded_is_not_served(monkeypatch: pytest.MonkeyPatch):
    real = viser.ViserServer
    stopped = []

    class Unguarded:
        """Starts before anybody could have a hand in it."""

        def __init__(self, **options: object) -> None:
            pass

        def stop(self) -> None:
            stopped.append(True)

    monkeypatch.setattr(viser, "ViserServer", Unguarded)
    with pytest.raises(ManyViewError, match="viser"):
        start_viewer(wall_scene(), dataclasses.replace(ViewOptions(), port=0))
    assert stopped == [True] and real is not viser.ViserServer
