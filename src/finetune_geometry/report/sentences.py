"""Sentences about single questions: where, how much rank, merged into what, by which path."""

from __future__ import annotations

from typing import Any

from finetune_geometry.geometry.energy import OUTSIDE
from finetune_geometry.geometry.pairs import ALPHA
from finetune_geometry.report.result import Comparison
from finetune_geometry.report.summary import SETTLED
from finetune_geometry.report.wording import count, listed, percent, spread

# A module is named that holds this share of the energy, and this many times its share of the
# entries. The numbers have no source.
TOP_SHARE = 0.1
TOP_TIMES = 3.0
KINDS = 4  # kinds of modules that are named
FEW = 3  # adapters, or breaks, that are told one by one


def where_words(facts: dict[str, Any]) -> list[str]:
    """By kind, by layer, and the module that stands out."""
    moving = {n: values for n, values in facts["adapters"].items() if values["norm"] > 0}
    if not moving:
        return []
    said = []
    kinds, layers = (_by(moving, by) for by in ("kind", "layer"))
    each = " of each change" if len(moving) > 1 else ""
    if len(kinds) > 1:
        held = listed([f"{kind} {spread(shares)}" for kind, shares in [*kinds.items()][:KINDS]])
        rest = f"; {len(kinds)} kinds in all" if len(kinds) > KINDS else ""
        said.append(f"Energy{each}: {held}{rest}.")
    if len(layers) > 1:
        layer, shares = next(iter(layers.items()))
        said.append(f"Of {len(layers)} layers, layer {layer} holds the most: {spread(shares)}.")
    return [*said, *_top_modules(moving)]


def _by(moving: dict[str, Any], by: str) -> dict[str, list[float]]:
    """Kind, or layer -> its shares of the adapters' energies; the largest on average first."""
    shares: dict[str, list[float]] = {}
    for values in moving.values():
        for part, share in values[f"energy_by_{by}"].items():
            if part != OUTSIDE:
                shares.setdefault(part, []).append(share)
    return dict(sorted(shares.items(), key=lambda item: -sum(item[1])))


def _top_modules(moving: dict[str, Any]) -> list[str]:
    tops: dict[str, list[str]] = {}
    for name, values in moving.items():
        top = values["top_module"]
        if top["share"] >= max(TOP_SHARE, TOP_TIMES * top["share_of_entries"]):
            tops.setdefault(top["part"], []).append(name)
    said = []
    for part, names in sorted(tops.items(), key=lambda item: -len(item[1]))[:FEW]:
        shares = spread([moving[name]["top_module"]["share"] for name in names])
        even = moving[names[0]]["top_module"]["share_of_entries"]
        who = "" if len(names) == len(moving) else f" of {listed(names)}"
        said.append(
            f"One module, {part}, holds {shares} of the energy{who}; by its size alone it would "
            f"hold {percent(even)}."
        )
    return said


def rank_words(facts: dict[str, Any]) -> list[str]:
    """The rank given, and the rank that holds 99 % and 90 % of the energy."""
    ranks = {n: v for n, v in facts["adapters"].items() if v["rank_given"] is not None}
    known = {n: v for n, v in ranks.items() if v["rank_99_max"] is not None}
    if not known:
        return []
    low = min(v["rank_given"][0] for v in known.values())
    high = max(v["rank_given"][1] for v in known.values())
    given = f"r = {high}" if low == high else f"r = {low} to {high}"
    everywhere = "every module" if len(known) == 1 else "every module of every adapter"
    most = {what: max(v[f"{what}_max"] for v in known.values()) for what in ("rank_90", "rank_99")}
    middle = [v["rank_99_median"] for v in known.values()]
    usual = f"{min(middle):.0f}" + ("" if min(middle) == max(middle) else f" to {max(middle):.0f}")
    return [
        f"{given} was given; rank {most['rank_99']:.0f} holds 99 % of the energy in {everywhere}, "
        f"rank {most['rank_90']:.0f} holds 90 %. In the median module rank {usual} holds 99 %."
    ]


def merging_words(c: Comparison, facts: dict[str, Any]) -> list[str]:
    """What their mean keeps, what cancels, and the pair that cancels most."""
    merged = facts["merged"]
    if merged["opposed"] is None:
        return []
    said = [
        f"Merged as their mean, {percent(merged['common'])} of the mean energy is common and stays "
        f"({percent(merged['common_if_unrelated'])} if they were at right angles); the rest is "
        f"private to single adapters. Of the absolute change, {percent(merged['opposed'])} goes "
        f"against the sign of the sum ({percent(merged['opposed_by_chance'])} with signs by "
        "chance)."
    ]
    pairs = [
        p for p in facts["pairs"]
        if p["cosine"] is not None and p["cosine"] < 0 and p["p_corrected"] < ALPHA
    ]  # fmt: skip
    if pairs:
        worst = min(pairs, key=lambda p: p["cosine"])
        table = c.tables["merging"]
        row = table[(table["a"] == worst["a"]) & (table["b"] == worst["b"])].iloc[0]
        said.append(
            f"{worst['a']} and {worst['b']} cancel: their sum has {percent(row['interference'])} "
            "less energy than at right angles."
        )
    return said


def path_words(path: dict[str, Any] | None) -> list[str]:
    """The path of a series: how straight, where it settles, where it breaks."""
    if path is None or not path["length"]:
        return []
    said = [
        f"The path from the base through {count(path['checkpoints'], 'checkpoint')} is "
        f"{path['length']:.3g} long and ends {path['net']:.3g} from the base: straightness "
        f"{path['straightness']:.2f} (1: a straight line; "
        f"{path['straightness_if_unrelated']:.2f}: the same steps at right angles)."
    ]
    if path["turn_median"] is not None:
        said[0] += f" The median turn is {path['turn_median']:.0f}°."
    where = f"at most {percent(SETTLED)} of the path"
    why = {
        "start": "the initial A is another one, so this is not one training",
        "length": "the step to it is far longer than those beside it and than most",
        "turn": "the step to it sets off far from the direction of the last",
    }
    for found in path["breaks"][:FEW]:
        said.append(f"It breaks at {found['at']}: {why[found['why']]}.")
    if len(path["breaks"]) > FEW:
        said.append(f"It breaks at {len(path['breaks']) - FEW} more: see path.csv.")
    said.append(
        f"It settles at {path['settles']}: after it {where} is left."
        if path["settles"]
        else f"It does not settle: there is no checkpoint, earlier than on a path of equal steps, "
        f"after which {where} is left."
    )
    return said
