"""Printed against measured numbers: both shown where both are, the printed alone where not."""

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.evaluation.released import PRINTED_COLUMNS
from finetune_geometry.figures.palette import label
from finetune_geometry.figures.released_plots import (
    AGREES,
    KINDS,
    likeness_by_kind,
    printed_and_measured,
)

pytestmark = pytest.mark.usefixtures("close_figures")


def printed(values: list[float]) -> pd.DataFrame:
    agrees = ["yes", "no", "about"]
    rows = [
        ("C1", f"number {n}", "0.5", 0.5, False, value, np.nan, np.nan,
         agrees[n] if np.isfinite(value) else "not measured")
        for n, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=PRINTED_COLUMNS)


def test_online_methods_have_names_of_their_own():
    assert [label(name) for name in ("online_grpo", "online_dapo")] == ["Online GRPO", "DAPO"]


def dots(ax) -> list[tuple[float, float]]:
    found = [line for line in ax.lines if line.get_marker() == "o"]
    return [(x, y) for line in found for x, y in zip(*line.get_data(), strict=True)]


def test_each_number_has_its_bar_and_what_was_measured_its_dot():
    ax = printed_and_measured(printed([0.5, 0.7, np.nan]), xlabel="cosine").axes[0]
    bars = [line for line in ax.lines if line.get_linewidth() == 3]
    assert [tuple(bar.get_xdata()) for bar in bars] == [(0.5, 0.5)] * 3
    assert [y for _, y in dots(ax)] == [0, 1]
    assert [x for x, _ in dots(ax)] == [0.5, 0.7]
    hues = [line.get_color() for line in ax.lines if line.get_marker() == "o"]
    assert hues == [AGREES["yes"], AGREES["no"]]
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(words) == 3


def test_without_a_measured_number_the_printed_ones_stand_alone():
    ax = printed_and_measured(printed([np.nan] * 3), xlabel="cosine").axes[0]
    assert dots(ax) == []
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["printed in the paper"]


def pairs(**cosines: list[float]) -> pd.DataFrame:
    rows = [(kind, value, 0.05) for kind, values in cosines.items() for value in values]
    return pd.DataFrame(rows, columns=["kind", "cosine", "chance"])


def test_a_row_for_every_kind_that_is_printed_or_measured():
    table = pairs(loss=[0.9, 0.5], step=[0.99])
    ax = likeness_by_kind(table, {"seed": (0.07, 0.36), "loss": (0.06, 0.98)}).axes[0]
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == [KINDS["loss"], KINDS["seed"], KINDS["step"]]
    assert sorted(x for x, _ in dots(ax)) == [0.5, 0.9, 0.99]
    assert {round(y) for _, y in dots(ax)} == {0, 2}


def test_without_a_pair_the_printed_ranges_stand_alone():
    ax = likeness_by_kind(pairs(), {"seed": (0.07, 0.36)}).axes[0]
    assert dots(ax) == []
    assert len(ax.get_legend().get_texts()) == 1
