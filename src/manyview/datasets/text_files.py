"""Numbers in text files, with errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..files.schema import read_regular


def lines_of(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, words) of every line that is not empty and no # comment."""
    try:
        text = read_regular(path).decode("utf-8-sig")
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


def square_matrix(path: Path, size: int) -> Float64[np.ndarray, "size size"]:
    """A file that is one square matrix."""
    matrix = number_table(path, size)
    if len(matrix) != size:
        raise InputError(f"{path}: expected a {size}x{size} matrix, found {len(matrix)} lines")
    return matrix


def pose_matrices(table: Float64[np.ndarray, "views 16"], path: Path) -> Float64[np.ndarray, "views 3 4"]:
    """The upper rows of row-major 4x4 matrices, one a line."""
    matrices = table.reshape(-1, 4, 4)
    if np.abs(matrices[:, 3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InputError(f"{path}: expected row-major 4x4 matrices that end in 0 0 0 1")
    return matrices[:, :3]


def intrinsics_file(path: Path, size: int = 3) -> Float64[np.ndarray, "3 3"] | None:
    """A matrix for pixel centres at whole numbers, changed to centres at +0.5; None without the file."""
    if not path.is_file():
        return None
    matrix = square_matrix(path, size)[:3, :3]
    if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise InputError(f"{path}: expected a finite {size}x{size} matrix with focal lengths above zero")
    return half_pixel_centres(matrix)


def half_pixel_centres(intrinsics: Float64[np.ndarray, "*batch 3 3"]) -> Float64[np.ndarray, "*batch 3 3"]:
    """Intrinsics with the centre of the first pixel at (0.5, 0.5), from ones that have it at (0, 0)."""
    moved = intrinsics.copy()
    moved[..., :2, 2] += 0.5
    return moved


def first_line_words(path: Path) -> int:
    """How many words the first line with content has; 0 for a file that is missing, empty or no text."""
    try:
        lines = lines_of(path)
    except InputError:
        return 0
    return len(lines[0][1]) if lines else 0
