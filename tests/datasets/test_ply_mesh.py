"""Vertices and triangles of PLY files of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manyview.datasets import read_posed_set
from manyview.errors import InputError
from manyview.files.ply_mesh import read_mesh
from tests.datasets.posed_fixtures import write_eth3d, write_seven_scenes

_POINTS = np.array([[1.5, -2.0, 3.25], [0.0, 4.0, -1.0], [7.0, 8.0, 9.0]])


def _header(form: str, kind: str = "float") -> bytes:
    return (
        f"ply\nformat {form} 1.0\ncomment x\nelement vertex 3\nproperty {kind} x\nproperty {kind} y\n"
        f"property {kind} z\nproperty uchar red\nelement face 1\nproperty list uchar int vertex_indices\n"
        "end_header\n"
    ).encode()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "code"), [("float", "f4"), ("double", "f8")])
def test_binary(order: str, kind: str, code: str, tmp_path: Path) -> None:
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    data = np.zeros(3, dtype=[("x", order + code), ("y", order + code), ("z", order + code), ("red", "u1")])
    for index, axis in enumerate("xyz"):
        data[axis] = _POINTS[:, index]
    path = tmp_path / "mesh.ply"
    corners = np.array([2, 0, 1], dtype=order + "i4").tobytes()
    path.write_bytes(_header(form, kind) + data.tobytes() + b"\x03" + corners)
    np.testing.assert_array_equal(read_mesh(path).vertices, _POINTS)
    assert read_mesh(path).triangles.tolist() == [[2, 0, 1]]
    path.write_bytes(_header(form, kind) + data.tobytes() + b"\x04" + corners + b"\0" * 4)
    assert read_mesh(path).triangles is None  # four corners
    path.write_bytes(_header(form, kind) + data.tobytes()[:-20])
    with pytest.raises(InputError, match=r"mesh\.ply"):
        read_mesh(path)


def test_ascii_and_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "mesh.ply"
    rows = "1.5 -2 3.25 255\nnan 0 0 0\n7 8 9 1\n"
    for corners, kept in (("0 1 2", []), ("2 0 0", [[1, 0, 0]])):
        path.write_bytes(_header("ascii") + f"{rows}3 {corners}\n".encode())
        np.testing.assert_array_equal(read_mesh(path).vertices, _POINTS[[0, 2]])
        assert read_mesh(path).triangles.tolist() == kept
    path.write_bytes(_header("ascii") + f"{rows}3 0 1 3\n".encode())
    with pytest.raises(InputError, match=r"mesh\.ply"):
        read_mesh(path)
    path.write_text("obj")
    with pytest.raises(InputError, match=r"mesh\.ply"):
        read_mesh(path)


def test_meshes_of_whole_scenes_are_found_beside_their_images(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path / "7" / "chess" / "seq-01")
    write_eth3d(tmp_path / "courtyard")
    for scene, mesh in (
        ("7/chess/seq-01", "7/meshes/chess.ply"),
        ("courtyard", "courtyard/combined_mesh.ply"),
    ):
        assert read_posed_set(tmp_path / scene).cloud is None
        (tmp_path / mesh).parent.mkdir(exist_ok=True)
        (tmp_path / mesh).write_bytes(b"ply")
        assert read_posed_set(tmp_path / scene).cloud == tmp_path / mesh
