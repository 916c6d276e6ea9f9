"""The page's API as plain HTTP and gradio_client use it, what it refuses, and whom; nothing is computed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from manyview.app.page_jobs import Controls
from manyview.app.results import Results, Shown
from manyview.batch.pool import Answer
from manyview.errors import UsageError
from manyview.serve.folder import RESULT_NAME
from manyview.serve.job import Outcome, StoredFile, Submission
from manyview.serve.limits import Limits
from manyview.serve.queue import open_queue

from ..view.scenes import wall_scene
from .conftest import Served

LIMITS, TOKEN = Limits(max_upload_mib=1, max_images=3, max_pixels=10_000), "secret"

BEARER = {"Authorization": f"Bearer {TOKEN}"}
PLAIN: dict[str, Any] = {
    "method": "default",
    "views": 0,
    "refinement": "none",
    "image_size": 0,
    "further": "",
}


@pytest.fixture
def http(served: Served) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=served.url, headers=BEARER, trust_env=False) as http:
        yield http


class Refused(Exception):
    """What the page says of a call that it refuses."""


def call(http: httpx2.Client, name: str, *values: Any) -> Any:
    """A call in the way of Gradio's API; `values` may be paths of files, which are uploaded."""
    id = http.post(f"/gradio_api/call/{name}", json={"data": values}).json()["event_id"]
    *_, kind, data = http.get(f"/gradio_api/call/{name}/{id}").text.strip().split("\n")
    found = json.loads(data.removeprefix("data: "))
    if kind == "event: error":
        raise Refused(found["error"])
    return found


def ask(http: httpx2.Client, name: str, images: list[Path], **controls: Any) -> Any:
    """Call of an endpoint that takes files and controls."""
    files = [("files", (path.name, path.read_bytes())) for path in images]
    paths = http.post("/gradio_api/upload", files=files).json() if files else []
    sent = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    (found,) = call(http, name, sent, *{**PLAIN, **controls}.values())
    return found


def test_a_job_by_the_api(served: Served, http: httpx2.Client, images: list[Path]) -> None:
    chosen = {"method": "avggt", "views": 2, "further": '{"image_size": 56}'}
    assert ask(http, "plan", images, **chosen) == "`2 files, ['accel', 'image_size', 'max_frames', 'to']`"
    id = ask(http, "reconstruct", images, **chosen)
    (job,) = call(http, "status", id)
    assert job["files"] == ["image9.png", "image10.png"]  # in natural order, as of a folder
    assert job["options"] == {"to": ["none"], "accel": "avggt", "max_frames": 2, "image_size": 56}
    assert http.get(f"/jobs/{id}").json()["state"] == job["state"] == "queued"
    call(http, "cancel", id)
    assert http.get(f"/jobs/{id}").status_code == 404
    with pytest.raises(Refused, match=id):
        call(http, "status", id)


def test_what_is_refused_is_said_in_a_sentence(
    served: Served, http: httpx2.Client, images: list[Path]
) -> None:
    folder = images[0].parent
    for name, content in (("list.txt", b"/etc/passwd"), ("film.mp4", b"#EXTM3U\nfile:///etc/passwd")):
        (folder / name).write_bytes(content)
    Image.new("RGB", (101, 100)).save(folder / "big.png")
    (folder / "other").mkdir()
    more = [folder / "other" / "image9.png", folder / "more1.png", folder / "more2.png"]
    for number, path in enumerate(more):
        Image.new("RGB", (9, number + 1)).save(path)
    for files, controls, named in (
        ([], {}, "no files"),
        ([folder / "list.txt"], {}, "list.txt"),
        ([folder / "film.mp4"], {}, "film.mp4"),
        ([folder / "big.png"], {}, "big.png"),
        ([images[1], more[0]], {}, "image9.png"),
        ([*images, *more[1:]], {}, str(LIMITS.max_images)),
        (images, {"views": 2**60}, "max_frames"),
        (images, {"further": "[]"}, "JSON"),
        (images, {"further": '{"device": "cpu"}'}, "device"),
        (images, {"further": '{"known_cameras": "/etc"}'}, "known_cameras"),
    ):
        with pytest.raises(Refused) as refused:
            ask(http, "reconstruct", files, **controls)
        assert named in str(refused.value) and "\n" not in str(refused.value)
    assert not [job for job in http.get("/jobs").json() if job["state"] == "queued"]
    with pytest.raises(UsageError, match=r"1\.5"):
        Controls(max_frames=1.5).options()


def test_only_files_of_the_page(served: Served, http: httpx2.Client, images: list[Path]) -> None:
    outside = [images[0], served.folder / ".manyview-serve", Path("/etc/passwd"), served.cache / "../x"]
    for name in [*outside, "http://127.0.0.1:9/x", "https://example.org/x"]:
        assert http.get(f"/gradio_api/file={name}").status_code == 403
    # Paths and addresses that a client claims to have uploaded.
    for name in [*outside, "http://127.0.0.1:9/x.png", "https://example.org/x.png"]:
        file = {"path": str(name), "meta": {"_type": "gradio.FileData"}}
        sent = {"data": [[file], *PLAIN.values()], "fn_index": 0, "session_hash": "x"}
        for place in ("call/reconstruct", "queue/join", "queue/join/"):
            assert http.post(f"/gradio_api/{place}", json=sent).status_code == 403
    for body in (b"{", b"[]", b"[" * 10**6):
        assert http.post("/gradio_api/queue/join", content=body).status_code in (400, 422)
    assert http.post("/gradio_api/queue/join", content=bytes(5 * 2**20)).status_code == 413
    assert not [job for job in http.get("/jobs").json() if job["state"] == "queued"]


def test_addresses_that_the_page_does_not_need(http: httpx2.Client) -> None:
    for path in ("proxy=https://x.hf.space/", "run-history/records", "deep_link", "vibe-code", "stream/x"):
        assert http.get(f"/gradio_api/{path}").status_code == 404
    long = http.post("/gradio_api/upload", content=bytes(LIMITS.upload_bytes + 1))
    assert long.status_code == 413 and str(LIMITS.max_upload_mib) in long.json()["error"]
    assert http.post("/gradio_api/upload", content=iter([b"x"])).status_code == 411


def test_only_who_has_the_token_is_answered(served: Served) -> None:
    with httpx2.Client(base_url=served.url, trust_env=False) as http:
        for path in (
            "/",
            "/config",
            "/gradio_api/info",
            f"/gradio_api/file={served.cache}/x",
            "/jobs",
            "/?token=x",
        ):
            answer = http.get(path)
            assert answer.status_code == 401 and "set-cookie" not in answer.headers
        assert http.post("/gradio_api/upload", content=b"x").status_code == 401
        wrong = http.get(f"/?token={TOKEN}", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        page = http.get(f"/?token={TOKEN}")
        assert page.status_code == 200 and "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        cookie = page.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert http.get("/config").status_code == 200  # by the cookie
        for foreign in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            assert http.get("/config", headers=foreign).status_code == 403
        assert 'analytics_enabled":false' in page.text.replace(" ", "")


def test_exports_are_made_when_they_are_asked_for(
    served: Served, http: httpx2.Client, images: list[Path]
) -> None:
    ask(http, "reconstruct", images)
    id = served.do_next()
    with tarfile.open(fileobj=io.BytesIO(http.get(f"/jobs/{id}/exports/ply").content)) as archive:
        assert archive.getnames() == ["cameras.ply", "points.ply"]
    glb = http.get(f"/jobs/{id}/exports/glb")
    assert glb.content[:4] == b"glTF" and f"{id}-scene.glb" in glb.headers["Content-Disposition"]
    made = (served.folder / id / "result" / "scene.glb").stat().st_mtime_ns
    assert http.get(f"/jobs/{id}/exports/glb").content == glb.content
    assert (served.folder / id / "result" / "scene.glb").stat().st_mtime_ns == made
    assert http.get(f"/jobs/{id}/exports/nonsense").status_code == 400
    assert http.get("/jobs/000000-0/exports/glb").status_code == 404


def test_gradio_client_as_the_guide_shows_it(served: Served, images: list[Path]) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "app.md").read_text(encoding="utf-8")
    code = guide.partition("```python\n")[2].partition("```")[0]
    for there, here in (
        ("http://127.0.0.1:7860", served.url),
        ("TOKEN", TOKEN),
        ("photos/1.jpg", str(images[0])),
        ("photos/2.jpg", str(images[1])),
        ("time.sleep(1)", "print(flush=True); time.sleep(0.1)"),
    ):
        assert there in code
        code = code.replace(there, here)
    line = [sys.executable, "-c", code]
    with subprocess.Popen(line, cwd=images[0].parent, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline().startswith("`2 files")
        client.stdout.readline()  # it waits for its job
        served.do_next()
        client.communicate(timeout=100)
    assert client.returncode == 0 and tarfile.is_tarfile(images[0].parent / "points.tar")


def test_what_is_shown_of_a_result(tmp_path: Path) -> None:
    with open_queue(tmp_path / "jobs") as queue, queue.staging() as stage:
        files = [StoredFile(f"{number}.png", f"{number}.png", 1) for number in range(5)]
        id = queue.submit(stage, Submission(), {}, files).id
        task = next(queue.tasks())
        assert task is not None
        sky = np.broadcast_to(np.arange(12)[:, None] < 6, (3, 12, 16))
        wall_scene(warnings=("seen <from> afar",), sky=sky).save(task.folder / RESULT_NAME)
        queue.ended(Answer(task, Outcome(views=3), 0.5))
        results = Results(queue, tmp_path)
        shown = (Shown(0, sky=True), Shown(0), Shown(80), Shown(80, cameras=False))
        sizes = [results.points(id, one).stat().st_size for one in shown]
        assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
        assert results.image(id, 99, "depth").shape == (12, 16, 3)
        assert "seen &lt;from&gt; afar" in results.verdict(id) and "2 files not used" in results.verdict(id)
