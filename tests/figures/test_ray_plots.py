"""Figures along rays: every line starts at the base, every model has both of its dots."""

import pandas as pd
import pytest

from finetune_geometry.figures.ray_plots import before_and_after, rays

pytestmark = pytest.mark.usefixtures("close_figures")

COLUMNS = ["model", "factor", "loss", "right", "problems"]
ROWS = [
    ("base", 0.0, 1.0, 50, 100),
    ("dpo", 1.0, 1.2, 30, 100),
    ("sft", 0.5, 0.8, 60, 100),
    ("sft", 1.0, 0.7, 40, 100),
]


def test_every_line_starts_at_the_base():
    loss, accuracy = rays(pd.DataFrame(ROWS, columns=COLUMNS)).axes
    lines = {line.get_label(): line for line in loss.lines if line.get_marker() != "None"}
    assert list(lines) == ["SFT", "DPO"]
    assert lines["SFT"].get_xdata().tolist() == [0, 0.5, 1]
    assert lines["SFT"].get_ydata().tolist() == [1.0, 0.8, 0.7]
    shares = [line.get_ydata().tolist() for line in accuracy.lines if line.get_marker() != "None"]
    assert shares == [[0.5, 0.6, 0.4], [0.5, 0.3]]


def test_without_answers_there_is_one_panel():
    table = pd.DataFrame(ROWS, columns=COLUMNS).assign(problems=[100, 0, 0, 0])
    assert len(rays(table).axes) == 1


def test_both_dots_of_a_model_stand_in_its_row():
    rows = [
        ("sft", "trained", 0.4, 0.3, 0.5), ("sft", "best", 0.6, 0.5, 0.7),
        ("dpo", "trained", 0.2, 0.1, 0.3), ("dpo", "best", 0.5, 0.4, 0.6),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["model", "which", "accuracy", "low", "high"])
    axes = before_and_after(table, 0.5, {"trained": "as trained", "best": "best"}).axes[0]
    dots = [line for line in axes.lines if line.get_marker() != "None"]
    assert [line.get_xdata()[0] for line in dots] == [0.4, 0.6, 0.2, 0.5]
    assert [line.get_markerfacecolor() == "none" for line in dots] == [True, False, True, False]
    assert [round(line.get_ydata()[0]) for line in dots] == [0, 0, 1, 1]
    assert "hollow: as trained" in axes.get_title(loc="left")


def test_repetitions_are_faint_lines_and_the_dots_go_through_their_means():
    rows = [("base", 0.0, 1.0, 50, 100, "run"), ("base", 0.0, 1.0, 50, 100, "order1"),
            ("sft", 1.0, 0.6, 60, 100, "run"), ("sft", 1.0, 0.8, 40, 100, "order1")]  # fmt: skip
    loss, accuracy = rays(pd.DataFrame(rows, columns=[*COLUMNS, "cell"])).axes
    dotted = [line for line in loss.lines if line.get_marker() != "None"]
    assert [line.get_ydata().tolist() for line in dotted] == [[1.0, pytest.approx(0.7)]]
    faint = [line.get_ydata().tolist() for line in loss.lines if line.get_alpha() == 0.5]
    assert faint == [[1.0, 0.6], [1.0, 0.8]]
    assert [line.get_ydata()[-1] for line in accuracy.lines if line.get_alpha() == 0.5] == [
        0.6, 0.4
    ]  # fmt: skip


def test_repetitions_are_dots_in_one_row_with_a_stroke_at_their_mean():
    rows = [
        (name, which, value, 0.0, 1.0)
        for name in ("sft", "dpo")
        for which, values in (("trained", (0.4, 0.5, 0.6)), ("best", (0.6, 0.7, 0.8)))
        for value in values
    ]
    table = pd.DataFrame(rows, columns=["model", "which", "accuracy", "low", "high"])
    axes = before_and_after(table, 0.5, {"trained": "as trained", "best": "best"}).axes[0]
    dots = [line for line in axes.lines if line.get_marker() != "None"]
    assert [line.get_xdata().tolist() for line in dots] == [[0.4, 0.5, 0.6], [0.6, 0.7, 0.8]] * 2
    strokes = [line for line in axes.lines if line.get_marker() == "None"][1:]  # the base first
    assert [line.get_xdata().tolist() for line in strokes] == [
        [pytest.approx(0.5)] * 2, [pytest.approx(0.7)] * 2
    ] * 2  # fmt: skip
