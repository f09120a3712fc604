"""Profiles: which model, which problems, which teacher, and how long to train.

A profile is one YAML file beside this module (or anywhere, given as a path). It is read into
frozen dataclasses, so that every value has a declared type and a misspelt key cannot pass. Nothing
else may differ between a run on two cores and a run on the paper's scale.

This module imports nothing but the standard library and PyYAML: the workflow reads profiles each
time it plans, and must stay quick.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from finetune_geometry.settings.errors import UserError, closest
from finetune_geometry.settings.schema import build, dotted

METHODS: dict[str, str] = {
    "sft": "SFT",
    "rft": "RFT",
    "dft": "DFT",
    "rift": "RIFT",
    "offline_grpo": "Offline GRPO",
    "dpo": "DPO",
}
"""Name and label of the six objectives, in the order in which the book shows them."""

PROFILES = Path(__file__).parent / "profiles"


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
    """One objective: the variant, its own constants, and any of `training`'s values it replaces."""

    variant: str = "paper"
    beta: float = 0.1  # DPO
    reward_lambda: float = 0.5  # RIFT as printed: weight 1 - r * lambda
    negative_reward: float = -0.2  # RIFT as published
    bias: float = 0.1  # Offline GRPO: added to r - mean(r)
    kl: float = 0.2  # Offline GRPO as published
    steps: int | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    learning_rate: float | None = None
    seed: int | None = None


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


@dataclass(frozen=True)
class Profile:
    """One experiment, whole: a section for each step of the way."""

    name: str
    description: str
    model: Model
    problems: Problems
    rollouts: Rollouts
    lora: Lora
    training: Training
    methods: Mapping[str, Method]
    evaluation: Evaluation
    geometry: Geometry

    def training_of(self, method: str) -> Training:
        """`training` with the values that `methods.<method>` replaces."""
        own = self.methods[method]
        shared = {field.name for field in dataclasses.fields(Training)}
        replaced = {
            key: value
            for key, value in dataclasses.asdict(own).items()
            if key in shared and value is not None
        }
        return dataclasses.replace(self.training, **replaced)

    def flat(self) -> dict[str, Any]:
        """Every value under its dotted name, as `load_profile` takes them in `overrides`."""
        values = dataclasses.asdict(self)
        del values["name"], values["description"]
        return dict(dotted(values))


def profile_names() -> list[str]:
    """Names of the profiles that come with the package, in alphabetical order."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def parse_overrides(text: str) -> dict[str, str]:
    """`"methods.dpo.learning_rate=1e-3 training.steps=20"` as a mapping for `load_profile`."""
    overrides = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise UserError(f"cannot read {word!r}: SET: write key=value, several apart by a space")
        overrides[key] = value
    return overrides


def load_profile(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Profile:
    """Read and check a profile.

    `overrides` maps dotted names to values, {"methods.dpo.learning_rate": 1e-3}; text is converted
    to the declared type. Raises `UserError` on an unknown profile, key or type, naming the file.
    """
    path = _locate(name_or_path)
    tree = _read(path)
    for key, value in (overrides or {}).items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise UserError(f"{key}: override: {parent!r} holds one value and has no parts")
            node = child
        node[last] = value
    tree.setdefault("description", "")
    methods = tree.get("methods") or {}
    if not isinstance(methods, dict):
        raise UserError(f"methods = {methods!r}: {path}: expected a section for each method")
    for name in methods:
        if name not in METHODS:
            raise UserError(f"unknown method {name!r}: {path}: {closest(name, METHODS)}")
    tree["methods"] = {name: methods.get(name) for name in METHODS}
    profile = build(Profile, {**tree, "name": path.stem}, path)
    _check(profile, path)
    return profile


def _locate(name_or_path: str | Path) -> Path:
    shipped = PROFILES / f"{name_or_path}.yaml"
    if shipped.is_file():
        return shipped
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise UserError(f"no such file: {path}: give a profile's name or the path of a YAML file")
    advice = closest(str(name_or_path), profile_names())
    raise UserError(f"unknown profile {str(name_or_path)!r}: {PROFILES}: {advice}")


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"not valid YAML: {path}: {reason}") from None
    if not isinstance(tree, dict):
        raise UserError(f"not a profile: {path}: expected sections such as 'model:'")
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    if path in seen:
        raise UserError(f"profile extends itself: {path}: remove one 'extends' line")
    return _merge(_read(_locate(parent), (*seen, path)), tree)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged


def _check(profile: Profile, path: Path) -> None:
    """Values of the right type that cannot work."""
    source, evaluation, geometry = profile.problems.source, profile.evaluation, profile.geometry
    limits: list[tuple[str, bool, str]] = [
        ("problems.source", source in {"generated", "hub"}, "generated or hub"),
        ("rollouts.k", profile.rollouts.k >= 1, "at least 1"),
        ("rollouts.prompts", profile.rollouts.prompts >= 1, "at least 1"),
        ("rollouts.temperature", profile.rollouts.temperature >= 0, "at least 0"),
        ("lora.r", profile.lora.r >= 1, "at least 1"),
        ("lora.dropout", 0 <= profile.lora.dropout < 1, "at least 0 and below 1"),
        ("evaluation.confidence", 0 < evaluation.confidence < 1, "between 0 and 1"),
        ("evaluation.equivalence_margin", evaluation.equivalence_margin > 0, "above 0"),
        ("geometry.k", geometry.k >= 1, "at least 1"),
        ("geometry.lmc_alphas", geometry.lmc_alphas >= 3, "at least 3"),
        ("geometry.lmc_answered", geometry.lmc_answered >= 1, "at least 1"),
    ]
    for name in METHODS:
        training = profile.training_of(name)
        where = f"methods.{name}"
        whole = training.batch_size % max(training.micro_batch_size, 1) == 0
        for key in ("steps", "batch_size", "micro_batch_size"):
            limits.append((f"{where}.{key}", getattr(training, key) >= 1, "at least 1"))
        limits.append((f"{where}.learning_rate", training.learning_rate > 0, "above 0"))
        limits.append((f"{where}.batch_size", whole, "a multiple of micro_batch_size"))
    for key, holds, wanted in limits:
        if not holds:
            raise UserError(f"{key} is out of range: {path}: it must be {wanted}")
