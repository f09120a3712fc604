"""Figures of the method chapters and the ingredients draw the numbers they are given."""

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.figures import method_plots, palette
from finetune_geometry.figures.method_plots import (
    accuracy_by_steps,
    adapter_norms,
    gradient_weights,
    group_outcomes,
    learning_rate_sweep,
    pretraining_curves,
    training_curves,
)

pytestmark = pytest.mark.usefixtures("close_figures")


def drawn(axes, label: str) -> list[tuple[float, float]]:
    """The points of the one line of this name."""
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return [(float(x), float(y)) for x, y in line.get_xydata()]


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson (1927), 95 %, written out."""
    z = 1.959964
    middle, half = right / n + z * z / 2 / n, z * np.sqrt(right * (n - right) / n + z * z / 4) / n
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def bars(container) -> list[tuple[float, float, float]]:
    """(x, low, high) of every interval of an errorbar."""
    (lines,) = container.lines[2]
    return [(float(s[0, 0]), float(s[0, 1]), float(s[1, 1])) for s in lines.get_segments()]


def check_intervals(container, x, counts) -> None:
    wanted = [(place, *wilson(right, n)) for place, (right, n) in zip(x, counts, strict=True)]
    np.testing.assert_allclose(bars(container), wanted, atol=1e-6)


def test_a_gradient_weight_has_one_line_for_each_kind_of_token():
    curves = {"right": [0.5, 1.0], "wrong": np.array([-0.5, 0.0])}
    axes = gradient_weights("dft", curves, [0.0, 1.0], "probability", "weight").axes[0]
    assert drawn(axes, "right") == [(0.0, 0.5), (1.0, 1.0)]
    assert drawn(axes, "wrong") == [(0.0, -0.5), (1.0, 0.0)]
    assert legend(axes) == ["right", "wrong"]
    lines = [line for line in axes.lines if line.get_label() in curves]
    assert {line.get_color() for line in lines} == {palette.colour("dft")}
    assert len({line.get_linestyle() for line in lines}) == 2
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("probability", "weight")


def test_training_curves_show_loss_norm_and_the_clip():
    card = {"losses": [[1, 2.0], [5, 1.0]], "gradient_norms": [[1, 0.5], [5, 3.0]]}
    left, right = training_curves("rift", card, clip=0.7).axes
    assert drawn(left, "RIFT") == [(1, 2.0), (5, 1.0)]
    assert drawn(right, "RIFT") == [(1, 0.5), (5, 3.0)]
    assert 0.7 in {y for line in right.lines for y in map(float, line.get_ydata())}
    assert "loss" in left.get_ylabel()
    assert "gradient norm" in right.get_ylabel()


def test_the_norms_of_an_adapter_have_one_line_for_each_projection():
    rows = [(0, "q_proj", 1.0), (0, "o_proj", 2.0), (1, "q_proj", 3.0), (1, "o_proj", 0.5)]
    axes = adapter_norms("dpo", pd.DataFrame(rows, columns=["layer", "kind", "norm"])).axes[0]
    assert drawn(axes, "q_proj") == [(0, 1.0), (1, 3.0)]
    assert drawn(axes, "o_proj") == [(0, 2.0), (1, 0.5)]
    assert axes.get_ylim()[0] == 0
    assert legend(axes) == ["q_proj", "o_proj"]


def test_pretraining_is_drawn_against_millions_of_tokens():
    card = {"tokens": 3e6, "step": 30, "loss": [[10, 2.0], [30, 0.5]], "accuracy": [[30, 0.4]]}
    other = card | {"tokens": 6e6, "accuracy": [[30, 0.9]]}
    left, right = pretraining_curves({"student": card, "teacher": other}).axes
    for axes, role, wanted in (
        (left, "student", [(1.0, 2.0), (3.0, 0.5)]),
        (left, "teacher", [(2.0, 2.0), (6.0, 0.5)]),
        (right, "student", [(3.0, 0.4)]),
        (right, "teacher", [(6.0, 0.9)]),
    ):
        np.testing.assert_allclose(drawn(axes, role), wanted)
    assert legend(right) == ["student", "teacher"]


def test_accuracy_by_steps_has_wilson_intervals_for_each_model():
    right = {("base", 2): 8, ("base", 3): 0, ("teacher", 2): 10, ("teacher", 3): 7}
    rows = [(model, steps, i < count) for (model, steps), count in right.items() for i in range(10)]
    answers = pd.DataFrame(rows, columns=["model", "steps", "correct"])
    axes = accuracy_by_steps(answers).axes[0]
    assert legend(axes) == ["Base", "Teacher"]
    for container, model in zip(axes.containers, ("base", "teacher"), strict=True):
        counts = [(right[model, steps], 10) for steps in (2, 3)]
        x, y = (
            np.array(values, dtype=float)
            for values in (container.lines[0].get_xdata(), container.lines[0].get_ydata())
        )
        assert np.round(x).tolist() == [2, 3]
        assert y.tolist() == [n / 10 for n, _ in counts]
        assert container.lines[0].get_color() == palette.colour(model)
        check_intervals(container, x, counts)


def test_models_without_a_record_are_said_to_have_none():
    for axes in pretraining_curves({}).axes:
        assert [text.get_text() for text in axes.texts] == ["no record"]
        assert not axes.lines


def test_problems_without_a_number_of_steps_are_one_dot_a_model():
    answers = pd.DataFrame({"model": "base", "steps": 0, "correct": [True, True, True, False]})
    axes = accuracy_by_steps(answers).axes[0]
    assert legend(axes) == ["Base"]  # and no teacher that was not asked
    assert [label.get_text() for label in axes.get_xticklabels()] == ["all problems"]
    (container,) = axes.containers
    assert container.lines[0].get_ydata().tolist() == [0.75]
    groups = [(group, reward, 0) for group, right in enumerate((0, 1, 2)) for reward in
              [1.0] * right + [0.0] * (2 - right)]  # fmt: skip
    axes = group_outcomes(pd.DataFrame(groups, columns=["group", "reward", "steps"])).axes[0]
    assert legend(axes) == ["all problems"]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([1 / 3] * 3)


def test_the_learning_rate_sweep_shows_intervals_losses_and_the_base():
    sweep = pd.DataFrame(
        {"learning rate": [1e-4, 1e-3], "accuracy": [0.2, 0.9], "right": [4, 18], "problems": 20}
    ).assign(loss=[0.7, 0.4])
    untrained = {"right": 3, "problems": 20, "loss": 1.4}
    axes, losses = learning_rate_sweep(sweep, untrained).axes
    assert losses.lines[0].get_ydata().tolist() == [0.7, 0.4]
    assert {y for _, y in drawn(losses, "base, untrained")} == {1.4}
    (container,) = axes.containers
    assert container.lines[0].get_ydata().tolist() == [0.2, 0.9]
    check_intervals(container, [1e-4, 1e-3], [(4, 20), (18, 20)])
    assert {y for _, y in drawn(axes, "base, untrained")} == {0.15}
    assert axes.get_xscale() == "log"


def test_an_interval_that_ends_at_its_value_is_not_negative():
    assert method_plots._errors(np.array([1.0]), 1 + 1e-16, 1 - 1e-16) == [[0.0], [0.0]]
    assert method_plots._errors(0.5, 0.25, 0.625) == [0.25, 0.125]
