"""The ledger with a column for every run whose claims are at hand."""

import json

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.evaluation import columns
from finetune_geometry.evaluation.columns import other_ledgers, side_by_side
from finetune_geometry.evaluation.judging import CLAIM_COLUMNS
from finetune_geometry.runs.files import write_csv
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError


def ledger(**verdicts) -> pd.DataFrame:
    """A ledger of these claims, claim -> (verdict, value)."""
    rows = [
        {**dict.fromkeys(CLAIM_COLUMNS, ""), "claim": name, "title": f"{name} says",
         "paper": "0.97", "verdict": verdict, "value": value}
        for name, (verdict, value) in verdicts.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS)


OURS = ledger(C1=("reproduced", 0.97651), C3=("undecided", 0.02), C16=("not testable", np.nan))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout whose reference run is of profile tiny, and a place for runs."""
    reference = tmp_path / "book" / "reference"
    (reference / "claims").mkdir(parents=True)
    (reference / "settings.json").write_text("{}")
    (reference / "numbers.json").write_text(json.dumps({"run.profile": "tiny"}))
    write_csv(reference / "claims.csv", OURS)
    write_csv(reference / "claims" / "other-base.csv", ledger(C1=("not reproduced", 0.5)))
    monkeypatch.setattr(columns, "project_root", lambda: tmp_path)
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path / "results"))
    return tmp_path


def test_a_column_a_run_and_a_row_a_claim_of_this_one():
    other = ledger(C16=("reproduced", 0.02), C99=("reproduced", 1.0))
    table = side_by_side({"this": OURS, "other": other})
    assert list(table.columns) == ["claim", "title", "paper", "this", "other"]
    assert list(table["claim"]) == ["C1", "C3", "C16"]
    assert list(table["this"]) == ["reproduced (0.977)", "undecided (0.02)", "not testable"]
    assert list(table["other"]) == ["", "", "reproduced (0.02)"]


def test_the_ledgers_at_hand_are_found(project):
    run = Run.open("tiny", "mine")
    assert list(other_ledgers(run)) == ["other-base"]
    # What has another profile than the reference run stands beside it.
    assert list(other_ledgers(Run.open("smoke"))) == ["tiny", "other-base"]
    # Released weights count where they were measured.
    run.write_table(columns.RELEASED, OURS.iloc[:0])
    assert "released" not in other_ledgers(run)
    run.write_table(columns.RELEASED, OURS.iloc[:2])
    assert list(other_ledgers(run)["released"]["claim"]) == ["C1", "C3"]


def test_runs_named_by_the_reader_stand_beside(project):
    Run.open("tiny", "theirs").write_table("claims.csv", OURS)
    run = Run.open("tiny", "mine")
    assert list(other_ledgers(run, ["theirs"])) == ["other-base", "theirs"]
    with pytest.raises(UserError, match="no ledger of run 'nobody'"):
        other_ledgers(run, ["nobody"])


def test_a_ledger_does_not_stand_beside_itself(project):
    write_csv(project / "book" / "reference" / "claims" / "tiny.csv", OURS)
    assert list(other_ledgers(Run.open("tiny", "mine"))) == ["other-base"]
