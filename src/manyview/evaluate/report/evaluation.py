"""An evaluation as text and files (NAME.json, NAME.md, NAME.csv), and reading one back to go on with it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from ...errors import InputError, OutputError
from ...files.writing import atomic_file, output_errors
from ..runner.records import DENSE, FORMAT, Evaluation, PlanRow, SceneRows
from .references import reference_notes

_NONE = "–"
_NOTES = 6


def file_stem(settings: dict[str, Any]) -> str:
    """The name of the files of a run: dataset and protocol."""
    return f"{settings['dataset']}.{settings['protocol']['name']}"


def evaluation_table(evaluation: Evaluation, command: str = "") -> str:
    """Markdown: the averages of each plan, then every scene, with what is needed to repeat them."""
    s, summary = evaluation.settings, evaluation.summary()
    protocol, machine = s["protocol"], s["environment"]
    columns = protocol["columns"]
    lines = [
        f"# {s['dataset']}, protocol {protocol['name']}: {s['model']}",
        "",
        f"{protocol['source']}: {protocol['says']}.",
        "",
        f"Weights {s['weights_sha256'][:12]}, ManyView {machine['manyview']}, PyTorch {machine['torch']}, "
        f"{machine['device_name']}, {machine['precision']}; longer side {s['image_size']}, size policy "
        f"{s['size_policy']}; {_frames(evaluation)}; averaged over {_AVERAGES[protocol['average']]}.",
        "",
        *([f"`{command}`", ""] if command else []),
        *_departures(evaluation),
        *_table(["plan", *columns, "forward s", "times dense", "peak GiB"], _average_rows(summary, columns)),
        "",
    ]
    pooled = [name for name in next(iter(summary.values()), {}) if name.startswith("pooled_")]
    if pooled and protocol["average"] != "pooled":
        rows = [[f"`{plan}`", *(number(f.get(name)) for name in pooled)] for plan, f in summary.items()]
        lines += ["All pairs of all scenes pooled:", "", *_table(["plan", *pooled], rows), ""]
    failed = [(scene, row) for scene in evaluation.scenes for row in scene.rows if row.failed is not None]
    if failed:
        names = sorted({scene.name for scene, _ in failed})
        plans = sorted({row.plan for _, row in failed})
        lines += [
            f"Averages leave out {len(names)} scenes that did not fit in memory under "
            f"{', '.join(plans)}: {', '.join(names)}.",
            "",
        ]
    if protocol["average"] != "scenes":
        lines += ["Scenes one by one are below; their plain mean differs from the average above.", ""]
    lines += _table(["scene", "frames", "plan", *columns, "forward s"], _scene_rows(evaluation, columns))
    return "\n".join([*lines, ""])


_AVERAGES = {
    "scenes": "scenes",
    "groups": "groups of scenes",
    "pooled": "all pairs of all scenes",
    "pixels": "scenes weighted by their pixels",
}


def _frames(evaluation: Evaluation) -> str:
    counts = [len(scene.frames) for scene in evaluation.scenes]
    if not counts:
        return "no scene"
    range_of = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{len(counts)} scenes of {range_of} frames"


def _departures(evaluation: Evaluation) -> list[str]:
    """What of a run is not the protocol's, and what it assumed, for whoever holds it against a paper."""
    s = evaluation.settings
    rules = s["protocol"]["frames"]
    told = []
    if s["frames"] != rules.get(s["dataset"], rules.get("*")):
        told.append("The frames are not those of the protocol but chosen by hand.")
    notes = [n for scene in evaluation.scenes for row in scene.rows if not row.reference for n in row.notes]
    notes += [note for scene in evaluation.scenes for note in scene.notes]
    told += [f"In some scenes: {note}." for note in dict.fromkeys(notes)][:_NOTES]
    rows = [row for scene in evaluation.scenes for row in scene.rows]
    lost = sum(row.left_out for row in rows if not row.reference)
    if lost:
        told.append(f"{lost} views were given no camera and count as wrong.")
    told += reference_notes(evaluation)
    return [line for one in told for line in (one, "")]


def _average_rows(summary: dict[str, dict[str, float | None]], columns: list[str]) -> list[list[str]]:
    dense = summary.get(DENSE, {}).get("forward_s")
    rows = []
    for plan, figures in summary.items():
        seconds = figures["forward_s"]
        gain = dense / seconds if dense and seconds else None
        rows.append(
            [
                f"`{plan}`",
                *(number(figures.get(name)) for name in columns),
                number(seconds),
                _NONE if gain is None else f"{gain:.2f}x",
                number(figures["peak_gib"]),
            ]
        )
    return rows


def _scene_rows(evaluation: Evaluation, columns: list[str]) -> list[list[str]]:
    return [
        [
            scene.name,
            f"{len(scene.frames)} of {scene.total}",
            f"`{row.plan}`",
            *(number(row.figures.get(name)) if row.failed is None else "did not fit" for name in columns),
            number(row.timings_s.get("forward")),
        ]
        for scene in evaluation.scenes
        for row in scene.rows
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|---" + "|---:" * (len(head) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def number(value: float | None) -> str:
    """Four significant digits for small numbers, one decimal for large ones."""
    if value is None:
        return _NONE
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.4g}"


def evaluation_csv(evaluation: Evaluation) -> str:
    """One line a scene and plan, and one a plan for the averages, with every figure."""
    summary = evaluation.summary()
    names = [
        name
        for name in dict.fromkeys(name for s in evaluation.scenes for r in s.rows for name in r.figures)
        if not name.startswith("below_")
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scene", "group", "frames", "plan", *names, "forward_s"])
    for scene in evaluation.scenes:
        for row in scene.rows:
            values = [row.figures.get(name) for name in names]
            writer.writerow(
                [scene.name, scene.group, len(scene.frames), row.plan, *values, row.timings_s.get("forward")]
            )
    for plan, figures in summary.items():
        values = [figures.get(name) for name in names]
        writer.writerow(["average", "", "", plan, *values, figures["forward_s"]])
    return text.getvalue()


def write_evaluation(evaluation: Evaluation, folder: Path, command: str) -> list[Path]:
    """Write the three files, each whole or not at all; `command` made them."""
    stem = file_stem(evaluation.settings)
    texts = {
        f"{stem}.json": json.dumps({"command": command, **evaluation.to_json()}, indent=1, allow_nan=False)
        + "\n",
        f"{stem}.md": evaluation_table(evaluation, command),
        f"{stem}.csv": evaluation_csv(evaluation),
    }
    paths = []
    for name, text in texts.items():
        with output_errors(folder / name, len(text)), atomic_file(folder / name) as part:
            part.write_text(text, encoding="utf-8")
        paths.append(folder / name)
    return paths


def read_evaluation(path: Path) -> Evaluation:
    """What `write_evaluation` wrote. InputError for another file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("format") != FORMAT:
            raise ValueError(f"its format is {data.get('format')!r}, expected {FORMAT!r}")
        scenes = tuple(_scene(scene) for scene in data["scenes"])
        return Evaluation(data["settings"], data["context"], scenes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is no result of manyview evaluate ({error})") from error


def _scene(data: dict[str, Any]) -> SceneRows:
    rows = tuple(PlanRow(**{**row, "notes": tuple(row["notes"])}) for row in data["rows"])
    fields = {**data, "rows": rows, "frames": tuple(data["frames"]), "notes": tuple(data["notes"])}
    return SceneRows(**fields)


def earlier_scenes(
    folder: Path, stem: str, settings: dict[str, Any], overwrite: bool
) -> tuple[SceneRows, ...]:
    """Scenes of an earlier run in the folder that this one may go on with; none if there was none.

    OutputError where the earlier file was made under other settings and `overwrite` does not allow to
    replace it.
    """
    path = folder / f"{stem}.json"
    if not path.exists():
        return ()
    try:
        earlier = read_evaluation(path)
    except InputError as error:
        if overwrite:
            return ()
        raise OutputError(f"{error}; choose another folder or add --overwrite") from error
    if earlier.settings == settings:
        return earlier.scenes
    if overwrite:
        return ()
    other = [name for name in settings if earlier.settings.get(name) != settings[name]]
    raise OutputError(
        f"{path}: was made under other settings ({', '.join(other)}); choose another folder or add "
        "--overwrite"
    )
