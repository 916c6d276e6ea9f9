"""An evaluation as files (NAME.json, NAME.md, NAME.csv), and reading one back to go on with it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...errors import InputError, OutputError
from ...files.schema import convert, read_json, schema_errors
from ...files.writing import check_results_folder, write_files
from ..runner.records import FORMAT, Evaluation, SceneRows
from .evaluation import evaluation_table

_SUFFIXES = (".json", ".md", ".csv")


class _Protocol(msgspec.Struct):
    name: str
    average: Literal["scenes", "groups", "pooled", "pixels"]
    columns: list[str]


class _Settings(msgspec.Struct):
    dataset: str
    protocol: _Protocol


class _Stored(msgspec.Struct):
    """What a comparison reads of the settings; the rest is compared as it is."""

    settings: _Settings


def file_stem(settings: dict[str, Any]) -> str:
    """The name of the files of a run: dataset and protocol."""
    return f"{settings['dataset']}.{settings['protocol']['name']}"


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
    contents: dict[str, str | dict[str, Any]] = {
        f"{stem}.json": {"command": command, **evaluation.to_json()},
        f"{stem}.md": evaluation_table(evaluation, command),
        f"{stem}.csv": evaluation_csv(evaluation),
    }
    return write_files(folder, contents)


def read_evaluation(path: Path) -> Evaluation:
    """What `write_evaluation` wrote. InputError for another file."""
    remedy = "give a result of manyview evaluate"
    data = read_json(path, dict, remedy=remedy, error=InputError)
    with schema_errors(str(path), remedy, InputError):
        if data.get("format") != FORMAT:
            raise ValueError(f"its format is {data.get('format')!r}, expected {FORMAT!r}")
        convert(data, _Stored)
        return convert(data, Evaluation)


def earlier_scenes(
    folder: Path, stem: str, settings: dict[str, Any], overwrite: bool
) -> tuple[SceneRows, ...]:
    """Scenes of an earlier run in the folder that this one may go on with; none if there was none.

    OutputError where the earlier file was made under other settings and `overwrite` does not allow to
    replace it.
    """
    path = folder / f"{stem}.json"
    check_results_folder(folder, [f"{stem}{suffix}" for suffix in _SUFFIXES], overwrite or path.exists())
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
