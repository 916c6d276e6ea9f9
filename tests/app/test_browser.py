"""The page in a real browser, on a server with the bundled model: what a person does, what may go wrong."""

from __future__ import annotations

import io
import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from tools.screenshot_viewer import BROWSER_ARGUMENTS, browser_path

from ..serve.waiting_server import WaitingServer

pytest.importorskip("gradio", reason="the page needs the extra 'app'")
sync_api = pytest.importorskip("playwright.sync_api", reason="there is no playwright to drive a browser")
CHROMIUM = browser_path()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path")

_PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WaitingServer]:
    server = WaitingServer(tmp_path_factory.mktemp("app"), "app", "--model", "manyview-small", "--no-open")
    yield server
    server.end()
    assert server.process.returncode == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        running = play.chromium.launch(executable_path=CHROMIUM, args=list(BROWSER_ARGUMENTS))
        yield running
        running.close()


@pytest.fixture
def visit(browser: Any, server: WaitingServer) -> Iterator[Callable[..., Any]]:
    """`visit(address)` opens a page as another person; none may ask anything of another machine."""
    contexts, outside = [], []

    def asked(request: Any) -> None:
        if not request.url.startswith((server.url, "data:", "blob:")):
            outside.append(request.url)

    def open_page(address: str = "/") -> Any:
        context = browser.new_context(viewport={"width": 900, "height": 800})
        context.set_default_timeout(_PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("request", asked)
        page.goto(server.url + address)
        page.get_by_role("button", name="Reconstruct").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not outside


def submit(page: Any, files: list[Path]) -> str:
    """Upload files, or take an example, see what they are expected to take, submit; returns the job's id."""
    if files:
        page.locator("input[type=file]").first.set_input_files([str(path) for path in files])
    else:
        page.get_by_role("button", name="Example: 3 images").click()
    page.get_by_text("expected peak").or_(page.get_by_text("Not possible")).first.wait_for()
    page.get_by_role("button", name="Reconstruct").click()
    page.wait_for_url("**/?job=*")
    return str(page.url).partition("job=")[2]


def state(page: Any, text: str) -> Any:
    return page.locator(".state", has_text=text)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    path = tmp_path / "broken.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:400])
    return path


def test_two_people_upload_and_see_their_own(
    visit: Callable[..., Any], server: WaitingServer, photos: Path, damaged: Path
) -> None:
    first, second = visit(), visit()
    drawn = []
    first.on("response", lambda answer: drawn.append(answer.status) if ".glb" in answer.url else None)
    mine = submit(first, sorted(photos.iterdir()))
    other = submit(second, [damaged])
    state(second, "Failed").wait_for()
    assert "broken.jpg" in state(second, "Failed").inner_text()
    state(first, "Done").wait_for()
    first.locator(".grade").wait_for()
    assert mine in first.content() and other not in first.content() and mine not in second.content()

    with first.expect_download() as started:
        first.get_by_role("link", name="colmap").click()
    with tarfile.open(started.value.path()) as archive:
        assert {"sparse/0/cameras.bin", "images/0.png"} <= set(archive.getnames())
    canvas = first.locator("canvas")
    canvas.wait_for()
    for _ in range(200):  # it is drawn in software, some time after the file came
        colours = np.asarray(Image.open(io.BytesIO(canvas.screenshot())).convert("RGB"))
        if drawn and len(np.unique(colours.reshape(-1, 3), axis=0)) > 20:
            break
        first.wait_for_timeout(200)
    else:
        pytest.fail("no points are drawn")
    with first.expect_response(lambda answer: ".glb" in answer.url):
        first.get_by_label("Cameras", exact=True).uncheck()
    assert set(drawn) == {200}


def test_cancel(visit: Callable[..., Any], server: WaitingServer, photos: Path) -> None:
    page = visit()
    server.hold.touch()
    slow = (photos / "0.png").rename(photos / "slow.png")
    id = submit(page, [slow])
    state(page, "Runs: wait, 25%").wait_for()
    page.get_by_role("button", name="Cancel").click()
    state(page, "Cancelled").wait_for()
    for _ in range(200):  # it goes once its process has ended
        if httpx2.get(f"{server.url}/jobs/{id}", trust_env=False).status_code == 404:
            break
        page.wait_for_timeout(50)
    else:
        pytest.fail("a cancelled job is still there")
    assert page.get_by_role("button", name="Cancel").is_disabled()


def test_a_result_is_there_after_a_kill(visit: Callable[..., Any], server: WaitingServer) -> None:
    page = visit()
    id = submit(page, [])
    state(page, "Done: 3 views").wait_for()
    server.end(signal.SIGKILL)
    server.start()
    again = visit(f"/?job={id}")
    state(again, "Done").wait_for()
    again.get_by_role("link", name="colmap").wait_for()
