"""The queue over HTTP: submit, status, cancel, results; described by OpenAPI."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from .._version import __version__
from ..errors import InputError, ManyViewError, OutputError, UsageError, in_one_sentence
from ..files.paths import resolve_inside
from ..files.writing import require_space
from ..view.access import Access
from .answers import FILE_HEADERS, as_json, files_of, sentence, tar_pieces
from .exports import Exports
from .guard import Guard
from .job import JobView, NoSuchJobError, QueueFullError, Submission
from .limits import Limits, TooLargeError
from .options import FlatOptions
from .queue import JobQueue
from .upload import Upload

_STATUS: dict[type[Exception], int] = {
    NoSuchJobError: 404,
    TooLargeError: 413,
    UsageError: 400,
    QueueFullError: 503,
    OutputError: 507,
    ManyViewError: 500,
}


@dataclasses.dataclass(frozen=True)
class Service:
    """What is served.

    `check` raises UsageError for options that no job may have. `about` says what the server is (its model,
    its device), for clients.
    """

    queue: JobQueue
    options: FlatOptions
    check: Callable[[dict[str, Any]], object]
    about: dict[str, Any]
    limits: Limits

    def checked(self, text: bytes, video: bool) -> dict[str, Any]:
        """The options in a JSON object, for images or a video. Raises UsageError for what no job may have."""
        options, most = self.options.parse(text), self.limits.max_images
        if video:
            if options.get("max_frames") is None and (options.get("fps") or options.get("stride")):
                options["max_frames"] = most
            if (options.get("max_frames") or 0) > most:
                raise TooLargeError(f"max_frames may be {most} at most, not {options['max_frames']}")
        self.check(options)
        return options


def make_app(
    service: Service,
    access: Access,
    token: str | None,
    add_page: Callable[[FastAPI], ASGIApp] | None = None,
) -> Guard:
    """The ASGI application, which answers only what `access` lets in, and with a `token` only its holder.

    `add_page` puts a page for browsers onto it, which show the token as a cookie.
    """
    app = FastAPI(
        title="ManyView",
        version=__version__,
        description="Photos or a video in; cameras, depth maps and a point cloud out.",
        redoc_url=None,
    )
    _add_endpoints(app, service, token is not None)
    _add_errors(app)
    _describe(app, service, token is not None)
    inner = app if add_page is None else add_page(app)
    return Guard(inner, access, token, browsers=add_page is not None)


def _add_endpoints(app: FastAPI, service: Service, has_token: bool) -> None:
    queue, exports = service.queue, Exports(service.queue)

    @app.get("/health", summary="What the server is: version, model, device, limits, jobs")
    def health() -> Response:
        states = [job.state for job in queue.jobs()]
        counts = {"queued": states.count("queued"), "running": states.count("running")}
        limits = dataclasses.asdict(service.limits)
        about = {"manyview": __version__, **service.about, "needs_token": has_token}
        return as_json({**about, "limits": limits, **counts})

    @app.post("/jobs", summary="Submit images or a video", status_code=201)
    async def submit(request: Request) -> Response:
        with queue.staging() as stage:
            length = request.headers.get("content-length", "")
            if length.isdecimal():
                _check_length(int(length), service, stage)
            upload = Upload(stage, request.headers.get("content-type", ""), service.limits)
            try:
                async for piece in request.stream():
                    await run_in_threadpool(upload.write, piece)
                job = await run_in_threadpool(_submitted, upload, stage, service)
            finally:
                upload.close()
        return as_json(job, 201)

    @app.get("/jobs", summary="All jobs, in the order in which they came")
    def jobs() -> Response:
        return as_json(queue.jobs())

    @app.get("/jobs/{id}", summary="A job: its state, stage and share, position in the queue, verdict")
    def job(id: str) -> Response:
        return as_json(queue.view(id))

    @app.delete("/jobs/{id}", summary="Cancel a job, or remove one that has ended, with its files")
    def remove(id: str) -> Response:
        return as_json(queue.remove(id))

    @app.get("/jobs/{id}/files", summary="Names and sizes of the files of a result")
    def files(id: str) -> Response:
        return as_json(files_of(queue.result_folder(id)))

    @app.get("/jobs/{id}/files/{path:path}", summary="A file of a result")
    def file(id: str, path: str) -> Response:
        folder = queue.result_folder(id)
        return FileResponse(_file(folder, path), media_type="application/octet-stream", headers=FILE_HEADERS)

    @app.get("/jobs/{id}/result.tar", summary="All files of a result")
    def result(id: str) -> Response:
        folder = queue.result_folder(id)
        return _archive(folder, list(files_of(folder)), f"{id}.tar")

    @app.get("/jobs/{id}/exports/{name}", summary="An export, made now if need be: its file, or an archive")
    def exported(id: str, name: str) -> Response:
        folder, names = queue.result_folder(id), exports.files(id, name)
        if len(names) > 1:
            return _archive(folder, names, f"{id}-{name}.tar")
        called = f"{id}-{Path(names[0]).name}"
        return FileResponse(_file(folder, names[0]), filename=called, headers=FILE_HEADERS)


def _archive(folder: Path, names: list[str], called: str) -> Response:
    headers = {**FILE_HEADERS, "Content-Disposition": f'attachment; filename="{called}"'}
    return StreamingResponse(tar_pieces(folder, names), media_type="application/x-tar", headers=headers)


def _check_length(length: int, service: Service, stage: Path) -> None:
    if length > service.limits.upload_bytes:
        raise TooLargeError(
            f"a job may bring {service.limits.max_upload_mib} MiB; send fewer or smaller images"
        )
    require_space(stage.parent, length)


def _submitted(upload: Upload, stage: Path, service: Service) -> JobView:
    text, asked, files = upload.finish()
    return service.queue.submit(stage, asked, service.checked(text, upload.video), files)


def _file(folder: Path, name: str) -> Path:
    try:
        found = resolve_inside(folder, name, "the request")
    except InputError as error:
        raise NoSuchJobError(str(error)) from error
    if found.relative_to(folder).as_posix() not in files_of(folder):
        raise NoSuchJobError(f"the result has no file {name!r}; see its list of files")
    return found


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ManyViewError)
    async def ours(_: Request, error: ManyViewError) -> Response:
        status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
        return sentence(status, str(error))

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> Response:
        return sentence(error.status_code, f"{request.method} {request.url.path}: {error.detail}; see /docs")

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return sentence(500, in_one_sentence(error)[0])

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return sentence(400, "the client went away")


def _describe(app: FastAPI, service: Service, has_token: bool) -> None:
    """Put what FastAPI cannot know into the description: the parts of a job, and jobs."""
    about, view = (_schemas(kind) for kind in (Submission, JobView))
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        found = plain()
        components = found.setdefault("components", {})
        options = {"JobOptions": service.options.schema()}
        components["schemas"] = components.get("schemas", {}) | options | about | view
        if has_token:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            found["security"] = [{"token": []}]
        job, paths = {"$ref": "#/components/schemas/JobView"}, found["paths"]
        parts = {
            "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
            "options": {"$ref": "#/components/schemas/JobOptions"},
            "about": {"$ref": "#/components/schemas/Submission"},
        }
        body = {"type": "object", "properties": parts, "required": ["files"]}
        paths["/jobs"]["post"]["requestBody"] = {"content": {"multipart/form-data": {"schema": body}}}
        many = {"type": "array", "items": job}
        for path, method, schema in (
            ("/jobs", "post", job),
            ("/jobs", "get", many),
            ("/jobs/{id}", "get", job),
            ("/jobs/{id}", "delete", job),
        ):
            answer = next(iter(paths[path][method]["responses"].values()))
            answer["content"] = {"application/json": {"schema": schema}}
        return found

    app.openapi = openapi  # type: ignore[method-assign]


def _schemas(kind: type) -> dict[str, Any]:
    _, found = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    return found
