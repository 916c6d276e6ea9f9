"""Result folders, export manifests, journals of streams and batches, and jobs that a stranger edited."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, safe_open, save_file

from manyview import export, load_reconstruction
from manyview.batch.claims import Claims, Runner
from manyview.batch.folder import open_batch
from manyview.batch.journal import Entry, Journal
from manyview.batch.pool import Answer, Failure
from manyview.cli.job_options import job_command
from manyview.cli.serve_job import JobCommand
from manyview.files.manifest import MANIFEST_NAME
from manyview.reconstruction.result.save import ARRAYS_NAME, HEADER_NAME
from manyview.serve.job import StoredFile, Submission
from manyview.serve.queue import open_queue
from manyview.streaming.journal import StreamJournal

from ..analytic_scene import fit_transform, room_scene
from ..streaming.test_journal_schema import SETTINGS, write_journal
from .mutations import damaged, examples, json_bytes, mutated, only_our_errors

FORMATS = ("ply", "colmap", "nerfstudio", "depth", "npz")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`result`, a stream's `journal`, and `outside` with a victim."""
    folder = tmp_path_factory.mktemp("fuzz")
    room_scene([fit_transform((32, 24), (28, 14))] * 2, ["a.jpg", "sub/b.jpg"])[0].save(folder / "result")
    write_journal(folder / "journal")
    (folder / "outside").mkdir()
    (folder / "outside" / "victim.txt").write_text("mine")
    return folder


def header(place: Path) -> dict[str, Any]:
    return json.loads((place / "result" / HEADER_NAME).read_text())


@examples(60)
@given(st.data())
def test_headers(place: Path, data: st.DataObject) -> None:
    out, again = place / "out", place / "again"
    for folder in (out, again):
        shutil.rmtree(folder, ignore_errors=True)
    again.mkdir()
    (again / HEADER_NAME).write_bytes(json_bytes(data.draw(mutated(header(place)))))
    (again / ARRAYS_NAME).write_bytes((place / "result" / ARRAYS_NAME).read_bytes())
    with only_our_errors(place / "outside"):
        scene = load_reconstruction(again)
        for name in FORMATS:
            with only_our_errors():
                export(scene, out, name)


@examples(60)
@given(st.data())
def test_arrays(place: Path, data: st.DataObject) -> None:
    again = place / "arrays"
    again.mkdir(exist_ok=True)
    shutil.copy(place / "result" / HEADER_NAME, again)
    content = (place / "result" / ARRAYS_NAME).read_bytes()
    (again / ARRAYS_NAME).write_bytes(data.draw(damaged(content)))
    with only_our_errors():
        load_reconstruction(again)


@examples(40)
@given(st.data())
def test_export_manifests(place: Path, data: st.DataObject) -> None:
    out = place / "exported"
    if not out.exists():
        export(load_reconstruction(place / "result"), out, "ply")
    whole = json.loads((out / MANIFEST_NAME).read_text())
    digest = hashlib.sha256(b"mine").hexdigest()
    names = data.draw(st.sampled_from([["../outside/victim.txt"], [str(place / "outside/victim.txt")], []]))
    whole["exports"]["ply"]["files"] |= dict.fromkeys(names, digest)
    (out / MANIFEST_NAME).write_bytes(json_bytes(data.draw(mutated(whole))))
    with only_our_errors(place / "outside"):
        export(load_reconstruction(place / "result"), out, "ply", overwrite=True)
    shutil.rmtree(out)


def _read_journal(folder: Path) -> None:
    journal = StreamJournal(folder, SETTINGS)
    journal.resume()
    journal.log()
    list(journal.parts())


@examples(40)
@given(st.data())
def test_journals(place: Path, data: st.DataObject) -> None:
    again = place / "journal again"
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(place / "journal", again)
    name = data.draw(st.sampled_from(sorted(path.name for path in again.iterdir())))
    path = again / name
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    elif name.startswith("chunk-"):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        records = json.dumps(data.draw(mutated(json.loads(metadata["records"]))))
        save_file(load_file(path), path, metadata | {"records": records})
    elif name.endswith(".json"):
        path.write_bytes(json_bytes(data.draw(mutated(json.loads(path.read_text())))))
    elif name.endswith(".jsonl"):
        lines = data.draw(mutated([json.loads(line) for line in path.read_text().splitlines()]))
        path.write_bytes(b"\n".join(map(json_bytes, lines if isinstance(lines, list) else [lines])))
    with only_our_errors(place / "outside"):
        _read_journal(again)


@examples(40)
@given(st.data())
def test_batches(place: Path, data: st.DataObject) -> None:
    out = place / "batch"
    shutil.rmtree(out, ignore_errors=True)
    hidden = open_batch(out, {"accel": "flash"})
    entry = Entry("kitchen", "failed", 1.5, "/photos", "no", 1, 2.5, 3, 4, 1)
    Journal(hidden / "journal", "host").write(entry)
    Claims(hidden / "claims", Runner("host", "boot", 1, 2, "nonce")).take("kitchen")
    names = ("batch.json", "journal/host.jsonl", "claims/kitchen.1.claim")
    path = hidden / data.draw(st.sampled_from(names))
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    else:
        path.write_bytes(json_bytes(data.draw(mutated(json.loads(path.read_bytes())))) + b"\n")
    with only_our_errors(place / "outside"):
        open_batch(out, {"accel": "flash"})
    Journal(hidden / "journal", "other").read()
    Claims(hidden / "claims", Runner.this()).take("kitchen")


@examples(60)
@given(st.data())
def test_jobs(place: Path, data: st.DataObject) -> None:
    folder = place / "jobs"
    shutil.rmtree(folder, ignore_errors=True)
    with open_queue(folder) as queue, queue.staging() as stage:
        (stage / "input").mkdir()
        files = [StoredFile("sub/a.png", "sub/a.png", 3)]
        asked = Submission(name="photos", notes=("hm",), earlier={"accel": "dense"})
        job = queue.submit(stage, asked, {"accel": "dense", "image_size": 28}, files)
    path = folder / job.id / "job.json"
    fixed = {"id": "1", "submitted": 1.5, "lines": [{"kind": "said", "text": "x"}], "deaths": 1}
    document = json.loads(path.read_text()) | fixed
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(json_bytes(document))))
    else:
        path.write_bytes(json_bytes(data.draw(mutated(document))))
    with only_our_errors(place / "outside"), open_queue(folder) as queue:
        queue.jobs()
        task = next(queue.tasks())
        if task is not None:
            given = {"paths": (), "task": task, "tell": str, "result": None}
            with only_our_errors():
                command = job_command(task.job.options, JobCommand, **given)
                command.found(command.how.inputs)
            queue.ended(Answer(task, Failure("no"), 1.0))
