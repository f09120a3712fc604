"""Shares of the energy against the dense matrices."""

import numpy as np
import pytest
from synthetic import dense, random_delta

from finetune_geometry.deltas.adapters import adapter_from, zero_adapter
from finetune_geometry.geometry.cores import map_modules
from finetune_geometry.geometry.energy import tabulate_energy
from finetune_geometry.geometry.similarity import inner_products

SHAPES = {
    "embed": (30, 10),
    "layers.0.q_proj": (12, 10),
    "layers.0.v_proj": (6, 10),
    "layers.1.q_proj": (12, 10),
}


@pytest.fixture
def table(rng):
    one = adapter_from("one", {m: random_delta(rng, *s, r=3) for m, s in SHAPES.items()})
    parts = map_modules(inner_products, [zero_adapter(one), one, zero_adapter(one, "idle")])
    return one, tabulate_energy(parts, SHAPES)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_energies_are_squared_norms_and_shares_add_up(table):
    one, found = table
    energy = {m: np.sum(dense(one[m]) ** 2) for m in SHAPES}
    rows = found[found["adapter"] == "one"].set_index(["by", "part"])
    for module, value in energy.items():
        assert rows.loc[("module", module), "energy"] == pytest.approx(value)
    assert rows.loc[("layer", "0"), "energy"] == pytest.approx(
        energy["layers.0.q_proj"] + energy["layers.0.v_proj"]
    )
    assert rows.loc[("layer", "none"), "energy"] == pytest.approx(energy["embed"])
    assert rows.loc[("kind", "q_proj"), "share"] == pytest.approx(
        (energy["layers.0.q_proj"] + energy["layers.1.q_proj"]) / sum(energy.values())
    )
    assert rows.groupby("by")["share"].sum().to_numpy() == pytest.approx(1.0)
    assert rows.loc[("kind", "v_proj"), "share_of_entries"] == pytest.approx(60 / 600)


def test_an_adapter_that_changes_nothing_has_no_share_and_the_base_no_row(table):
    _, found = table
    assert set(found["adapter"]) == {"one", "idle"}
    assert (found.loc[found["adapter"] == "idle", ["energy", "share"]] == 0).all(axis=None)
