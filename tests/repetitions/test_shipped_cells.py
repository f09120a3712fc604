"""What ships of repetitions: tables with a card, and what the book says of them."""

from __future__ import annotations

import json

import pytest
from shipped import REFERENCE

from finetune_geometry.evaluation.claims import load_ledger
from finetune_geometry.evaluation.judging import UNTESTABLE
from finetune_geometry.report.cells import judged_cells
from finetune_geometry.runs.files import read_csv
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.repetitions import MEASUREMENTS

CELLS = sorted(path.name for path in (REFERENCE / "cells").iterdir())


@pytest.mark.parametrize("cell", CELLS)
def test_a_repetition_ships_whole_with_what_made_it(cell: str) -> None:
    folder = REFERENCE / "cells" / cell
    cards = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert cards
    tables = {f"{table}.csv" for chapter in cards for table in MEASUREMENTS[chapter].tables}
    assert {path.name for path in folder.glob("*.csv")} == tables
    for card in cards.values():
        assert {"processor", "seconds", "adapters", "made_with"} <= set(card)
        assert {*card["adapters"]} == {*METHODS, "sft-order"}
        assert "from_reference" not in card
    for table in tables:
        assert set(read_csv(folder / table)["cell"]) == {cell}


def test_another_processor_gives_the_run_the_same_verdicts() -> None:
    """As book/reproducing.md says of the same seeds on a processor with AVX2 alone."""
    folder = REFERENCE / "cells" / "run"
    judged = judged_cells(load_ledger(), read_csv(folder / "measures.csv")).set_index("claim")
    ledger = read_csv(REFERENCE / "claims.csv").set_index("claim")["verdict"]
    decided = judged.loc[judged["verdict"] != UNTESTABLE, "verdict"]
    assert len(decided) == 8
    assert (decided == ledger[decided.index]).all()
    numbers = json.loads((REFERENCE / "numbers.json").read_text(encoding="utf-8"))
    rows = read_csv(folder / "headlines.csv").set_index(["quantity", "a", "b"])["value"]
    for (a, b), cosine in rows["cosine"].items():
        if b != "sft-order":
            assert abs(cosine - numbers[f"cosine.{a}_{b}"]) < 0.009
    said = {method: f"{rows['accuracy', method, '']:.1%}" for method in METHODS}
    assert (said["sft"], said["dft"], said["offline_grpo"]) == ("66.6%", "62.9%", "42.1%")
    assert f"{numbers['accuracy.offline_grpo']:.1%}" == "45.8%"
