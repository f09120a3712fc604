"""`finetune-geometry diff`: what differs between two runs, on one page; one line for a mistake."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from finetune_geometry.cli import main
from finetune_geometry.report.difference_page import page, shown, told
from finetune_geometry.report.run_difference import MISSING, OTHER, SAME, Pair, difference
from finetune_geometry.report.run_files import chapter_order, open_finished
from finetune_geometry.runs.files import write_csv

NUMBERS: dict[str, Any] = {
    "run.name": "one",
    "run.profile": "tiny",
    "profile.lora.r": 8,
    "profile.training.seed": 42,
    "cosine.sft_rft": 0.5,
    "cosine.sft_dpo": 0.0,
    "cosine.base": None,
    "sft.steps": 60,
    "second_seed.cosine": 0.25,
}
PICTURES = {"fig-same": b"\x89PNG one", "fig-other": b"\x89PNG two"}


def write_run(
    folder: Path,
    numbers: dict[str, Any],
    pictures: dict[str, bytes],
    verdict: str,
    weights: dict[str, bytes],
) -> None:
    folder.mkdir(parents=True)
    (folder / "numbers.json").write_text(json.dumps(numbers))
    row = {"claim": "C1", "title": "Alike <all>", "measure": "least", "value": 0.5}
    write_csv(folder / "claims.csv", pd.DataFrame([{**row, "verdict": verdict}]))
    for name, content in weights.items():
        (folder / "adapters" / name).mkdir(parents=True)
        (folder / "adapters" / name / "adapter_model.safetensors").write_bytes(content)
    cells = [
        {
            "cell_type": "code",
            "metadata": {"mystnb": {"figure": {"name": name}, "image": {"alt": f"Of {name}."}}},
            "outputs": [{"data": {"image/png": base64.b64encode(content).decode()}}],
        }
        for name, content in pictures.items()
    ]
    (folder / "notebooks" / "geometry").mkdir(parents=True)
    (folder / "notebooks" / "geometry" / "cosine.ipynb").write_text(json.dumps({"cells": cells}))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, `one` and `two`, which differ in one thing of each kind."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    write_run(tmp_path / "one", NUMBERS, PICTURES, "reproduced", {"sft": b"1", "rft": b"2"})
    other = NUMBERS | {
        "run.name": "two",
        "profile.lora.r": 16,
        "cosine.sft_rft": 0.6,
        "cosine.sft_dpo": 0.125,
        "second_seed.from_reference": True,
        "accuracy.sft": 0.75,
    }
    pictures = PICTURES | {"fig-other": b"\x89PNG 3", "fig-new": b"\x89PNG 4"}
    write_run(tmp_path / "two", other, pictures, "not reproduced", {"sft": b"1", "rft": b"3"})
    return tmp_path


def test_each_kind_of_difference_is_found(runs: Path) -> None:
    found = difference(open_finished("one"), open_finished("two"), ["sft", "cosine"])
    assert [(p.name, p.first, p.second) for p in found.settings] == [("lora.r", 8, 16)]
    assert found.equal_settings == 2  # the profile and the seed; a run's name is no setting
    chapters = {chapter.name: chapter for chapter in found.chapters}
    assert list(chapters) == ["sft", "cosine", "accuracy", "second_seed"]  # the book's order first
    cosine = chapters["cosine"]
    assert [p.name for p in cosine.differing] == ["cosine.sft_rft", "cosine.sft_dpo"]
    assert cosine.equal == 1
    pair = cosine.largest
    assert pair is not None
    assert pair.change == pytest.approx(0.1)
    assert pair.relative == pytest.approx(0.2)
    assert chapters["accuracy"].differing[0].first is MISSING
    assert [(v.first, v.second, v.differs) for v in found.verdicts] == [
        ("reproduced", "not reproduced", True)
    ]
    assert found.adapters == {"sft": SAME, "rft": OTHER}
    assert [pair.name for pair in found.figures] == ["fig-other", "fig-new"]
    assert found.figures[1].first is None
    assert found.equal_figures == 1
    assert found.second.borrowed == ["second_seed"]


def test_a_run_differs_in_nothing_from_its_copy(runs: Path) -> None:
    found = difference(open_finished("one"), open_finished("one"))
    assert not found.settings
    assert not found.figures
    assert not [pair for chapter in found.chapters for pair in chapter.differing]
    assert set(found.adapters.values()) == {SAME}
    assert "verdicts: 0 of 1 differ" in told(found)


def test_what_has_no_relative_change_has_none() -> None:
    assert Pair("from zero", 0.0, 1.0).relative is None
    assert Pair("from zero", 0.0, 1.0).change == 1.0
    assert Pair("a word", "is", "is not").change is None
    assert Pair("logical", True, 3).change is None
    assert Pair("undefined", None, 3.0).change is None
    assert Pair("negative", -2.0, -1.0).relative == 0.5


def test_values_are_shown_as_a_reader_expects() -> None:
    values = [MISSING, None, True, 0.1 + 0.2, [1, 4], "", float("nan"), 12345678]
    words = ["–", "not defined", "yes", "0.3", "1, 4", "(empty)", "–", "12345678"]
    assert [shown(value) for value in values] == words


def test_the_page_stands_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "one", "two"]) == 0
    said = capsys.readouterr().out
    path = runs / "one-and-two.html"
    assert said.splitlines() == [
        "settings: 1 of 3 differ: lora.r",
        "numbers: 3 of 6 differ: in cosine and accuracy",
        "verdicts: 1 of 1 differ: C1",
        "adapters: 1 of 2 equal to the byte: sft",
        "figures: 2 of 3 differ",
        f"The differences: {path}",
    ]
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=.?(https?:)?//", text)
    assert "Alike <all>" not in text  # a title is text, not markup
    soup = BeautifulSoup(text, "html.parser")
    assert "Alike <all>" in soup.get_text()
    assert {image["alt"] for image in soup.find_all("img")} == {"Of fig-other.", "Of fig-new."}
    assert len(soup.find_all("img")) == 3
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in soup("img"))
    assert soup.find("tr", class_="changed") is not None
    assert "+20 %" in soup.get_text()
    assert sorted(p.name for p in runs.iterdir()) == ["one", "one-and-two.html", "two"]


def test_a_run_without_a_ledger_is_compared_all_the_same(runs: Path) -> None:
    (runs / "two" / "claims.csv").unlink()
    found = difference(open_finished("one"), open_finished("two"))
    assert "verdicts: no ledger in two" in told(found)
    assert not found.verdicts[0].differs
    assert "No ledger in two" in page(found)


def test_a_path_is_a_run_too(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "page.html"
    assert main(["diff", str(runs / "one"), "two", "--out", str(out)]) == 0
    assert out.is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["one", "tow"], "no run 'tow': .*: did you mean 'two'"),
        (["one", ""], "no run is named: RUN_B: give the names"),
        (["one", "one"], "both runs are called 'one'"),
        (["one", "begun"], "no numbers: .*begun: let this run finish first: make book RUN=begun"),
        (["one", "broken"], "not a run's numbers: .*numbers.json: delete it"),
        (["one"], "Missing argument 'RUN_B'.*diff --help"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (runs / "begun").mkdir()
    (runs / "broken").mkdir()
    (runs / "broken" / "numbers.json").write_text("[")
    assert main(["diff", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(words, said), said


def test_chapters_come_in_the_order_of_the_book() -> None:
    order = chapter_order()
    assert order.index("sft") < order.index("cosine") < order.index("verdict")
