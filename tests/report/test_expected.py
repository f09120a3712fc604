"""What was expected is held against what came, by the file that was written before."""

from __future__ import annotations

import math

import pytest

from finetune_geometry.report import expected
from finetune_geometry.report.expected import held_against
from finetune_geometry.settings.errors import UserError

WRITTEN = {"controls": {"ray": {"expected": {"best_factor": [0.5, 1.0], "spread": [0.0, 0.2]}}}}


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        expected, "predictions_of", lambda profile: WRITTEN if profile == "tiny" else {}
    )


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (0.4, "lower"),
        (0.5, "as expected"),
        (1.0, "as expected"),
        (1.1, "higher"),
        (math.nan, "not measured"),
    ],
)
def test_a_number_is_below_within_or_above_what_was_expected(value: float, came: str) -> None:
    table = held_against("tiny", "ray", {"spread": 0.1, "best_factor": value, "other": 3.0})
    assert table["quantity"].tolist() == ["best factor", "spread"]  # in the file's order
    assert table["came"].tolist() == [came, "as expected"]
    assert table.loc[0, ["low", "high"]].tolist() == [0.5, 1.0]


def test_without_a_prediction_the_numbers_stand_alone() -> None:
    for profile, control in (("tiny", "spread"), ("qwen3-4b", "ray")):
        table = held_against(profile, control, {"best_factor": 0.75})
        assert table["found"].tolist() == [0.75]
        assert table["came"].tolist() == [""]
        assert table["low"].isna().all()


def test_what_was_predicted_must_be_measured() -> None:
    with pytest.raises(UserError, match=r"no number for 'spread': book/predictions.yaml: tiny"):
        held_against("tiny", "ray", {"best_factor": 0.75})
