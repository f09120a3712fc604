"""Further trainings of a run: the same losses with an order, an A, a base or a schedule changed.

Several chapters read one and the same training, so each is listed here once, is made by one job of
the workflow, and lies in the run's folder beside the six methods'. Its name says what it is:

    rft-order2      the rows in another order
    rft-draw1       another initial A and another order
    rft-student1    the profile's seeds, on another student
    rft-annealed    the learning rate comes all the way down within the steps
    rft-sgd         by plain SGD
    rft-path        the run's own once more, with an adapter kept on the way: rft-step10, rft-step25
    sft-rate, sft-mixed, rft-chosen, offline_grpo-contrast
                    between SFT and DPO, one thing changed at a time; dpo-fast, dpo-third, dpo-slow:
                    other rates; a number: the order of the cell of that number
    rift-variant1, offline_grpo-bias2, dpo-share3
                    another definition, bias or share of mixed prompts, by its number in the list
    rft-replay10    no training: gradients at the weights of step 10, and what optimisers make of
                    them: rft-from10-adam

Light: the workflow reads this list each time it plans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_geometry.settings.objectives import METHODS, OBJECTIVES
from finetune_geometry.settings.profiles import Profile

#: Shares of the steps after which a path keeps its adapter; replays start at some of them.
SNAPSHOTS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
REPLAYED = (0.05, 0.1, 0.25, 0.5)
#: Kinds that answer the test problems.
ANSWERING = ("order", "draw", "student", "annealed", "sgd", "fast", "variant")
#: DPO's learning rate as a multiple of SFT's, beside the profile's.
DPO_RATES = {"fast": 1.0, "third": 0.3, "slow": 0.03}
BIASES = (0.0, 0.03, 0.3, 1.0)  # of Offline GRPO, beside the profile's
SHARES = (0.05, 0.2, 0.4)  # of mixed prompts
FIRST_SEED = 1000  # of the orders and of the A; far from those that profiles use
STUDENT_SEED = 10  # of the first further student; the shipped one was raised with 1
ANOTHER_ORDER = 123  # of SFT's rows where a cell needs its own yardstick


@dataclass(frozen=True)
class Replay:
    """Where a frozen replay starts and what it leaves.

    Attributes:
        step: it takes the gradients at the weights after so many steps.
        start: name of the adapter with these weights; "" at step 0.
        names: optimiser -> name of the adapter with its prediction.
    """

    step: int
    start: str
    names: Mapping[str, str]


@dataclass(frozen=True)
class Variation:
    """One further training.

    Attributes:
        name: of the adapter's folder.
        method: the loss.
        changes: settings by dotted name, as `Run.open` takes them. Where `student` is set the
            caller adds `model.base`.
        student: number of the further student that it starts from; 0: the profile's base.
        snapshots: step -> name of the adapter that is kept there.
        replay: a frozen replay in place of a training (`methods/replay.py`).
    """

    name: str
    method: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    student: int = 0
    snapshots: Mapping[int, str] = field(default_factory=dict)
    replay: Replay | None = None

    @property
    def adapters(self) -> list[str]:
        """The adapters that it leaves."""
        if self.replay:
            return list(self.replay.names.values())
        return [self.name, *self.snapshots.values()]


@dataclass(frozen=True)
class Cell:
    """Six methods trained alike: one of the repetitions that a spread is taken over.

    Attributes:
        name: "run" for the run's own six, else as "order2", "draw1", "student1".
        kind: what was drawn anew: "run", "order", "draw" or "student".
        adapters: role in the ledger -> name of the adapter. The role `sft-order` is SFT in another
            order with the cell's own A and base.
        student: as of `Variation`.
    """

    name: str
    kind: str
    adapters: Mapping[str, str]
    student: int = 0


def variations(profile: Profile) -> dict[str, Variation]:
    """All further trainings of the profile, by name."""
    found = [
        *_orders(profile),
        *_draws(profile),
        *_students(profile),
        *(_annealed(profile, method) for method in METHODS),
        *(_sgd(profile, method) for method in METHODS),
        *(_path(profile, method) for method in METHODS),
        *(replayed for method in METHODS for replayed in _replays(profile, method)),
        *_ladder(profile),
        *_dials(profile),
    ]
    return {variation.name: variation for variation in found}


def jobs(profile: Profile) -> dict[str, list[Variation]]:
    """The trainings by the job that makes them, in an order in which each finds what it needs.

    A job is named after its first training.
    """
    every, size = list(variations(profile).values()), profile.spread.per_job
    parts = [every[start : start + size] for start in range(0, len(every), size)]
    return {part[0].name: part for part in parts}


def kind_of(variation: Variation) -> str:
    """What was drawn anew or changed: the second part of the name, without its number."""
    return variation.name.split("-")[1].rstrip("0123456789")


def students(profile: Profile) -> dict[int, int]:
    """Number of each further student -> the seed that it is raised with."""
    count = profile.spread.students if profile.problems.source == "generated" else 0
    return {number: STUDENT_SEED + number - 1 for number in range(1, count + 1)}


def cells(profile: Profile) -> list[Cell]:
    """The repetitions, the run's own six first."""
    own = Cell("run", "run", {**{method: method for method in METHODS}, "sft-order": "sft-order"})
    orders = [f"order{number}" for number in range(1, profile.spread.orders + 1)]
    found = [own]
    for place, name in enumerate(orders):
        # With one A for all, each order has a yardstick in the next.
        beside = "sft" if place == len(orders) - 1 else f"sft-{orders[place + 1]}"
        found.append(Cell(name, "order", {**_six(name), "sft-order": beside}))
    for number in range(1, profile.spread.draws + 1):
        found.append(Cell(f"draw{number}", "draw", _with_yardstick(f"draw{number}")))
    for number in students(profile):
        name = f"student{number}"
        found.append(Cell(name, "student", _with_yardstick(name), student=number))
    return found


def _six(name: str) -> dict[str, str]:
    return {method: f"{method}-{name}" for method in METHODS}


def _with_yardstick(name: str) -> dict[str, str]:
    return {**_six(name), "sft-order": f"sft-{name}-order"}


def _orders(profile: Profile) -> list[Variation]:
    return [
        Variation(f"{method}-order{n}", method, {f"methods.{method}.seed": FIRST_SEED + n})
        for n in range(1, profile.spread.orders + 1)
        for method in METHODS
    ]


def _draws(profile: Profile) -> list[Variation]:
    found = []
    for n in range(1, profile.spread.draws + 1):
        seed = FIRST_SEED + 100 + n
        found += [
            Variation(
                f"{method}-draw{n}", method, {"lora.seed": seed, f"methods.{method}.seed": seed}
            )
            for method in METHODS
        ]
        changes = {"lora.seed": seed, "methods.sft.seed": ANOTHER_ORDER}
        found.append(Variation(f"sft-draw{n}-order", "sft", changes))
    return found


def _students(profile: Profile) -> list[Variation]:
    found = []
    for n in students(profile):
        found += [Variation(f"{method}-student{n}", method, {}, n) for method in METHODS]
        changes = {"methods.sft.seed": ANOTHER_ORDER}
        found.append(Variation(f"sft-student{n}-order", "sft", changes, n))
    return found


def _annealed(profile: Profile, method: str) -> Variation:
    steps = profile.training_of(method).steps
    return Variation(f"{method}-annealed", method, {"training.schedule_steps": steps})


def _sgd(profile: Profile, method: str) -> Variation:
    # The ratio of a method's rate to SFT's is kept.
    ratio = profile.training_of(method).learning_rate / profile.training_of("sft").learning_rate
    changes = {
        "training.optimizer": "sgd",
        f"methods.{method}.learning_rate": profile.spread.sgd_rate * ratio,
    }
    return Variation(f"{method}-sgd", method, changes)


def steps_at(profile: Profile, method: str, shares: Sequence[float]) -> list[int]:
    """The steps at these shares of a training, at least the first, each once."""
    steps = profile.training_of(method).steps
    return sorted({max(1, round(share * steps)) for share in shares})


def _path(profile: Profile, method: str) -> Variation:
    kept = {step: f"{method}-step{step}" for step in steps_at(profile, method, SNAPSHOTS)}
    return Variation(f"{method}-path", method, snapshots=kept)


def _replays(profile: Profile, method: str) -> list[Variation]:
    names = {kind: f"{method}-from0-{kind}" for kind in ("raw", "sgd", "adam")}
    found = [Variation(f"{method}-replay0", method, replay=Replay(0, "", names))]
    for step in steps_at(profile, method, REPLAYED):
        if step < profile.training_of(method).steps:
            replay = Replay(step, f"{method}-step{step}", {"adam": f"{method}-from{step}-adam"})
            found.append(Variation(f"{method}-replay{step}", method, replay=replay))
    return found


def ladder_orders(profile: Profile) -> list[str]:
    """Suffixes of the repetitions of the ladder: "" with the profile's orders, "1" and so on."""
    return ["", *(str(n) for n in range(1, min(profile.spread.orders, 2) + 1))]


def _ladder(profile: Profile) -> list[Variation]:
    """From SFT to DPO one thing at a time, and DPO at other rates."""
    rate = profile.training_of("sft").learning_rate
    low = profile.training_of("dpo").learning_rate
    found = []
    for suffix in ladder_orders(profile):

        def rung(
            method: str,
            name: str,
            learning_rate: float,
            others: Mapping[str, Any] | None = None,
            suffix: str = suffix,
        ) -> Variation:
            changes = {f"methods.{method}.learning_rate": learning_rate, **(others or {})}
            if suffix:
                changes[f"methods.{method}.seed"] = FIRST_SEED + int(suffix)
            return Variation(f"{method}-{name}{suffix}", method, changes)

        mixed = {"training.pool": "mixed"}
        found += [
            rung("sft", "rate", low),
            rung("sft", "mixed", low, mixed),
            rung("rft", "chosen", low, mixed),
            rung("offline_grpo", "contrast", low, {"methods.offline_grpo.bias": 0.0}),
            *(rung("dpo", name, factor * rate) for name, factor in DPO_RATES.items()),
        ]
    return found


def other_variants(method: str) -> list[str]:
    """The definitions of a loss that are not the default one."""
    return [variant.name for variant in OBJECTIVES[method].variants[1:]]


def _dials(profile: Profile) -> list[Variation]:
    """Other definitions of the losses, other biases, other shares of mixed prompts."""
    found = [
        Variation(f"{method}-variant{number}", method, {f"methods.{method}.variant": name})
        for method in METHODS
        for number, name in enumerate(other_variants(method), 1)
    ]
    found += [
        Variation(f"offline_grpo-bias{number}", "offline_grpo", {"methods.offline_grpo.bias": bias})
        for number, bias in enumerate(BIASES, 1)
    ]
    found += [
        Variation(f"{method}-share{number}", method, {"training.mixed_share": share})
        for number, share in enumerate(SHARES, 1)
        for method in ("sft", "rft", "offline_grpo", "dpo")
    ]
    return found
