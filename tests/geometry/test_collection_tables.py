"""A collection in one pass gives what the chapters of a run give one by one."""

import numpy as np
import pandas as pd
import pytest
from synthetic import module_name, random_delta

from finetune_geometry.deltas.adapters import Adapter, adapter_from, zero_adapter
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.geometry.collection_tables import collection_tables
from finetune_geometry.geometry.cores import compress
from finetune_geometry.geometry.intervals import with_intervals
from finetune_geometry.geometry.similarity import cosine_table, orthogonal_fraction_table
from finetune_geometry.geometry.subspaces import principal_angle_table, spectrum_table

PARTS = ["sft", "rft", "dpo", "sft-seed"]
OPTIONS = {"k": 3, "confidence": 0.9, "seed": 5}


@pytest.fixture(scope="module")
def adapters() -> list[Adapter]:
    """Four with a part and two without, in six modules; all but sft-seed start from one A."""
    rng = np.random.default_rng(0)
    names = [module_name(layer, kind) for layer in range(3) for kind in ("q_proj", "o_proj")]
    start = {name: rng.standard_normal((5, 18)) for name in names}
    found = []
    for name in (*PARTS, "x", "y"):
        deltas = {}
        for module in names:
            new = random_delta(rng)
            a = new.A if name == "sft-seed" else start[module] + 0.1 * new.A
            deltas[module] = LowRankDelta(new.B, a, 2.0)
        found.append(adapter_from(name, deltas))
    return found


def comparable(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the parts, as (a, b) whichever way round, by everything that says what they are."""
    text = ["level", "module", "layer", "quantity", "side", "k"]
    keys = [name for name in text if name in table]
    both = [tuple(sorted(pair)) for pair in zip(table["a"], table["b"], strict=True)]
    table = table.assign(pair=both).drop(columns=["a", "b"])
    return table.set_index(["pair", *keys]).sort_index()


def test_tables_equal_those_of_the_chapters(adapters, frame):
    chosen = [adapter for adapter in adapters if adapter.name in PARTS]
    everyone = [zero_adapter(chosen[0]), *chosen]
    ranks = spectrum_table(chosen).query("quantity == 'entropy_rank'").assign(side="both", k=0)
    expected = with_intervals(
        {
            "cosine": cosine_table(everyone),
            "angles": pd.concat([principal_angle_table(everyone, ks=[1, 3]), ranks]),
            "fraction": orthogonal_fraction_table(everyone, ks=[]),
        },
        everyone,
        confidence=0.9,
        seed=5,
    )
    found = collection_tables(adapters, PARTS, **OPTIONS).ledger
    for name, table in expected.items():
        one, two = comparable(found[name]), comparable(table)
        assert one.index.equals(two.index), name
        for column in ("value", "low", "high"):
            np.testing.assert_allclose(one[column], two[column], atol=1e-9, err_msg=name)


def test_every_pair_has_its_cosine_and_the_chance_that_its_start_gives(adapters):
    found = collection_tables(adapters, PARTS, **OPTIONS)
    assert len(found.pairs) == 15
    expected = cosine_table(adapters).query("quantity == 'cosine' and level == 'global'")
    merged = found.pairs.merge(expected, on=["a", "b"])
    np.testing.assert_allclose(merged["cosine"], merged["value"], atol=1e-12)
    assert (found.pairs["low"] < found.pairs["high"]).all()
    seed = found.pairs["b"].eq("sft-seed") | found.pairs["a"].eq("sft-seed")
    assert set(found.pairs.loc[seed, "start"]) == {"independent"}
    assert set(found.pairs.loc[~seed, "start"]) == {"shared"}
    # Unrelated deltas scatter more where they read the same inputs.
    assert found.pairs.loc[~seed, "chance"].min() > found.pairs.loc[seed, "chance"].max()


def test_every_adapter_has_its_norm_and_rank(adapters):
    table = collection_tables(adapters, PARTS, **OPTIONS).adapters.set_index("name")
    norms = cosine_table(adapters).query("quantity == 'norm' and level == 'global'")
    np.testing.assert_allclose(table["norm"], norms.set_index("a")["value"].loc[table.index])
    ranks = spectrum_table(adapters).query("quantity == 'entropy_rank' and level == 'mean'")
    np.testing.assert_allclose(table["entropy_rank"], ranks.set_index("a")["value"][table.index])


def test_what_controls_measure_is_a_part_of_it(adapters):
    ledger = collection_tables(adapters, PARTS, **OPTIONS).ledger
    pair = ledger["seed_cosine"].query("a == 'sft' and b == 'sft-seed'")
    assert len(pair) == 1
    assert set(ledger["seed_angles"]["quantity"]) == {"leading_vector_cosine"}
    assert set(ledger["rate_cosine"]["level"]) == {"global"}


def test_without_a_part_there_is_nothing_to_judge(adapters):
    found = collection_tables(adapters, [], **OPTIONS)
    assert found.ledger == {}
    assert len(found.pairs) == 15


def test_without_sft_nothing_is_off_sft(adapters):
    ledger = collection_tables(adapters, ["rft", "dpo"], **OPTIONS).ledger
    assert ledger["fraction"].empty
    assert len(ledger["seed_cosine"]) == 1


def test_some_of_the_cores_keep_what_was_worked_out_for_all(adapters, frame):
    module = module_name(0)
    names = [adapter.name for adapter in adapters]
    cores = compress(module, names, [adapter[module] for adapter in adapters])
    inner, left = cores.gram[0], cores.left
    few = cores.among(["dpo", "sft"])
    assert few.names == ("dpo", "sft")
    np.testing.assert_array_equal(few.gram[0], inner[np.ix_([2, 0], [2, 0])])
    assert few.left[0] is left[2]
    alone = compress(module, ["dpo", "sft"], [adapters[2][module], adapters[0][module]])
    np.testing.assert_allclose(few.gram[1], alone.gram[1], rtol=1e-9)
    np.testing.assert_allclose(few.norms, alone.norms)
