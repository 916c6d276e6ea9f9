"""Tables written from numbers into marked places of a page, and nothing else of it touched."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tools.results import credits
from tools.results.model_card import Card, main, write_tables

import manyview
from manyview.errors import UsageError
from manyview.models.checkpoints.metadata import stored_metadata
from manyview.models.checkpoints.read import read_checkpoint
from manyview.models.load import weights_of_name

ROOT = Path(__file__).resolve().parents[2]

ROW = {
    "auc_5": 1.25,
    "auc_15": 20.0,
    "auc_30": 41.5,
    "rotation_median_deg": 3.0,
    "translation_median_deg": 9.0,
    "abs_rel": 0.1234,
    "confidence_excess": None,
}
SETTINGS = {"scenes": 4, "views": 8, "width": 112, "height": 80}
NUMBERS = {
    "levels": {
        "easy": {
            "settings": SETTINGS,
            "rows": dict.fromkeys(("dense", "frame", "identity", "mean pose"), ROW),
        }
    },
    "views": [{"level": "easy", "settings": SETTINGS, "rows": {"dense": ROW}}],
}
CARD = Card(Path("w.safetensors"), {"numbers": NUMBERS})


def recipe(start: dict[str, Any] | None, *mixes: dict[str, Any]) -> dict[str, Any]:
    counts = {"steps": 1200, "scenes": 9000, "images": 50_000, "minutes": 61.4, "parts": [{"processes": 2}]}
    config = {"stages": [{"scenes": list(mixes)}]}
    return {"command": "manyview train base --config photos", "start": start, "config": config, **counts}


def photographs(*names: str) -> dict[str, Any]:
    return {"start": {}, "end": {}, "posed": {"folders": list(names)}}


def fill(page: Path, name: str, textures: Path | None = None, **metadata: Any) -> str:
    page.write_text(f"<!-- numbers:{name} --><!-- /numbers -->")
    write_tables(page, Card(Path("w.safetensors"), metadata, textures))
    return page.read_text()


def test_runs_and_credits_are_those_of_the_whole_chain(tmp_path: Path):
    page, first = tmp_path / "page.md", recipe(None, photographs("chair-room"))
    last = recipe({"weights": "first.safetensors", "recipe": first}, photographs("desk-pcb"), {"posed": None})
    text = fill(page, "runs", recipe=last)
    assert "| 1 | `manyview train" in text and "| 2 | `manyview train" in text and "1,200 | 9,000" in text
    text = fill(page, "credits", recipe=last)
    assert text.count("Peter Abeles") == 2 and "photographs chair-room" in text and "desk-pcb" in text
    assert "creativecommons.org/licenses/by/4.0" in text and "ground-rock" not in text
    assert "|" not in fill(page, "credits", recipe=recipe(None, {"posed": None}))


def test_pictures_without_a_credit_are_refused(tmp_path: Path):
    page, pictures = tmp_path / "page.md", tmp_path / "pictures"
    shown = recipe(None, {"start": {"pictures": "pictures"}, "end": {}, "posed": None})
    pictures.mkdir()
    with pytest.raises(UsageError, match="flowerpot"):  # may be shared under its own terms only
        fill(page, "credits", recipe=recipe(None, photographs("flowerpot")))
    for textures, entity in ((None, "--textures"), (pictures, "pictures")):
        with pytest.raises(UsageError, match=entity):
            fill(page, "credits", textures, recipe=shown)
    (pictures / "cc0-acg2-01.jpg").touch()
    (pictures / "relief-02.jpg").touch()
    text = fill(page, "credits", pictures, recipe=shown)
    assert "textures cc0-acg2" in text and "Daniel Pett" in text and "textures cc0-acg " not in text
    (pictures / "clay-01.jpg").touch()
    with pytest.raises(UsageError, match=r"clay-01\.jpg"):
        fill(page, "credits", pictures, recipe=shown)


def test_the_credits_say_enough():
    known = tomllib.loads((Path(credits.__file__).parent / "credits.toml").read_text("utf-8"))
    for one in (*known["photographs"].values(), *known["textures"].values()):
        assert one.keys() == {"shows", "author", "source", "commit", "licence"}
        assert one["licence"] in known["licences"] and "SA" not in one["licence"]


def test_sizes_of_a_network(tmp_path: Path):
    weights = weights_of_name("manyview-small")
    assert weights is not None
    page = tmp_path / "page.md"
    page.write_text("<!-- numbers:network --><!-- /numbers -->")
    model = manyview.load(weights)
    write_tables(page, Card(weights, model.info.metadata))
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert f"| parameters | {count:.2f} million" in page.read_text() and "Apache-2.0" in page.read_text()


def test_the_model_card_has_the_numbers_of_the_bundled_weights(tmp_path: Path):
    weights, card = weights_of_name("manyview-small"), (ROOT / "docs" / "model-card.md").read_text()
    assert weights is not None
    text = "".join(re.findall(r"<!-- numbers:(?:runs|tables) -->.*?<!-- /numbers -->\n", card, re.S))
    page = tmp_path / "page.md"
    page.write_text(text)
    assert write_tables(page, Card(weights, stored_metadata(read_checkpoint(weights)))) == ["runs", "tables"]
    assert page.read_text() == text


def test_marked_places_are_replaced_and_the_rest_stays(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- numbers:tables -->\nold\n<!-- /numbers -->\nafter\n")
    assert write_tables(page, CARD) == ["tables"]
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| dense | 1.2 | 20.0 | 41.5 |" in text
    write_tables(page, CARD)
    assert page.read_text() == text


def test_full_tables_have_every_row(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("<!-- numbers:tables --><!-- /numbers -->")
    write_tables(page, CARD)
    text = page.read_text()
    assert text.count("| mean pose |") == 1 and "| easy | 4 | 8 | 1.2 |" in text and "exact" not in text


@pytest.mark.parametrize(
    "text", ["nothing", "<!-- numbers:tables -->", "<!-- numbers:x --><!-- /numbers -->"]
)
def test_pages_without_a_proper_place_are_refused(tmp_path: Path, text: str):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UsageError, match=str(page.name)):
        write_tables(page, CARD)
    assert page.read_text() == text


def test_the_command_reads_the_numbers_of_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page, weights = tmp_path / "page.md", tmp_path / "weights.safetensors"
    page.write_text("<!-- numbers:tables --><!-- /numbers -->")
    for numbers, status in (({}, 2), (NUMBERS, 0)):
        metadata = {"manyview": json.dumps({"numbers": numbers}), "format": "pt"}
        save_file({"x": torch.zeros(1)}, weights, metadata=metadata)
        assert main([str(weights), str(page)]) == status
    assert "weights.safetensors" in capsys.readouterr().err
    assert "| dense | 1.2 | 20.0 | 41.5 |" in page.read_text()
