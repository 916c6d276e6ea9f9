"""`manyview demo OUT`: the whole path on a scene whose truth is known."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import tyro

from .._option_checks import check_options
from .console import Bars, quality_line, say, written

_PARTS = ("scene", "result")


def _check_folder(out: Path) -> None:
    """OutputError for a folder that holds anything but an earlier demo."""
    from ..errors import OutputError
    from ..files.writing import entries

    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file, a folder was expected; choose another folder for the demo")
    other = [name for name in entries(out) if name not in _PARTS] if out.is_dir() else []
    other += [name for name in _PARTS if (out / name).is_symlink()]
    if other:
        raise OutputError(f"{out}: holds {other[0]}, which no demo wrote; choose another folder for the demo")


@dataclasses.dataclass(frozen=True)
class Demo:
    """Render a procedural scene, reconstruct it with the bundled model, compare with the exact truth."""

    out: tyro.conf.Positional[Path] = Path("demo")
    """Folder for the images, the result, its exports and the report."""
    views: int = 12
    """Images to render."""
    overwrite: bool = False
    """Replace an earlier demo in OUT."""

    def run(self) -> int:
        from ..errors import MissingExtraError
        from ..evaluate.runner.synthetic import compare_with_truth
        from ..export import export
        from ..models.auto import BUNDLED
        from ..models.load import load
        from ..reconstruction.result.save import check_output_folder, save
        from ..reconstruction.run.engine import reconstruct
        from ..synthetic import demo_scene, write_scene

        check_options(self, at_least={"views": 2})
        scene_dir, result_dir = self.out / "scene", self.out / "result"
        _check_folder(self.out)
        check_output_folder(result_dir, self.overwrite)
        model = load(BUNDLED)
        write_scene(scene_dir, demo_scene(self.views), overwrite=self.overwrite)
        say(f"scene: {self.views} images and exact truth in {scene_dir}")
        truth = scene_dir / "truth.npz"
        with Bars() as bars:
            found = reconstruct(scene_dir / "images", model, progress=bars)
            save(found, result_dir, self.overwrite)
            for name in ("ply", "glb", "colmap", "depth", "overview", "report"):
                try:
                    files = export(found, result_dir, name, overwrite=True, progress=partial(bars, name))
                except MissingExtraError as error:
                    say(f"{name}: left out, {error}")
                else:
                    say(written(name, files, result_dir))
            alone = reconstruct(scene_dir / "images", model, accel="frame", progress=bars)
        if found.quality is not None:
            say(quality_line(found.quality))
        say("accuracy against the scene's exact truth (AUC of relative cameras in percent, depth AbsRel):")
        for name, scene in (("dense attention", found), ("within frames", alone)):
            n = compare_with_truth(scene, truth)
            say(
                f"  {name:<18} AUC@5 {n['auc_5']:5.1f}  AUC@15 {n['auc_15']:5.1f}  "
                f"AUC@30 {n['auc_30']:5.1f}  rotation {n['rotation_median_deg']:5.1f} deg  "
                f"direction {n['translation_median_deg']:5.1f} deg  AbsRel {n['abs_rel']:.3f}"
            )
        say(f"now: manyview view {result_dir}, or open {result_dir / 'report.html'}")
        return 0
