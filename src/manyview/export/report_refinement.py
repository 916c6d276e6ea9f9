"""The report's section on a refinement of cameras: numbers before and after, and what became of the views."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..files.naming import counted, printable

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

_STATUSES = {
    "mapped": "by global mapping",
    "resected": "by resection",
    "fixed": "known, not moved",
    "unrefined": "not refined",
}


def refinement_section(scene: Reconstruction) -> str:
    """Sentence, tests, counts and the views; empty where nothing was refined."""
    refinement = scene.refinement
    if refinement is None:
        return ""
    accepted = bool(refinement.get("accepted"))
    sentence = printable(str(refinement.get("sentence")))
    words = html.escape(sentence[:1].upper() + sentence[1:])
    parts = [f"<p>{words}.</p>"]
    if refinement.get("tests"):
        parts.append(_folded("What was tested", _tests(refinement["tests"]), not accepted))
    if accepted:
        parts.append(f"<p class=quiet>{html.escape(_depth(refinement))}</p>")
        parts.append(_folded("Views", _views(refinement.get("views", ())), False))
    if "stereo" in refinement:
        words = printable(str(refinement["stereo"].get("sentence")))
        parts.append(f"<p>{html.escape(words[:1].upper() + words[1:])}.</p>")
    notes = "".join(f"<li>{html.escape(printable(str(note)))}</li>" for note in refinement.get("notes", ()))
    parts.append(f"<ul>{notes}</ul>" if notes else "")
    title = "refined" if accepted else "not refined"
    grade = "good" if accepted else "doubtful"
    return f'<section class="quality {grade}"><h2>Cameras: <b>{title}</b></h2>{"".join(parts)}</section>'


def view_statuses(scene: Reconstruction) -> dict[str, str]:
    """In words, by the name of the view, what a refinement did to its camera; empty without one."""
    views = (scene.refinement or {}).get("views", ())
    return {str(view["name"]): _STATUSES.get(view["status"], str(view["status"])) for view in views}


def _tests(tests: list[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(str(test['name']))}</th>"
        + "".join(f'<td class="number">{_number(test.get(key))}</td>' for key in ("before", "after", "limit"))
        + f"<td>{'passed' if test['passed'] else '<b>failed</b>'}</td></tr>"
        for test in tests
    )
    head = "".join(f"<th>{name}</th>" for name in ("", "before", "after", "limit", ""))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _views(views: list[Mapping[str, Any]]) -> str:
    head = ("name", "camera is", "shares number", "points", "depth scale", "shift", "residual", "scale from")
    rows = "".join(
        f"<tr><td>{html.escape(printable(str(view['name'])))}</td>"
        f"<td>{html.escape(_STATUSES.get(view['status'], str(view['status'])))}</td>"
        f'<td class="number">{view.get("camera")}</td><td class="number">{view.get("points")}</td>'
        f'<td class="number">{_number(view.get("depth_scale"))}</td>'
        f'<td class="number">{_number(view.get("depth_shift"))}</td>'
        f'<td class="number">{_share(view.get("depth_residual"))}</td>'
        f"<td>{html.escape(str(view.get('depth_from')))}</td></tr>"
        for view in views
    )
    header = "".join(f"<th>{name}</th>" for name in head)
    table = f"<table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _depth(refinement: Mapping[str, Any]) -> str:
    depth, counts = refinement.get("depth") or {}, refinement.get("counts") or {}
    parts = [
        f"{counted(int(counts.get('points', 0)), 'point')} with "
        f"{counted(int(counts.get('observations', 0)), 'observation')}"
    ]
    if depth.get("residual") is not None:
        parts.append(
            f"depth differs from them by {depth['residual']:.1%} (median of views; "
            f"{depth['residual_one_scale']:.1%} at one scale for all views)"
        )
    return "; ".join(parts) + "."


def _folded(title: str, content: str, opened: bool) -> str:
    return f"<details{' open' if opened else ''}><summary>{title}</summary>{content}</details>"


def _number(value: Any) -> str:
    return "" if value is None else html.escape(f"{value:.4g}")


def _share(value: Any) -> str:
    return "" if value is None else f"{value:.1%}"
