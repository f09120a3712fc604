"""Numbers over repetitions: what is taken from a cell, and what a spread is made of."""

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.report.cells import components, margins

KEY = ("cosine", "sft", "rft")


def numbers(**by_kind):
    """Rows of one headline number, kind -> its values."""
    rows = [
        (f"{kind}{place}", kind, *KEY, value)
        for kind, values in by_kind.items()
        for place, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["cell", "kind", "quantity", "a", "b", "value"])


def test_the_run_is_one_of_the_orders_and_one_of_the_bases():
    table = numbers(run=[0.5], order=[0.6, 0.7], student=[0.9], draw=[0.2, 0.8])
    row = components(table).iloc[0]
    assert row["mean"] == pytest.approx(0.6)
    assert row["order"] == pytest.approx(0.1)
    assert row["base"] == pytest.approx(np.std([0.5, 0.9], ddof=1))
    assert row["draw"] == pytest.approx(np.std([0.2, 0.8], ddof=1))
    assert row["initial"] == pytest.approx(np.sqrt(row["draw"] ** 2 - 0.01))


def test_the_interval_is_student_s_t_over_the_orders():
    row = components(numbers(run=[1.0], order=[2.0, 3.0, 4.0, 5.0])).iloc[0]
    # t = 2.776 for four degrees of freedom; the deviation of 1 to 5 is the root of 2.5.
    half = 2.7764 * np.sqrt(2.5 / 5)
    assert (row["low"], row["high"]) == pytest.approx((3 - half, 3 + half), abs=1e-3)


def test_a_that_adds_nothing_is_nought_and_what_was_not_repeated_is_unknown():
    row = components(numbers(run=[0.0], order=[1.0], draw=[0.5, 0.5])).iloc[0]
    assert row["initial"] == 0
    assert np.isnan(row["base"])
    alone = components(numbers(run=[0.5])).iloc[0]
    assert np.isnan([alone[name] for name in ("low", "high", "order", "initial", "base")]).all()


def test_a_margin_counts_only_cells_that_turned_on_the_same_number():
    rows = [
        ("run", "reproduced", "x", ">= 0.5", 0.8, 0.5),
        ("order1", "reproduced", "x", ">= 0.5", 0.9, 0.5),
        ("order2", "undecided", "y", "<= 1", 9.0, 1.0),
        ("draw1", "not reproduced", "x", ">= 0.5", 0.1, 0.5),
    ]
    columns = ["cell", "verdict", "measure", "line", "value", "line_value"]
    judged = pd.DataFrame(rows, columns=columns).assign(claim="C1", title="says")
    kinds = {"run": "run", "order1": "order", "order2": "order", "draw1": "draw"}
    row = margins(judged, kinds).iloc[0]
    assert (row["same"], row["cells"]) == (2, 4)
    assert row["value"] == pytest.approx(0.85)
    assert row["spread"] == pytest.approx(np.std([0.3, 0.4], ddof=1))
    assert row["margin"] == pytest.approx(0.35 / row["spread"])
