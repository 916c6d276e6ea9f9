"""Measuring, pictures and films of one browser, which is played by the test."""

from __future__ import annotations

import dataclasses
import io
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from manyview.errors import MissingExtraError
from manyview.geometry.unproject_np import invert_rigid
from manyview.view import Viewer, ViewOptions, start_viewer
from manyview.view.client_tools import FPS, ClientTools
from manyview.view.measure import length_in_words, pick_point
from manyview.view.record import even_size, flight, webm

from .scenes import wall_scene

viser = pytest.importorskip("viser", reason="the viewer needs the extra 'view'")


class Browser:
    """A client of viser's server: its elements are real ones of the server, its renders ours."""

    def __init__(self, server: Any) -> None:
        self.gui, self.scene = server.gui, server.scene
        self.camera = types.SimpleNamespace(
            fov=1.0, image_height=91, image_width=161, position=np.array([0.0, 0.0, -5.0])
        )
        self.saved: dict[str, bytes] = {}
        self.rendered: list[dict[str, Any]] = []
        self.gone_after = 10**9

    def get_render(self, height: int, width: int, **how: Any) -> np.ndarray:
        if len(self.rendered) == self.gone_after:
            raise RuntimeError("the client disconnected")
        self.rendered.append({"height": height, "width": width, **how})
        shade = np.full((height, width, 4), len(self.rendered) % 256, np.uint8)
        shade[..., 3] = 255 * (how.get("transport_format") != "png")
        return shade

    def send_file_download(self, name: str, content: bytes, save_immediately: bool) -> None:
        self.saved[name] = content


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with start_viewer(wall_scene(), ViewOptions(port=0, conf_percentile=0)) as running:
        yield running


def ray_to(point: np.ndarray) -> types.SimpleNamespace:
    origin = np.array([0.0, 0.0, -5.0])
    return types.SimpleNamespace(ray_origin=tuple(origin), ray_direction=tuple(point - origin))


def test_the_front_surface_is_picked():
    points = np.array([[0, 0, 2], [0.01, 0, 1], [0.0, 0.004, 1.001], [3, 0, 1], [0, 0, -1]], np.float32)
    ahead = np.array([0.0, 0.0, 3.0])
    assert pick_point(points, np.zeros(3), ahead, 0.02) == 2  # nearer to the ray than 1, before 0
    assert pick_point(points, np.zeros(3), ahead, 0.001) == 0
    assert pick_point(points, np.zeros(3), np.array([0.0, 1.0, 0.0]), 0.02) is None
    assert pick_point(points[:0], np.zeros(3), ahead, 0.02) is None


def test_lengths_have_a_unit_only_where_one_is_known():
    scene = wall_scene()
    assert "unknown" in length_in_words(scene, 2.5)
    metric = dataclasses.replace(scene, metric={"factor": 1.0, "model": "toy"})
    assert length_in_words(metric, 2.5) == "2.5 m"
    for known, says in (({"poses": 3, "depth": 0}, False), ({"poses": 0, "intrinsics": 3}, True)):
        given = dataclasses.replace(scene, settings={"known": known})
        assert ("unknown" in length_in_words(given, 2.5)) == says


def test_two_clicks_measure_in_the_unit_of_the_scene(viewer: Viewer):
    browser = Browser(viewer.server)
    browser.camera.image_height = 4000
    tools = ClientTools(browser, viewer)
    tools.measuring.value = True
    world = viewer.scene.view_points(1)[[2, 9], [3, 14]]
    first, second = viewer.space(world)
    tools.measure.click(ray_to(first))
    tools.measure.click(ray_to(np.array([0.0, 90.0, -5.0])))
    assert "No point" in tools.said.content
    tools.measure.click(ray_to(second))
    expected = float(np.linalg.norm(world[1] - world[0]))
    assert f"{expected:.4g}" in tools.said.content
    line = viewer.server.scene.get_handle_by_name("/measure/line")
    np.testing.assert_allclose(line.points[0], [first, second], atol=0.05)
    tools.measure.click(ray_to(first))  # begins anew
    assert viewer.server.scene.get_handle_by_name("/measure/line") is None
    tools.measure.clear()
    assert viewer.server.scene.get_handle_by_name("/measure/end-1") is None


def test_a_picture_is_on_white(viewer: Viewer):
    browser = Browser(viewer.server)
    ClientTools(browser, viewer).save_picture()
    picture = Image.open(io.BytesIO(browser.saved["manyview.png"]))
    assert picture.size == (161, 91) and picture.getextrema() == ((255, 255),) * 3


def test_a_film_goes_along_the_cameras(viewer: Viewer):
    av = pytest.importorskip("av", reason="films need the extra 'video'")
    browser = Browser(viewer.server)
    tools = ClientTools(browser, viewer)
    tools.seconds.value = 2
    filming = finish(tools)
    assert not filming and set(browser.saved) == {"manyview.webm"}
    with av.open(io.BytesIO(browser.saved["manyview.webm"])) as container:
        stream = container.streams.video[0]
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate == FPS
    assert len(images) == len(browser.rendered) == 2 * FPS and images[0].shape == (90, 160, 3)
    assert images[-1].mean() == pytest.approx(2 * FPS, abs=3)
    along = np.array([how["position"] for how in browser.rendered])[:, 0]
    assert (np.diff(along) > 0).all()
    assert viewer.server.scene.get_handle_by_name("/frame/camera") is None  # the stand-in is gone
    assert tools.film.visible and not tools.cancel.visible


def test_a_film_ends_when_it_is_cancelled_or_the_browser_goes(viewer: Viewer):
    pytest.importorskip("av", reason="films need the extra 'video'")
    browser = Browser(viewer.server)
    tools = ClientTools(browser, viewer)
    browser.gone_after = 3
    assert not finish(tools) and not browser.saved and "no more images" in tools.told.content
    browser.gone_after, browser.rendered = 10**9, []
    render = browser.get_render

    def cancelling(*size: int, **how: Any) -> np.ndarray:
        tools.stop_film()
        return render(*size, **how)

    browser.get_render = cancelling  # type: ignore[method-assign]
    assert not finish(tools) and not browser.saved and len(browser.rendered) == 1


def finish(tools: ClientTools) -> bool:
    """Make a film; whether it is still being made after a minute."""
    import threading

    tools.start_film()
    for thread in threading.enumerate():
        if thread.name == "manyview film":
            thread.join(60)
    return tools._cancelled is not None


def test_a_film_without_pyav_names_the_extra(viewer: Viewer, monkeypatch: pytest.MonkeyPatch):
    tools = ClientTools(Browser(viewer.server), viewer)
    monkeypatch.setitem(sys.modules, "av", None)
    tools.start_film()
    assert "manyview[video]" in tools.told.content and tools.film.visible
    with pytest.raises(MissingExtraError):
        webm([], FPS)


def test_sizes_of_films():
    assert even_size(1401, 901) == (1400, 900)
    assert even_size(3840, 2160) == (1920, 1080)
    assert even_size(1, 1) == (2, 2)


def test_a_flight_looks_as_the_cameras_do():
    scene = wall_scene()
    with start_viewer(scene, ViewOptions(port=0)) as viewer:
        wxyz, position, fov = flight(scene, viewer.space, 5)
    np.testing.assert_allclose(wxyz, np.tile([1.0, 0, 0, 0], (5, 1)), atol=1e-9)
    assert fov == pytest.approx(2 * np.arctan(6 / 16))
    ends = viewer.space(invert_rigid(scene.cam_from_world)[[0, -1], :, 3])
    assert (np.abs(position[[0, -1]] - ends).max(axis=1) < 0.5 * np.ptp(ends[:, 0])).all()
