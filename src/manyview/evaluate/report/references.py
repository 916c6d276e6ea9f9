"""What a table says of its reference rows."""

from __future__ import annotations

from ..runner.records import Evaluation

_NOTES = 6
SAYS = {
    "identity": "`identity` does not look: no rotation, centres at random, the same depth everywhere.",
    "mean-step": "`mean-step` does not look: from frame to frame the mean of the *true* steps, in each pixel "
    "the mean true depth.",
    "colmap": "`colmap` is structure from motion on the same pictures at their own size, of its largest "
    "model; a view that is not in it counts as wrong in every pair (180 degrees) and, in ATE, as standing "
    "in the mean of the true centres. It has no depth.",
}


def reference_notes(evaluation: Evaluation) -> list[str]:
    """What the rows are that no plan of the model made, and how much of the scenes COLMAP got."""
    told = []
    for name in evaluation.context.get("references", ()):
        rows = [(scene, row) for scene in evaluation.scenes for row in scene.rows if row.plan == name]
        text = SAYS[name]
        if name == "colmap" and rows:
            total = sum(len(scene.frames) for scene, _ in rows)
            registered = total - sum(row.left_out for _, row in rows)
            seconds = sum(row.timings_s.get("total", 0.0) for _, row in rows) / len(rows)
            text += f" {registered} of {total} views registered, {seconds:.3g} s a scene."
            inside = [row.figures.get("ate_registered") for _, row in rows]
            known = [value for value in inside if value is not None]
            if known:
                text += f" ATE of registered views alone: {sum(known) / len(known):.4g}."
            failed = [
                (scene, note) for scene, row in rows for note in row.notes if "no reconstruction" in note
            ]
            text += "".join(f" {scene.name}: {note}." for scene, note in failed[:_NOTES])
        told.append(text)
    return told
