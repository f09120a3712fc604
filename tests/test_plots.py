"""Figures: one look per method, opaque, and every value of a table where the reader expects it."""

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

mpl.use("agg")

from finetune_geometry import geometry_plots, palette, plots
from finetune_geometry.profiles import METHODS


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
    assert {0.5, 0.25} <= {float(line.get_xdata()[0]) for line in figure.axes[0].lines}
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
