"""Figures of two bases: what is drawn is what the table holds."""

import matplotlib.colors as mcolors
import numpy as np
import pandas as pd
import pytest

from finetune_geometry.figures.bases_plots import pairs_beside, verdict_tiles
from finetune_geometry.figures.result_plots import VERDICT_COLOURS

pytestmark = pytest.mark.usefixtures("close_figures")


def test_a_tile_has_the_colour_and_the_word_of_its_verdict():
    table = pd.DataFrame(
        {
            "claim": ["C1", "C2"],
            "title": ["one", "two"],
            "x": ["reproduced", "not testable in this regime"],
            "y": ["undecided", ""],
        }
    )
    ax = verdict_tiles(table, {"x": "first", "y": "second"}).axes[0]
    tiles = [(patch.get_x(), patch.get_y(), patch.get_facecolor()) for patch in ax.patches]
    assert [(round(x + 0.48), round(y + 0.44)) for x, y, _ in tiles] == [(0, 0), (1, 0), (0, 1)]
    wanted = ["reproduced", "undecided", "not testable in this regime"]
    assert [c for _, _, c in tiles] == [mcolors.to_rgba(VERDICT_COLOURS[v]) for v in wanted]
    assert [text.get_text() for text in ax.texts] == ["reproduced", "undecided", "not testable"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["C1  one", "C2  two"]


def test_pairs_stand_in_the_order_of_the_first_base():
    table = pd.DataFrame(
        {
            "a": ["s", "s", "s", "s"],
            "b": ["r", "d", "r", "d"],
            "base": ["one", "one", "two", "two"],
            "value": [0.2, 0.9, 0.5, 0.4],
            "low": [0.1, 0.8, 0.4, 0.3],
            "high": [0.3, 1.0, 0.6, 0.5],
            "expected": [0.25, np.nan, 0.55, np.nan],
        }
    )
    names = {"one": "the first", "two": "the second"}
    figure = pairs_beside(table, names, xlabel="cosine", names=["s-r", "s-d"], chance=(-0.1, 0.1))
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["s-d", "s-r"]
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert sorted(lines["the second"].get_xdata()) == [0.4, 0.5]
    by_row = {round(y): x for x, y in zip(*lines["the first"].get_data(), strict=True)}
    assert by_row == {0: 0.9, 1: 0.2}
    drawn = lines["the second: from the rows alone"].get_xdata()
    assert [x for x in drawn if np.isfinite(x)] == [0.55]
