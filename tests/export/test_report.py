"""The report: complete, self-contained, safe, and honest about what it shows."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from manyview.errors import UsageError
from manyview.export import ReportOptions, export
from manyview.export.colours import by_order, colour_map, css_colour
from manyview.export.images import confidence_image, depth_image
from manyview.export.orthographic import estimate_up, orthographic_views, points_raster
from manyview.export.report import report_html
from manyview.export.report_charts import histogram_svg
from manyview.export.report_views import describe_transform
from manyview.geometry.unproject_np import camera_centres
from tests.analytic_scene import crop_transform, fit_transform, look_at, pad_transform, room_scene

TRANSFORMS = [
    fit_transform((320, 240), (56, 56)),
    crop_transform((240, 320), (56, 56)),
    pad_transform((200, 320), (56, 56)),
    fit_transform((240, 320), (56, 56), orientation=6),
]
_VOID = {"meta", "img", "link", "br", "rect", "circle", "path", "polyline", "image"}


class Page(HTMLParser):
    """Collects tags and their attributes and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_bars_of_the_histogram_are_counts_of_valid_pixels() -> None:
    scene, _ = room_scene(TRANSFORMS)
    conf = (1 + np.random.default_rng(0).random(scene.depth_conf.shape) ** 2).astype(np.float32)
    scene = dataclasses.replace(scene, depth_conf=conf)
    page = Page(histogram_svg(scene, threshold=1.5))
    heights = np.array([float(tag["height"]) for name, tag in page.tags if name == "rect"])
    muted = sum(tag["class"] == "bar muted" for name, tag in page.tags if name == "rect")
    values = scene.depth_conf[scene.valid].astype(np.float64)
    high = np.percentile(values, 99.5)
    counts, edges = np.histogram(np.clip(values, values.min(), high), bins=60)
    # Edges may move by a pixel's confidence, and with them a pixel from bar to bar.
    np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), atol=0.02)
    assert abs(muted - (edges[1:] <= 1.5).sum()) <= 1
    marks = [float(tag["d"][1:].split()[0]) for name, tag in page.tags if tag.get("class") == "mark"]
    quartiles = np.interp(np.percentile(values, (25, 50, 75)), edges, 10 + 14.0 * np.arange(61))
    np.testing.assert_allclose(marks, quartiles, atol=1.5)


def test_report_is_self_contained_and_well_formed(tmp_path: Path) -> None:
    scene, _ = room_scene(TRANSFORMS)
    [path] = export(scene, tmp_path, "report")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe"}
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "url(" not in text and "@import" not in text
    pictures = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert pictures == [
        f"{kind} of view {index}" for index in (1, 2, 3, 4) for kind in ("input", "depth", "confidence")
    ]
    assert sum(attributes.get("class") == "plan" for _, attributes in page.tags) == 2
    frusta = [attributes["stroke"] for _, attributes in page.tags if attributes.get("class") == "frustum"]
    assert frusta == 2 * [css_colour(colour) for colour in by_order(4)]
    words = " ".join(page.words)
    for expected in (
        "a note",
        "analytic",
        scene.settings_hash,
        "forward",
        "2.00 s",
        "96.0 MB",
        "rotated 90° clockwise",
    ):
        assert expected in words
    assert "cropped" in words and "padded" in words and "Confidence" in words


def test_the_verdict_stands_at_the_top() -> None:
    scene, _ = room_scene([TRANSFORMS[0]] * 6, names=[f"<i>{index}.png" for index in range(6)])
    assert "Quality" not in report_html(scene, ReportOptions())
    depth = scene.z_depth.copy()
    depth[2] *= 1.4
    scene = dataclasses.replace(scene, z_depth=depth).with_quality()
    assert scene.quality is not None and scene.quality["weak_views"] == [scene.names[2]]
    text = report_html(scene, ReportOptions())
    tags = [attributes.get("class", "") for _, attributes in Page(text).tags]
    assert tags.index(f"quality {scene.quality['grade']}") < tags.index("facts")
    assert "<i>2.png" not in text and text.count("&lt;i&gt;2.png") >= 2


def test_text_of_others_is_escaped() -> None:
    scene, _ = room_scene(views=1, names=["<script>alert(1)<.png"], transforms=[TRANSFORMS[0]])
    scene = dataclasses.replace(
        scene, notes=("<b>bold</b>",), settings={"<i>": "<img src=x>"}, timings_s={"<s>": 1.0}
    )
    text = report_html(scene, ReportOptions(title="<u>title</u>"))
    Page(text)
    assert not re.search(r"<script>|<b>bold|<img src=x|<u>title|<i>&lt;|<th><i>|<s>", text)
    assert "&lt;b&gt;bold" in text


def test_many_views_are_chosen_evenly_and_all_listed() -> None:
    scene, _ = room_scene([fit_transform((64, 48), (14, 14))] * 70)
    page = Page(report_html(scene, ReportOptions(max_views=10)))
    shown = [
        attributes["alt"] for tag, attributes in page.tags if tag == "img" and "input" in attributes["alt"]
    ]
    assert len(shown) == 10 and shown[0].endswith("view 1") and shown[-1].endswith("view 70")
    words = " ".join(page.words)
    assert "10 of 70 shown" in words and all(name in words for name in scene.names)


def test_a_scene_without_depth_has_a_report() -> None:
    scene, _ = room_scene(views=2)
    scene = dataclasses.replace(
        scene,
        z_depth=np.full_like(scene.z_depth, np.nan),
        timings_s={},
        memory_bytes={},
        notes=(),
        settings={},
    )
    words = " ".join(Page(report_html(scene, ReportOptions())).words)
    assert "No pixel has valid depth" in words and "not recorded" in words


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UsageError, match="max_views"):
        ReportOptions(max_views=0)


def test_up_is_against_gravity_even_when_all_cameras_look_down() -> None:
    target = np.array([0.0, 2.0, 0.0])
    cameras = np.stack([look_at(np.array([x, 0.0, z]), target) for x, z in ((1, 0), (0, 1), (-1, 0.2))])
    np.testing.assert_allclose(estimate_up(cameras), [0, -1, 0], atol=1e-9)
    one = look_at(np.array([0.0, 0.0, -3.0]), np.array([0.0, 0.0, 0.0]))[None]
    np.testing.assert_allclose(estimate_up(one), [0, -1, 0], atol=1e-9)


def test_maps_are_orthographic_and_show_every_camera() -> None:
    scene, _ = room_scene(views=6)
    cloud = scene.point_cloud(0)
    top, side = orthographic_views(scene, cloud.points.astype(np.float64))
    centres = camera_centres(scene.cam_from_world)
    for view in (top, side):
        pixels = view(centres)
        assert (pixels >= 0).all() and (pixels <= [900, 620]).all()
        linear = view.pixel_from_world[:, :3] / view.pixels_per_unit
        np.testing.assert_allclose(linear @ linear.T, np.eye(2), atol=1e-9)
    down = np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(top.pixel_from_world[:, :3] @ down, 0, atol=1e-6)
    assert (side.pixel_from_world[:, :3] @ down)[1] == pytest.approx(side.pixels_per_unit)
    raster = points_raster(top, cloud)
    assert raster.shape == (155, 225, 4) and 0.05 < (raster[..., 3] > 0).mean() < 0.9
    cells = np.floor(top(cloud.points.astype(np.float64)) / 4).astype(int)
    inside = (cells >= 0).all(1) & (cells < [225, 155]).all(1)
    assert inside.mean() > 0.9 and (raster[cells[inside, 1], cells[inside, 0], 3] > 0).all()


def test_depth_is_bright_where_near_and_grey_where_unknown() -> None:
    depth = np.array([[1.0, 2.0, 4.0, np.nan]], np.float32)
    valid = np.array([[True, True, True, False]])
    picture = depth_image(depth, valid).astype(int).sum(-1)[0]
    assert picture[0] > picture[1] > picture[2] and picture[3] == 3 * 128
    conf = confidence_image(np.array([[1.0, 5.0, 9.0, 3.0]], np.float32), valid, (1.0, 9.0))
    np.testing.assert_array_equal(conf[0, [0, 2]], colour_map(np.array([0.0, 1.0]), "viridis"))
    assert (depth_image(depth, np.zeros_like(valid)) == 128).all()


def test_colours_hit_their_anchors() -> None:
    assert css_colour(colour_map(np.array(0.0), "viridis")) == "#440154"
    assert css_colour(colour_map(np.array(1.0), "viridis")) == "#fde725"
    assert css_colour(colour_map(np.array(7.0), "magma")) == "#fcfdbf"
    assert len(np.unique(by_order(40), axis=0)) == 40 and len(by_order(1)) == 1


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (TRANSFORMS[0], "scaled by 0.175 × 0.2333"),
        (fit_transform((320, 240), (160, 120)), "scaled by 0.5"),
        (TRANSFORMS[1], "scaled by 0.2333 × 0.2375, cropped"),
        (TRANSFORMS[2], "scaled by 0.175, padded"),
        (TRANSFORMS[3], "rotated 90° clockwise, scaled by 0.2333 × 0.175"),
    ],
)
def test_transforms_in_words(transform, text: str) -> None:  # type: ignore[no-untyped-def]
    assert describe_transform(transform) == text
