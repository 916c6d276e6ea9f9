"""Options are checked in one place: type, finiteness and range, and the option is named."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import pytest

from manyview._option_checks import check_options
from manyview.attention.plan_spec import preset_from_spec
from manyview.errors import UsageError
from manyview.export import ColmapOptions, PlyOptions, TrackOptions
from manyview.files.paths import user_path
from manyview.reconstruction.inputs.options import InputOptions
from manyview.reconstruction.run.options import ReconstructOptions, changed_options
from manyview.view import ViewOptions


@dataclasses.dataclass(frozen=True)
class Some:
    count: int = 1
    share: float | None = None
    name: str = "a"
    sizes: tuple[int, ...] = ()
    pair: tuple[int, int] | None = None
    kind: Literal["one", "two"] = "one"
    flag: bool = False


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", "3"), ("count", 1.0), ("count", True), ("count", None), ("count", 2**70),
        ("count", 10**400), ("share", float("nan")), ("share", float("inf")), ("share", 1e300),
        ("share", "x"), ("share", -1.0),
        ("name", 3), ("name", None), ("sizes", 4), ("sizes", "44"), ("sizes", (1, "x")), ("sizes", (2**80,)),
        ("pair", (1,)), ("kind", "three"), ("flag", "yes"), ("count", -1),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(field: str, value: Any):
    with pytest.raises(UsageError, match=rf"^{field} must be"):
        check_options(Some(**{field: value}), at_least={"count": 0}, above={"share": -1})


def test_what_can_be():
    check_options(Some(np.int64(3), 2, sizes=[1, 2], pair=(3, 4), kind="two"), at_least={"count": 3})
    check_options(Some(share=np.float32(0.5)), at_least={"share": 0}, above={"share": 0.4})


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: changed_options(None, {"image_size": "x"}), "image_size"),
        (lambda: ReconstructOptions(memory_limit_gib=float("nan")), "memory_limit_gib"),
        (lambda: ReconstructOptions(inputs={"fps": 2}), "inputs"),
        (lambda: ReconstructOptions(strict="no"), "strict"),
        (lambda: InputOptions(fps=1e308), "fps"),
        (lambda: InputOptions(start_s=float("nan")), "start_s"),
        (lambda: ViewOptions(max_points=2**70), "max_points"),
        (lambda: PlyOptions(max_points=0), "max_points"),
        (lambda: TrackOptions(seed=-1), "seed"),
        (lambda: preset_from_spec("avggt:stride=²x²"), "stride"),
        (lambda: preset_from_spec("avggt:stride=٣x٣"), "stride"),
        (lambda: preset_from_spec("avggt:early=٣"), "early"),
        (lambda: preset_from_spec(f"avggt:early={2**70}"), "early"),
    ],
)
def test_options_of_the_library(make: Any, name: str):
    with pytest.raises(UsageError, match=name):
        make()


def test_options_within_options_are_checked_when_they_are_used():
    with pytest.raises(UsageError, match="max_error_px"):
        check_options(ColmapOptions(tracks=TrackOptions(max_error_px=float("nan"))))


@pytest.mark.parametrize("path", ["~nosuch/x", "~nosuch", "a\0b"])
def test_paths_that_cannot_be(path: str):
    with pytest.raises(UsageError):
        user_path(path)


def test_paths_of_a_person(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(user_path("~/x")) == "/home/me/x"
    assert str(user_path("/data/~nosuch")) == "/data/~nosuch"
