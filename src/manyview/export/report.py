"""A report: one self-contained HTML page with inputs, results, time and memory."""

from __future__ import annotations

import dataclasses
import html
import importlib.resources
from typing import TYPE_CHECKING, Any

import numpy as np

from .._option_checks import check_options
from .._version import __version__
from ..files.naming import counted, printable
from ..files.spread import evenly_spread
from ..files.writing import format_bytes
from .colours import by_order, css_colour
from .export_format import ExportFormat, ExportTarget, PointOptions
from .frusta import frustum_size
from .images import confidence_image, data_uri, depth_image, thumbnail
from .orthographic import orthographic_views, view_svg
from .report_charts import bars, histogram_svg, legend
from .report_quality import quality_box
from .report_refinement import refinement_section, view_statuses
from .report_views import view_table

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

_THUMBNAIL = 224  # pixels


@dataclasses.dataclass(frozen=True)
class ReportOptions(PointOptions):
    """`report.html`, readable offline."""

    title: str = "ManyView reconstruction"
    """Heading of the page."""
    max_views: int = 48
    """Show the images of at most this many views, evenly spread; the table lists all."""
    max_points: int | None = 400_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, at_least={"max_views": 1})


def _write(scene: Reconstruction, options: ReportOptions, target: ExportTarget) -> None:
    page = report_html(scene, options).encode()
    with target.staged(len(page) + 1000) as stage:
        stage.file("report.html").write_bytes(page)


def report_html(scene: Reconstruction, options: ReportOptions) -> str:
    """The page as text."""
    css = importlib.resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    title = html.escape(options.title)
    body = [
        f"<header><h1>{title}</h1><p>{_subtitle(scene)}</p></header>",
        *(f'<p class="warning" role="alert">{html.escape(text)}</p>' for text in scene.warnings),
        quality_box(scene),
        refinement_section(scene),
        _facts(scene),
        _notes(scene),
        _maps(scene, options),
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
        _section("Views", view_table(scene)),
        f"<footer>Written by ManyView {html.escape(__version__)}. Lengths are in {_unit(scene)}.</footer>",
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style></head>'
        f"<body><main>{''.join(body)}</main></body></html>"
    )


def _section(title: str, content: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{html.escape(title)}</h2>{content}</section>'


def _unit(scene: Reconstruction) -> str:
    if scene.metric is not None:
        return f"metres, by {html.escape(str(scene.metric.get('model')))}"
    known = scene.settings.get("known")
    with_poses = isinstance(known, dict) and known.get("poses", 0) > 1
    return "the unit of the known cameras" if with_poses else "a unit of their own, not metres"


def _subtitle(scene: Reconstruction) -> str:
    sources = {printable(view.source_path.name) for view in scene.views if view.video_frame is not None}
    origin = counted(len(scene), "frame" if sources else "photo")
    origin += f" of {', '.join(sorted(sources))}" if sources else ""
    first, last = (html.escape(printable(scene.names[end])) for end in (0, -1))
    return f"{html.escape(origin)}, from {first} to {last}"


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


def _maps(scene: Reconstruction, options: ReportOptions) -> str:
    cloud = options.cloud(scene)
    size = frustum_size(scene, cloud.points)
    views = orthographic_views(scene, cloud.points.astype(np.float64))
    drawings = [_section(view.title, view_svg(view, scene, cloud, size)) for view in views]
    return f'<div class="pair">{"".join(drawings)}</div>'


def _views(scene: Reconstruction, options: ReportOptions) -> str:
    shown = evenly_spread(len(scene), options.max_views)
    limits = (scene.confidence_threshold(2), scene.confidence_threshold(98))
    colours, statuses = by_order(len(scene)), view_statuses(scene)
    figures = []
    for index in shown:
        valid = scene.view_valid(index)
        kinds = {
            "input": scene.images[index],
            "depth": depth_image(scene.z_depth[index], valid),
            "confidence": confidence_image(scene.depth_conf[index], valid, limits),
        }
        images = "".join(
            f'<img alt="{kind} of view {index + 1}" src="{data_uri(thumbnail(image, _THUMBNAIL), 82)}">'
            for kind, image in kinds.items()
        )
        dot = f'<i class="dot" style="background:{css_colour(colours[index])}"></i>'
        caption = f"{dot}{index + 1} · {html.escape(printable(scene.names[index]))}"
        if statuses.get(scene.names[index]) == "not refined":
            caption += " · not refined"
        figures.append(f"<figure><div>{images}</div><figcaption>{caption}</figcaption></figure>")
    legends = legend("magma", "depth: far", "near") + legend("viridis", "confidence: low", "high")
    more = "" if len(shown) == len(scene) else f", {len(shown)} of {len(scene)} shown, evenly spread"
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


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    return f"{int(value // 60)} min {value % 60:.0f} s"


FORMAT = ExportFormat("report", "one HTML page of inputs, results, time and memory", ReportOptions, _write)
