"""Which adapter of a collection plays which role in the ledger.

The ledger speaks of adapters by the names that a run of this book gives them: the six methods, and
SFT once more with another seed, another order or a tenth of its rate. A role is taken by the one
adapter that is known to be what the role asks for. Where that is not known, or two would do, nobody
plays it, and it is said what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from finetune_geometry.deltas.collection import Row
from finetune_geometry.deltas.folder_facts import ONLINE
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import Profile

BLANKS = ("unknown", "paper")
_ASKED = ("seed", "learning_rate", "step")


@dataclass(frozen=True)
class Protocol:
    """Seed, rate and step of each method, as a profile states them."""

    rates: Mapping[str, float]
    seeds: Mapping[str, int]
    steps: Mapping[str, int]

    @classmethod
    def of(cls, profile: Profile) -> Protocol:
        of = {method: profile.training_of(method) for method in METHODS}
        return cls(
            {method: training.learning_rate for method, training in of.items()},
            {method: training.seed for method, training in of.items()},
            {method: training.steps for method, training in of.items()},
        )


@dataclass(frozen=True)
class Role:
    """What an adapter must be to play a role; None: whatever."""

    method: str
    variant: str = ""
    seed: int | None = None
    learning_rate: float | None = None
    step: int | None = None
    other_seed: bool = False  # the seed is not to be `seed`


@dataclass(frozen=True)
class Cast:
    """Roles and who plays them; why the others are open; names of all adapters that are used."""

    played: Mapping[str, Row]
    open: Mapping[str, str]
    names: Mapping[str, str]  # folder -> name in the tables


def roles_of(protocol: Protocol) -> dict[str, Role]:
    """The roles that the ledger knows, by the adapters' names in it."""
    main = {
        method: Role(
            method,
            seed=protocol.seeds[method],
            learning_rate=protocol.rates[method],
            step=protocol.steps[method],
        )
        for method in METHODS
    }
    sft = main["sft"]
    return main | {
        "sft-seed": replace(sft, other_seed=True),
        "sft-lr": replace(sft, learning_rate=protocol.rates["sft"] / 10),
        # One A and another order of the rows: only a person can know that of an adapter.
        "sft-order": replace(sft, variant="order", seed=None),
        **{method: Role(method) for method in ONLINE},
    }


def filled(rows: Sequence[Row], protocol: Protocol, blanks: str) -> list[Row]:
    """The rows with what their empty cells mean: "unknown", or "paper": as in the protocol."""
    if blanks not in BLANKS:
        raise UserError(f"blanks = {blanks!r}: parameter: use {' or '.join(BLANKS)}")
    if blanks == "unknown":
        return list(rows)
    return [
        replace(
            row,
            seed=protocol.seeds[row.method] if row.seed is None else row.seed,
            learning_rate=(
                protocol.rates[row.method] if row.learning_rate is None else row.learning_rate
            ),
            step=protocol.steps[row.method] if row.step is None else row.step,
        )
        if row.method in protocol.rates
        else row
        for row in rows
    ]


def cast(rows: Sequence[Row], protocol: Protocol) -> Cast:
    """Give out the roles. Of several other seeds the smallest is taken."""
    used = [row for row in rows if row.use]
    played: dict[str, Row] = {}
    left: dict[str, str] = {}
    for name, role in roles_of(protocol).items():
        fit = [row for row in used if _fits(row, role) is True]
        if role.other_seed:
            fit = sorted(fit, key=lambda row: row.seed or 0)[:1]
        maybe = [row for row in used if _fits(row, role) is None]
        if len(fit) == 1:
            played[name] = fit[0]
        elif fit:
            left[name] = f"{len(fit)} folders fit: {_listed(fit)}: leave one with yes under use"
        elif maybe:
            unknown = sorted({cell for row in maybe for cell in _unknown(row, role)})
            left[name] = f"{_listed(maybe)} may fit: fill in {', '.join(unknown)}"
        else:
            left[name] = f"no folder with {_words(role)}"
    return Cast(played, left, _names(used, played))


def _fits(row: Row, role: Role) -> bool | None:
    """Whether a row is what the role asks for; None where an empty cell leaves it open."""
    if row.method != role.method or row.variant != role.variant:
        return False
    for cell in _ASKED:
        value, wanted = getattr(row, cell), getattr(role, cell)
        if value is None or wanted is None:
            continue
        same = value == wanted if cell != "learning_rate" else _ratio(value, wanted) < 1.001
        if same == (cell == "seed" and role.other_seed):
            return False
    return None if _unknown(row, role) else True


def _ratio(one: float, two: float) -> float:
    """The larger of two rates over the smaller."""
    low, high = sorted((one, two))
    return high / low if low > 0 else float("inf")


def _unknown(row: Row, role: Role) -> list[str]:
    return [c for c in _ASKED if getattr(role, c) is not None and getattr(row, c) is None]


def _words(role: Role) -> str:
    words = [f"method {role.method}", *([f"variant {role.variant}"] if role.variant else [])]
    if role.seed is not None:
        words.append(f"seed {'other than ' if role.other_seed else ''}{role.seed}")
    words += [f"learning_rate {role.learning_rate:g}"] if role.learning_rate is not None else []
    words += [f"step {role.step}"] if role.step is not None else []
    return ", ".join(words)


def _listed(rows: Sequence[Row]) -> str:
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(row.folder for row in rows[:3]) + more


def _names(used: Sequence[Row], played: Mapping[str, Row]) -> dict[str, str]:
    """Short distinct names: the role, or the method and what sets the folder apart."""
    names = {row.folder: name for name, row in played.items()}
    for row in used:
        if row.folder in names:
            continue
        said = [
            row.variant,
            "" if row.seed is None else f"seed{row.seed}",
            "" if row.learning_rate is None else f"lr{row.learning_rate:g}".replace("-", ""),
            "" if row.step is None else f"step{row.step}",
        ]
        name = "-".join([row.method, *filter(None, said)])
        names[row.folder] = row.folder if not row.method or name in names.values() else name
    return names


def kinds_of_pairs(
    pairs: Sequence[tuple[str, str]], rows: Mapping[str, Row], protocol: Protocol
) -> list[str]:
    """What sets two adapters apart, for each pair of names: "loss", "seed", "rate" (a factor of
    ten), "step", "order", "online" (one of them online); empty: several things, or not known.

    A loss at its own rate counts as the loss alone: the protocol gives DPO a tenth of the others'.
    """
    main = {name: role for name, role in roles_of(protocol).items() if name in METHODS}
    plain = {
        name
        for name, row in rows.items()
        if row.method in main and _fits(row, main[row.method]) is True
    }
    return [_kind(a, b, rows, plain) for a, b in pairs]


def _kind(a: str, b: str, rows: Mapping[str, Row], plain: set[str]) -> str:
    one, two = rows[a], rows[b]
    if one.method != two.method:
        if {a, b} <= plain:
            return "loss"
        online = [row for row in (one, two) if row.method in ONLINE and not row.variant]
        return "online" if len(online) == 1 and {a, b} & plain else ""
    cells = {cell: (getattr(one, cell), getattr(two, cell)) for cell in _ASKED}
    if not one.method or any(None in values for values in cells.values()):
        return ""
    apart = [cell for cell, (first, second) in cells.items() if first != second]
    if {one.variant, two.variant} == {"", "order"} and not set(apart) - {"seed"}:
        return "order"
    if one.variant != two.variant or len(apart) != 1:
        return ""
    if apart == ["learning_rate"]:
        return "rate" if abs(_ratio(*cells["learning_rate"]) - 10) < 0.01 else ""
    return apart[0]
