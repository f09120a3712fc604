"""Released weights against the ledger: the paper's own numbers through every rule and yardstick."""

import numpy as np
import pandas as pd
import pytest
import yaml

from finetune_geometry.evaluation.claims import load_ledger
from finetune_geometry.evaluation.judging import REPRODUCED, UNTESTABLE, VERDICTS
from finetune_geometry.evaluation.released import (
    STAND_IN,
    WEIGHT_TABLES,
    judged,
    load_released,
    printed_ranges,
    printed_table,
    weights_ledger,
    yardstick_words,
)
from finetune_geometry.runs.folders import project_root
from finetune_geometry.settings.errors import UserError

LEDGER = load_ledger()
RELEASED = load_released(LEDGER)
CLAIMS = weights_ledger(LEDGER, RELEASED)
SETTINGS = {"geometry.k": 10}
FIVE = ["sft", "rft", "dft", "rift", "offline_grpo"]


def frame(rows: list[tuple], *, layer: int = -1) -> pd.DataFrame:
    """(a, b, quantity, value, side, k, level) as a table of the ledger."""
    table = pd.DataFrame(rows, columns=["a", "b", "quantity", "value", "side", "k", "level"])
    return table.assign(module="", layer=layer)


def printed_tables() -> dict[str, pd.DataFrame]:
    """The paper's printed numbers, as if they had been measured."""
    cosines = {
        ("sft", "rft"): 0.977, ("sft", "rift"): 0.967, ("rft", "rift"): 0.969,
        ("sft", "dft"): 0.572, ("dft", "rift"): 0.536, ("rft", "dft"): 0.55,
        ("sft", "offline_grpo"): 0.74, ("rft", "offline_grpo"): 0.7, ("dft", "offline_grpo"): 0.4,
        ("rift", "offline_grpo"): 0.7, ("sft", "dpo"): 0.065, ("rft", "dpo"): 0.06,
        ("rift", "dpo"): 0.057, ("dft", "dpo"): 0.05, ("offline_grpo", "dpo"): 0.04,
        ("sft", "sft-seed"): 0.2, ("sft", "sft-lr"): 0.55,
        **{("online_grpo", name): 0.02 for name in FIVE},
    }  # fmt: skip
    norms = {"sft": 2.84, "rft": 2.82, "rift": 3.04, "dft": 2.0, "offline_grpo": 2.5}
    norms |= {"dpo": 2.84 / 13, "online_grpo": 0.30, "sft-lr": 0.5, "sft-seed": 2.8}
    cosine = frame(
        [(a, b, "cosine", value, "", 0, "global") for (a, b), value in cosines.items()]
        + [(name, "base", "norm", value, "", 0, "global") for name, value in norms.items()]
    )
    angles = {"rft": (6.7, 36), "rift": (8.2, 40), "offline_grpo": (18.5, 76), "dft": (26.7, 85)}
    angles |= {"dpo": (54.6, 90)}
    leading = {("sft", "dpo"): 0.11, ("rft", "dpo"): 0.1, ("rift", "dpo"): 0.1}
    ranks = dict.fromkeys(FIVE, 16.0) | {"offline_grpo": 14.8, "dpo": 24.5}
    subspaces = frame(
        [("sft", b, "angle_smallest", low, "left", 10, "median") for b, (low, _) in angles.items()]
        + [("sft", b, "angle_largest", up, "left", 10, "median") for b, (_, up) in angles.items()]
        + [
            (a, b, "leading_vector_cosine", value, side, 1, "mean")
            for (a, b), agree in {**leading, ("sft", "sft-seed"): 0.99}.items()
            for side, value in (("left", agree), ("right", 0.07))
        ]
        + [
            (name, "base", "entropy_rank", value, "both", 0, "mean")
            for name, value in ranks.items()
        ]
    )
    depth = [0.55] * 31 + [0.79, 0.8, 0.82, 0.84, 0.86]
    quantity = "orthogonal_to_direction_norm"
    fraction = pd.concat(
        [frame([("offline_grpo", "sft", quantity, 0.67, "", 0, "global")])]
        + [
            frame([("offline_grpo", "sft", quantity, value, "", 0, "layer")], layer=n)
            for n, value in enumerate(depth)
        ]
    )
    seeds = [("sft", "sft-seed", "seed", 0.07), ("rft", "rft-seed", "seed", 0.36)]
    return {
        "cosine": cosine,
        "angles": subspaces,
        "fraction": fraction,
        "seed_cosine": cosine[cosine["quantity"] == "cosine"],
        "seed_angles": subspaces[subspaces["quantity"] == "leading_vector_cosine"],
        "rate_cosine": cosine,
        "yardstick": pd.DataFrame(seeds, columns=["a", "b", "kind", "value"]),
    }


def test_ten_claims_need_weights_alone():
    assert list(CLAIMS) == ["C1", "C2", "C4", "C5", "C7", "C12", "C13", "C14", "C15", "C16"]


def test_every_claim_has_its_prediction_yardstick_and_printed_numbers():
    assert list(RELEASED.predictions.verdicts) == list(RELEASED.yardsticks) == list(CLAIMS)
    assert {printed.claim for printed in RELEASED.printed} == set(CLAIMS)
    assert {p.verdict for p in RELEASED.predictions.verdicts.values()} <= set(VERDICTS)
    measures = [m for found in RELEASED.yardsticks.values() for m in found.values()]
    measures += [printed.measure for printed in RELEASED.printed]
    assert {measure.table for measure in measures} <= {*WEIGHT_TABLES, "yardstick"}


def test_the_paper_s_numbers_meet_every_rule_as_predicted():
    table, rules, _ = judged(CLAIMS, RELEASED, printed_tables(), SETTINGS)
    verdicts = dict(zip(table["claim"], table["verdict"], strict=True))
    expected = {name: p.verdict for name, p in RELEASED.predictions.verdicts.items()}
    assert verdicts == expected
    stood_in = rules.loc[rules["version"] == STAND_IN, "claim"]
    assert list(stood_in) == ["C5", "C14"]


def test_where_the_control_is_there_the_present_rule_judges():
    tables = printed_tables()
    order = [("sft-order", "sft", "orthogonal_to_direction_norm", 0.7, "", 0, "global")]
    tables["fraction"] = pd.concat([tables["fraction"], frame(order)])
    table, rules, _ = judged(CLAIMS, RELEASED, tables, SETTINGS)
    assert list(rules.loc[rules["version"] == STAND_IN, "claim"]) == ["C14"]
    # 0.67 is not more than SFT in another order has.
    assert table.set_index("claim")["verdict"]["C5"] == "not reproduced"


def test_a_missing_adapter_leaves_its_claims_untested_and_the_others_alone():
    tables = {
        name: table[~table.isin(["dpo"]).any(axis=1)] for name, table in printed_tables().items()
    }
    verdicts = judged(CLAIMS, RELEASED, tables, SETTINGS)[0].set_index("claim")["verdict"]
    untested = {"C1", "C2", "C7", "C12", "C13"}
    assert {name for name in CLAIMS if verdicts[name] == UNTESTABLE} == untested
    assert set(verdicts[[name for name in CLAIMS if name not in untested]]) == {REPRODUCED}


def test_without_tables_nothing_is_judged():
    for table in judged(CLAIMS, RELEASED, {}, SETTINGS):
        assert table.empty
    assert set(printed_table(RELEASED, {}, SETTINGS)["agrees"]) == {"not measured"}
    assert "not measured" in yardstick_words("C1", RELEASED, {}, SETTINGS)


def test_the_paper_s_numbers_agree_with_themselves():
    table = printed_table(RELEASED, printed_tables(), SETTINGS)
    about = {printed.what for printed in RELEASED.printed if printed.about}
    assert set(table.loc[table["agrees"] == "about", "what"]) == about
    assert set(table.loc[~table["what"].isin(about), "agrees"]) == {"yes"}
    np.testing.assert_allclose(table["value"], table["printed_value"], rtol=0.02)


@pytest.mark.parametrize(
    ("value", "agrees"),
    [(0.9765, "yes"), (0.97749, "yes"), (0.97651, "yes"), (0.9764, "no"), (0.9776, "no")],
)
def test_agreement_is_rounding_to_the_printed_digit(value, agrees):
    tables = printed_tables()
    one = (tables["cosine"]["a"] == "sft") & (tables["cosine"]["b"] == "rft")
    tables["cosine"].loc[one, "value"] = value
    table = printed_table(RELEASED, tables, SETTINGS).set_index("what")
    assert table["agrees"]["cosine SFT-RFT"] == agrees


def test_a_whole_number_and_a_ratio_round_at_their_own_place():
    table = printed_table(RELEASED, printed_tables(), SETTINGS).set_index("what")
    ratio = table.loc["norm of SFT over that of DPO"]
    assert ratio["value"] == pytest.approx(13)
    halves = {printed.value: printed.half for printed in RELEASED.printed}
    assert (halves["13"], halves["0.30"], halves["2.84"]) == pytest.approx((0.5, 0.005, 0.005))


def test_yardsticks_are_those_of_one_loss():
    words = yardstick_words("C1", RELEASED, printed_tables(), SETTINGS)
    assert words == "cosine of SFT, two seeds: 0.2; cosine of SFT, two rates: 0.55"


def test_printed_cosines_by_what_sets_a_pair_apart():
    ranges = printed_ranges(RELEASED)
    assert ranges["loss"] == (0.057, 0.977)
    assert ranges["seed"] == (0.07, 0.36)
    assert ranges["rate"] == (0.55, 0.55)
    assert ranges["online"] == (0.02, 0.02)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("predictions", "verdicts", "C99"), {"verdict": REPRODUCED, "why": "x"}, "'C99': predic"),
        (("predictions", "verdicts", "C1", "verdict"), "reproducd", "did you mean 'reproduced'"),
        (("predictions", "verdicts", "C1"), None, "claim C1 is missing: predictions: .*write it"),
        (("yardsticks", "C99"), {}, "unknown claim 'C99': yardsticks"),
        (("yardsticks", "C2"), None, "claim C2 is missing: yardsticks"),
        (("rules", "C99"), "C5", "unknown claim 'C99': rules"),
        (("printed", 0, "claim"), "C99", "unknown claim 'C99': printed"),
        (
            ("printed", 0, "value"),
            "97%",
            "value '97%': printed, C1, cosine SFT-RFT: .*as the paper",
        ),
    ],
)
def test_what_does_not_belong_to_the_ledger_is_told(tmp_path, path, value, told):
    tree = yaml.safe_load((project_root() / "book" / "released.yaml").read_text(encoding="utf-8"))
    node = tree
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = tree["rules"][value] if value == "C5" else value
    file = tmp_path / "released.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    with pytest.raises(UserError, match=told) as error:
        load_released(LEDGER, file)
    assert "\n" not in str(error.value)


def test_a_slip_in_the_file_is_told(tmp_path):
    source = project_root() / "book" / "released.yaml"
    tree = yaml.safe_load(source.read_text(encoding="utf-8"))
    tree["rules"]["C5"]["reproduced"] = ["norm fractions off SFT >= 0.45"]
    path = tmp_path / "released.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(UserError, match="norm fractions off SFT"):
        load_released(LEDGER, path)
    path.write_text("grid: [", encoding="utf-8")
    with pytest.raises(UserError, match="cannot read"):
        load_released(LEDGER, path)
