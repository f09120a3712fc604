"""Two bases side by side: what ships of one, and how two ledgers are compared."""

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from finetune_geometry.geometry.similarity import cosine_table
from finetune_geometry.report import bases
from finetune_geometry.report.bases import (
    conditions_apart,
    likeness_of,
    listed,
    norms_of,
    predictions_of,
    shipped_adapters,
    shipped_folder,
    verdicts_beside,
    with_expected,
)
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS

UNTESTABLE = "not testable in this regime"


def test_what_ships_is_read_in_the_books_order():
    names = [adapter.name for adapter in shipped_adapters("smollm2-135m")]
    assert names[: len(METHODS)] == list(METHODS)
    assert "sft-order" in names[len(METHODS) :]


def test_a_base_that_does_not_ship_is_told_with_those_that_do(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no run on a base 'qwen'.*use one of smollm2-135m.*make"):
        shipped_folder("qwen")
    monkeypatch.setattr(bases, "project_root", lambda: tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(UserError, match=r"use one of \(none\)"):
        shipped_folder("smollm2-135m")
    (tmp_path / "models" / "small" / "geometry").mkdir(parents=True)
    assert shipped_folder("small") == tmp_path / "models" / "small"
    with pytest.raises(UserError, match=r"tables alone ship.*PROFILE=small"):
        shipped_adapters("small")


def test_two_ledgers_agree_only_where_both_can_be_tested():
    here = pd.DataFrame(
        {
            "claim": ["C1", "C2", "C3", "C4"],
            "title": list("abcd"),
            "verdict": ["reproduced", "undecided", UNTESTABLE, "reproduced"],
        }
    )
    there = here.assign(verdict=["reproduced", "reproduced", UNTESTABLE, UNTESTABLE])
    made = {
        "C1": {"verdict": "reproduced", "reason": "as\n  before"},
        "C2": {"verdict": "undecided"},
    }
    table = verdicts_beside(here, there, made).set_index("claim")
    assert table["agree"].tolist() == [True, False, False, False]
    assert table["foreseen"].tolist() == [True, False, False, False]
    assert table.loc["C1", "reason"] == "as before"
    assert table.loc["C4", "predicted"] == ""


def test_conditions_that_hold_in_one_run_alone_are_found_once():
    columns = ["claim", "version", "part", "measure", "line", "value", "line_value", "holds"]
    rows = [
        ("C1", "first", "reproduced", "cosine", ">= 0.9", 0.8, 0.9, "no"),
        ("C1", "second", "reproduced", "cosine", ">= 0.7", 0.8, 0.7, "yes"),
        ("C1", "second", "direction", "cosine", ">= 0.7", 0.8, 0.7, "yes"),
        ("C1", "second", "direction", "cosine", "> angle", 0.8, 0.1, "yes"),
        ("C2", "first", "reproduced", "norm", "< 1", 2.0, 1.0, "no"),
    ]
    here = pd.DataFrame(rows, columns=columns)
    there = here.assign(holds=["yes", "open", "open", "yes", "yes"], value=[0.95, 0.7, 0.7, 0.8, 0])
    found = conditions_apart(here, there, ["C1"])
    assert found.to_dict("records") == [
        {
            **{"claim": "C1", "condition": "cosine >= 0.7", "here": 0.8, "there": 0.7},
            **{"here_line": 0.7, "there_line": 0.7, "here_holds": "yes", "there_holds": "open"},
        }
    ]


@pytest.mark.parametrize(
    ("names", "text"),
    [([], "none"), (["C1"], "C1"), (["C1", "C2"], "C1 and C2"), (list("abc"), "a, b and c")],
)
def test_claims_in_a_sentence(names, text):
    assert listed(names) == text


def test_likeness_and_norms_are_those_of_the_tables():
    adapters = shipped_adapters("smollm2-135m")[:3]
    found = likeness_of(adapters, 4)
    table = cosine_table(adapters).query("level == 'global'").set_index(["quantity", "a", "b"])
    for row in found.query("quantity == 'cosine'").itertuples():
        assert row.value == table.loc[("cosine", row.a, row.b), "value"]
        assert row.low < row.value < row.high
    assert len(found.query("quantity == 'angle'")) == 3
    for name, norm in norms_of(adapters).items():
        assert norm == table.loc[("norm", name, "base"), "value"]


def test_a_pair_finds_its_prediction_in_either_order():
    pairs = pd.DataFrame({"a": ["sft", "rft"], "b": ["rft", "dft"]})
    predicted = pd.DataFrame(
        {
            "a": ["rft", "rft"],
            "b": ["sft", "sft"],
            "quantity": ["trained", "predicted"],
            "value": [0.9, 0.8],
        }
    )
    np.testing.assert_equal(with_expected(pairs, predicted)["expected"].to_numpy(), [0.8, np.nan])


def test_predictions_are_those_of_the_file():
    assert predictions_of("smollm2-135m")["claims"]["C1"]["verdict"] == "direction only"
    assert predictions_of("qwen3-4b") == {}
    assert (ROOT / bases.PREDICTIONS).is_file()
