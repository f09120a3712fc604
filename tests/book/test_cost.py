"""The page on costs shows what the estimator says today."""

from __future__ import annotations

import csv
from pathlib import Path

import cost_table
import pytest
from conftest import ROOT

from finetune_geometry.settings.objectives import METHODS


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_the_tables_are_those_of_the_estimator() -> None:
    for name, text in cost_table.tables().items():
        kept = (ROOT / "book" / name).read_text(encoding="utf-8")
        assert kept == text, f"book/{name} is stale: run python workflow/cost_table.py"


def test_every_line_says_that_it_is_estimated() -> None:
    with open(ROOT / "book" / "cost_stages.csv", encoding="utf-8") as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    assert {*METHODS, "rollouts", "accuracy", "mode_connectivity", "cka"} <= set(rows)
    *stages, target, share = rows.values()
    assert {row["how"] for row in stages} == {"estimated"}
    assert target["time"] == "12.0\N{NO-BREAK SPACE}h"
    assert 10 < float(share["time"].removesuffix("%")) < 60
