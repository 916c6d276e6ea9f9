"""The state folder: small pieces, exact, atomic, and honest about damage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from manyview.errors import OutputError, UsageError, WeightsError
from manyview.train.log import read_log
from manyview.train.state import RunState, check_header, has_state, load_state, save_state


def some_state() -> RunState:
    tensors = {
        "large": torch.randn(40, 50),
        "small": torch.randn(3),
        "scalar": torch.tensor(2.5),
        "half": torch.randn(7).half(),
        "empty": torch.zeros(0, 4),
    }
    return RunState(tensors, {"step": 3, "name": "x"})


def test_round_trip_in_small_pieces(tmp_path: Path) -> None:
    state = some_state()
    save_state(tmp_path, state, 3, piece_bytes=3000)
    pieces = list(tmp_path.glob("state-*/piece-*.safetensors"))
    assert len(pieces) > 2 and max(p.stat().st_size for p in pieces) <= 3500
    loaded = load_state(tmp_path)
    assert dict(loaded.header) == state.header
    assert set(loaded.tensors) == set(state.tensors)
    for name, tensor in state.tensors.items():
        assert torch.equal(loaded.tensors[name], tensor) and loaded.tensors[name].dtype == tensor.dtype


def test_only_the_latest_state_stays(tmp_path: Path) -> None:
    assert not has_state(tmp_path)
    save_state(tmp_path, some_state(), 3)
    newer = RunState({"small": torch.ones(2)}, {"step": 5})
    save_state(tmp_path, newer, 5)
    assert has_state(tmp_path) and load_state(tmp_path).header["step"] == 5
    assert [p.name for p in tmp_path.glob("state-*")] == ["state-00000005"]


def test_an_unfinished_write_leaves_the_state_before(tmp_path: Path) -> None:
    save_state(tmp_path, some_state(), 3)
    partial = tmp_path / "state-00000005.partial"
    partial.mkdir()
    (partial / "piece-000.safetensors").write_bytes(b"half")
    assert load_state(tmp_path).header["step"] == 3


def test_damage_is_a_weights_error(tmp_path: Path) -> None:
    save_state(tmp_path, some_state(), 3)
    piece = next(tmp_path.glob("state-*/piece-000.safetensors"))
    whole = piece.read_bytes()
    piece.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=tmp_path.name):
        load_state(tmp_path)
    piece.unlink()
    with pytest.raises(WeightsError, match=tmp_path.name):
        load_state(tmp_path)


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("here")
    with pytest.raises(OutputError, match=tmp_path.name):
        save_state(blocked, some_state(), 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("latest.json", '{"state": "../../etc"}'),
        ("latest.json", '{"state": ".."}'),
        ("latest.json", '{"state": 5}'),
        ("latest.json", "[" * 100_000),
        ("latest.json", "\xff"),
        ("state-00000003/state.json", "{}"),
        ("state-00000003/state.json", '{"pieces": 1e9, "shapes": {}, "header": {}}'),
        ("state-00000003/state.json", '{"pieces": 99, "shapes": {}, "header": {}}'),
        ("state-00000003/state.json", '{"pieces": 1, "shapes": {"large": [9, 9]}, "header": {}}'),
        ("state-00000003/state.json", '{"pieces": 1, "shapes": {"large": "x"}, "header": {}}'),
        ("state-00000003/state.json", '{"pieces": 1, "shapes": {"none": [1]}, "header": []}'),
    ],
)
def test_an_edited_state_is_a_weights_error(tmp_path: Path, name: str, text: str) -> None:
    save_state(tmp_path, some_state(), 3)
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(WeightsError, match=tmp_path.name):
        load_state(tmp_path)


HEADER = {
    "config": {},
    "step": 3,
    "progress": 0.5,
    "seconds": 1.0,
    "scenes": 1,
    "frames": 1,
    "optimiser_steps": {"a": 1},
}


@pytest.mark.parametrize(
    "wrong",
    [{"step": "3"}, {"progress": float("nan")}, {"progress": 7}, {"optimiser_steps": [1]}, {"config": 5}],
)
def test_an_edited_header_is_a_weights_error(wrong: dict[str, object]) -> None:
    check_header(RunState({}, HEADER), "the run")
    with pytest.raises(WeightsError, match=next(iter(wrong))):
        check_header(RunState({}, HEADER | wrong), "the run")


@pytest.mark.parametrize(
    "line", ["[1]", "{}", '{"kind": 5}', '{"kind": "train", "losses": 5}', '{"kind": "start", "step": 1}']
)
def test_an_edited_log_is_named(tmp_path: Path, line: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(line + "\n")
    with pytest.raises(UsageError, match=r"log\.jsonl, line 1"):
        read_log(log)


def test_lines_that_were_cut_off_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"kind": "end", "step": 1}\n\xff\n' + b"[" * 100_000 + b'\n{"kind": "en')
    assert read_log(log) == [{"kind": "end", "step": 1}]
