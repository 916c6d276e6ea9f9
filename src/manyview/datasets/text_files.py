"""Numbers in text files, and the pictures of a folder, with errors that name the line or the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..files.naming import PICTURE_SUFFIXES, is_clutter, natural_key, suffix_of


def lines_of(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, words) of every line that is not empty and no # comment."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from error
    split = ((number, line.split()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, words) for number, words in split if words and not words[0].startswith("#")]


def numbers(words: list[str], path: Path, line: int) -> list[float]:
    """The words as numbers."""
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"{path}: line {line} holds something that is no number ({error})") from error


def number_table(path: Path, columns: int) -> Float64[np.ndarray, "lines columns"]:
    """Every line as `columns` numbers."""
    rows = []
    for line, words in lines_of(path):
        row = numbers(words, path, line)
        if len(row) != columns:
            raise InputError(f"{path}: line {line} has {len(row)} numbers, expected {columns}")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: holds no numbers; expected lines of {columns}")
    return np.array(rows)


def pose_matrices(table: Float64[np.ndarray, "views 16"], path: Path) -> Float64[np.ndarray, "views 3 4"]:
    """The upper rows of row-major 4x4 matrices, one a line."""
    matrices = table.reshape(-1, 4, 4)
    if np.abs(matrices[:, 3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InputError(f"{path}: expected row-major 4x4 matrices that end in 0 0 0 1")
    return matrices[:, :3]


def intrinsics_file(path: Path) -> Float64[np.ndarray, "3 3"] | None:
    """A 3x3 matrix for pixel centres at whole numbers, moved to centres at +0.5; None without the file."""
    if not path.is_file():
        return None
    matrix = number_table(path, 3)
    if matrix.shape != (3, 3) or not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise InputError(f"{path}: expected a 3x3 matrix with focal lengths above zero")
    matrix[:2, 2] += 0.5
    return matrix


def first_line_words(path: Path) -> int:
    """How many words the first line with content has; 0 for a file that is missing, empty or no text."""
    if not path.is_file():
        return 0
    try:
        lines = lines_of(path)
    except InputError:
        return 0
    return len(lines[0][1]) if lines else 0


def pictures_in(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in natural order; none if it does not exist."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if suffix_of(p) in PICTURE_SUFFIXES and not is_clutter(p.name)]
    return sorted(found, key=lambda path: natural_key(path.name))


def first_with_pictures(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The pictures of the first of these sub-folders (".": itself) that has any."""
    for name in names:
        pictures = pictures_in(folder / name)
        if pictures:
            return pictures
    return []
