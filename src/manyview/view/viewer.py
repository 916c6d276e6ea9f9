"""The viewer in the browser: points, cameras with their images, and a panel of sliders (viser)."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float32

from ..errors import UsageError, optional_module
from ..export.frusta import frustum_corners, frustum_size
from ..files.spread import evenly_spread
from ..reconstruction.result.result import Reconstruction
from .access import Access
from .cameras import CameraShapes, line_colours, small_image
from .client_tools import ClientTools
from .cloud import LEVEL_STEP, RankedPoints, frame_cloud, level_of
from .filters import PointFilter, point_width
from .loading import Detail, Loading, with_sky_shown
from .options import ViewOptions
from .panel import ALL_FRAMES, FRAMES_SO_FAR, THIS_FRAME, Choices, Panel
from .playback import Playback
from .server import guarded_server, logged, quiet
from .space import PAGE_EXTENT, first_eye, fit_space
from .stage import AllFrames, FramesSoFar, Nodes

_PORTS_TRIED = 200
_HIGHLIGHT = (255, 0, 170)  # no colour of the cameras' own scale
_LEAST_WIDTH = PAGE_EXTENT / 5000  # of a point; narrower ones cannot be seen
_MOST_WIDTH = PAGE_EXTENT / 50


def start_viewer(scene: Reconstruction, options: ViewOptions | None = None) -> Viewer:
    """Serve `scene` as an interactive page until `Viewer.stop` is called; returns at once.

    Raises MissingExtraError without viser, UsageError for an address that cannot be served.
    """
    options = options or ViewOptions()
    optional_module("viser", "the viewer", "view")
    access = Access(options.host)
    server = guarded_server(access, free_port(options.host, options.port))
    try:
        return Viewer(server, scene, options, access)
    except BaseException:
        server.stop()
        raise


def free_port(host: str, port: int, tried: int = _PORTS_TRIED) -> int:
    """The first of `tried` ports from `port` on (0: any) that can be bound on `host`. Raises UsageError."""
    try:
        family, kind, protocol, _, _ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise UsageError(f"the host {host!r} is not an address of this machine; try 127.0.0.1") from None
    problem: OSError | None = None
    for candidate in range(port, min(port + tried, 65536)):
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, candidate))
                return int(trial.getsockname()[1])
            except OSError as error:
                problem = error
    raise UsageError(
        f"no port from {port} on can be served on {host} ({problem}); choose another --port or --host"
    )


class Viewer:
    """A running viewer. `server` is viser's, for additions of your own; usable as a context manager."""

    def __init__(self, server: Any, scene: Reconstruction, options: ViewOptions, access: Access) -> None:
        self.server, self.scene, self.options, self._access = server, scene, options, access
        self._lock = threading.Lock()
        self._loading = Loading(scene, options.max_points)
        self._reading = ""
        points = self._loading.detail.cloud.points
        self.space = fit_space(scene, points)
        size = frustum_size(scene, points.astype(np.float64))
        self._shapes = CameraShapes(self.space(frustum_corners(scene, size)))
        self._applied: tuple[Choices, Detail] | None = None
        self._frame: tuple[tuple[Detail, int], tuple[RankedPoints, float]] | None = None
        start = Choices(
            percentile=float(level_of(options.conf_percentile) * LEVEL_STEP),
            filtered=PointFilter(depth_jump=options.drop_edges),
        )
        self._nodes = {
            kind: Nodes(server, self.space, name)
            for kind, name in (
                (ALL_FRAMES, "/points"),
                (FRAMES_SO_FAR, "/so-far"),
                (THIS_FRAME, "/frame/points"),
            )
        }
        self._all = AllFrames(self._nodes[ALL_FRAMES])
        self._so_far = FramesSoFar(self._nodes[FRAMES_SO_FAR])
        with server.atomic():
            self._set_stage()
            self._add_cameras(start)
            self.panel = Panel(
                server, scene, start, logged(self.refresh), logged(self._play), logged(self._look_through)
            )
            self.playback = Playback(self.panel.next_frame, self.panel.pause_s, self.panel.show_playing)
            self.refresh()
        server.on_client_connect(logged(self._welcome))
        self._read_on()

    @property
    def port(self) -> int:
        return int(self.server.get_port())

    @property
    def url(self) -> str:
        """Address of the page with its token, for a browser on this machine."""
        return f"{self._access.url(self.port)}/?token={self._access.token}"

    @property
    def whole(self) -> bool:
        """Whether the points of all views are there; of many views, the page starts with some."""
        return self._loading.detail.whole

    @property
    def shown_points(self) -> int:
        """Number of points on the page now."""
        return sum(nodes.count() for nodes in self._nodes.values())

    def points_on_page(self) -> Float32[np.ndarray, "n 3"]:
        """Visible points in page coordinates."""
        return np.concatenate([nodes.shown() for nodes in self._nodes.values()])

    def stop(self) -> None:
        """Close the page and free the port."""
        self.playback.stop()
        self._loading.stop()
        with quiet():
            self.server.stop()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def refresh(self) -> None:
        """Apply the panel to the page; of many waiting calls only the first has work to do."""
        with self._lock:
            now = self.panel.read()
            before = None if self._applied is None else self._applied[0]
            if before is not None and now.hide_sky != before.hide_sky:
                self._load(self.scene if now.hide_sky else with_sky_shown(self.scene))
            detail = self._loading.detail
            if self._applied == (now, detail):
                return
            with self.server.atomic():
                self._show_points(now, detail)
                self._show_cameras(now, before)
            self._applied = (now, detail)

    def _welcome(self, client: Any) -> None:
        """What a browser has for itself; viser keeps it by its callbacks."""
        ClientTools(client, self)

    def _load(self, scene: Reconstruction) -> None:
        """Begin anew with the points of a scene."""
        self._loading.stop()
        self._loading = Loading(scene, self.options.max_points)
        self._read_on()

    def _read_on(self) -> None:
        self._loading.go_on(logged(self._show_reading), logged(self._arrived))

    def _show_reading(self, done: int, total: int) -> None:
        self._reading = f"reading frame {done:,} of {total:,} for more points"
        self.panel.show_count(self.shown_points, len(self._loading.detail.cloud), self._reading)

    def _arrived(self) -> None:
        self._reading = ""
        self.refresh()

    def _set_stage(self) -> None:
        stage = self.server.scene
        # Nothing on the page is lit, and viser would download its environment maps.
        stage.configure_environment_map(None)
        stage.configure_default_lights(False)
        stage.set_up_direction(tuple(float(x) for x in self.space.up))
        self.server.initial_camera.position = first_eye(self.scene, self.space)
        self.server.initial_camera.look_at = np.zeros(3)

    def _add_cameras(self, start: Choices) -> None:
        stage = self.server.scene
        self._lines = stage.add_line_segments(
            "/cameras/lines", self._shapes.lines(start.camera_size), line_colours(self.scene),
            thickness=1.5, thickness_units="screen",
        )  # fmt: skip
        chosen = evenly_spread(len(self.scene), self.options.max_images)
        self._images = {view: self._add_image(view, start.camera_size) for view in chosen}
        self._highlight = stage.add_line_segments(
            "/frame/camera", self._shapes.lines(start.camera_size, [start.frame]), _HIGHLIGHT,
            thickness=4.0, thickness_units="screen",
        )  # fmt: skip

    def _add_image(self, view: int, camera_size: float) -> Any:
        from viser.transforms import SO3

        middle, axes, width, height = self._shapes.image_plane(view, camera_size)
        node = self.server.scene.add_image(
            f"/cameras/images/{view:05d}", small_image(self.scene, view), width, height,
            format="jpeg", jpeg_quality=80, cast_shadow=False, receive_shadow=False,
            wxyz=SO3.from_matrix(axes).wxyz, position=middle,
        )  # fmt: skip
        node.on_click(logged(lambda _: self.panel.pick_frame(view)))
        return node

    def _show_points(self, now: Choices, detail: Detail) -> None:
        cloud, width = detail.cloud, detail.width
        if now.points_of == THIS_FRAME:
            cloud, width = self._of_frame(detail, now.frame)
        on_page = float(np.clip(width * self.space.scale, _LEAST_WIDTH, _MOST_WIDTH))
        self._nodes[now.points_of].resize(on_page * now.point_size)
        self._all.show(cloud, now.filtered, now.percentile if now.points_of == ALL_FRAMES else None)
        if now.points_of == FRAMES_SO_FAR:
            self._so_far.show(cloud, now.filtered, now.percentile, now.frame, len(self.scene))
        else:
            self._so_far.clear()
        own = self._nodes[THIS_FRAME]
        if now.points_of == THIS_FRAME:
            own.put(0, now.filtered.kept(cloud, now.percentile))
        else:
            own.clear()
        self.panel.show_count(self.shown_points, len(cloud), self._reading)

    def _of_frame(self, detail: Detail, frame: int) -> tuple[RankedPoints, float]:
        """All points of a frame, and how wide they are in world units."""
        if self._frame is None or self._frame[0] != (detail, frame):
            cloud = frame_cloud(detail.scene, frame, detail.thresholds, self.options.max_points)
            width = point_width(detail.scene, cloud.points, [frame])
            self._frame = ((detail, frame), (cloud, width))
        return self._frame[1]

    def _play(self) -> None:
        """Play or pause; from the start where the last frame is shown, and with points that change."""
        if not self.playback.playing:
            now = self.panel.read()
            if now.points_of == ALL_FRAMES:
                self.panel.points_of.value = FRAMES_SO_FAR
            if now.frame == len(self.scene) - 1:
                self.panel.pick_frame(0)
        self.playback.toggle()

    def _show_cameras(self, now: Choices, before: Choices | None) -> None:
        if before is None or (now.frame, now.show_as) != (before.frame, before.show_as):
            self.panel.show_frame(now)
        if before is not None and now.camera_size != before.camera_size:
            self._lines.points = self._shapes.lines(now.camera_size)
            for view, node in self._images.items():
                node.position, _, node.render_width, node.render_height = self._shapes.image_plane(
                    view, now.camera_size
                )
        if before is None or (now.frame, now.camera_size) != (before.frame, before.camera_size):
            self._highlight.points = self._shapes.lines(now.camera_size, [now.frame])
        if before is None or (now.cameras, now.images) != (before.cameras, before.images):
            self._lines.visible = self._highlight.visible = now.cameras
            for node in self._images.values():
                node.visible = now.cameras and now.images

    def _look_through(self, client: Any) -> None:
        """Move a client's camera to that of the chosen frame, and hide the cameras."""
        from viser.transforms import SO3

        self.panel.cameras.value = False
        frame = self.panel.read().frame
        world_from_cam = self.scene.world_from_cam[frame]
        with client.atomic():
            client.camera.wxyz = SO3.from_matrix(world_from_cam[:, :3]).wxyz
            client.camera.position = self.space(world_from_cam[:, 3])
            client.camera.fov = float(
                2 * np.arctan(self.scene.height / 2 / self.scene.intrinsics[frame, 1, 1])
            )
