"""What a comparison found, as sentences. No sentence is told once a pair where pairs are many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetune_geometry.geometry.pairs import ALPHA
from finetune_geometry.report.head_sentences import saved_words, untold_words
from finetune_geometry.report.result import Comparison
from finetune_geometry.report.sentences import merging_words, path_words, rank_words, where_words
from finetune_geometry.report.summary import summary
from finetune_geometry.report.wording import base_text, count, listed, number, percent

NOTHING = "no common direction overall"
MANY_PAIRS = 6  # above this, groups are told instead of pairs
# One change this many times longer than another was probably trained for longer or faster. The
# number has no source.
UNEQUAL = 3.0

LIMITS = [
    "They do not say whether the models answer differently. Weights can differ where outputs do "
    "not, and the other way round.",
    "They do not say why. Learning rate, number of steps, data and seed change a direction, too, "
    "not only the loss. The comparison that helps most is the same training with another seed.",
    "A small cosine of two adapters with an initial A each does not show that their trainings "
    "differ: each can write only along its own A, until A itself has moved. After one first step "
    "by one and the same gradient the cosine is about the rank over the width; longer training "
    "can bring it anywhere. The left angles do not depend on where A started.",
    "An angle or a cosine means something only beside its chance level, which depends on the "
    "sizes of the matrices and on whether the adapters started from one A.",
    "What little energy of a change is lost by a lower rank, or by merging, need not be of little "
    "use to the model. Only its answers show that.",
]


def told(c: Comparison, facts: dict[str, Any] | None = None) -> dict[str, list[str]]:
    """The sentences by what they are about, in the order in which they are read; none is empty.

    facts: of `summary`, if it is at hand.
    """
    facts = summary(c) if facts is None else facts
    parts = {
        "Alike": _alike(facts),
        "Path": path_words(facts["path"]),
        "Where": where_words(facts),
        "Rank": rank_words(facts),
        "Merged": merging_words(c, facts),
        "Saved whole": [*saved_words(c)],
        "Beware": [*_warnings(c, facts)],
    }
    return {about: sentences for about, sentences in parts.items() if sentences}


def words(c: Comparison, facts: dict[str, Any] | None = None) -> list[str]:
    """What the numbers say: who is alike first, and last what to beware of."""
    return [sentence for sentences in told(c, facts).values() for sentence in sentences]


def verdict(pair: dict[str, Any]) -> str:
    """How alike the directions of a pair are, from its entry in `summary`.

    Words change at chance alone. The share is the squared cosine: how much of the energy of either
    change lies along the other.
    """
    cosine = pair["cosine"]
    if pair["identical"]:
        return "the same weights, every one changes by the same amount"
    if pair["p_corrected"] >= ALPHA:
        return NOTHING
    share = percent(cosine**2)
    return f"{'a common direction' if cosine > 0 else 'opposed'}, {share} of the energy"


def _alike(facts: dict[str, Any]) -> list[str]:
    known = [pair for pair in facts["pairs"] if pair["cosine"] is not None]
    idle = [name for name, values in facts["adapters"].items() if values["norm"] == 0]
    if len(facts["pairs"]) > MANY_PAIRS:
        said = [*_overview(facts, known)]
        if idle:
            said.append(f"{listed(idle)} {_verb(idle, 'changes', 'change')} nothing: no cosine.")
        return said
    said = [_pair_words(pair, facts) for pair in sorted(known, key=lambda p: -p["cosine"])]
    for pair in facts["pairs"]:
        if pair["cosine"] is None:
            said.append(f"{pair['a']} and {pair['b']}: no cosine, as one of them changes nothing.")
    return said


def _overview(facts: dict[str, Any], known: list[dict[str, Any]]) -> Iterator[str]:
    """Counts, equal ones, groups, and the two ends, instead of every pair."""
    counts = facts["more_than_chance"]
    if not known:
        return
    opposed = f", {counts['opposed']} are opposed" if counts["opposed"] else ""
    yield (
        f"Of {counts['pairs']} pairs {counts['alike']} have more of a direction in common than "
        f"chance gives{opposed} (5 % level, corrected for all pairs by Holm's method)."
    )
    for members in facts["identical"]:
        yield f"{listed(members)} are the same weights (distance 0)."
    for group in facts["groups"]:
        if len(group["members"]) == len(facts["order"]):
            yield f"All are one group (cosine {number(group['cosine'])} on average)."
            continue
        weak = "" if group["strength"] == "clear" else ", weakly"
        yield (
            f"A group{weak}: {listed(group['members'], 8)} (cosine {number(group['cosine'])} on "
            "average)."
        )
    if not facts["groups"]:
        yield "No groups: none are nearer to each other than to the rest."
    elif facts["ungrouped"]:
        yield f"In no group: {listed(facts['ungrouped'], 8)}."
    yield from _starts(facts)
    different = [pair for pair in known if not pair["identical"]] or known
    ends = [("The closest pair that is not the same", max), ("The most distant pair", min)]
    for which, choose in ends if len(different) > 1 else ends[:1]:
        pair = choose(different, key=lambda p: p["cosine"])
        yield f"{which}: {_pair_words(pair, facts)}"


def _starts(facts: dict[str, Any]) -> Iterator[str]:
    """Who started from one A: what chance hangs on."""
    sets = facts["one_a"]
    together = {name for members in sets for name in members}
    alone = [name for name in facts["order"] if name not in together]
    if any(pair["initial_a"] == "no A" for pair in facts["pairs"] if pair["cosine"] is not None):
        return
    if not sets:
        yield "No two started from one initial A, as far as the factors tell."
    elif len(sets) == 1 and not alone:
        yield "All started from one initial A."
    else:
        said = "; ".join(listed(members) for members in sets)
        yield f"Started from one initial A: {said}" + (
            f". No other shares that of {listed(alone)}." if alone else "."
        )


def _pair_words(pair: dict[str, Any], facts: dict[str, Any]) -> str:
    names = f"{pair['a']} and {pair['b']}"
    if pair["identical"]:
        return f"{names}: {verdict(pair)} (distance 0)."
    shared, apart = (f"±{number(pair[f'chance_{kind}'])}" for kind in ("shared_a", "independent_a"))
    chance = {
        "shared": f"{shared}, as A is shared",
        "independent": f"{apart}, as each has an A of its own",
        "unclear": f"{shared} if A was shared, {apart} if not, which the factors leave open",
        "no A": f"{shared} with these input directions, {apart} with any",
    }[pair["initial_a"]]
    text = f"{names}: {verdict(pair)} (cosine {number(pair['cosine'])}; chance {chance})."
    k, modules, defined = facts["k"], facts["modules"], pair["angle_modules"]
    band = facts["chance"]["angle_smallest_left"]
    if not defined:
        return f"{text} No module has k = {k} directions in both: a smaller k gives angles."
    text += f" Smallest left angle {pair['angle_smallest_left']:.0f}°"
    if band is not None:
        text += f", chance {band[0]:.0f}° to {band[1]:.0f}°"
    some = f", not defined in {modules - defined} of {count(modules, 'module')}"
    return f"{text} (k = {k}{some if defined < modules else ''})."


def _warnings(c: Comparison, facts: dict[str, Any]) -> Iterator[str]:
    if any(pair["cosine"] is not None and verdict(pair) == NOTHING for pair in facts["pairs"]):
        yield (
            "Without a common direction overall, single layers and subspaces may still share some: "
            "see the angles and the figures."
        )
    norms = {name: values["norm"] for name, values in facts["adapters"].items()}
    longest, shortest = max(norms, key=norms.__getitem__), min(norms, key=norms.__getitem__)
    # Of a series it is no news.
    if facts["path"] is None and norms[shortest] > 0 and norms[longest] > UNEQUAL * norms[shortest]:
        yield (
            f"{shortest} moved the weights {norms[longest] / norms[shortest]:.1f} times less than "
            f"{longest}. Compare directions of so unequal changes with care: a short change may "
            "differ because it stopped early."
        )
    if norms[c.reference] == 0:
        yield (
            f"{c.reference} changes nothing, so no direction can be measured from it: choose "
            "another reference."
        )
    bases = {base: name for name, base in c.base_models.items() if base}
    if len(bases) > 1:
        named = ", ".join(f"{name}: {base_text(base)}" for base, name in bases.items())
        yield (
            f"The base models bear different names ({named}). The numbers mean something only if "
            "these are one and the same model."
        )
    dropped = [f"{n} of {name}'s {n + len(c.shapes)}" for name, n in c.left_out.items() if n]
    if dropped:
        yield (
            f"Only the {count(len(c.shapes), 'module')} that all have are compared. "
            f"Left out: {listed(dropped)}."
        )
    yield from untold_words(c)


def _verb(names: list[str], one: str, more: str) -> str:
    return one if len(names) == 1 else more
