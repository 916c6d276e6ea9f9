"""An evaluation of folders of posed images as text and as files: table.md and results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...files.writing import write_files
from ...refine.stereo.confirm import STAGE
from ..protocols.measures import Figures
from ..references import COLMAP, MEAN_STEP
from ..runner.records import Evaluation, PlanRow, SceneRows
from .markdown import AREAS, FOCAL, NONE, REFERENCES, fixed, measured_on, table

_HEAD = (
    *("row", "AUC@3 exact", "AUC@3", "AUC@5", "AUC@15", "AUC@30", "RRA@5/15/30", "RTA@5/15/30", "rot deg"),
    *("dir deg", "ATE", "ATE % of path", "focal %", "AbsRel", "d<1.25 %", "conf, 1/z (least)"),
    *("abs. conf, 1/z (least)", "forward s", "refine s"),
)
_POSES = (
    *(f"{kind}_{t}" for kind in ("auc", "auc_integral") for t in (3, 5, 15, 30)),
    *(f"{kind}_{t}" for kind in ("rra", "rta") for t in (5, 15, 30)),
)


def posed_table(evaluation: Evaluation, command: str = "") -> str:
    """The figures in Markdown, one table a set, with what is needed to read and repeat them."""
    return stored_table({"command": command, **posed_json(evaluation)})


def stored_table(stored: dict[str, Any]) -> str:
    """The table of what results.json holds."""
    s, command = stored["settings"], stored["command"]
    lines = [
        f"# Posed images: {s['model']}, at most {s['views']} views a set",
        "",
        f"{measured_on(s, str(s['environment']['threads']) + ' threads')}; size policy {s['size_policy']}, "
        f"longer side {s['image_size']}.",
        "",
        *([f"`{command}`", ""] if command else []),
    ]
    for one in stored["sets"]:
        lines += _set_lines(one["set"], one["rows"])
    lines += [
        f"AUC, RRA and RTA of relative poses in percent over all pairs; {AREAS}; ATE after the Sim(3) of "
        f"least squares; {FOCAL}; depth after one median scale a set. "
        + "".join(f"{REFERENCES[name]} " for name in s["references"])
        + "conf is the area under the sparsification curve of relative depth errors (1 knows nothing), of "
        "1/z taken for confidence, and the least possible; abs. conf that of absolute errors.",
        "",
    ]
    return "\n".join(lines)


def _set_lines(f: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"## {f['name']}",
        "",
        f"{f['format']}, {f['views']} views of {f['width']}x{f['height']} px, "
        f"path of {f['path_length']:.3g} {f['unit']}; cameras all in one point would have ATE "
        f"{f['spread']:.3g} {f['unit']}.",
        *(f"Note: {note}." for note in f["notes"]),
        *(
            f"{row['name']}: {row['left_out']} views were given no camera and count as wrong."
            for row in rows
            if row["left_out"]
        ),
        *(f"{note[:1].upper()}{note[1:]}." for row in rows for note in row["notes"]),
        "",
        *table(_HEAD, [_cells(row) for row in rows]),
        "",
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    n = row["numbers"]
    return [
        f"`{row['name']}`" if row["plan"] is not None else row["name"],
        fixed(n.get("auc_integral_3"), ".1f"),
        *(fixed(n[f"auc_{t}"], ".1f") for t in (3, 5, 15, 30)),
        *(" / ".join(fixed(n[f"{kind}_{t}"], ".0f") for t in (5, 15, 30)) for kind in ("rra", "rta")),
        fixed(n["rotation_median_deg"], ".1f"),
        fixed(n["translation_median_deg"], ".1f"),
        fixed(n["ate"], ".3f"),
        fixed(n["ate_share"], ".1f", 100),
        fixed(n.get("focal_error"), ".1f"),
        fixed(n["abs_rel"], ".3f"),
        fixed(n["delta_125"], ".1f"),
        *(_areas(n["confidence"], kind) for kind in ("relative", "absolute")),
        fixed(row["seconds"], ".3g"),
        fixed(row.get("refine_seconds"), ".3g"),
    ]


def _areas(confidence: dict[str, Figures] | None, kind: str) -> str:
    if confidence is None:
        return NONE
    one = confidence[kind]
    return f"{one['area']:.2f}, {one['inverse_depth']:.2f} ({one['oracle']:.2f})"


def write_posed(evaluation: Evaluation, folder: Path, command: str) -> list[Path]:
    """Write results.json and table.md, each whole or not at all; `command` made them."""
    result = {"command": command, **posed_json(evaluation)}
    return write_files(folder, {"results.json": result, "table.md": stored_table(result)})


def posed_json(evaluation: Evaluation) -> dict[str, Any]:
    """What results.json holds."""
    sets = [
        {"set": _facts(scene), "rows": [_row(row, scene) for row in scene.rows]}
        for scene in evaluation.scenes
    ]
    return {"protocol": "posed-v1", "settings": evaluation.settings, "sets": sets}


def _facts(scene: SceneRows) -> dict[str, Any]:
    f = scene.facts
    return {
        "name": scene.name,
        "format": f["format"],
        "views": scene.total,
        "images": list(scene.frames),
        **{name: f[name] for name in ("height", "width", "images_sha256")},
        "unit": scene.unit,
        **{name: f[name] for name in ("path_length", "spread", "depth_views")},
        "notes": list(scene.notes),
    }


def _row(row: PlanRow, scene: SceneRows) -> dict[str, Any]:
    # What was done to find cameras; notes of a network's run are those of its images.
    notes = [note for note in row.notes if row.plan == COLMAP or note.startswith(f"{row.plan}: ")]
    inside, registered = row.figures.get("ate_registered"), scene.total - row.left_out
    if inside is not None and row.left_out:
        notes.append(f"colmap: ATE of its {registered} views alone {inside:.3g} {scene.unit}")
    return {
        "name": "mean step" if row.plan == MEAN_STEP else row.plan,
        "numbers": _numbers(row, scene),
        "plan": None if row.reference else row.accel,
        "seconds": row.timings_s.get("total" if row.reference else "forward"),
        "refine_seconds": sum(row.timings_s.get(stage, 0.0) for stage in ("refine", STAGE)) or None,
        "refined_views": row.figures.get("refined_views"),
        "left_out": row.left_out,
        "notes": notes,
    }


def _numbers(row: PlanRow, scene: SceneRows) -> dict[str, Any]:
    """The figures under the names of the file; a baseline has no confidence."""
    n, confidence = row.figures, None
    if not row.reference and n["confidence_relative_area"] is not None:
        areas = ("area", "random", "inverse_depth", "oracle")
        confidence = {
            kind: {area: n[f"confidence_{kind}_{area}"] for area in areas}
            for kind in ("relative", "absolute")
        }
    ate = n["ate"]
    if ate is None and n["path"] == 0 and scene.total - row.left_out >= 3:
        ate = 0.0  # any path can be scaled onto a motionless camera
    return {
        **{name: n[name] for name in _POSES},
        "rotation_median_deg": n["rotation_deg"],
        "translation_median_deg": n["direction_deg"],
        "ate": ate,
        **{name: n[name] for name in ("ate_share", "focal_error", "abs_rel", "delta_125")},
        **_confirmed(n),
        "confidence": confidence,
    }


def _confirmed(n: Figures) -> Figures:
    """Where depth was measured: percent of the pixels with truth that other views confirm, and their median
    relative error."""
    compared, confirmed = n["pixels"], n["confirmed_pixels"]
    if not compared or not confirmed:
        return {}
    share = 100.0 * confirmed / compared
    return {"confirmed": share, "confirmed_abs_rel_median": n["confirmed_abs_rel_median"]}
