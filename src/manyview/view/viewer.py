"""The viewer in the browser: points, cameras with their images, and a panel of sliders (viser)."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import UsageError, optional_module
from ..export.frusta import frustum_corners, frustum_size
from ..files.spread import evenly_spread
from ..reconstruction.result.result import Reconstruction
from .access import Access
from .cameras import CameraShapes, line_colours, small_image
from .cloud import LEVEL_STEP, LEVELS, RankedPoints, frame_cloud, level_of, level_thresholds, scene_cloud
from .options import ViewOptions
from .panel import Choices, Panel
from .server import guarded_server, logged, quiet
from .space import first_eye, fit_space

_PORTS_TRIED = 200
_HIGHLIGHT = (255, 0, 170)  # no colour of the cameras' own scale


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
        self._thresholds = level_thresholds(scene)
        self._cloud = scene_cloud(scene, self._thresholds, options)
        self._frame_cloud = (-1, self._cloud)
        self.space = fit_space(scene, self._cloud.points)
        size = frustum_size(scene, self._cloud.points.astype(np.float64))
        self._shapes = CameraShapes(self.space(frustum_corners(scene, size)))
        self._applied: Choices | None = None
        self._only_frame: Any = None
        start = Choices(percentile=float(level_of(options.conf_percentile) * LEVEL_STEP))
        with server.atomic():
            self._set_stage()
            self._levels = self._add_points(start.point_size)
            self._add_cameras(start)
            self.panel = Panel(server, scene, start, logged(self.refresh), logged(self._look_through))
            self.refresh()

    @property
    def port(self) -> int:
        return int(self.server.get_port())

    @property
    def url(self) -> str:
        """Address of the page with its token, for a browser on this machine."""
        return f"{self._access.url(self.port)}/?token={self._access.token}"

    @property
    def shown_points(self) -> int:
        """Number of points on the page now."""
        if self._only_frame is not None:
            return len(self._only_frame.points)
        return sum(len(node.points) for node in self._levels.values() if node.visible)

    def stop(self) -> None:
        """Close the page and free the port."""
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
            now, before = self.panel.read(), self._applied
            if now == before:
                return
            with self.server.atomic():
                self._show_points(now, before)
                self._show_cameras(now, before)
            self._applied = now

    def _set_stage(self) -> None:
        stage = self.server.scene
        # Nothing on the page is lit, and viser would download its environment maps.
        stage.configure_environment_map(None)
        stage.configure_default_lights(False)
        stage.set_up_direction(tuple(float(x) for x in self.space.up))
        self.server.initial_camera.position = first_eye(self.scene, self.space)
        self.server.initial_camera.look_at = np.zeros(3)

    def _add_points(self, point_size: float) -> dict[int, Any]:
        """A node for each level of confidence that has points."""
        levels = {}
        for level in range(LEVELS):
            part = self._cloud.slice_of(level)
            if part.stop > part.start:
                levels[level] = self._add_cloud(
                    f"/points/{level * LEVEL_STEP:02d}", self._cloud, part, point_size
                )
        return levels

    def _add_cloud(self, name: str, cloud: RankedPoints, part: slice, point_size: float) -> Any:
        return self.server.scene.add_point_cloud(
            name,
            self.space(cloud.points[part]),
            cloud.colours[part],
            point_size=point_size,
            point_shape="circle",
            point_shading="flat",
            precision="float32",
        )

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

    def _show_points(self, now: Choices, before: Choices | None) -> None:
        if before is None or now.point_size != before.point_size:
            for node in self._levels.values():
                node.point_size = now.point_size
        for level, node in self._levels.items():
            visible = not now.only_frame and level >= level_of(now.percentile)
            if node.visible != visible:
                node.visible = visible
        if self._only_frame is not None:
            self._only_frame.remove()
            self._only_frame = None
        if now.only_frame:
            cloud = self._cloud_of(now.frame)
            part = slice(0, cloud.count_at(now.percentile))
            if part.stop:  # the page refuses a cloud without points
                self._only_frame = self._add_cloud("/frame/points", cloud, part, now.point_size)
        total = len(self._cloud_of(now.frame) if now.only_frame else self._cloud)
        self.panel.show_count(self.shown_points, total)

    def _cloud_of(self, frame: int) -> RankedPoints:
        if self._frame_cloud[0] != frame:
            cloud = frame_cloud(
                self.scene, frame, self._thresholds, self.options.drop_edges, self.options.max_points
            )
            self._frame_cloud = (frame, cloud)
        return self._frame_cloud[1]

    def _show_cameras(self, now: Choices, before: Choices | None) -> None:
        if before is None or (now.frame, now.show_as) != (before.frame, before.show_as):
            self.panel.show_frame(self.scene, now)
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
