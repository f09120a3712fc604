"""Further trainings of a run: the same losses with an order, an A, a base or a schedule changed.

Several chapters read one and the same training, so each is listed here once, is made by one job of
the workflow, and lies in the run's folder beside the six methods'. Its name says what it is:

    rft-order2      the rows in another order
    rft-draw1       another initial A and another order
    rft-student1    the profile's seeds, on another student
    rft-annealed    the learning rate comes all the way down within the steps
    rft-sgd         by plain SGD
    sft-rate, sft-mixed, rft-chosen, offline_grpo-contrast
                    between SFT and DPO, one thing changed at a time; dpo-fast, dpo-third, dpo-slow:
                    other rates; a number: the order of the cell of that number
    rift-variant1, offline_grpo-bias2, dpo-share3
                    another definition, bias or share of mixed prompts, by its number in the list
    rft-replay10    no training: gradients at the weights of step 10, and what optimisers make of
                    them: rft-from10-adam
    rft-first2      the same at step 0, with the rows in another order: rft-order2-from0-adam

Light: the workflow reads this list each time it plans.
"""

from __future__ import annotations

from finetune_geometry.settings.dials import dials, ladder
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.variation import (
    FIRST_SEED,
    Cell,
    Replay,
    Variation,
    repeated_orders,
    seed_of,
)

FROZEN = ("raw", "sgd", "adam")  # what is made of gradients that are taken at the base
REPLAYED = 0.5  # replays start at the steps up to this share of which an adapter is kept
#: Kinds that answer the test problems.
ANSWERING = ("order", "draw", "student", "annealed", "sgd", "fast", "variant")
STUDENT_SEED = 10  # of the first further student; the shipped one was raised with 1
ANOTHER_ORDER = 123  # of SFT's rows where a cell needs its own yardstick


def variations(profile: Profile) -> dict[str, Variation]:
    """All further trainings of the profile, by name."""
    found = [
        *_orders(profile),
        *_draws(profile),
        *_students(profile),
        *(_annealed(profile, m, order) for order in repeated_orders(profile) for m in METHODS),
        *(_sgd(profile, method) for method in METHODS),
        *(replayed for method in METHODS for replayed in _replays(profile, method)),
        *(_first(m, order) for order in repeated_orders(profile) if order for m in METHODS),
        *ladder(profile),
        *dials(profile),
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
    found = [own]
    for number in range(1, profile.spread.orders + 1):
        # With one A for all, SFT in the order before is each order's yardstick.
        before = f"sft-order{number - 1}" if number > 1 else "sft"
        name = f"order{number}"
        found.append(Cell(name, "order", {**_six(name), "sft-order": before}))
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


def _annealed(profile: Profile, method: str, order: str) -> Variation:
    changes = {
        "training.schedule_steps": profile.training_of(method).steps,
        **seed_of(method, order),
    }
    return Variation(f"{method}-annealed{order}", method, changes)


def _sgd(profile: Profile, method: str) -> Variation:
    # The ratio of a method's rate to SFT's is kept.
    ratio = profile.training_of(method).learning_rate / profile.training_of("sft").learning_rate
    changes = {
        "training.optimizer": "sgd",
        f"methods.{method}.learning_rate": profile.spread.sgd_rate * ratio,
    }
    return Variation(f"{method}-sgd", method, changes)


def _replays(profile: Profile, method: str) -> list[Variation]:
    names = {kind: f"{method}-from0-{kind}" for kind in FROZEN}
    found = [Variation(f"{method}-replay0", method, replay=Replay(0, names))]
    training = profile.training_of(method)
    for step in training.snapshot_steps:
        if step <= REPLAYED * training.steps:
            replay = Replay(step, {"adam": f"{method}-from{step}-adam"})
            found.append(Variation(f"{method}-replay{step}", method, replay=replay))
    return found


def _first(method: str, order: str) -> Variation:
    names = {kind: f"{method}-order{order}-from0-{kind}" for kind in FROZEN}
    replay = Replay(0, names)
    return Variation(f"{method}-first{order}", method, seed_of(method, order), replay=replay)
