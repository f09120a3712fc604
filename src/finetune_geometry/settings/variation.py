"""One further training, and a set of them; `variations` lists which there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_geometry.settings.profiles import Profile

FIRST_SEED = 1000  # of the orders and of the A; far from those that profiles use


@dataclass(frozen=True)
class Replay:
    """Where a frozen replay starts and what it leaves.

    Attributes:
        step: it takes the gradients at the weights after so many steps of the method's training.
        names: optimiser -> name of the adapter with its prediction.
    """

    step: int
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
        replay: a frozen replay in place of a training (`methods/replay.py`).
    """

    name: str
    method: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    student: int = 0
    replay: Replay | None = None

    @property
    def adapters(self) -> list[str]:
        """The adapters that it leaves."""
        if self.replay:
            return list(self.replay.names.values())
        return [self.name]


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


def repeated_orders(profile: Profile) -> list[str]:
    """Suffixes of chapters that repeat: "" with the profile's orders, then "1" and so on."""
    return ["", *(str(n) for n in range(1, min(profile.spread.orders, 2) + 1))]


def seed_of(method: str, order: str) -> dict[str, Any]:
    """The setting that gives a method's rows this order."""
    return {f"methods.{method}.seed": FIRST_SEED + int(order)} if order else {}
