"""Figures: one look per method, opaque, and every value of a table where the reader expects it."""

import itertools
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

mpl.use("agg")

from finetune_geometry.figures import geometry_plots, method_plots, palette, plots
from finetune_geometry.settings.objectives import METHODS


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        palette.set_style()
        yield
    mpl.pyplot.close("all")


def pairs(names) -> pd.DataFrame:
    rows = [(a, b, 0.01 * i) for i, (a, b) in enumerate(itertools.combinations(names, 2))]
    return pd.DataFrame(rows, columns=["a", "b", "value"])


def luminance(colour: str) -> float:
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_every_method_has_its_own_colour_and_marker():
    names = ["base", "teacher", *METHODS]
    assert len({palette.colour(n) for n in names}) == len(names)
    assert len({palette.marker(n) for n in names}) == len(names)
    assert palette.colour("dpo-seed") == palette.colour("dpo")


def test_the_palette_needs_no_notebook():
    code = (
        "import sys; from finetune_geometry.figures.palette import set_style; set_style(); "
        "print('IPython' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("matrix", ["deuteranopia", "protanopia"])
def test_colours_stay_apart_for_colour_blind_readers(matrix):
    """Machado, Oliveira and Fernandes (2009), full severity, then distance in linear RGB."""
    seen_as = {
        "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    }[matrix]
    rgb = {n: np.array(seen_as) @ mpl.colors.to_rgb(palette.colour(n)) for n in METHODS}
    for a, b in itertools.combinations(METHODS, 2):
        assert np.linalg.norm(rgb[a] - rgb[b]) > 0.15, (a, b)


def test_foreign_adapters_get_distinct_looks_by_their_place():
    names = ["mine", "yours", "sft", "theirs"]
    looks = [(palette.colour(n, names), palette.marker(n, names)) for n in names]
    assert len(set(looks)) == 4
    assert palette.colour("mine", names) == palette.colour("mine", names[::-1][3:])


def test_names_are_written_as_the_book_writes_them():
    assert palette.label("offline_grpo") == "Offline GRPO"
    assert palette.label("dpo-lr_matched") == "DPO (lr matched)"
    assert palette.label("sft-order") == "SFT (reshuffled)"
    assert palette.label("sft-seed") == "SFT (seed)"
    assert palette.label("my_adapter") == "my_adapter"
    assert palette.in_order(["dpo", "mine", "sft", "base", "dpo"]) == ["base", "sft", "dpo", "mine"]


def test_text_is_legible_on_the_ground():
    ground = luminance(mpl.rcParams["figure.facecolor"])
    ink = luminance(palette.INK)
    assert (ground + 0.05) / (ink + 0.05) > 7
    assert not mpl.rcParams["savefig.transparent"]
    assert mpl.rcParams["savefig.facecolor"] == "white"


def test_heatmap_writes_each_pair_once_and_hatches_what_is_undefined():
    names = ["sft", "dpo", "rft"]
    figure = plots.pair_heatmap(pairs(names), title="t", names=["base", *names], diagonal=1.0)
    texts = sorted(t.get_text() for t in figure.axes[0].texts)
    assert texts == ["0.00", "0.01", "0.02", "1.00", "1.00", "1.00"]
    assert figure.axes[0].get_legend().get_texts()[0].get_text().startswith("not defined")
    bare = plots.pair_heatmap(pairs(names), title="t")
    assert [t.get_text() for t in bare.axes[0].get_yticklabels()] == ["RFT", "DPO"]
    assert [t.get_text() for t in bare.axes[0].get_xticklabels()] == ["SFT", "RFT"]
    assert bare.axes[0].get_legend() is None


def test_depth_lines_show_the_median_of_a_layers_modules():
    rows = [(who, layer, v) for who in ("dpo", "rft") for layer in (0, 1) for v in (1.0, 2.0, 9.0)]
    table = pd.DataFrame(rows, columns=["b", "layer", "value"])
    figure = plots.by_depth(table, ylabel="v", chance=(3.0, 4.0), spread=True)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["DPO"].get_ydata()) == [2.0, 2.0]
    assert lines["DPO"].get_color() == palette.colour("dpo")
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels == ["chance level", "RFT", "DPO"]


def test_strips_have_one_dot_a_module():
    table = pd.DataFrame({"b": ["dpo"] * 5 + ["rft"] * 3, "value": np.arange(8.0)})
    figure = plots.strips(table, xlabel="v", chance=1.0)
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [3, 5]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["RFT", "DPO"]


def test_geometry_figures_draw_what_they_are_given():
    points = pd.DataFrame({"name": ["base", "sft", "dpo"], "x": [0, 3.0, 1], "y": [0, 1.0, 2]})
    ends = [line.get_xydata()[-1] for line in geometry_plots.plane_map(points).axes[0].lines]
    assert {tuple(map(float, end)) for end in ends} == {(0, 0), (3, 1), (1, 2)}
    quantities = ("angle_smallest", "angle_median", "angle_largest")
    rows = [("dpo", s, q, 10.0 * i) for s in ("left", "right") for i, q in enumerate(quantities)]
    angles = pd.DataFrame(rows, columns=["other", "side", "quantity", "value"])
    chance = angles.assign(low=80.0, high=85.0)
    assert len(geometry_plots.angle_panels(angles, chance, title="t").axes) == 2
    ks = pd.DataFrame({"other": "dpo", "k": [8, 1], "value": [1.0, 2.0]})
    null = pd.DataFrame({"k": [1, 8], "low": 1.0, "value": 2.0, "high": 3.0})
    lines = {
        line.get_label(): line for line in geometry_plots.by_k(ks, null, ylabel="a").axes[0].lines
    }
    assert list(lines["DPO"].get_xdata()) == [1, 8]
    shares = pd.DataFrame(
        {"other": "dpo", "quantity": ["m_norm", "m_energy"], "value": [0.5, 0.25]}
    )
    figure = geometry_plots.share_panels(shares, {"m": 1.0}, titles={"m": "outside"})
    drawn = {line.get_marker(): float(line.get_xdata()[0]) for line in figure.axes[0].lines}
    assert (drawn["|"], drawn[palette.marker("dpo")]) == (0.25, 0.5)
    alike = pd.DataFrame(
        {"other": ["sft-seed", "dpo"], "measure": "m", "value": [0.4, 0.1], "low": 0.0, "high": 0.5}
    ).assign(chance_low=0.2, chance_high=0.3)
    figure = geometry_plots.likeness(
        alike, ["sft-seed", "dpo"], controls=["sft-seed"], level="sft-seed", reference="sft"
    )
    drawn = [tuple(map(float, line.get_xdata())) for line in figure.axes[0].lines]
    assert {(0.4,), (0.1,), (0.0, 0.5), (0.4, 0.4)} <= set(drawn)
    hollow = {
        line.get_markerfacecolor() for line in figure.axes[0].lines if line.get_marker() == "o"
    }
    assert hollow == {"white"}  # a control has its method's colour, and is told apart
    theory, measured = {"a": ([1, 2], [1, 2])}, {"a": ([1, 2], [1, 2]), "b": ([1, 2], [2, 1])}
    toy = plots.toy(theory, measured, xlabel="x", ylabel="y", logx=True)
    assert [line.get_label() for line in toy.axes[0].lines] == ["a", "a, measured", "b"]


def test_introduced_names_keep_their_looks_whatever_a_figure_leaves_out():
    names = ["alpha", "beta", "gamma"]
    palette.introduce(names)
    try:
        looks = [(palette.colour(n, names), palette.marker(n, names)) for n in names]
        assert len(set(looks)) == 3
        assert [(palette.colour(n, names[1:]), palette.marker(n)) for n in names] == looks
        assert palette.colour("sft") == palette.COLOURS["sft"]
    finally:
        palette.introduce([])


def test_lengths_are_bars_and_a_control_is_hollow():
    norms = pd.Series({"dpo": 1.0, "sft": 8.0, "sft-lr": 2.0})
    bars = geometry_plots.lengths(norms).axes[0].patches
    assert [bar.get_width() for bar in bars] == [8.0, 1.0, 2.0]
    white = [to_hex(bar.get_facecolor()) == "#ffffff" for bar in bars]
    assert white == [False, False, True]
    assert bars[0].get_edgecolor() == bars[2].get_edgecolor()


def fills(lines) -> dict[str, str]:
    """Label of each line to the colour inside its marks."""
    return {line.get_label(): to_hex(line.get_markerfacecolor()) for line in lines}


def test_a_control_is_hollow_in_every_figure_of_directions():
    names = ["sft-order", "rft"]
    white, blue = "#ffffff", palette.colour("sft").lower()
    rows = [(who, layer, 0.5) for who in names for layer in (0, 1)]
    table = pd.DataFrame(rows, columns=["b", "layer", "value"])
    lines = fills(plots.by_depth(table, ylabel="v").axes[0].lines)
    assert (lines["SFT (reshuffled)"], lines["RFT"]) == (white, palette.colour("rft").lower())
    dots = plots.strips(table, xlabel="v").axes[0].collections
    assert [to_hex(d.get_facecolor()[0]) == white for d in dots] == [False, True]
    assert to_hex(dots[1].get_edgecolor()[0]) == blue
    assert dots[1].get_linewidth()[0] > 0
    heat = plots.pair_heatmap(pairs(["sft", *names]), title="t", diagonal=1.0)
    squares = [c for c in heat.axes[0].collections if isinstance(c, PathCollection)]
    hollow = [to_hex(s.get_facecolor()[0]) == white for s in squares]
    assert hollow == [False, False, True] * 2  # rows, then columns, the control last
    assert {to_hex(s.get_edgecolor()[0]) for s in (squares[2], squares[5])} == {blue}
    ks = pd.DataFrame({"other": names * 2, "k": [1, 1, 8, 8], "value": 1.0})
    null = pd.DataFrame({"k": [1, 8], "low": 1.0, "value": 2.0, "high": 3.0})
    lines = fills(geometry_plots.by_k(ks, null, ylabel="a").axes[0].lines)
    assert (lines["SFT (reshuffled)"], lines["RFT"]) == (white, palette.colour("rft").lower())
    points = pd.DataFrame({"name": names, "x": [1.0, 2.0], "y": 1.0})
    lines = fills(geometry_plots.plane_map(points).axes[0].lines)
    assert (lines["SFT (reshuffled)"], lines["RFT"]) == (white, palette.colour("rft").lower())
    parts = ("angle_smallest", "angle_median", "angle_largest")
    rows = [(w, s, q, 10.0) for w in names for s in ("left", "right") for q in parts]
    angles = pd.DataFrame(rows, columns=["other", "side", "quantity", "value"])
    panel = geometry_plots.angle_panels(angles, angles.assign(low=1.0, high=2.0)).axes[0]
    ends = [line for line in panel.lines if line.get_marker() in "<>"]
    assert {to_hex(e.get_markerfacecolor()) for e in ends if e.get_ydata()[0] == 1} == {white}
    assert {to_hex(e.get_color()) for e in ends if e.get_ydata()[0] == 1} == {blue}
    assert white not in {to_hex(e.get_markerfacecolor()) for e in ends if e.get_ydata()[0] == 0}
    rows = [(w, f"m_{q}", 0.5) for w in names for q in ("norm", "energy")]
    shares = pd.DataFrame(rows, columns=["other", "quantity", "value"])
    panel = geometry_plots.share_panels(shares, {"m": 1.0}, titles={"m": "t"}).axes[0]
    norms = [line for line in panel.lines if line.get_marker() in ("o", "s")]
    assert [to_hex(n.get_markerfacecolor()) == white for n in norms] == [False, True]


def prediction_table() -> pd.DataFrame:
    nan = float("nan")
    rows = [
        ("sft", "rft", "predicted", 0.7, nan, nan),
        ("sft", "sft-order", "predicted", 0.4, nan, nan),
        ("sft", "rft", "predicted_common", 0.8, nan, nan),
        ("sft", "sft-order", "predicted_common", 0.95, nan, nan),
        ("sft", "rft", "trained", 0.75, 0.7, 0.9),
        ("sft", "sft-order", "trained", 0.95, 0.9, 1.0),
    ]
    return pd.DataFrame(rows, columns=["a", "b", "quantity", "value", "low", "high"])


def test_predictions_stand_in_the_row_of_their_pair():
    figure = geometry_plots.predictions(
        prediction_table(), (-0.1, 0.1), xlabel="x", names=["pair", "yardstick"]
    )
    ax = figure.axes[0]
    # The pair with the higher trained value comes first, whatever the order of the table.
    assert [t.get_text() for t in ax.get_yticklabels()] == ["yardstick", "pair"]
    drawn = {
        line.get_marker(): dict(zip(map(int, line.get_ydata()), line.get_xdata(), strict=True))
        for line in ax.lines
    }
    assert drawn["o"] == {0: 0.95, 1: 0.75}
    assert drawn["D"] == {0: 0.4, 1: 0.7}
    assert drawn["^"] == {0: 0.95, 1: 0.8}
    (intervals,) = ax.collections
    spans = [tuple(map(float, path.vertices[:, 0])) for path in intervals.get_paths()]
    assert spans == [(0.9, 1.0), (0.7, 0.9)]
    (band,) = ax.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.1, 0.1))
    assert len(figure.legends[0].get_texts()) == 4


def test_outcomes_of_groups_are_stacked_by_the_length_of_their_problems():
    """Two short groups, all right and mixed; two long ones, all right and all wrong."""
    rows = [
        *((0, r, 2) for r in (1, 1)),
        *((1, r, 3) for r in (1, 0)),
        *((2, r, 4) for r in (1, 1)),
        *((3, r, 8) for r in (0, 0)),
    ]
    table = pd.DataFrame(rows, columns=["group", "reward", "steps"])
    ax = method_plots.group_outcomes(table).axes[0]
    heights = {
        container.get_label(): [bar.get_height() for bar in container]
        for container in ax.containers
    }
    # The median of 2, 3, 4, 8 steps is 3.5: up to 3 steps is short.
    assert heights == {"up to 3 steps": [0, 0.25, 0.25], "more than 3 steps": [0.25, 0, 0.25]}
    # Short below, long on top of it; the sum is written above.
    assert [bar.get_y() for bar in ax.containers[1]] == [0, 0.25, 0.25]
    assert [t.get_text() for t in ax.texts] == ["25.0%", "25.0%", "50.0%"]
    # Real problems have no number of steps: one bar, of all of them.
    ax = method_plots.group_outcomes(table.assign(steps=0)).axes[0]
    assert [[bar.get_height() for bar in c] for c in ax.containers] == [[0.25, 0.25, 0.5]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["all problems"]
