"""The running viewer without a browser: served page, what the controls do, ports."""

from __future__ import annotations

import dataclasses
import socket
import sys
import time
import urllib.request

import numpy as np
import pytest

from manyview.errors import MissingExtraError, UsageError
from manyview.view import ViewOptions, start_viewer
from manyview.view.viewer import free_port

from .scenes import wall_scene

pytest.importorskip("viser", reason="the viewer needs the extra 'view'")

ANY = ViewOptions(port=0, conf_percentile=0)
PIXELS = 12 * 16


def settle(condition) -> bool:
    """Changes of a control are handled on a thread of the server."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def applied(viewer):
    return viewer._applied[0]


@pytest.fixture
def viewer():
    with start_viewer(wall_scene(), ANY) as running:
        yield running


def test_the_page_is_served_on_loopback(viewer):
    assert viewer.url.startswith(f"http://127.0.0.1:{viewer.port}/?token=")
    with urllib.request.urlopen(viewer.url, timeout=10) as answer:
        page = answer.read()
    assert answer.status == 200
    assert b"<script" in page


def test_warnings_come_before_all_else(viewer):
    text = "these weights never saw such images"
    assert not viewer.panel.warnings
    with start_viewer(dataclasses.replace(wall_scene(), warnings=(text,)), ANY) as warned:
        assert text in warned.panel.warnings[0].content
        assert warned.panel.warnings[0].order < warned.panel.percentile.order


def test_stop_frees_the_port_and_a_busy_port_is_passed_over(capfd):
    with start_viewer(wall_scene(), ANY) as first:
        port = first.port
        with start_viewer(wall_scene(), dataclasses.replace(ANY, port=port)) as second:
            assert second.port > port
        assert free_port("127.0.0.1", second.port) == second.port
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind(("127.0.0.1", port))
    assert capfd.readouterr().out == ""


def test_the_confidence_slider_hides_points(viewer):
    assert viewer.shown_points == 3 * PIXELS
    viewer.panel.percentile.value = 50
    assert settle(lambda: viewer.shown_points == len(viewer.scene.point_cloud(50.0)))
    assert f"{viewer.shown_points:,} of {3 * PIXELS:,}" in viewer.panel.shown.content
    viewer.panel.percentile.value = 0
    assert settle(lambda: viewer.shown_points == 3 * PIXELS)


def test_only_one_frames_points(viewer):
    viewer.panel.frame.value = 1
    viewer.panel.points_of.value = "this frame"
    assert settle(lambda: viewer.shown_points == PIXELS)
    expected = viewer.space(viewer.scene.view_points(1).reshape(-1, 3))
    assert sorted(map(tuple, viewer.points_on_page())) == sorted(map(tuple, expected))
    viewer.panel.percentile.value = 98  # the least confident two thirds are the first two frames
    assert settle(lambda: viewer.shown_points == 0)
    viewer.panel.frame.value = 2
    assert settle(lambda: 0 < viewer.shown_points <= 0.03 * 3 * PIXELS)
    viewer.panel.percentile.value = 0
    viewer.panel.points_of.value = "all frames"
    assert settle(lambda: viewer.shown_points == 3 * PIXELS)


def test_the_frame_slider_shows_its_image_and_moves_the_highlight(viewer):
    before = viewer._highlight.points.copy()
    viewer.panel.frame.value = 2
    assert settle(lambda: "0002.png" in viewer.panel.name.content)
    assert settle(lambda: applied(viewer).frame == 2)
    np.testing.assert_array_equal(viewer.panel.image.image, viewer.scene.images[2])
    moved = viewer._highlight.points - before  # two cameras on, 0.1 each
    np.testing.assert_allclose(moved[..., 0], 0.2 * viewer.space.scale, atol=1e-5)
    np.testing.assert_allclose(moved[..., 1:], 0, atol=1e-5)
    for kind in ("depth", "confidence"):
        viewer.panel.show_as.value = kind
        assert settle(lambda kind=kind: applied(viewer).show_as == kind)
        assert viewer.panel.image.image.std() > 10


def test_cameras_can_be_hidden_and_resized(viewer):
    viewer.panel.cameras.value = False
    assert settle(lambda: not applied(viewer).cameras)
    assert not any(node.visible for node in (viewer._lines, viewer._highlight, *viewer._images.values()))
    viewer.panel.cameras.value = True
    viewer.panel.images.value = False
    assert settle(lambda: viewer._lines.visible and not viewer._images[0].visible)
    width = viewer._images[0].render_width
    viewer.panel.camera_size.value = 2.0
    assert settle(lambda: applied(viewer).camera_size == 2.0)
    assert viewer._images[0].render_width == pytest.approx(2 * width, rel=1e-4)


def test_point_size_reaches_every_node(viewer):
    def sizes() -> set[float]:
        return {node.point_size for node in viewer._nodes["all frames"]._nodes.values()}

    (before,) = sizes()
    viewer.panel.point_size.value = 2.0
    assert settle(lambda: sizes() == {2 * before})


def test_frames_so_far(viewer):
    viewer.panel.points_of.value = "frames so far"
    for frame, views in ((0, 1), (2, 3), (1, 2)):
        viewer.panel.frame.value = frame
        assert settle(lambda views=views: viewer.shown_points == views * PIXELS)
    expected = [viewer.space(viewer.scene.view_points(view).reshape(-1, 3)) for view in (0, 1)]
    assert sorted(map(tuple, viewer.points_on_page())) == sorted(map(tuple, np.concatenate(expected)))
    viewer.panel.percentile.value = 50  # the least confident half is that of the first views
    kept = viewer.scene.point_cloud(50.0)
    assert settle(lambda: viewer.shown_points == (kept.view_index <= 1).sum())


def test_play_goes_through_the_frames_and_starts_again(viewer):
    viewer.panel.pace.value = 30
    for _ in range(2):
        viewer._play()
        assert viewer.panel.play.label == "Pause"
        assert settle(lambda: not viewer.playback.playing)
        assert viewer.panel.frame.value == 2 and viewer.panel.play.label == "Play"
        assert settle(lambda: viewer.shown_points == 3 * PIXELS)
    assert viewer.panel.points_of.value == "frames so far"
    viewer.panel.frame.value = 0
    viewer.panel.pace.value = 1
    viewer._play()
    viewer._play()  # pause
    assert not viewer.playback.playing and viewer.panel.frame.value == 0


def test_filters_reach_the_page(viewer):
    viewer.panel.edges.value = True
    viewer.panel.jump.value = 5.0
    kept = viewer.scene.point_cloud(0.0, drop_edges=0.05)
    assert 0 < len(kept) < 3 * PIXELS and settle(lambda: viewer.shown_points == len(kept))
    viewer.panel.edges.value = False
    assert settle(lambda: viewer.shown_points == 3 * PIXELS)


def test_the_sky_is_hidden_where_something_told_what_it_is(viewer):
    assert viewer.panel.sky is None
    sky = np.zeros((3, 12, 16), bool)
    sky[:, :4] = True
    with start_viewer(dataclasses.replace(viewer.scene, sky=sky), ANY) as clear:
        assert clear.shown_points == 3 * 8 * 16
        clear.panel.sky.value = False
        assert settle(lambda: clear.shown_points == 3 * PIXELS)


def test_a_scene_without_any_valid_depth():
    scene = wall_scene()
    scene = dataclasses.replace(scene, z_depth=np.full_like(scene.z_depth, np.nan))
    with start_viewer(scene, ANY) as viewer:
        assert viewer.shown_points == 0
        assert "no valid points" in viewer.panel.shown.content
        viewer.panel.points_of.value = "this frame"
        viewer.panel.show_as.value = "depth"
        assert settle(
            lambda: applied(viewer).points_of == "this frame" and applied(viewer).show_as == "depth"
        )
        assert viewer.shown_points == 0
        assert not viewer.panel.image.image.any()


def test_a_single_view_has_no_frame_slider():
    with start_viewer(wall_scene(views=1), ANY) as viewer:
        assert viewer.panel.frame is None
        viewer.panel.points_of.value = "this frame"
        assert settle(lambda: viewer.shown_points == PIXELS and applied(viewer).points_of == "this frame")


def test_many_views():
    with start_viewer(wall_scene(views=300), dataclasses.replace(ANY, max_points=20_000)) as viewer:
        assert viewer.shown_points == 20_000  # of 128 views
        assert settle(lambda: viewer.whole and viewer.shown_points == 20_000)
        assert len(np.unique(viewer._loading.detail.cloud.view)) > 250
        assert len(viewer._images) == 150
        assert viewer._lines.points.shape == (3000, 2, 3)
        viewer.panel.points_of.value = "frames so far"
        viewer.panel.frame.value = 150
        assert settle(lambda: len(viewer._nodes["frames so far"]._nodes) == 76)  # two views a node
        assert settle(lambda: "0150.png" in viewer.panel.name.content)
        assert viewer.shown_points == (viewer._loading.detail.cloud.view <= 150).sum()


def test_a_click_on_an_image_chooses_its_frame(viewer):
    viewer.panel.pick_frame(2)
    assert settle(lambda: applied(viewer).frame == 2)


def test_addresses_that_cannot_be_served():
    with pytest.raises(UsageError, match="no such host"):
        start_viewer(wall_scene(), ViewOptions(host="no such host"))
    with pytest.raises(UsageError, match=r"8080 .*192\.0\.2\.1"):
        free_port("192.0.2.1", 8080)  # reserved for documentation, never local
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port("127.0.0.1", port) != port


def test_without_viser_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(MissingExtraError, match=r"manyview\[view\]"):
        start_viewer(wall_scene(), ANY)
