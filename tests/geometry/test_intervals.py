"""Intervals of the ledger's tables, against brute force on small adapters."""

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.deltas.adapters import adapter_from, zero_adapter
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.intervals import bootstrap_orthogonal_fractions, with_intervals
from finetune_geometry.geometry.similarity import (
    cosine_table,
    orthogonal_fraction_table,
    orthogonal_parts,
    tabulate_orthogonal_fractions,
)
from finetune_geometry.geometry.subspaces import principal_angle_table, spectrum_table


def deltas(seed: int, modules: list[str]) -> dict[str, LowRankDelta]:
    rng = np.random.default_rng(seed)
    return {
        m: LowRankDelta(rng.standard_normal((6, 2)), rng.standard_normal((2, 5))) for m in modules
    }


MODULES = [f"layers.{layer}.{kind}_proj" for layer in range(3) for kind in "qkvo"]


@pytest.fixture(scope="module")
def adapters():
    first = adapter_from("sft", deltas(0, MODULES))
    return [zero_adapter(first), first, adapter_from("dpo", deltas(1, MODULES))]


@pytest.fixture(scope="module")
def parts(adapters):
    return map_modules(lambda cores: orthogonal_parts(cores, "sft", ()), adapters)


def test_the_fraction_of_drawn_modules_is_that_of_the_table(parts, monkeypatch):
    """With one draw the interval is the table's own value on the drawn modules."""
    kept: list[np.ndarray] = []
    real = np.random.default_rng

    class Recorded:
        def __init__(self, seed):
            self.rng = real(seed)

        def multinomial(self, *args):
            kept.append(self.rng.multinomial(*args))
            return kept[-1]

    monkeypatch.setattr(np.random, "default_rng", Recorded)
    found = bootstrap_orthogonal_fractions(parts, draws=1, seed=3)
    monkeypatch.undo()
    groups = [parts, *(parts[4 * i : 4 * i + 4] for i in range(3))]
    for times, members, row in zip(kept, groups, found.itertuples(), strict=True):
        drawn = [part for part, n in zip(members, times[0], strict=True) for _ in range(n)]
        table = tabulate_orthogonal_fractions(drawn, "sft")
        value = table.query(
            "a == 'dpo' and level == 'global' and quantity == 'orthogonal_to_direction_norm'"
        )["value"].iloc[0]
        assert row.low == pytest.approx(row.high)
        assert row.low == pytest.approx(value)
    assert found["a"].eq("dpo").all()  # the base's delta is zero: it has no fraction
    assert found["layer"].tolist() == [-1, 0, 1, 2]


def test_a_wider_confidence_gives_a_wider_interval_that_holds_the_value(parts):
    value = (
        tabulate_orthogonal_fractions(parts, "sft")
        .query("a == 'dpo' and level == 'global' and quantity == 'orthogonal_to_direction_norm'")[
            "value"
        ]
        .iloc[0]
    )
    widths = []
    for confidence in (0.5, 0.8, 0.95):
        row = bootstrap_orthogonal_fractions(parts, confidence=confidence).iloc[0]
        assert row["low"] < value < row["high"]
        widths.append(row["high"] - row["low"])
    assert widths == sorted(widths)
    assert widths[2] > 1.3 * widths[1]


def test_one_module_a_layer_has_an_interval_of_no_width():
    one, two = (
        adapter_from(n, deltas(i, ["layers.0.q", "layers.1.q"])) for i, n in enumerate("ab")
    )
    found = bootstrap_orthogonal_fractions(
        map_modules(lambda c: orthogonal_parts(c, "a", ()), [one, two])
    )
    layers = found[found["level"] == "layer"]
    assert (layers["low"] == layers["high"]).all()


def test_the_tables_keep_their_rows_and_gain_intervals(adapters):
    angles = pd.concat(
        [
            principal_angle_table(adapters, ks=[1]),
            spectrum_table(adapters).query("quantity != 'singular_value'").assign(side="both"),
        ]
    )
    tables = {
        "cosine": cosine_table(adapters),
        "angles": angles,
        "fraction": orthogonal_fraction_table(adapters, reference="sft", ks=[1]),
        "accuracy": pd.DataFrame({"model": ["base"], "accuracy": [0.5]}),
    }
    found = with_intervals(tables, adapters)
    for name, table in tables.items():
        assert found[name]["value" if name != "accuracy" else "accuracy"].tolist() == (
            table["value" if name != "accuracy" else "accuracy"].tolist()
        )
    assert found["accuracy"] is tables["accuracy"]
    cosine = found["cosine"].query("quantity == 'cosine'")
    assert set(cosine["level"]) == {"global", "layer", "module", "mean", "median"}
    assert (cosine["low"].notna() == (cosine["level"] == "global")).all()
    rows = found["fraction"].query("quantity == 'orthogonal_to_direction_norm'")
    assert rows[rows["level"].isin(["global", "layer"])][["low", "high"]].notna().all(axis=None)
    assert found["fraction"].query("quantity == 'orthogonal_to_subspace_norm'")["low"].isna().all()
    mean = found["angles"].query("level == 'mean' and quantity == 'entropy_rank'")
    assert (mean["low"] <= mean["value"]).all()
    assert (mean["value"] <= mean["high"]).all()
