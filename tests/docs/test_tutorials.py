"""The tutorials do what they say: their blocks run in order, and print the lines that are shown below them."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from manyview.cli.main import run
from manyview.files.rendered import rendered_mark
from manyview.synthetic import demo_scene, write_scene
from tests.batch.in_process import in_this_process
from tests.extending import ExtendedPackage

PAGES = Path(__file__).parents[2] / "docs" / "tutorials"
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of a page; `printed` are the lines of the text that follows."""

    language: str
    title: str
    code: str
    printed: tuple[str, ...] = ()


# What no test can run: it needs what its title says.
ELSEWHERE = {
    ("colmap-and-splats", "with gsplat and a card"): "python examples/simple_trainer.py default",
    ("colmap-and-splats", "with nerfstudio and a card"): "ns-train splatfacto",
    ("first-reconstruction", "opens a browser"): "manyview view out/",
    ("several-gpus", "on a machine with cards"): "manyview reconstruct|torchrun --nnodes|torchrun --nproc-per-node",
}


def blocks(page: str) -> Iterator[Block]:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    found = [Block(*parts) for parts in _BLOCK.findall(text)]
    assert text.count("```") == 2 * len(found)
    for block, after in zip(found, [*found[1:], Block("", "", "")], strict=True):
        shown = after.code.splitlines() if after.language == "text" else ()
        if block.language != "text":
            yield dataclasses.replace(block, printed=tuple(shown))


def names() -> list[str]:
    return sorted(path.stem for path in PAGES.glob("*.md"))


def test_what_is_left_out_says_what_it_needs() -> None:
    left_out: dict[tuple[str, str], list[str]] = {}
    for page in names():
        for block in blocks(page):
            if block.title and block.title != "refused" and not block.title.startswith("src/"):
                left_out.setdefault((page, block.title), []).append(block.code)
    assert left_out.keys() == ELSEWHERE.keys()
    for where, code in left_out.items():
        begins = ELSEWHERE[where].split("|")
        assert len(begins) == len(code) and all(map(str.startswith, code, begins)), where


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/, walk/, walk.mp4 and scenes/, all of one rendered room."""
    folder = tmp_path_factory.mktemp("inputs")
    room = demo_scene(views=6, height=192, width=256)
    write_scene(folder / "room", room)
    (folder / "room" / "images").rename(folder / "photos")
    shutil.rmtree(folder / "room")
    for scene in ("hall", "kitchen"):
        (folder / "scenes" / scene).mkdir(parents=True)
        for number in (0, 1):
            shutil.copy(folder / "photos" / f"view_{number:03}.png", folder / "scenes" / scene)
    pixels = (room.images[0].permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    # Frames between the views: the room a little further to the left each time.
    frames = [np.ascontiguousarray(view[:, at : at + 224]) for view in pixels for at in (0, 7, 14, 21, 28)]
    (folder / "walk").mkdir()
    for number, frame in enumerate(frames):
        if number % 5 < 3:
            Image.fromarray(frame).save(folder / "walk" / f"{number:03}.png", pnginfo=rendered_mark())
    with av.open(str(folder / "walk.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.bit_rate = 224, 192, 4_000_000
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())
    return folder


def extended(page: str, folder: Path) -> ExtendedPackage | None:
    """A copy of the package with what the page adds to it: a file, and lines of another one."""
    added = [block for block in blocks(page) if block.title.startswith("src/manyview/")]
    if not added:
        return None
    file, line = added
    assert (file.language, line.language) == ("python", "diff")
    old, new = (
        "".join(row[1:] for row in line.code.splitlines(keepends=True) if row[0] in kind)
        for kind in (" -", " +")
    )
    places = [block.title.removeprefix("src/manyview/") for block in added]
    return ExtendedPackage(folder, places[0], file.code, places[1], old.strip("\n"), new.strip("\n"))


def status_of(line: str, package: ExtendedPackage | None) -> int:
    program, *arguments = shlex.split(line, comments=True)
    assert program == "manyview", line
    if package is None:
        return run(arguments)
    done = package.run(*arguments)
    print(done.stdout, done.stderr)
    return done.returncode


@pytest.mark.parametrize("page", names())
def test_a_tutorial(
    page: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    shutil.copytree(inputs, here)
    monkeypatch.chdir(here)
    monkeypatch.setattr("manyview.batch.run.run_side_by_side", in_this_process)
    package = extended(page, tmp_path)
    known: dict[str, object] = {"__name__": page}
    for block in blocks(page):
        if block.title and block.title != "refused":
            continue
        if block.language == "python":
            exec(compile(block.code, page, "exec"), known)
        else:
            assert block.language == "bash"
            for line in block.code.replace("\\\n", " ").splitlines():
                wanted = (2,) if block.title == "refused" else (0,)
                assert status_of(line, package) in wanted, (line, capsys.readouterr())
        said = " ".join("".join(capsys.readouterr()).split())
        for line in block.printed:
            assert " ".join(line.split()) in said, (line, said)
