"""README and tutorials do what they say: their blocks run in order, and print what is shown below them."""

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

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "tutorials"
README = "README"
ADDING, SOURCES = ("adding-a-method", "adding-a-network"), "src/manyview/"
REFUSED = "refused"
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of a page; `printed` are the lines of the text that follows, where ... stands for anything."""

    language: str
    title: str
    code: str
    printed: tuple[str, ...] = ()


# What no test can run, as it needs what its title says: page, title, first words.
ELSEWHERE = [
    (README, "in a shell", "pip install"),
    (README, "opens a browser", "manyview view"),
    ("colmap-and-splats", "with gsplat and a card", "python examples/simple_trainer.py"),
    ("colmap-and-splats", "with nerfstudio and a card", "ns-train splatfacto"),
    ("first-reconstruction", "opens a browser", "manyview view"),
    ("several-gpus", "on a machine with cards", "manyview reconstruct"),
    ("several-gpus", "on a machine with cards", "torchrun --nnodes"),
    ("several-gpus", "on a machine with cards", "torchrun --nproc-per-node"),
]


def blocks(page: str) -> Iterator[Block]:
    text = ((ROOT if page == README else PAGES) / f"{page}.md").read_text(encoding="utf-8")
    found = [Block(*parts) for parts in _BLOCK.findall(text)]
    assert text.count("```") == 2 * len(found)
    for block, after in zip(found, [*found[1:], Block("", "", "")], strict=True):
        shown = after.code.splitlines() if after.language == "text" else ()
        if block.language != "text":
            yield dataclasses.replace(block, printed=tuple(shown))


def names() -> list[str]:
    return [README, *sorted(path.stem for path in PAGES.glob("*.md"))]


def runs_here(block: Block) -> bool:
    return block.title in ("", REFUSED)


def test_nothing_else_is_left_out() -> None:
    left_out = [
        (page, block.title, " ".join(block.code.split()[:2]))
        for page in names()
        for block in blocks(page)
        if not runs_here(block) and not block.title.startswith(SOURCES)
    ]
    assert left_out == ELSEWHERE


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
    frames = [np.ascontiguousarray(view[:, at : at + 224]) for view in pixels for at in (0, 16)]
    (folder / "walk").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "walk" / f"{number:03}.png", pnginfo=rendered_mark())
    with av.open(str(folder / "walk.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=Fraction(6))
        stream.width, stream.height, stream.bit_rate = 224, 192, 4_000_000
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())
    return folder


@pytest.fixture(scope="session")
def extended(tmp_path_factory: pytest.TempPathFactory) -> ExtendedPackage:
    """A copy of the package with what the pages add to it: a file each, and lines of another one."""
    package = None
    for page in ADDING:
        file, line = (block for block in blocks(page) if block.title.startswith(SOURCES))
        assert (file.language, line.language) == ("python", "diff")
        rows = line.code.splitlines()
        old, new = ("\n".join(row[1:] for row in rows if row[0] in kind) for kind in (" -", " +"))
        places = [block.title.removeprefix(SOURCES) for block in (file, line)]
        added = (places[0], file.code, places[1], old, new)
        if package is None:
            package = ExtendedPackage(tmp_path_factory.mktemp("adding"), *added)
        else:
            package.add(*added)
    assert package is not None
    return package


def carry_out(line: str, package: ExtendedPackage | None) -> tuple[int, str]:
    """Exit status of a command line, and what it said where that was in another process."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "manyview", line
    if package is None:
        return run(arguments), ""
    done = package.run(*arguments)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("page", names())
def test_a_page(
    page: str, inputs: Path, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("manyview.batch.run.run_side_by_side", in_this_process)
    package = request.getfixturevalue("extended") if page in ADDING else None
    known: dict[str, object] = {"__name__": page}
    for block in blocks(page):
        if not runs_here(block):
            continue
        said = ""
        if block.language == "python":
            exec(compile(block.code, page, "exec"), known)
        for line in block.code.replace("\\\n", " ").splitlines() if block.language == "bash" else ():
            status, more = carry_out(line, package)
            assert status == (2 if block.title == REFUSED else 0), (line, more, capsys.readouterr())
            said += more
        said = " ".join((said + "".join(capsys.readouterr())).split())
        for line in block.printed:
            pattern = ".*".join(map(re.escape, " ".join(line.split()).split("...")))
            assert re.search(pattern, said), (line, said)
