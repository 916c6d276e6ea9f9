"""A report: one self-contained HTML page that shows what went in, what came out, and what it cost."""

from __future__ import annotations

import dataclasses
import html
import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._version import __version__
from ..errors import UsageError
from ..files.writing import format_bytes
from ..geometry.unproject_np import camera_centres
from .colours import by_order, css_colour
from .frusta import frustum_size
from .report_charts import bars, confidence_picture, depth_picture, histogram_svg, legend, thumbnail
from .report_plans import make_plans, plan_svg
from .staging import staged_export

if TYPE_CHECKING:
    from ..reconstruction.inputs.views import ViewTransform
    from ..reconstruction.result.result import Reconstruction

_EXIF_TURNS = {
    1: "", 2: "mirrored", 3: "turned 180°", 4: "mirrored, turned 180°", 5: "mirrored, turned 90°",
    6: "turned 90° clockwise", 7: "mirrored, turned 90°", 8: "turned 90° counter-clockwise",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """`report.html`, readable without a network."""

    title: str = "ManyView reconstruction"
    """Heading of the page."""
    max_views: int = 48
    """Show the pictures of at most this many views, evenly chosen; the table lists all."""
    min_conf_percentile: float = 50.0
    """The plans show points above this percentile of confidence."""
    max_points: int = 400_000
    """The plans show at most this many points."""

    def __post_init__(self) -> None:
        if self.max_views < 1:
            raise UsageError(f"the report needs at least one view, max_views is {self.max_views}")


def export_report(
    scene: Reconstruction,
    out_dir: str | Path,
    options: ReportOptions | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write `report.html`."""
    options = options or ReportOptions()
    page = report_html(scene, options).encode()
    with staged_export(
        scene, out_dir, "report", options, needed_bytes=len(page) + 1000, overwrite=overwrite
    ) as stage:
        stage.file("report.html").write_bytes(page)
    return stage.written


def report_html(scene: Reconstruction, options: ReportOptions) -> str:
    """The whole page."""
    css = importlib.resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    title = html.escape(options.title)
    body = [
        f"<header><h1>{title}</h1><p>{_subtitle(scene)}</p></header>",
        _facts(scene),
        _notes(scene),
        _plans(scene, options),
        _views(scene, options),
        _section(
            "Confidence",
            "<p class=quiet>Share of pixels by the model's confidence; muted bars are what exports leave out "
            f"at the {options.min_conf_percentile:g}th percentile.</p>"
            + histogram_svg(scene, scene.confidence_threshold(options.min_conf_percentile)),
        ),
        '<div class="pair">',
        _section("Time by stage", bars(scene.timings_s, _seconds)),
        _section("Memory by stage", bars(scene.memory_bytes, format_bytes)),
        "</div>",
        _section("Settings", _settings_table(scene)),
        _section("Views", _view_table(scene)),
        f"<footer>Written by ManyView {html.escape(__version__)}. Lengths are in the unit of the "
        "reconstruction, which is not metric unless the model says so.</footer>",
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style></head>'
        f"<body><main>{''.join(body)}</main></body></html>"
    )


def _section(title: str, content: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{html.escape(title)}</h2>{content}</section>'


def _subtitle(scene: Reconstruction) -> str:
    sources = {Path(view.source).name for view in scene.views if view.video_frame is not None}
    plural = "" if len(scene) == 1 else "s"
    if sources:
        origin = f"frame{plural} of {', '.join(sorted(sources))}"
    else:
        origin = f"photo{plural}"
    first, last = html.escape(scene.names[0]), html.escape(scene.names[-1])
    return f"{len(scene)} {html.escape(origin)}, from {first} to {last}"


def _facts(scene: Reconstruction) -> str:
    valid = sum(int(scene.view_valid(index).sum()) for index in range(len(scene)))
    share = valid / scene.z_depth.size
    facts = {
        "views": f"{len(scene)}",
        "network pixels": f"{scene.width} × {scene.height}",
        "pixels with depth": f"{100 * share:.1f} %",
        "median confidence": f"{scene.confidence_threshold(50):.3g}" if valid else "none",
        "total time": _seconds(scene.total_time_s) if scene.timings_s else "not recorded",
        "peak memory": format_bytes(scene.peak_memory_bytes) if scene.memory_bytes else "not recorded",
    }
    model = scene.settings.get("model")
    if isinstance(model, dict):
        model = model.get("name")
    if model:
        facts = {"model": str(model), **facts}
    cells = [f"<div><span>{name}</span><b>{html.escape(text)}</b></div>" for name, text in facts.items()]
    return f'<div class="facts">{"".join(cells)}</div>'


def _notes(scene: Reconstruction) -> str:
    if not scene.notes:
        return ""
    items = "".join(f"<li>{html.escape(note)}</li>" for note in scene.notes)
    return _section("Notes", f"<ul>{items}</ul>", "notes")


def _plans(scene: Reconstruction, options: ReportOptions) -> str:
    cloud = scene.point_cloud(options.min_conf_percentile, options.max_points, drop_edges=0.1)
    size = frustum_size(scene, cloud.points)
    plans = make_plans(scene, cloud.points.astype(np.float64))
    drawings = [_section(plan.title, plan_svg(plan, scene, cloud, size)) for plan in plans]
    return f'<div class="pair">{"".join(drawings)}</div>'


def _views(scene: Reconstruction, options: ReportOptions) -> str:
    count = min(options.max_views, len(scene))
    shown = np.unique(np.linspace(0, len(scene) - 1, count).round().astype(int))
    limits = (scene.confidence_threshold(2), scene.confidence_threshold(98))
    colours = by_order(len(scene))
    figures = []
    for index in shown.tolist():
        valid = scene.view_valid(index)
        pictures = {
            "input": scene.images[index],
            "depth": depth_picture(scene.z_depth[index], valid),
            "confidence": confidence_picture(scene.depth_conf[index], valid, limits),
        }
        images = "".join(
            f'<img alt="{kind} of view {index + 1}" src="{thumbnail(picture)}">'
            for kind, picture in pictures.items()
        )
        dot = f'<i class="dot" style="background:{css_colour(colours[index])}"></i>'
        caption = f"{dot}{index + 1} · {html.escape(scene.names[index])}"
        figures.append(f"<figure><div>{images}</div><figcaption>{caption}</figcaption></figure>")
    legends = legend("magma", "depth: far", "near") + legend("viridis", "confidence: low", "high")
    more = "" if len(shown) == len(scene) else f", {len(shown)} of {len(scene)} shown, evenly chosen"
    return _section(
        f"Input, depth, confidence{more}", f'{legends}<div class="views">{"".join(figures)}</div>'
    )


def _settings_table(scene: Reconstruction) -> str:
    rows = [
        *_flat(scene.settings),
        ("pixel centres", scene.pixel_centres),
        ("settings hash", scene.settings_hash),
    ]
    cells = [
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows
    ]
    return f"<table>{''.join(cells)}</table>"


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", "none" if value is None else value))
    return rows


def _view_table(scene: Reconstruction) -> str:
    head = (
        "", "#", "name", "source pixels", "how it reached the network", "field of view", "focal length, px",
        "median depth", "median conf.", "centre",
    )  # fmt: skip
    colours, upright, centres = (
        by_order(len(scene)),
        scene.upright_intrinsics,
        camera_centres(scene.cam_from_world),
    )
    rows = []
    for index, view in enumerate(scene.views):
        transform, camera = view.transform, upright[index]
        valid = scene.view_valid(index)
        sizes = np.array([transform.upright_width, transform.upright_height])
        fov = np.degrees(2 * np.arctan(sizes / (2 * camera[[0, 1], [0, 1]])))
        depth = f"{np.median(scene.z_depth[index][valid]):.4g}" if valid.any() else "none"
        conf = f"{np.median(scene.depth_conf[index][valid]):.3g}" if valid.any() else "none"
        cells = [
            f'<td><i class="dot" style="background:{css_colour(colours[index])}"></i></td>',
            f'<td class="number">{index + 1}</td>',
            f"<td>{html.escape(view.name)}</td>",
            f'<td class="number">{transform.upright_width} × {transform.upright_height}</td>',
            f"<td>{describe_transform(transform)}</td>",
            f'<td class="number">{fov[0]:.1f}° × {fov[1]:.1f}°</td>',
            f'<td class="number">{camera[0, 0]:.0f}, {camera[1, 1]:.0f}</td>',
            f'<td class="number">{depth}</td>',
            f'<td class="number">{conf}</td>',
            f'<td class="number">{", ".join(f"{value:.3f}" for value in centres[index])}</td>',
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    header = "".join(f"<th>{name}</th>" for name in head)
    table = f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def describe_transform(transform: ViewTransform) -> str:
    """ "turned 90° clockwise, scaled by 0.25, cropped": what happened to the pixels, in words."""
    left, top, right, bottom = transform.content_box
    padded = (right - left, bottom - top) != (transform.network_width, transform.network_height)
    scale = f"{transform.scale_x:.4g}"
    if abs(transform.scale_x / transform.scale_y - 1) > 1e-3:
        scale += f" × {transform.scale_y:.4g}"
    steps = [
        _EXIF_TURNS.get(transform.orientation, f"orientation {transform.orientation}"),
        f"scaled by {scale}",
        "cropped" if transform.cropped else "",
        "padded" if padded else "",
    ]
    return ", ".join(step for step in steps if step)


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    return f"{int(value // 60)} min {value % 60:.0f} s"
