"""Figures of the evaluation chapters show every row they are given, with its interval."""

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.evaluation.judging import VERDICTS
from finetune_geometry.figures.result_plots import (
    VERDICT_COLOURS,
    accuracies,
    differences,
    estimators,
    line_panels,
    lines_from,
    verdicts,
)

pytestmark = pytest.mark.usefixtures("close_figures")


def test_accuracies_show_every_model_with_its_interval():
    table = pd.DataFrame(
        {"model": ["sft", "base"], "accuracy": [0.8, 0.6], "low": [0.7, 0.5], "high": [0.9, 0.7]}
    )
    ax = accuracies(table).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Base", "SFT"]
    spans = [tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert (0.5, 0.7) in spans
    assert (0.7, 0.9) in spans


def test_differences_fill_what_is_detected_and_blacken_what_is_equivalent():
    table = pd.DataFrame(
        {
            "a": "sft", "b": ["rft", "dpo"], "difference": [0.0, 0.2], "low": [-0.01, 0.1],
            "high": [0.01, 0.3], "margin": 0.02, "p_holm": [1.0, 0.001],
            "equivalent": [True, False], "tost_low": [-0.008, 0.12], "tost_high": [0.008, 0.28],
        }
    )  # fmt: skip
    ax = differences(table).axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [d.get_markerfacecolor() for d in dots] == ["white", dots[1].get_color()]
    assert dots[0].get_color() != dots[1].get_color()
    # Both intervals are there; the thick one is that of the equivalence test.
    bars = {tuple(line.get_xdata()): line.get_linewidth() for line in ax.lines}
    assert bars[-0.008, 0.008] > bars[-0.01, 0.01]
    assert bars[0.12, 0.28] > bars[0.1, 0.3]


def line_table() -> pd.DataFrame:
    rows = [
        {"a": "sft", "b": "dpo", "metric": "accuracy", "quantity": quantity, "alpha": t,
         "value": value, "low": value - 0.1, "high": value + 0.2}
        for quantity, values in (("curve", (0.9, 0.5, 0.7)), ("rise", (0.0, 0.3, 0.0)))
        for t, value in zip((0.0, 0.5, 1.0), values, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_line_is_drawn_in_the_direction_asked_for():
    forward = line_panels(line_table(), [("sft", "dpo")], ylabel="").axes[0]
    backward = lines_from(line_table(), "dpo", ylabel="").axes[0]
    curve = {
        ax: next(ln for ln in ax.lines if ln.get_marker() == ".") for ax in (forward, backward)
    }
    np.testing.assert_allclose(curve[forward].get_ydata(), [0.9, 0.5, 0.7])
    np.testing.assert_allclose(curve[backward].get_ydata(), [0.7, 0.5, 0.9])
    assert forward.get_title() == "SFT to DPO"
    assert backward.get_title() == "DPO to SFT"


def test_rows_of_a_model_alone_do_not_turn_its_line():
    """The line of base and sft is stored as (base, sft), sft's own metric as (sft, base)."""
    line = line_table().assign(a="base", b="sft")
    ends = line.head(1).assign(a=["sft"], b="base", quantity="end")
    ax = lines_from(pd.concat([ends, line]), "sft", ylabel="").axes[0]
    curve = next(ln for ln in ax.lines if ln.get_marker() == ".")
    np.testing.assert_allclose(curve.get_ydata(), [0.7, 0.5, 0.9])


def test_the_band_of_an_accuracy_points_the_other_way():
    """A rise of 0.3 (0.2 to 0.5) of the error rate is a dip: accuracy 0.5 (0.3 to 0.6)."""
    ax = line_panels(line_table(), [("sft", "dpo")], ylabel="").axes[0]
    vertices = ax.collections[0].get_paths()[0].vertices
    middle = vertices[vertices[:, 0] == 0.5][:, 1]
    np.testing.assert_allclose([middle.min(), middle.max()], [0.3, 0.6])


def test_every_verdict_has_a_colour_and_a_column():
    assert tuple(VERDICT_COLOURS) == VERDICTS
    table = pd.DataFrame(
        {
            "claim": ["C1", "C2"],
            "title": ["one", "two"],
            "verdict": [VERDICTS[0], VERDICTS[-1]],
            "first_verdict": [VERDICTS[0], VERDICTS[1]],
        }
    )
    ax = verdicts(table).axes[0]
    squares = [line for line in ax.lines if line.get_marker() == "s"]
    assert [float(line.get_xdata()[0]) for line in squares] == [0.0, 1.0, len(VERDICTS) - 1]
    assert [line.get_markerfacecolor() == "white" for line in squares] == [False, True, False]
    assert {t.get_text() for t in ax.texts} == {"C1", "C2"}


def test_estimators_get_one_panel_each_with_their_chance_level_and_interval():
    names = ("debiased_cka", "biased_cka")
    rows = [(i, q, 0.9, 0.85, 0.95, -0.1, 0.1) for i in range(3) for q in names]
    columns = ["layer", "quantity", "value", "low", "high", "chance_low", "chance_high"]
    fig = estimators(pd.DataFrame(rows, columns=columns), ["debiased_cka", "biased_cka"])
    assert [ax.get_title("left") for ax in fig.axes] == ["debiased CKA", "biased CKA"]
    for ax in fig.axes:
        bands = [c.get_paths()[0].vertices[:, 1] for c in ax.collections]
        assert sorted((band.min(), band.max()) for band in bands) == [(-0.1, 0.1), (0.85, 0.95)]


def test_every_column_of_panels_has_its_tick_labels():
    fig = line_panels(line_table(), [("sft", "dpo")] * 4, ylabel="")
    fig.canvas.draw()
    shown = [ax for ax in fig.axes if ax.get_visible()]
    labelled = [any(t.get_visible() for t in ax.get_xticklabels()) for ax in shown]
    assert labelled == [False, True, True, True]  # the first has a panel below it
