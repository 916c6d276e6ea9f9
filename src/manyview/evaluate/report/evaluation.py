"""An evaluation by protocol as a Markdown table."""

from __future__ import annotations

from ..references import COLMAP
from ..runner.records import DENSE, Evaluation
from .markdown import AREAS, FOCAL, NONE, REFERENCES, measured_on, number, table

_MOST_NOTES = 6


def evaluation_table(evaluation: Evaluation, command: str = "") -> str:
    """Markdown: the averages of each plan, then every scene, with what is needed to repeat them."""
    s, summary = evaluation.settings, evaluation.summary()
    protocol = s["protocol"]
    columns = protocol["columns"]
    lines = [
        f"# {s['dataset']}, protocol {protocol['name']}: {s['model']}",
        "",
        f"{protocol['source']}: {protocol['says']}.",
        "",
        f"{measured_on(s)}; longer side {s['image_size']}, size policy "
        f"{s['size_policy']}; {_frames(evaluation)}; averaged over {_AVERAGES[protocol['average']]}.",
        "",
        *([f"`{command}`", ""] if command else []),
        *_departures(evaluation),
        *table(["plan", *columns, "forward s", "times dense", "peak GiB"], _average_rows(summary, columns)),
        "",
    ]
    if any(name.startswith("auc_") for name in columns):
        lines += [f"{AREAS}; {FOCAL}.", ""]
    pooled = [name for name in next(iter(summary.values()), {}) if name.startswith("pooled_")]
    if pooled and protocol["average"] != "pooled":
        rows = [[f"`{plan}`", *(number(f.get(name)) for name in pooled)] for plan, f in summary.items()]
        lines += ["All pairs of all scenes pooled:", "", *table(["plan", *pooled], rows), ""]
    failed = [(scene, row) for scene in evaluation.scenes for row in scene.rows if row.failed is not None]
    if failed and protocol.get("unfinished") == "plan":
        for plan in dict.fromkeys(row.plan for _, row in failed):
            why = [(scene.name, row.failed) for scene, row in failed if row.plan == plan]
            lines += [f"`{plan}` did not fit in memory in {len(why)} scenes; {why[0][0]}: {why[0][1]}.", ""]
    elif failed:
        names = sorted({scene.name for scene, _ in failed})
        plans = sorted({row.plan for _, row in failed})
        lines += [
            f"Averages leave out {len(names)} scenes that did not fit in memory under "
            f"{', '.join(plans)}: {', '.join(names)}.",
            "",
        ]
    if protocol["average"] != "scenes":
        lines += ["Scenes one by one are below; their plain mean differs from the average above.", ""]
    lines += table(["scene", "frames", "plan", *columns, "forward s"], _scene_rows(evaluation, columns))
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
    """What of a run is not the protocol's, and what it assumed, for whoever compares it with a paper."""
    s, rows = evaluation.settings, [row for scene in evaluation.scenes for row in scene.rows]
    rules, lines = s["protocol"]["frames"], []
    if s["frames"] != rules.get(s["dataset"], rules.get("*")):
        lines.append("The frames are not those of the protocol but chosen by hand.")
    notes = [note for row in rows if not row.reference for note in row.notes]
    notes += [note for scene in evaluation.scenes for note in scene.notes]
    lines += [f"In some scenes: {note}." for note in dict.fromkeys(notes)][:_MOST_NOTES]
    lost = sum(row.left_out for row in rows if not row.reference)
    if lost:
        lines.append(f"{lost} views were given no camera and count as wrong.")
    lines += [
        REFERENCES[name] + (_registered(evaluation) if name == COLMAP else "")
        for name in evaluation.context.get("references", ())
    ]
    return [line for one in lines for line in (one, "")]


def _registered(evaluation: Evaluation) -> str:
    """How much of the scenes COLMAP reconstructed."""
    rows = [(scene, row) for scene in evaluation.scenes for row in scene.rows if row.plan == COLMAP]
    if not rows:
        return ""
    total = sum(len(scene.frames) for scene, _ in rows)
    registered = total - sum(row.left_out for _, row in rows)
    seconds = sum(row.timings_s.get("total", 0.0) for _, row in rows) / len(rows)
    text = f" {registered} of {total} views registered, {seconds:.3g} s a scene."
    inside = [ate for _, row in rows if (ate := row.figures.get("ate_registered")) is not None]
    if inside:
        text += f" ATE of registered views alone: {sum(inside) / len(inside):.4g}."
    failed = [(scene, note) for scene, row in rows for note in row.notes if "no reconstruction" in note]
    return text + "".join(f" {scene.name}: {note}." for scene, note in failed[:_MOST_NOTES])


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
                NONE if gain is None else f"{gain:.2f}x",
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
