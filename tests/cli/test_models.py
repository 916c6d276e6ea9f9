"""The table of models, and the page that is made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyview.models.families import MODELS, find_model


def test_every_model_is_reported_with_its_licence(command):
    status, text, _ = command("models")
    assert status == 0
    for row in MODELS:
        assert f"\n{row.name}\n" in f"\n{text}" and row.licence in text
    status, text, _ = command("models", "--commercial-only")
    assert status == 0 and "manyview-small" in text and "facebook/VGGT-1B\n" not in text


def test_the_page_is_what_the_command_says(command):
    status, text, _ = command("models", "--markdown")
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    assert status == 0 and text in page


def test_it_says_what_is_here_and_what_auto_takes(command, monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    text = command("models", "--offline")[1]
    assert text.count("\n  here            no\n") == sum(row.hub_id is not None for row in MODELS)
    assert "auto takes manyview-photos" in text.splitlines()[-1]
    row = find_model("vggt-1b")
    folder = tmp_path / "models--facebook--VGGT-1B" / "snapshots" / str(row.revision)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(1234))
    assert f"here            1.2 kB, {folder / 'model.safetensors'}\n" in command("models")[1]


def test_the_name_of_the_last_release_still_works(command):
    status, text, error = command("weights", "--markdown")
    assert status == 0 and text == command("models", "--markdown")[1]
    assert "weights" in error and "models" in error
