"""Video input: which frames are chosen, how they are turned, and what happens when the file is damaged."""

from __future__ import annotations

import itertools
import struct
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from manyview.errors import DamagedInputError, InputError, MissingExtraError, UsageError
from manyview.files.spread import evenly_spread
from manyview.reconstruction.inputs.find import find_inputs
from manyview.reconstruction.inputs.load import LoadedViews, read_views
from manyview.reconstruction.inputs.options import InputOptions
from manyview.reconstruction.inputs.sampling import laplacian_variance, pick_frames, plan_sampling
from manyview.reconstruction.inputs.video import VideoReader

av = pytest.importorskip("av")

_STEP = 4  # grey levels between consecutive frames of `_counting`


def _write(
    path: Path, frames: Iterable[np.ndarray], rate: int = 10, gop: int = 12, pts: list[int] | None = None
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        stream.codec_context.gop_size = gop
        for index, pixels in enumerate(frames):
            if index == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = pts[index] if pts else index
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _counting(path: Path, count: int, height: int = 48, width: int = 64, **options: object) -> Path:
    """A video whose frame `i` is plain grey of level 20 + 4 i."""
    frames = (np.full((height, width, 3), 20 + _STEP * index, np.uint8) for index in range(count))
    return _write(path, frames, **options)  # type: ignore[arg-type]


def _read(path: Path, strict: bool = False, **options: object) -> LoadedViews:
    return read_views(find_inputs(path, InputOptions(**options)), target_size=56, strict=strict)  # type: ignore[arg-type]


def _indices(views: LoadedViews) -> list[int | None]:
    return [record.video_frame for record in views.records]


def _assert_pixels_match_indices(views: LoadedViews) -> None:
    levels = (views.images.float().mean(dim=(1, 2, 3)) - 20) / _STEP
    assert [round(float(level)) for level in levels] == _indices(views)


def test_all_frames_of_a_short_video(tmp_path: Path) -> None:
    views = _read(_counting(tmp_path / "a.mp4", 25))
    assert _indices(views) == list(range(25))
    _assert_pixels_match_indices(views)
    (plain,) = views.warnings  # each of these frames is a grey of its own
    assert plain.startswith("25 frames of one colour")
    record = views.records[7]
    assert record.name == "frame_000007.png"
    assert record.source == str(tmp_path / "a.mp4")
    assert record.time_s == pytest.approx(0.7)
    assert (record.transform.upright_width, record.transform.upright_height) == (64, 48)
    assert views.images.shape == (25, 3, 42, 56)


@pytest.mark.parametrize("suffix", ["mkv", "mov", "avi"])
def test_other_containers(tmp_path: Path, suffix: str) -> None:
    views = _read(_counting(tmp_path / f"a.{suffix}", 12), stride=5)
    assert _indices(views) == [0, 5, 10]
    _assert_pixels_match_indices(views)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stride": 7}, [0, 7, 14, 21, 28, 35]),
        ({"max_frames": 4}, [0, 13, 26, 39]),
        ({"max_frames": 40}, list(range(40))),
        ({"fps": 2}, [0, 5, 10, 15, 20, 25, 30, 35]),
        ({"fps": 2, "max_frames": 4}, [0, 10, 25, 35]),
        ({"stride": 2, "max_frames": 5}, [0, 10, 20, 28, 38]),
        ({"start_s": 1.0, "end_s": 1.4}, [10, 11, 12, 13, 14]),
        ({"start_s": 3.75}, [38, 39]),
        ({"start_s": 2.0, "fps": 1}, [20, 30]),
        ({"start_s": 1.0, "end_s": 3.0, "max_frames": 3}, [10, 20, 30]),
    ],
)
def test_spacing(tmp_path: Path, options: dict[str, float], expected: list[int]) -> None:
    views = _read(_counting(tmp_path / "a.mp4", 40), **options)
    assert _indices(views) == expected
    _assert_pixels_match_indices(views)


def test_fps_follows_time_stamps_not_frame_counts(tmp_path: Path) -> None:
    """Phones drop frames: with half of them missing, one per second is still one per second."""
    stamps = [*range(0, 20), *range(20, 60, 4)]
    views = _read(_counting(tmp_path / "a.mp4", 30, pts=stamps), fps=1)
    times = [record.time_s for record in views.records]
    assert times == pytest.approx([0, 1, 2, 3.2, 4, 5.2])


def test_more_frames_per_second_than_there_are(tmp_path: Path) -> None:
    views = _read(_counting(tmp_path / "a.mp4", 6), fps=25)
    assert _indices(views) == list(range(6))
    assert views.warnings[0] == "'a.mp4' has 10 frames per second, fewer than the 25 asked for"


def test_by_default_a_video_gives_two_frames_a_second_and_at_most_200(tmp_path: Path) -> None:
    greys = (np.full((16, 16, 3), 40 + index % 200, np.uint8) for index in range(450))
    path = _write(tmp_path / "a.mp4", greys)
    views = _read(path)
    times = [record.time_s for record in views.records]
    assert len(times) == 90 and all(0.1 <= b - a <= 0.9 for a, b in itertools.pairwise(times))  # type: ignore[operator]
    assert views.warnings[0].startswith("90 of 450 frames are used") and "--fps" in views.warnings[0]
    assert len(_read(path, stride=1).records) == 450
    limited = plan_sampling(InputOptions(), [index / 10 for index in range(3000)])
    assert limited.groups == 200 and limited.starts is not None and limited.starts[-1] == 599
    assert plan_sampling(InputOptions(), [index / 10 for index in range(3000)], most=50).groups == 50


def test_by_default_sharp_frames_are_taken_and_those_without_motion_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texture = Image.fromarray(rng.integers(0, 256, (96, 328, 3)).astype(np.uint8)).resize((164, 48))
    blurred = texture.filter(ImageFilter.GaussianBlur(3))

    def frame(index: int) -> np.ndarray:
        left = 2 * (min(index, 150) if index < 300 else index - 150)  # stands still from 15 to 30 s
        picture = texture if index % 5 == 2 else blurred
        return np.asarray(picture.crop((left % 100, 0, left % 100 + 64, 48)))

    views = _read(_write(tmp_path / "a.mp4", map(frame, range(400)), gop=1))
    indices = _indices(views)
    assert all(index is not None and index % 5 == 2 for index in indices)
    still = [index for index in indices if index is not None and 160 <= index < 300]
    assert len(indices) - len(still) > 40 and len(still) <= 1
    assert "in which nothing moved" in views.warnings[0]


def test_the_sharp_frames_are_chosen(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texture = Image.fromarray(rng.integers(0, 256, (96, 128, 3)).astype(np.uint8))
    sharp = {2, 9, 11}
    frames = [
        np.asarray(texture if index in sharp else texture.filter(ImageFilter.GaussianBlur(3)))
        for index in range(15)
    ]
    path = _write(tmp_path / "a.mp4", frames, gop=1)
    assert _indices(_read(path, sharpest_of=5)) == [2, 9, 11]
    assert _indices(_read(path, stride=5, sharpest_of=2)) == [0, 5, 11]
    assert _indices(_read(path, stride=5)) == [0, 5, 10]


def test_sharpness_of_known_pictures() -> None:
    flat = np.full((20, 20), 77, np.uint8)
    ramp = np.tile(np.arange(20, dtype=np.uint8) * 5, (20, 1))
    checks = (np.indices((20, 20)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert laplacian_variance(flat) == laplacian_variance(ramp) == 0
    # On a checkerboard every neighbour differs by 255, so the Laplacian is +-1020 everywhere.
    assert laplacian_variance(checks) == pytest.approx(1020.0**2)


@given(
    count=st.integers(1, 400),
    stride=st.none() | st.integers(1, 50),
    limit=st.none() | st.integers(1, 60),
    window=st.none() | st.integers(1, 12),
)
def test_choice_is_even_ordered_and_within_its_limits(
    count: int, stride: int | None, limit: int | None, window: int | None
) -> None:
    options = InputOptions(stride=stride, max_frames=limit, sharpest_of=window)
    times = [index / 30 for index in range(count)]
    sampling = plan_sampling(options, times)
    frames = list(
        pick_frames(zip(times, range(count), strict=True), sampling, lambda index: (index * 7919) % 101)
    )
    assert frames == sorted(set(frames))
    if options.by_default:  # at most 14 s of 30 frames
        assert min(count, 20) <= len(frames) <= 28
        return
    slots = -(-count // (stride or window or 1))
    allowed = limit or (200 if stride is None else slots)
    assert len(frames) == min(slots, allowed)
    if window is None and len(frames) > 2:
        gaps = {b - a for a, b in itertools.pairwise(frames)}
        assert max(gaps) - min(gaps) <= (stride or 1)
    if window is None:
        assert frames[0] == 0


def _turned(path: Path, source: Path, matrix: tuple[int, ...]) -> Path:
    """The same MP4 with another display matrix in its track header (ISO 14496-12, 8.3.2)."""
    data = bytearray(source.read_bytes())
    start = data.find(b"tkhd") + 4 + 4 + 5 * 4 + 2 * 4 + 4 * 2
    assert data[start : start + 36] == struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


_ONE = 1 << 16


@pytest.mark.parametrize(
    ("matrix", "orientation", "turns"),
    [
        ((0, _ONE, 0, -_ONE, 0, 0, 0, 0, 1 << 30), 6, -1),  # a phone held upright: turn clockwise
        ((-_ONE, 0, 0, 0, -_ONE, 0, 0, 0, 1 << 30), 3, 2),
        ((0, -_ONE, 0, _ONE, 0, 0, 0, 0, 1 << 30), 8, 1),
    ],
)
def test_rotation_flag_is_applied_and_told(
    tmp_path: Path, matrix: tuple[int, ...], orientation: int, turns: int
) -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = (220, 30, 30)
    pixels[:, 32:] = (30, 30, 220)
    plain = _write(tmp_path / "plain.mp4", [pixels] * 3)
    views = _read(_turned(tmp_path / "turned.mp4", plain, matrix), stride=1)
    transform = views.records[0].transform
    expected = np.rot90(pixels, turns)
    assert transform.orientation == orientation
    assert (transform.stored_width, transform.stored_height) == (64, 48)
    assert (transform.upright_height, transform.upright_width) == expected.shape[:2]
    shown = views.images[0].permute(1, 2, 0).numpy().astype(int)
    rows, columns = shown.shape[:2]
    for y, x in itertools.product((0.2, 0.8), (0.2, 0.8)):
        want = expected[int(y * expected.shape[0]), int(x * expected.shape[1])]
        assert np.abs(shown[int(y * rows), int(x * columns)] - want).max() < 25
    assert views.warnings[0].startswith("3 frames turned upright by its rotation flag")


def test_sharpness_and_colour_do_not_need_the_whole_video_in_memory(tmp_path: Path) -> None:
    """Frames are prepared one by one: the reader never runs ahead of what is asked for."""
    reader = VideoReader(_counting(tmp_path / "a.mp4", 50), InputOptions(stride=1))
    frames = reader.frames()
    for index in range(3):
        assert next(frames).index == index
    assert reader.decoded <= 3 + 1 + 1  # one more is read to know that a group is complete
    frames.close()  # type: ignore[attr-defined]


def test_a_range_without_frames(tmp_path: Path) -> None:
    path = _counting(tmp_path / "a.mp4", 20)
    with pytest.raises(InputError, match=r"a\.mp4.* 1\.9 seconds"):
        _read(path, start_s=5)


@pytest.mark.parametrize("content", [b"", b"I am a text", bytes(range(256)) * 20])
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DamagedInputError, match=r"a\.mp4") as caught:
        _read(tmp_path / "a.mp4")
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


def test_sound_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r"a\.mp4"):
        _read(path)


def test_frames_too_small(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", [np.zeros((4, 64, 3), np.uint8)] * 2)
    with pytest.raises(InputError, match=r"a\.mp4.*64x4"):
        _read(path)


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _counting(tmp_path / "a.mp4", 3)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"a\.mp4.*manyview\[video\]"):
        _read(path)


def test_video_broken_off_is_kept_told_and_refused_when_strict(tmp_path: Path) -> None:
    path = _counting(tmp_path / "a.mkv", 50)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    # Matroska announces its duration, not its frames.
    views = _read(path)
    assert 10 < len(views.records) < 45
    _assert_pixels_match_indices(views)
    assert "breaks off after 2." in views.warnings[0] and "of 5.0 seconds" in views.warnings[0]
    with pytest.raises(DamagedInputError, match=r"a\.mkv"):
        _read(path, strict=True)
    # A range that ends before the break is sound.
    assert _indices(_read(path, strict=True, end_s=0.5)) == [0, 1, 2, 3, 4, 5]


def test_damage_in_the_middle(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    base = np.asarray(Image.fromarray(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)).resize((128, 96)))
    path = _write(tmp_path / "a.mp4", [np.roll(base, index, axis=1) for index in range(40)])
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    start = data.tobytes().find(b"mdat")
    places = rng.integers(start + len(data) // 5, start + len(data) // 2, 300)
    data[places] ^= 0xFF
    path.write_bytes(data.tobytes())
    first, second = _read(path), _read(path)
    assert 5 < len(first.records) < 40
    assert first.records == second.records and torch.equal(first.images, second.images)
    assert "is damaged in" in first.warnings[0] or "breaks off or is damaged" in first.warnings[0]
    with pytest.raises(DamagedInputError, match=r"a\.mp4"):
        _read(path, strict=True)


def test_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = find_inputs(_counting(tmp_path / "a.mp4", 30), InputOptions(stride=10))
    read_views(found, target_size=56, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_real_short_videos(shared_data: Path) -> None:
    folder = shared_data / "video-short"
    robot = _read(folder / "robot_49fps.mp4", strict=True, stride=1)
    assert len(robot.records) == 174 and robot.warnings == ()
    by_default = _read(folder / "robot_49fps.mp4")  # of three and a half seconds
    assert 10 <= len(by_default.records) <= 25 and "of 174 frames" in by_default.warnings[0]
    house = _read(folder / "house_1fps.mp4")
    assert [record.time_s for record in house.records] == pytest.approx(range(8))
    with pytest.raises(DamagedInputError, match=r"robot_truncated_500k\.mp4"):
        _read(folder / "robot_truncated_500k.mp4")
    cut = _read(folder / "robot_faststart_cut_45pct.mp4", stride=1)
    assert len(cut.records) == 70
    assert "only 70 of the 175 frames it announces decode" in cut.warnings[0]
    assert torch.equal(cut.images[:60], robot.images[:60])
    with pytest.raises(DamagedInputError, match="70 of the 175"):
        _read(folder / "robot_faststart_cut_45pct.mp4", strict=True)
    with pytest.raises(InputError, match=r"4 videos.*\.mp4"):
        find_inputs(folder)


def test_real_long_video(shared_data: Path) -> None:
    path = shared_data / "video-redkitchen-long" / "redkitchen_1000.mp4"
    views = _read(path)
    times = [record.time_s for record in views.records]  # two in each of 33 seconds, from end to end
    assert 60 <= len(times) <= 67 and times[0] < 0.2 and times[-1] > 32.9  # type: ignore[operator]
    assert "of 1000 frames are used" in views.warnings[0]
    assert _indices(_read(path, max_frames=200)) == evenly_spread(1000, 200)
    seconds = _read(path, fps=1)
    assert _indices(seconds) == list(range(0, 1000, 30))
    # Decoded frame k is source picture k: the photographs of the same sequence agree.
    photo = read_views(find_inputs(shared_data / "rgbd-redkitchen" / "color" / "000300.jpg"), target_size=56)
    frame = seconds.images[10].float()
    assert (frame - photo.images[0].float()).abs().mean() < 6


def test_options_that_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="fps and stride"):
        InputOptions(fps=1, stride=1)


def test_odd_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _counting(tmp_path / "a.mp4", 3).read_bytes()
    monkeypatch.chdir(tmp_path)
    for name in ["walk: day 1 é%03d.mp4", "-b.mp4", "pipe.mp4"]:
        Path(name).write_bytes(whole)
        assert len(_read(Path(name)).records) == 3


def test_a_video_without_images_is_told_what_it_holds(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    # A movie header of version 0 and nothing else.
    header = struct.pack(">5IIH10x9I24xI", 0, 0, 0, 1000, 0, 1 << 16, 256, *[0] * 9, 1)
    boxes = (
        (b"ftyp", b"isom\0\0\2\0isomiso2"),
        (b"moov", struct.pack(">I4s", 8 + len(header), b"mvhd") + header),
    )
    data = b"".join(struct.pack(">I4s", 8 + len(content), kind) + content for kind, content in boxes)
    (tmp_path / "nothing.mp4").write_bytes(data)
    for name, held in (("sound.mp4", "audio"), ("nothing.mp4", "no streams")):
        with pytest.raises(InputError) as caught:
            _read(tmp_path / name)
        assert name in str(caught.value) and held in str(caught.value)
