"""Figures over repetitions, steps and pairs: each mark where its number is."""

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.figures.behaviour_plots import correlations, scatter_pairs
from finetune_geometry.figures.spread_plots import (
    component_bars,
    dials,
    repetitions,
    rungs,
    treatments,
)
from finetune_geometry.figures.step_plots import along_steps, lengths_along_steps

pytestmark = pytest.mark.usefixtures("close_figures")


def marks(axes):
    return [line for line in axes.lines if line.get_marker() not in ("None", "", None)]


def test_every_cell_is_a_mark_of_its_kind():
    rows = [("x", "run", 0.5), ("x", "order", 0.6), ("x", "order", 0.7), ("y", "run", 0.1)]
    table = pd.DataFrame(rows, columns=["key", "kind", "value"])
    axes = repetitions(table, {"y": "Y", "x": "X"}, xlabel="cosine").axes[0]
    run, order = marks(axes)
    assert run.get_xdata().tolist() == [0.5, 0.1]
    assert np.round(run.get_ydata()).tolist() == [1, 0]
    assert order.get_xdata().tolist() == [0.6, 0.7]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Y", "X"]


def test_bars_find_their_row_by_its_key():
    keys = [("a", "b"), ("a", "c")]
    table = pd.DataFrame({"key": keys, "order": [0.1, 0.2], "initial": [0, 0], "base": [0.3, 0.4]})
    axes = component_bars(table, {("a", "c"): "AC", ("a", "b"): "AB"}, xlabel="deviation").axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [0.2, 0.1, 0, 0, 0.4, 0.3]


def test_a_treatment_has_its_marks_and_their_mean():
    rows = [("dft", "off", 1.0), ("dft", "off", 3.0), ("dft", "random", 0.0)]
    table = pd.DataFrame(rows, columns=["method", "part", "value"])
    axes = treatments(table, {"dft": "DFT"}, {"off": "off", "random": "random"}, xlabel="x").axes[0]
    assert [line.get_xdata().tolist() for line in marks(axes)] == [[1.0, 3.0], [0.0]]
    strokes = [path[0][0] for part in axes.collections for path in part.get_segments()]
    assert strokes == [2.0, 0.0]


def test_a_ladder_joins_the_means():
    rows = [("a", 1.0), ("a", 2.0), ("b", 0.0)]
    table = pd.DataFrame(rows, columns=["step", "value"])
    axes = rungs(table, {"a": "first", "b": "second"}, {"value": "cosine"}).axes[0]
    line = next(line for line in axes.lines if list(line.get_xdata()) == [1.5, 0.0])
    assert list(line.get_ydata()) == [0, 1]


def test_a_dial_shows_trained_and_predicted():
    rows = [(0.3, "p", 0.9, 0.8), (0.1, "p", 0.5, 0.4)]
    table = pd.DataFrame(rows, columns=["x", "pair", "trained", "predicted"])
    trained, predicted = marks(dials(table, xlabel="bias").axes[0])
    assert trained.get_ydata().tolist() == [0.5, 0.9]
    assert predicted.get_ydata().tolist() == [0.4, 0.8]
    assert predicted.get_markerfacecolor() == "none"


def test_steps_are_in_order():
    rows = [(10, "sft", 0.9), (5, "sft", 0.5)]
    table = pd.DataFrame(rows, columns=["step", "name", "value"])
    (line,) = along_steps(table, ylabel="cosine").axes[0].lines
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([5, 10], [0.5, 0.9])


def test_pairs_by_kind_and_correlations_with_their_intervals():
    rows = [("one A, one order", 0.9, 1.0), ("two A", 0.1, 2.0)]
    table = pd.DataFrame(rows, columns=["pair", "cosine", "tokens"])
    axes = scatter_pairs(table, {"cosine": "global cosine"}, "tokens", ylabel="nats").axes[0]
    assert [line.get_label() for line in marks(axes)] == ["one A, one order", "two A"]
    found = pd.DataFrame(
        [("cosine", "one A, one order", -0.8, -0.9, -0.6), ("cosine", "all", -0.5, -0.7, -0.2)],
        columns=["measure", "pair", "value", "low", "high"],
    )
    axes = correlations(found, ["cosine"]).axes[0]
    assert [line.get_xdata().tolist() for line in marks(axes)] == [[-0.8], [-0.5]]


def test_repetitions_are_faint_and_their_mean_has_the_name():
    rows = [("run", 5, "rft", 0.9), ("run", 10, "rft", 0.7), ("order1", 5, "rft", 0.5)]
    table = pd.DataFrame(rows, columns=["cell", "step", "name", "value"])
    axes = along_steps(table, ylabel="cosine").axes[0]
    named = [line for line in axes.lines if line.get_label() == "RFT"]
    assert [line.get_ydata().tolist() for line in named] == [[0.7, 0.7]]
    assert sorted(len(line.get_xdata()) for line in axes.lines) == [1, 2, 2]


def test_a_path_lies_between_the_straight_one_and_the_walk():
    models = pd.DataFrame({"step": [1, 2], "straight": [0.5, 1.0], "walk": [0.7, 1.0]})
    table = pd.DataFrame(
        {"step": [1, 2], "name": "sft", "to_end": [0.8, 1.0], "length": [0.6, 1.0]}
    )
    left, right = lengths_along_steps(table, models).axes
    drawn = [[line.get_ydata().tolist() for line in axes.lines] for axes in (left, right)]
    assert drawn[0] == [[1.0, 1.0], [0.7, 1.0], [0.8, 1.0]]
    assert drawn[1] == [[0.5, 1.0], [0.7, 1.0], [0.6, 1.0]]
