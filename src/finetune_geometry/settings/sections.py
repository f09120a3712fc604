"""The sections of a profile: what a person may set, with types and defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from finetune_geometry.settings.objectives import OBJECTIVES, Objective


@dataclass(frozen=True)
class Model:
    """Which model is fine-tuned, and which one teaches it."""

    base: str  # directory (relative to the project) or hub id
    teacher: str
    dtype: str = "float32"
    max_length: int = 512  # tokens of prompt and completion together
    attention: str = "sdpa"  # transformers' attn_implementation


@dataclass(frozen=True)
class Problems:
    """Where problems come from, how many there are, and how hard they are."""

    source: str = "generated"  # "generated" or "hub"
    seed: int = 0
    train: int = 0  # problems in each split
    rollouts: int = 0
    validation: int = 0
    test: int = 0
    min_steps: int = 2  # what follows shapes the generator; a hub source ignores it
    max_steps: int = 8
    max_value: int = 200  # no quantity in a problem exceeds it
    distractors: float = 0.1  # probability of an irrelevant sentence after each sentence
    rollout_dataset: str = ""  # hub ids, for source: hub
    test_dataset: str = ""


@dataclass(frozen=True)
class Rollouts:
    """How the teacher's solutions are sampled."""

    prompts: int
    heldout_prompts: int
    k: int = 4
    temperature: float = 1.0
    max_new_tokens: int = 256
    seed: int = 42
    batch_size: int = 256


@dataclass(frozen=True)
class Lora:
    """Shape and initialisation of the adapters."""

    r: int = 32
    alpha: int = 64
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    seed: int = 42  # of the initialisation that all methods share


@dataclass(frozen=True)
class Training:
    """What all objectives share: length, learning rate, order, checkpoints."""

    steps: int
    batch_size: int = 32  # rows in one optimiser step
    micro_batch_size: int = 32  # rows in one forward pass
    learning_rate: float = 1e-3
    warmup_ratio: float = 0.05
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    scheduler: str = "cosine"
    schedule_steps: int | None = None  # length of the schedule; null: the same as steps
    seed: int = 42  # order of the rows
    save_steps: int = 50
    logging_steps: int = 5
    threads: int = 1
    bf16: bool = True  # bf16 autocast; adapters and the optimiser stay in fp32
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class Method:
    """One objective: the variant, and any of `training`'s values it replaces.

    The section of an objective has the objective's own constants, too: see METHOD_SECTIONS.
    """

    variant: str = ""
    steps: int | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    learning_rate: float | None = None
    seed: int | None = None

    @property
    def constants(self) -> dict[str, float]:
        """The objective's own constants by name."""
        shared = {field.name for field in dataclasses.fields(Method)}
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in shared
        }


def _section_of(objective: Objective) -> type[Method]:
    """`Method` with the constants of one objective, and its first variant as the default."""
    constants = [(name, float, default) for name, default in objective.constants.items()]
    first = ("variant", str, objective.variants[0].name)
    return dataclasses.make_dataclass("Method", [first, *constants], bases=(Method,), frozen=True)


METHOD_SECTIONS: dict[str, type[Method]] = {
    name: _section_of(objective) for name, objective in OBJECTIVES.items()
}
"""The section `methods.<name>` of each objective."""


@dataclass(frozen=True)
class Evaluation:
    """How answers are made and compared."""

    batch_size: int = 256
    max_new_tokens: int = 256
    equivalence_margin: float = 0.02  # accuracy, as a fraction
    confidence: float = 0.95


@dataclass(frozen=True)
class Geometry:
    """Sizes and draws of the analyses."""

    k: int = 10
    ks: tuple[int, ...] = (1, 4, 10)
    null_draws: int = 200
    lmc_alphas: int = 11
    lmc_rows: int = 64
    lmc_problems: int = 100  # test problems whose boxed answer is read
    lmc_answered: int = 100  # of these, how many are answered in full, at most
    cka_rows: int = 100
    cka_tokens: int = 1000
    seed: int = 0
