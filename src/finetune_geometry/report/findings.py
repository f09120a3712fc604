"""What a comparison found: the main numbers as plain data, and as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.geometry.pairs import ALPHA, start_of
from finetune_geometry.report.compare import Comparison

# Where words change. No test and no convention stands behind these lines; in terms of the energy
# that two changes share (the squared cosine) they are: nine tenths of it ...
SAME = 0.95
# ... a twenty-fifth, below which even changes that surely agree are almost at right angles ...
PARTLY = 0.2
# ... and a quarter of it, with the opposite sign.
OPPOSED = -0.5
NOTHING = "no common direction overall"
# One change this many times longer than another was probably trained for longer or faster.
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
]


def summary(comparison: Comparison) -> dict[str, Any]:
    """The main numbers as plain data, for `--json` and for the report.

    Of a pair: `cosine` and its chance ("chance_shared_a", "chance_independent_a": 95 % of unrelated
    pairs stay below), `p` and `p_corrected` over all pairs, `initial_a` ("shared", "independent",
    "unclear", or "no A" for full fine-tunings) and the mean `cosine_of_a` that it rests on;
    `shared_a` is true, false or, for the last two, null.
    """
    c = comparison
    pairs = []
    for a, b in combinations(c.names, 2):
        of_a = c.value("pairs", "cosine_of_a", a, b, level="mean")
        start = start_of(of_a)
        cosine, distance = (c.value("cosine", what, a, b) for what in ("cosine", "distance"))
        angles = {
            f"angle_smallest_{side}": c.value(
                "principal_angles", "angle_smallest", a, b, level="median", side=side, k=c.k
            )
            for side in ("left", "right")
        }
        pairs.append(
            {
                "a": a,
                "b": b,
                "cosine": cosine,
                "cosine_median": c.value("cosine", "cosine", a, b, level="median"),
                "distance": distance,
                "identical": distance == 0 and cosine is not None,
                **angles,
                "angle_modules": c.angle_modules(a, b),
                "initial_a": start,
                "shared_a": {"shared": True, "independent": False}.get(start),
                "cosine_of_a": of_a,
                **{
                    what: c.value("pairs", what, a, b)
                    for what in ("chance_shared_a", "chance_independent_a", "p", "p_corrected")
                },
            }
        )
    angle = c.chance("angle_smallest", "median", side="left")
    bases = sorted({base for base in c.base_models.values() if base})
    return {
        "base_model": bases[0] if len(bases) == 1 else None,
        "modules": len(c.shapes),
        "reference": c.reference,
        "k": c.k,
        "ranks": list(c.ranks),
        "adapters": {
            name: {
                "base_model": c.base_models[name],
                "norm": c.value("cosine", "norm", name, BASE),
                "entropy_rank": c.value("spectra", "entropy_rank", name, BASE, level="mean"),
                "stable_rank": c.value("spectra", "stable_rank", name, BASE, level="mean"),
                "orthogonal_to_reference_norm": c.value(
                    "orthogonal_fraction", "orthogonal_to_direction_norm", name, c.reference
                ),
                "tensors_not_compared": len(c.extras[name]),
                "modules_left_out": c.left_out[name],
            }
            for name in c.names
        },
        "pairs": pairs,
        "chance": {
            "angle_smallest_left": None
            if angle is None
            else [float(angle["low"]), float(angle["high"])],
            "orthogonal_to_subspace_norm": c.chance_orthogonal,
        },
    }


def words(c: Comparison) -> list[str]:
    """What the numbers say, one sentence a pair, the most alike first; then what to beware of."""
    facts = summary(c)
    known = [pair for pair in facts["pairs"] if pair["cosine"] is not None]
    said = [_pair_words(pair, facts) for pair in sorted(known, key=lambda p: -p["cosine"])]
    for pair in facts["pairs"]:
        if pair["cosine"] is None:
            said.append(f"{pair['a']} and {pair['b']}: no cosine, as one of them changes nothing.")
    return [*said, *_warnings(c, facts)]


def verdict(pair: dict[str, Any]) -> str:
    """How alike the directions of a pair are, from its entry in `summary`."""
    cosine = pair["cosine"]
    if pair["identical"]:
        return "identical, every weight changes by the same amount"
    if pair["p_corrected"] >= ALPHA:
        return NOTHING
    if cosine >= SAME:
        return "nearly the same direction"
    if cosine >= PARTLY:
        return "partly the same direction"
    if cosine > 0:
        return "slightly the same direction, more than chance"
    return (
        "partly opposite directions" if cosine <= OPPOSED else "slightly opposed, more than chance"
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
    adapters = facts["adapters"]
    norms = {name: values["norm"] for name, values in adapters.items()}
    longest, shortest = max(norms, key=norms.__getitem__), min(norms, key=norms.__getitem__)
    if norms[shortest] > 0 and norms[longest] > UNEQUAL * norms[shortest]:
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
        listed = ", ".join(f"{name}: {base_text(base)}" for base, name in bases.items())
        yield (
            f"The base models bear different names ({listed}). The numbers mean something only if "
            "these are one and the same model."
        )
    dropped = [f"{n} of {name}'s {n + len(c.shapes)}" for name, n in c.left_out.items() if n]
    if dropped:
        yield (
            f"Only the {count(len(c.shapes), 'module')} that all have are compared. "
            f"Left out: {', '.join(dropped)}."
        )
    for name, extras in c.extras.items():
        if extras:
            yield (
                f"{name} has {count(len(extras), 'tensor')} beside the numbers here "
                f"({_listed(extras)}). Where such tensors (classification heads, embeddings, "
                "norms, biases) were trained, they change the model, too."
            )


def number(value: float) -> str:
    """A number near 0 to read: three decimals, or two digits if that would leave fewer."""
    if abs(value) < 1e-9:
        return "0"
    if abs(value) < 0.01:
        return np.format_float_positional(value, precision=2, fractional=False, trim="-")
    return f"{value:.3f}"


def count(n: int, what: str) -> str:
    """ "1 tensor", "2 tensors"."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def base_text(name: str) -> str:
    """The base model as a page names it: of a local path, which is nobody's business, the end."""
    path = Path(_printable(name))
    return "/".join(path.parts[-2:]) if path.is_absolute() else str(path)


def _printable(name: str) -> str:
    """A stranger's file may hold any name, and a terminal obeys what cannot be printed."""
    return "".join(filter(str.isprintable, name))


def _listed(names: Sequence[str], most: int = 2) -> str:
    shown = [_printable(name.removeprefix("base_model.model.")) for name in names[:most]]
    return ", ".join([*shown, "..."] if len(names) > most else shown)
