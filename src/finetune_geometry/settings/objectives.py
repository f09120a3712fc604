"""The objectives: one table that every other place reads.

A new objective is one entry here and one function in `methods/losses.py` (and a notebook with its
line in the book's contents). Plain data: functions are named, and found by name where they live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_geometry.settings.errors import UserError

#: The source of the variants called "paper".
PAPER = "arXiv:2606.23740"


@dataclass(frozen=True)
class Variant:
    """One definition of an objective: its loss, and what the loss knows of a row.

    pull: the weight w of a row's tokens in the gradient -w d log pi, as a function of the row's
        weight and of the settings (`methods.<name>`), where it is known before the training. None
        where it hangs on the model's probabilities. Of a pair: of the chosen completion, and with
        the other sign of the rejected one.
    """

    name: str
    source: str  # who defines it so
    loss: str  # a function in methods/losses.py
    takes: tuple[str, ...]  # its arguments, by name (`methods.trainers.token_loss` has them all)
    weight: str = "reward"  # a function in methods/rows.py: what the loss needs to know of a row
    weight_takes: tuple[str, ...] = ()  # its arguments after the rows: constants of the objective
    pull: Callable[[Any, Any], Any] | None = None

    @property
    def needs_reference(self) -> bool:
        """Whether the loss asks for log-probabilities under the model without adapter."""
        return any(name.startswith("reference_") for name in self.takes)


@dataclass(frozen=True)
class Objective:
    """One objective: how the book shows it, its constants, and its variants.

    paired: trained on pairs of a right and a wrong rollout by TRL's DPOTrainer, its constants
        arguments of DPOConfig; all others are trained on every rollout, with a weight.
    """

    name: str
    label: str
    colour: str
    marker: str  # of matplotlib
    variants: tuple[Variant, ...]  # the first is the default
    constants: Mapping[str, float] = field(default_factory=dict)  # the profile's, and defaults
    paired: bool = False

    def variant(self, name: str) -> Variant:
        """The variant called `name`. Raises UserError if there is none."""
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise UserError(
            f"unknown variant {name!r}: methods.{self.name}.variant: use one of "
            f"{', '.join(variant.name for variant in self.variants)}"
        )


# Colours are those of Okabe and Ito (2008).
_TABLE = (
    Objective(
        "sft",
        "SFT",
        colour="#0072B2",
        marker="o",
        variants=(Variant("paper", PAPER, "sft", ("log_probs",), pull=lambda weight, own: 1.0),),
    ),
    Objective(
        "rft",
        "RFT",
        colour="#56B4E9",
        marker="s",
        variants=(
            Variant(
                "paper", PAPER, "rft", ("log_probs", "reward"), pull=lambda weight, own: weight
            ),
            Variant(
                *("distinct", "arXiv:2308.01825", "rft", ("log_probs", "reward")),
                weight="distinct_reward",
                pull=lambda weight, own: weight,
            ),
        ),
    ),
    Objective(
        "dft",
        "DFT",
        colour="#E69F00",
        marker="^",
        variants=(Variant("paper", "arXiv:2508.05629", "dft", ("log_probs",)),),
    ),
    Objective(
        "rift",
        "RIFT",
        colour="#009E73",
        marker="D",
        constants={
            "reward_lambda": 0.5,  # as printed: weight 1 - r * lambda
            "negative_reward": -0.2,  # as published
        },
        variants=(
            Variant(
                *("paper", PAPER, "rift", ("log_probs", "reward", "reward_lambda")),
                pull=lambda weight, own: 1 - own.reward_lambda * weight,
            ),
            Variant(
                *("published", "arXiv:2601.09253", "rift_published"),
                takes=("log_probs", "mask", "reward", "negative_reward"),
            ),
        ),
    ),
    Objective(
        "offline_grpo",
        "Offline GRPO",
        colour="#CC79A7",
        marker="v",
        constants={
            "bias": 0.1,  # added to r - mean(r)
            "kl": 0.2,  # as published
        },
        variants=(
            Variant(
                *("paper", PAPER, "offline_grpo", ("log_probs", "advantage")),
                weight="paper_advantage",
                weight_takes=("bias",),
                pull=lambda weight, own: weight,
            ),
            Variant(
                *("krafton", "KRAFTON's code", "offline_grpo_krafton"),
                takes=("log_probs", "reference_log_probs", "mask", "advantage", "kl"),
                weight="krafton_advantage",
                weight_takes=("bias",),
            ),
        ),
    ),
    Objective(
        "dpo",
        "DPO",
        colour="#D55E00",
        marker="X",
        constants={"beta": 0.1},
        paired=True,
        variants=(
            Variant(
                *("paper", "arXiv:2305.18290", "dpo"),
                takes=("chosen", "rejected", "reference_chosen", "reference_rejected", "beta"),
                # Its margin apart: every visited pair counts the same.
                pull=lambda weight, own: 1.0,
            ),
        ),
    ),
)
OBJECTIVES: dict[str, Objective] = {objective.name: objective for objective in _TABLE}
"""All objectives by name, in the order in which the book shows them."""

METHODS: dict[str, str] = {name: objective.label for name, objective in OBJECTIVES.items()}
"""Name and label of each."""
