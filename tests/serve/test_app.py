"""What the server answers, whom it refuses and what it does not take; nothing is computed."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from manyview.batch.pool import Answer
from manyview.cli.job_options import SERVERS_OWN
from manyview.serve.folder import INPUT_NAME, RESULT_NAME
from manyview.serve.job import Outcome
from manyview.serve.queue import JobQueue

from .conftest import LIMITS


def image(width: int = 8, height: int = 6, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, kind)
    return file.getvalue()


def post(http: Any, files: dict[str, bytes], about: Any = None, **options: Any) -> Any:
    parts = [("files", (name, content)) for name, content in files.items()]
    texts = {"options": json.dumps(options)} | ({} if about is None else {"about": json.dumps(about)})
    return http.post("/jobs", files=parts, data=texts)


def error(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    (name,) = answer.json()
    assert name == "error" and "\n" not in answer.json()["error"]
    return answer.json()["error"]


def test_files_lie_safely_and_keep_their_names(http: Any, queue: JobQueue) -> None:
    names = ["left/a b.png", 'q"\\x.jpg', "./right//a b.png"]
    answer = post(http(), dict.fromkeys(names, image()), {"name": "trip"}, image_size=56, to=["none"])
    assert answer.status_code == 201
    job = answer.json()
    assert job["files"] == ["left/a b.png", 'q"\\x.jpg', "right/a b.png"]
    assert (job["name"], job["state"], job["position"]) == ("trip", "queued", 1)
    assert job["options"] == {"image_size": 56, "to": ["none"]}
    place = queue.folder / job["id"] / INPUT_NAME
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*.*")) == [
        "left/a_b.png", "q__x.jpg", "right/a_b.png",
    ]  # fmt: skip
    assert http().get("/jobs").json() == [job] == [http().get(f"/jobs/{job['id']}").json()]


@pytest.mark.parametrize(
    ("files", "status", "named"),
    [
        ({"../a.png": image()}, 400, "../a.png"),
        ({"a.png": image(), "./a.png": image()}, 400, "a.png"),
        ({"x" * 2000 + ".png": image()}, 400, "xxx"),
        ({"list.txt": b"/etc/passwd"}, 400, "list.txt"),
        ({"film.mp4": b"#EXTM3U\nfile:///etc/passwd"}, 400, "film.mp4"),
        ({"film.mp4": b"\0\0\0\x14ftypisom" + bytes(40), "a.png": image()}, 400, "video"),
        ({}, 400, "files"),
        ({f"{number}.png": image() for number in range(4)}, 413, str(LIMITS.max_images)),
        ({"big.png": image(101, 100)}, 413, "big.png"),
        ({"big.bmp": image(1100, 1100, "BMP")}, 413, f"{LIMITS.max_upload_mib} MiB"),
    ],
)  # fmt: skip
def test_files_that_are_refused(
    http: Any, queue: JobQueue, files: dict[str, bytes], status: int, named: str
) -> None:
    before = set(queue.folder.iterdir())
    assert named in error(post(http(), files), status)
    assert not queue.jobs() and set(queue.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        *(({name: "x"}, name) for name in sorted(SERVERS_OWN)),
        ({"known_cameras": "/etc"}, "known_cameras"),
        ({"nonsense": 1}, "nonsense"),
        ({"max_frames": "many"}, "max_frames"),
        ({"max_frames": 0}, "max_frames"),
        ({"image_size": 2**70}, "image_size"),
        ({"to": ["nonsense"]}, "nonsense"),
        ({"depth_size": 28}, "--depth-size"),
        ({"model": "vggt-1b"}, "tiny"),
    ],
)  # fmt: skip
def test_options_that_are_refused(http: Any, queue: JobQueue, options: dict[str, Any], named: str) -> None:
    assert named in error(post(http(), {"a.png": image()}, **options), 400)
    assert not queue.jobs()


def test_bodies_that_cannot_be_read(http: Any, queue: JobQueue) -> None:
    client, kind = http(), {"Content-Type": "multipart/form-data; boundary=b"}
    whole = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n\r\nx\r\n--b--\r\n'
    for body, headers in (
        (b"{}", {"Content-Type": "application/json"}),
        (b"x", {"Content-Type": "multipart/form-data"}),
        (b"nonsense", kind),
        ((whole % b"files")[:-9], kind),
        (whole % b"other", kind),
        ((whole % b"files").replace(b"a.png", b"a\0.png"), kind),
        ((whole % b"files").replace(b"a.png", b"\xff.png"), kind),
        (whole % b"options", kind),
        (whole % b"about", kind),
    ):
        error(client.post("/jobs", content=body, headers=headers), 400)
    too_long = {**kind, "Content-Length": str(2**40)}
    assert "MiB" in error(client.post("/jobs", content=b"", headers=too_long), 413)
    pieces = (piece for piece in [whole.partition(b"x")[0] % b"files", *[bytes(2**20)] * 4])
    assert "MiB" in error(client.post("/jobs", content=pieces, headers=kind), 413)  # of a length not said
    assert not queue.jobs() and len(list(queue.folder.iterdir())) == 2


def test_text_that_is_no_text_is_kept_as_it_came(http: Any, queue: JobQueue) -> None:
    job = post(http(), {"a.png": image()}, {"name": "\udcff"}).json()
    assert http().get(f"/jobs/{job['id']}").json()["name"] == "\udcff" == job["name"]


def test_as_many_wait_as_may(http: Any) -> None:
    for _ in range(LIMITS.max_waiting):
        assert post(http(), {"a.png": image()}).status_code == 201
    assert "2" in error(post(http(), {"a.png": image()}), 503)


@pytest.fixture
def done(http: Any, queue: JobQueue) -> str:
    """A job with a result: two files, a hidden one and a link that leads out."""
    id = post(http(), {"a.png": image()}).json()["id"]
    task = next(queue.tasks())
    result = queue.folder / id / RESULT_NAME
    (result / "sub").mkdir(parents=True)
    (result / "one.txt").write_text("one" * 1000)
    (result / "sub" / "two.txt").write_text("two")
    (result / ".manyview-x").write_text("ours")
    os.symlink("/etc/passwd", result / "link")
    assert task is not None
    queue.ended(Answer(task, Outcome(views=1), 0.5))
    return id


def test_a_result_file_by_file_and_as_an_archive(http: Any, queue: JobQueue, done: str) -> None:
    client, place = http(), f"/jobs/{done}"
    assert client.get(f"{place}/files").json() == {"one.txt": 3000, "sub/two.txt": 3}
    answer = client.get(f"{place}/files/sub/two.txt")
    assert answer.text == "two" and answer.headers["X-Content-Type-Options"] == "nosniff"
    with tarfile.open(fileobj=io.BytesIO(client.get(f"{place}/result.tar").content)) as archive:
        assert archive.getnames() == ["one.txt", "sub/two.txt"]
        assert archive.extractfile("one.txt").read() == b"one" * 1000  # type: ignore[union-attr]
    outside = (
        "../job.json",
        "..%2fjob.json",
        "%2e%2e/job.json",
        "/etc/passwd",
        "sub",
        "link",
        ".manyview-x",
        "%00",
    )
    for name in outside:
        error(client.get(f"{place}/files/{name}"), 404)
    assert client.delete(place).json()["state"] == "cancelled" and not (queue.folder / done).exists()
    for path in (place, f"{place}/files", f"{place}/result.tar", "/jobs/..", "/jobs/%2e%2e%2f"):
        error(client.get(path), 404)
    assert "DELETE" in error(client.delete("/jobs"), 405)


def test_only_who_has_the_token_is_answered(http: Any, done: str) -> None:
    client = http("0.0.0.0", "secret")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
        for path in ("/jobs", f"/jobs/{done}", f"/jobs/{done}/files/one.txt", "/nowhere"):
            error(client.get(path, headers=headers), 401)
        error(client.delete(f"/jobs/{done}", headers=headers), 401)
        error(client.post("/jobs", headers=headers), 401)
        if headers:
            error(client.get("/health", headers=headers), 401)
    assert client.get("/health").json()["needs_token"] and client.get("/docs").status_code == 200
    right = {"Authorization": "Bearer secret"}
    assert client.get(f"/jobs/{done}", headers=right).status_code == 200
    assert error(client.get("/jobs", headers=[*right.items(), *right.items()]), 400)


def test_pages_of_other_sites_are_refused(http: Any) -> None:
    client = http()
    for headers in (
        {"Host": "evil.example"}, {"Host": "evil.example:7870"}, {"Host": "127.0.0.1.evil.example"},
        {"Host": ""}, {"Origin": "http://evil.example"}, {"Origin": "null"},
    ):  # fmt: skip
        error(client.get("/jobs", headers=headers), 403)
    for headers in ({"Host": "localhost:7870"}, {"Origin": "http://127.0.0.1:7870"}):
        answer = client.get("/jobs", headers=headers)
        assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


def test_the_description_shows_every_option_and_nothing_of_ours(http: Any) -> None:
    client = http(token="secret")
    found = client.get("/openapi.json").json()
    options = found["components"]["schemas"]["JobOptions"]["properties"]
    assert {"accel", "image_size", "max_frames", "refine", "to", "fps", "sky", "yes"} <= options.keys()
    assert not options.keys() & {*SERVERS_OWN, "known_cameras", "masks", "overwrite"}
    assert all(option["description"] for option in options.values())
    assert found["security"] and set(found["paths"]) >= {"/jobs", "/jobs/{id}", "/jobs/{id}/files/{path}"}
    assert client.get("/docs").status_code == 200


def test_a_disk_without_room_is_said_before_the_upload(http: Any, queue: JobQueue, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "manyview.files.writing.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})()
    )
    assert Path(queue.folder).name in error(post(http(), {"a.png": image()}), 507)
