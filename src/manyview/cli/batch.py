"""`manyview batch LIST|DIR OUT`."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from .._option_checks import check_options
from .console import Bars, say, stopped_by_sigterm
from .options import flat_options
from .reconstruct import Reconstruct
from .scene_choice import SceneChoice, scene_command

if TYPE_CHECKING:
    from ..batch.journal import Entry
    from ..batch.run import Outcome, Progress
    from ..batch.scenes import Scene
    from ..models.network import Network

# Options that may differ between the machines of a batch; the weights are compared by what is in them.
_OF_THE_MACHINE = ("device", "memory_limit_gib", "offline", "commercial_only", "revision", "model")
_MOST_SHOWN = 20
_COLUMNS = ("scene", "state", "views", "seconds", "peak_mib", "attempts", "input", "sentence")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch(SceneChoice):
    """Many scenes, each as `manyview reconstruct` does it, on any number of machines that share OUT.

    Every runner that is started on OUT takes scenes that no other has; a second call goes on where an earlier
    one was stopped or killed, and tries again what failed.
    """

    scenes: tyro.conf.Positional[Path]
    """A folder of folders and videos, a scene each; or a text file with a line for each scene: an input of
    `manyview reconstruct` and, after a tab, a name if it is not to be called like it."""
    out: tyro.conf.Positional[Path]
    """A folder for each scene, failed.txt and scenes.csv; one that all runners share."""
    jobs: int | None = None
    """Scenes at a time, each with its share of cores and memory; default: one per card, or one."""
    shard: str | None = None
    """Part 1/8 to 8/8 of the scenes, for job arrays; a scene's name decides which part it is in."""
    retries: int = 1
    """How often a scene that failed is tried again after all others, but for inputs that cannot be used."""
    resume: bool = False
    """Go on with the batch in OUT, and refuse an OUT that holds none; without, both is done."""

    def run(self) -> int:
        from ..attention.plan import Plan
        from ..batch.folder import check_batch_folder, open_batch
        from ..batch.run import run_batch
        from ..batch.scenes import Shard, read_scenes
        from ..batch.shares import devices, shares
        from ..errors import UsageError
        from .batch_scene import ReconstructScene

        check_options(self, at_least={"jobs": 1, "retries": 0})
        shard = Shard() if self.shard is None else Shard.parse(self.shard)
        everything = read_scenes(self.scenes)
        if self.scenes.is_dir() and self.out.resolve().is_relative_to(self.scenes.resolve()):
            raise UsageError(
                f"{self.out}: lies in the folder of the scenes; choose another folder for results"
            )
        chosen = shard.of(everything)
        command = self._command()
        check_batch_folder(self.out, self.resume)
        jobs = self.jobs or len(devices(self.how.device))
        model = self.model.load()
        if self.how.accel not in (None, "auto"):
            Plan.parse(self.how.accel, model.config.depth)
        hidden = open_batch(self.out, self._options(model))
        having = shares(model, self.how.options(), max(1, min(jobs, len(chosen))))
        with Bars() as bars, stopped_by_sigterm():

            def told(entry: Entry, progress: Progress) -> None:
                say(f"{progress}: {_line(entry)}")
                bars("scenes", progress.done + progress.failed, progress.total)

            outcomes = run_batch(
                chosen,
                self.out,
                hidden,
                model,
                ReconstructScene(command),
                having,
                self.retries,
                told,
                everything,
            )
        self._write(everything, hidden)
        return _say_outcomes(outcomes, self.out)

    def _command(self) -> Reconstruct:
        """The command that every scene is, but for its paths; UsageError for options that cannot be."""
        return scene_command(self, Reconstruct, paths=(), yes=True)

    def _options(self, model: Network) -> dict[str, Any]:
        """What decides the results and is not the default, by option."""
        plain = flat_options(SceneChoice())
        options = {
            name: value
            for name, value in flat_options(self).items()
            if name in plain and value != plain[name]
        }
        options = {name: value for name, value in options.items() if name not in _OF_THE_MACHINE}
        weights = "" if model.info is None else str(model.info.weights_sha256)[:16]
        return {**options, "model": f"{model.name} {weights}".strip()}

    def _write(self, everything: Sequence[Scene], hidden: Path) -> None:
        """failed.txt, a list for `manyview batch`, and scenes.csv: what all runners did."""
        from ..batch.folder import JOURNAL_NAME
        from ..batch.journal import NOTHING, Journal
        from ..batch.scenes import write_list
        from ..files.writing import write_files

        states = Journal(hidden / JOURNAL_NAME, "").read()
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(_COLUMNS)
        failed = []
        for scene in everything:
            state = states.get(scene.name, NOTHING)
            entry = state.done or state.failed
            if entry is None:
                continue
            if state.done is None:
                failed.append((scene, entry.sentence))
            peak = f"{entry.peak_bytes / 2**20:.0f}" if entry.peak_bytes else ""
            seconds = f"{entry.seconds:.2f}"
            attempts = state.failures + (state.done is not None)
            shown = (entry.state, entry.views, seconds, peak, attempts, entry.input, entry.sentence)
            rows.writerow((scene.name, *shown))
        write_files(self.out, {"scenes.csv": table.getvalue(), "failed.txt": write_list(failed)})
        if not failed:
            (self.out / "failed.txt").unlink(missing_ok=True)


def _line(entry: Entry) -> str:
    from ..reconstruction.plan.preflight import format_duration

    if entry.state == "failed":
        return f"{entry.scene} failed: {entry.sentence}"
    views = f"{entry.views} view{'' if entry.views == 1 else 's'}"
    return f"{entry.scene}, {views} in {format_duration(entry.seconds)}, {entry.peak_bytes / 2**20:.0f} MiB"


def _say_outcomes(outcomes: Sequence[Outcome], out: Path) -> int:
    """The end of a run; its exit status."""
    number = {state: sum(one.state == state for one in outcomes) for state in ("done", "failed", "elsewhere")}
    failed = [one for one in outcomes if one.state == "failed"]
    for one in failed[:_MOST_SHOWN]:
        say(f"failed: {one.scene.name}: {one.entry.sentence if one.entry else ''}")
    if len(failed) > _MOST_SHOWN:
        say(f"failed: {len(failed) - _MOST_SHOWN} more, see scenes.csv")
    also = f", {number['failed']} failed (listed in failed.txt)" if failed else ""
    also += f", {number['elsewhere']} with other runners" if number["elsewhere"] else ""
    say(f"{number['done']} of {len(outcomes)} scenes done{also}; in {out}, figures in scenes.csv")
    return 1 if failed else 0
