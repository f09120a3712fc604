"""Every verdict from synthetic tables; the ledger's rules against the paper's own numbers."""

import numpy as np
import pandas as pd
import pytest
import yaml

from finetune_geometry.claims import (
    COLUMNS,
    DIRECTION,
    FAILED,
    REPRODUCED,
    UNTESTABLE,
    Claim,
    Measure,
    Number,
    deciding,
    evaluate,
    holds,
    judge,
    load_ledger,
    look_up,
)
from finetune_geometry.profiles import METHODS, UserError

SETTINGS = {"geometry.k": 10}


def rows(table: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(table, columns=["a", "b", "module", "layer", "quantity", "value"])


COSINES = rows(
    [
        ("sft", "rft", "global", -1, "cosine", 0.98),
        ("rift", "sft", "global", -1, "cosine", 0.97),
        ("sft", "dpo", "global", -1, "cosine", -0.2),
        ("sft", "rft", "m", 0, "cosine", 0.5),
    ]
)


def test_look_up_reduces_rows_and_finds_pairs_either_way_round():
    where = {"quantity": "cosine", "module": "global"}
    pairs = ("sft rft", "sft rift", "sft dpo")

    def value(take: str, *which: str) -> float:
        found = look_up(
            Measure("t", pairs=which or pairs, where=where, take=take), {"t": COSINES}, {}
        )
        assert found is not None
        return found.value

    assert value("min") == -0.2
    assert value("max") == 0.98
    assert value("max_abs", "sft dpo") == -0.2
    assert value("mean") == pytest.approx(np.mean([0.98, 0.97, -0.2]))
    assert value("", "sft rift") == 0.97


def test_look_up_says_none_for_what_the_run_lacks():
    assert look_up(Measure("other", pairs=("a b",)), {"t": COSINES}, {}) is None
    assert (
        look_up(Measure("t", pairs=("sft rft", "sft sft-seed"), take="min"), {"t": COSINES}, {})
        is None
    )


def test_several_rows_for_one_number_are_refused():
    with pytest.raises(UserError, match="2 rows"):
        look_up(Measure("t", pairs=("sft rft",)), {"t": COSINES}, {})


def test_turning_a_pair_turns_a_difference_and_its_interval():
    table = pd.DataFrame(
        {
            "a": ["sft"],
            "b": ["dpo"],
            "difference": [0.05],
            "low": [0.01],
            "high": [0.08],
            "p_holm": [0.2],
        }
    )
    found = look_up(Measure("t", column="difference", pairs=("dpo sft",)), {"t": table}, {})
    assert found == Number(-0.05, -0.08, -0.01)
    straight = look_up(Measure("t", column="difference", pairs=("sft dpo",)), {"t": table}, {})
    assert straight == Number(0.05, 0.01, 0.08)
    p = look_up(Measure("t", column="p_holm", pairs=("dpo sft",)), {"t": table}, {})
    assert p is not None
    assert p.value == 0.2
    assert np.isnan(p.low)


def test_depth_is_relative_to_the_network():
    for layers in (8, 36):
        table = rows([("a", "b", "layer", i, "q", i) for i in range(layers)])
        late = look_up(
            Measure("t", pairs=("a b",), depth=(0.86, 1.0), take="min"), {"t": table}, {}
        )
        assert late is not None
        assert late.value == {8: 7, 36: 31}[layers]


def test_values_can_come_from_the_profile():
    table = rows([("a", "b", "m", 0, "q", 1.0)] * 2).assign(k=[4, 10], value=[1.0, 2.0])
    found = look_up(
        Measure("t", pairs=("a b",), where={"k": "profile:geometry.k"}), {"t": table}, SETTINGS
    )
    assert found is not None
    assert found.value == 2.0


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("x >= 1", True),
        ("x > 1", False),
        ("x < 2 * y z", True),
        ("y z <= -1", False),
        ("x >= y z", True),
    ],
)
def test_conditions(condition, expected):
    assert holds(condition, {"x": Number(1.0), "y z": Number(0.9)}) is expected


@pytest.mark.parametrize("condition", ["x", "x = 1", "w > 1", "x > two", "a * x > 1"])
def test_a_condition_that_cannot_be_read_is_refused(condition):
    with pytest.raises(UserError, match="claims"):
        holds(condition, {"x": Number(1.0)})


def claim(**changes) -> Claim:
    settings = {
        "title": "", "statement": "", "paper": "", "source": "", "method": "", "reason": "",
        "notebook": "", "measures": {"x": Measure("t"), "base": Measure("t")},
        "testable": ("base > 0.85",), "reproduced": ("x > 2",), "direction": ("x > 0",),
    }  # fmt: skip
    return Claim(**{**settings, **changes})


@pytest.mark.parametrize(
    ("x", "base", "verdict"),
    [
        (3.0, 0.9, REPRODUCED),
        (1.0, 0.9, DIRECTION),
        (-1.0, 0.9, FAILED),
        (3.0, 0.5, UNTESTABLE),
        (float("nan"), 0.9, UNTESTABLE),
        (None, 0.9, UNTESTABLE),
    ],
)
def test_each_verdict(x, base, verdict):
    numbers = {"x": None if x is None else Number(x), "base": Number(base)}
    assert judge(claim(), numbers) == verdict


# The paper's own numbers, where it gives them, as tables: the rules must call them reproduced.
PAPER_COSINES = {
    "sft rft": 0.977, "sft rift": 0.967, "rft rift": 0.969, "sft dft": 0.572, "dft rift": 0.536,
    "sft offline_grpo": 0.74, "sft dpo": 0.065, "rft dpo": 0.06, "rift dpo": 0.057,
}  # fmt: skip
PAPER_ANGLES = {"rft": 6.7, "rift": 8.2, "offline_grpo": 18.5, "dft": 26.7, "dpo": 54.6}
PAPER_NORMS = {"sft": 2.84, "rft": 2.82, "rift": 3.04, "dpo": 0.22, "dft": 2.0, "offline_grpo": 2.0}
PAPER_RANKS = {"sft": 16, "rft": 16, "dft": 16, "rift": 16, "offline_grpo": 14.8, "dpo": 24.5}


@pytest.fixture(scope="module")
def paper_tables():
    names = list(METHODS)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    cosine = [(a, b, "global", -1, "cosine", PAPER_COSINES.get(f"{a} {b}", 0.5)) for a, b in pairs]
    cosine += [(n, "base", "global", -1, "norm", v) for n, v in PAPER_NORMS.items()]
    angles = [("sft", b, "median", -1, "angle_smallest", v) for b, v in PAPER_ANGLES.items()]
    angles += [
        (m, "dpo", "mean", -1, "leading_vector_cosine", 0.11) for m in ("sft", "rft", "rift")
    ]
    angle_table = rows(angles).assign(side="left", k=10)
    ranks = rows([(n, "base", "mean", -1, "entropy_rank", v) for n, v in PAPER_RANKS.items()])
    fraction = [("offline_grpo", "sft", "global", -1, "outside_direction_norm", 0.67)]
    fraction += [
        ("offline_grpo", "sft", "layer", i, "outside_direction_norm", 0.82 if i > 30 else 0.55)
        for i in range(36)
    ]
    cka = [("sft", "dpo", "block", i, "debiased_cka", 0.45 if i >= 25 else 0.93) for i in range(36)]
    cka += [("sft", "rift", "block", i, "debiased_cka", 0.995) for i in range(36)]
    lines = [(a, b) for a, b in pairs] + [("base", b) for b in names]
    connectivity = pd.concat(
        rows(
            [(a, b, "global", -1, quantity, 1.5 if "dpo" in (a, b) else 0.01) for a, b in lines]
        ).assign(metric=metric, low=0.0, high=2.0)
        for metric in ("sft_cross_entropy", "boxed_cross_entropy", "accuracy")
        for quantity in ("barrier", "overshoot")
    )
    accuracy = {"base": 0.94, **dict.fromkeys(names, 0.88), "dpo": 0.935}
    mcnemar = pd.DataFrame(
        [
            {
                "a": a, "b": b, "difference": accuracy[a] - accuracy[b], "low": -0.1, "high": 0.1,
                "p_holm": 1.0 if accuracy[a] == accuracy[b] else 1e-10,
                "p_tost": 0.01 if abs(accuracy[a] - accuracy[b]) < 0.01 else 0.99,
            }
            for a, b in [("base", n) for n in names] + pairs
        ]
    )  # fmt: skip
    seed = connectivity.head(1).assign(a="sft", b="sft-seed", quantity="barrier", value=0.004)
    controls = {
        "seed_cosine": rows([("sft", "sft-seed", "global", -1, "cosine", 0.2)]),
        "seed_angles": rows([("sft", "sft-seed", "mean", -1, "leading_vector_cosine", 0.99)]),
        "rate_cosine": rows([("sft", "sft-lr", "global", -1, "cosine", 0.55)]),
        "seed_connectivity": seed.assign(metric="boxed_cross_entropy"),
    }
    controls["seed_angles"]["side"] = "left"
    accuracies = pd.DataFrame({"model": list(accuracy), "accuracy": list(accuracy.values())})
    return {
        "cosine": rows(cosine), "angles": pd.concat([angle_table, ranks]), "cka": rows(cka),
        "fraction": rows(fraction).assign(side="", k=0), "connectivity": connectivity,
        "mcnemar": mcnemar, "accuracy": accuracies, **controls,
    }  # fmt: skip


UNTRIED = {"C11", "C16"}  # no run of this project has their tables yet


def test_the_number_shown_is_the_one_that_a_claim_failed_on():
    claim = load_ledger().claims["C6"]
    first, second, third = claim.measures
    low, high = Number(0.0), Number(0.2)
    assert deciding(claim, {first: low, second: low, third: low}) == (first, "")
    assert deciding(claim, {first: low, second: high, third: high}) == (second, "< 0.1")
    assert deciding(claim, {first: low, second: low, third: high}) == (third, "< 0.1")
    assert deciding(claim, {first: low, second: high, third: None}) == (first, "")  # not testable
    rank = load_ledger().claims["C13"]
    measure, wanted = deciding(rank, dict.fromkeys(rank.measures, Number(6.0)))
    assert measure == "effective rank of DPO"
    assert wanted == ">= 1.1 * largest of the other five (6.6)"


def test_the_papers_own_numbers_pass_every_rule_that_can_be_tried(paper_tables):
    table = evaluate(load_ledger(), paper_tables, SETTINGS).set_index("claim")
    assert list(table.reset_index().columns) == COLUMNS
    assert list(table.index) == [f"C{i}" for i in range(1, 18)]
    for name, row in table.iterrows():
        expected = UNTESTABLE if name in UNTRIED else REPRODUCED
        assert row["verdict"] == expected, f"{name}: {row['detail']}"
    assert table.loc["C11", "detail"].startswith("needs")
    seedless = {name: t for name, t in paper_tables.items() if not name.startswith("seed_")}
    table = evaluate(load_ledger(), seedless, SETTINGS).set_index("claim")
    assert table.loc["C14", "verdict"] == UNTESTABLE
    assert "second_seed" in table.loc["C14", "detail"]
    assert table.loc["C10", "low"] == -0.1


def test_all_methods_alike_reproduce_nothing_that_needs_a_difference(paper_tables):
    same = {
        **paper_tables,
        "cosine": paper_tables["cosine"].assign(value=1.0),
        "angles": paper_tables["angles"].assign(value=0.0),
        "cka": paper_tables["cka"].assign(value=1.0),
        "connectivity": paper_tables["connectivity"].assign(value=0.0),
        "fraction": paper_tables["fraction"].assign(value=0.0),
        "mcnemar": paper_tables["mcnemar"].assign(difference=0.0, p_holm=1.0, p_tost=0.001),
    }
    verdicts = evaluate(load_ledger(), same, SETTINGS).set_index("claim")["verdict"]
    assert (
        verdicts[["C2", "C4", "C5", "C7", "C8", "C9", "C10", "C12", "C13", "C17"]] == FAILED
    ).all()
    assert (verdicts[["C1", "C3", "C6"]] == REPRODUCED).all()


def test_no_difference_seen_is_not_equality_shown(paper_tables):
    noisy = {**paper_tables, "mcnemar": paper_tables["mcnemar"].assign(p_holm=1.0, p_tost=0.4)}
    verdicts = evaluate(load_ledger(), noisy, SETTINGS).set_index("claim")["verdict"]
    assert verdicts["C3"] == DIRECTION


def test_a_base_with_room_to_improve_cannot_test_c17(paper_tables):
    weak = {**paper_tables, "accuracy": pd.DataFrame({"model": ["base"], "accuracy": [0.6]})}
    row = evaluate(load_ledger(), weak, SETTINGS).set_index("claim").loc["C17"]
    assert row["verdict"] == UNTESTABLE
    assert "85 %" in row["detail"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("direction",), ["least cosine > 1"], "no measure"),
        (("measures", "least cosine of the three", "table"), "cosines", "unknown table"),
        (("measures", "least cosine of the three", "take"), "best", "take"),
        (("measures", "least cosine of the three", "pairs"), ["sft"], "two parts"),
        (("verdict",), "reproduced", "verdict"),
    ],
)
def test_a_slip_in_the_ledger_is_an_error(tmp_path, path, value, message):
    from finetune_geometry.records import project_root

    tree = yaml.safe_load((project_root() / "book" / "claims.yaml").read_text(encoding="utf-8"))
    node = tree["claims"]["C1"]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_ledger(file)
