"""The sections of a profile: what a person may set, with types and defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pydantic.dataclasses import dataclass

from finetune_geometry.settings.objectives import OBJECTIVES, Objective
from finetune_geometry.settings.schema import (
    KNOWN_KEYS,
    Choice,
    Flag,
    Number,
    NumberOrNone,
    Numbers,
    Switch,
    Texts,
    Whole,
    WholeOrNone,
    Wholes,
)


@dataclass(frozen=True, config=KNOWN_KEYS)
class Model:
    """Which model is fine-tuned, and which one teaches it."""

    base: str  # directory (relative to the project) or hub id
    teacher: str
    dtype: str = "float32"  # of the weights; adapters are fp32 always
    max_length: Whole = 512  # tokens of prompt and completion together
    attention: str = "sdpa"  # transformers' attn_implementation
    base_revision: str = ""  # commits on the hub; empty: the newest one when it is fetched
    teacher_revision: str = ""
    needs_gpu: Flag = False  # true: without a working GPU nothing runs, slowly or otherwise


@dataclass(frozen=True, config=KNOWN_KEYS)
class Prompt:
    """What stands around a question, for the teacher and for every model that is trained."""

    instruction: str = ""  # after the question
    # Switches of the chat template, as enable_thinking: false.
    template: Mapping[str, Switch] = dataclasses.field(default_factory=dict)
    teacher_template: Mapping[str, Switch] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, config=KNOWN_KEYS)
class Problems:
    """Where problems come from, how many there are, and how hard they are."""

    source: str = "generated"  # "generated" or "hub"
    seed: Whole = 0
    train: Whole = 0  # problems in each split
    rollouts: Whole = 0
    validation: Whole = 0
    test: Whole = 0
    min_steps: Whole = 2  # what follows shapes the generator; a hub source ignores it
    max_steps: Whole = 8
    max_value: Whole = 200  # no quantity in a problem exceeds it
    distractors: Number = 0.1  # probability of an irrelevant sentence after each sentence
    test_min_steps: WholeOrNone = None  # of test and validation problems; null: as the others
    test_max_steps: WholeOrNone = None
    test_max_value: WholeOrNone = None
    rollout_dataset: str = ""  # hub ids, for source: hub
    test_dataset: str = ""
    rollout_revision: str = ""
    test_revision: str = ""
    aime_dataset: str = ""  # a second, harder test set; empty: none
    aime_revision: str = ""


@dataclass(frozen=True, config=KNOWN_KEYS)
class Endpoint:
    """A server that speaks OpenAI's protocol; the key is read from $OPENAI_API_KEY."""

    base_url: str = ""  # http://host:port/v1
    model: str = ""
    concurrency: Whole = 16  # requests under way at a time
    timeout: Number = 600.0  # seconds for one request
    retries: Whole = 6  # of one request, ever later
    max_cost: NumberOrNone = None  # stop before more is spent, in the unit of the prices
    price_input: Number = 0.0  # for a million tokens
    price_output: Number = 0.0
    extra_body: str = ""  # JSON: what a server takes beyond the protocol


@dataclass(frozen=True, config=KNOWN_KEYS)
class Traces:
    """A public data set of verified generations."""

    dataset: str = ""  # one that `settings/trace_sets.py` knows, on the hub or in a folder
    folder: str = ""  # read from here, where it is not fetched from the hub
    revision: str = ""
    files: WholeOrNone = None  # its first so many; null: as many as should suffice


@dataclass(frozen=True, config=KNOWN_KEYS)
class Rollouts:
    """Where the teacher's solutions come from, and how they are sampled."""

    prompts: Whole
    heldout_prompts: Whole
    source: str = "model"  # "model", "endpoint" or "traces"
    k: Whole = 4
    temperature: Number = 1.0
    max_new_tokens: Whole = 256
    seed: Whole = 42
    batch_size: Whole = 256
    endpoint: Endpoint = dataclasses.field(default_factory=Endpoint)
    traces: Traces = dataclasses.field(default_factory=Traces)


@dataclass(frozen=True, config=KNOWN_KEYS)
class Lora:
    """Shape and initialisation of the adapters."""

    r: Whole = 32
    alpha: Whole = 64
    dropout: Number = 0.0
    target_modules: Texts = ("q_proj", "k_proj", "v_proj", "o_proj")
    seed: Whole = 42  # of the initialisation that all methods share


#: Values of `training` that say when something is written, not what.
WRITING = frozenset({"logging_steps", "save_steps", "snapshots"})


@dataclass(frozen=True, config=KNOWN_KEYS)
class Training:
    """What all objectives share: length, learning rate, order, checkpoints."""

    steps: Whole
    batch_size: Whole = 32  # rows in one optimiser step
    micro_batch_size: Whole = 32  # rows in one forward pass
    learning_rate: Number = 1e-3
    warmup_ratio: Number = 0.05
    weight_decay: Number = 0.01
    max_grad_norm: Number = 1.0
    optimizer: str = "adamw"  # or "sgd", without momentum
    scheduler: str = "cosine"
    schedule_steps: WholeOrNone = None  # length of the schedule; null: the same as steps
    seed: Whole = 42  # order of the rows
    # Of the pool: "mixed" leaves the prompts with right and wrong rollouts alone. A share drops
    # prompts at random until mixed ones are so many of all; null: as they come.
    pool: str = "all"
    mixed_share: NumberOrNone = None
    save_steps: Whole = 50
    logging_steps: Whole = 5
    snapshots: Numbers = (0.1, 0.25, 0.5)  # shares of the steps after which the adapter is kept
    threads: Whole = 1
    # bf16 autocast; adapters and the optimiser stay in fp32. On a processor without AVX-512, where
    # such products are slow, all is fp32.
    bf16: Flag = True
    # Positions of a micro-batch at most, padding included; it then holds as many rows of a batch as
    # fit, and micro_batch_size is not used.
    micro_batch_tokens: WholeOrNone = None
    # Recompute activations; auto: where they would not fit into the GPU's memory.
    gradient_checkpointing: Choice = False
    processes: Whole = 1  # that share one training (DDP), each with a part of the batch

    @property
    def snapshot_steps(self) -> list[int]:
        """The steps after which an adapter is kept, besides the last."""
        found = {self.step_at(share) for share in self.snapshots}
        return sorted(step for step in found if step < self.steps)

    def step_at(self, share: float) -> int:
        """The step at this share of the training, at least the first."""
        return max(1, round(share * self.steps))


@dataclass(frozen=True, config=KNOWN_KEYS)
class Method:
    """One objective: the variant, and any of `training`'s values it replaces.

    The section of an objective has the objective's own constants, too: see METHOD_SECTIONS.
    """

    variant: str = ""
    steps: WholeOrNone = None
    batch_size: WholeOrNone = None
    micro_batch_size: WholeOrNone = None
    learning_rate: NumberOrNone = None
    seed: WholeOrNone = None

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
    fields = {"variant": str, **dict.fromkeys(objective.constants, Number)}
    defaults = {"variant": objective.variants[0].name, **objective.constants}
    body = {"__annotations__": fields, "__module__": __name__, **defaults}
    section: type[Method] = type("Method", (Method,), body)
    dataclass(section, frozen=True, config=KNOWN_KEYS)  # in place
    return section


METHOD_SECTIONS: dict[str, type[Method]] = {
    name: _section_of(objective) for name, objective in OBJECTIVES.items()
}
"""The section `methods.<name>` of each objective."""


@dataclass(frozen=True, config=KNOWN_KEYS)
class Evaluation:
    """How answers are made and compared."""

    batch_size: Whole = 256
    max_new_tokens: Whole = 256
    equivalence_margin: Number = 0.02  # accuracy, as a fraction
    confidence: Number = 0.95


@dataclass(frozen=True, config=KNOWN_KEYS)
class Geometry:
    """Sizes and draws of the analyses."""

    k: Whole = 10
    ks: Wholes = (1, 4, 10)
    null_draws: Whole = 200
    lmc_alphas: Whole = 11
    lmc_rows: Whole = 64
    lmc_problems: Whole = 100  # test problems whose boxed answer is read
    lmc_answered: Whole = 100  # of these, how many are answered in full, at most
    ray_factors: Numbers = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)  # of a delta, along its ray
    cka_rows: Whole = 100
    cka_tokens: Whole = 1000
    seed: Whole = 0


@dataclass(frozen=True, config=KNOWN_KEYS)
class Spread:
    """What is trained beyond the six, for the chapters on controls: `settings/variations.py`.

    Six methods each time, and SFT once more in another order where A or the base is new.
    """

    orders: Whole = 4  # further orders of the rows, with the same A
    draws: Whole = 3  # further pairs of an A and an order
    students: Whole = 0  # further base models; a profile of a shipped student can raise some
    student_problems: Whole = 100_000  # that each of them is raised on
    sgd_rate: Number = 1.0  # SFT's learning rate by plain SGD
    per_job: Whole = 1  # trainings that one job of the workflow makes


@dataclass(frozen=True, config=KNOWN_KEYS)
class Released:
    """A collection of adapters that others trained, one folder each, held against the ledger."""

    collection: str = "AlexWortega/capabilityvectors-qwen3-4b"  # a folder or a hub id
    revision: str = ""  # a commit on the hub; empty: the newest one when it is fetched
    protocol: str = "qwen3-4b"  # the profile whose seeds, rates, steps and k they should have
    blanks: str = "unknown"  # empty cells of its table; "paper": as in the protocol
