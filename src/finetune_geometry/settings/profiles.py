"""Profiles: which model, which problems, which teacher, and how long to train.

A profile is one YAML file beside this module (or anywhere, given as a path). It is read into
the sections of `settings/sections.py`, so that every value has a declared type and a misspelt key
cannot pass. Nothing else may differ between a run on two cores and a run on the paper's scale.

This module imports nothing but the standard library, PyYAML and pydantic: the workflow reads
profiles each time it plans, and must stay quick.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic.dataclasses import dataclass

from finetune_geometry.settings.errors import UserError, closest
from finetune_geometry.settings.hub import PINS
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.schema import KNOWN_KEYS, build, dotted
from finetune_geometry.settings.sections import (
    METHOD_SECTIONS,
    Evaluation,
    Geometry,
    Lora,
    Method,
    Model,
    Problems,
    Prompt,
    Released,
    Rollouts,
    Spread,
    Training,
)

SOURCES = ("model", "endpoint", "traces")  # of rollouts
OPTIMIZERS = ("adamw", "sgd")
POOLS = ("all", "mixed")
PROFILES = Path(__file__).parent / "profiles"


@dataclass(frozen=True, config=KNOWN_KEYS)
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
    prompt: Prompt = dataclasses.field(default_factory=Prompt)
    released: Released = dataclasses.field(default_factory=Released)
    spread: Spread = dataclasses.field(default_factory=Spread)

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
    for key, value in _unpinned(overrides or {}).items():
        _put(tree, key, value)
    tree.setdefault("description", "")
    methods = tree.get("methods") or {}
    if not isinstance(methods, dict):
        raise UserError(f"methods = {methods!r}: {path}: expected a section for each method")
    for name in methods:
        if name not in METHODS:
            raise UserError(f"unknown method {name!r}: {path}: {closest(name, METHODS)}")
    tree["methods"] = {
        name: build(section, methods.get(name) or {}, path, f"methods.{name}")
        for name, section in METHOD_SECTIONS.items()
    }
    profile = build(Profile, {**tree, "name": path.stem}, path)
    _check(profile, path)
    return profile


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set the value with a dotted name in nested sections."""
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"{key}: override: {parent!r} holds one value and has no parts")
        node = child
    node[last] = value


def _unpinned(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted values, and no commit for each repository that is named anew without one."""
    open_ones = [revision for key, (revision, _) in PINS.items() if key in changes]
    return dict.fromkeys(open_ones, "") | dict(changes)


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
    below = _read(_locate(parent), (*seen, path))
    for key, value in _unpinned(dict(dotted(tree))).items():
        _put(tree, key, value)
    return _merge(below, tree)


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
        ("rollouts.source", profile.rollouts.source in SOURCES, " or ".join(SOURCES)),
        ("rollouts.k", profile.rollouts.k >= 1, "at least 1"),
        ("rollouts.prompts", profile.rollouts.prompts >= 1, "at least 1"),
        ("rollouts.temperature", profile.rollouts.temperature >= 0, "at least 0"),
        ("lora.r", profile.lora.r >= 1, "at least 1"),
        ("training.pool", profile.training.pool in POOLS, " or ".join(POOLS)),
        ("training.mixed_share", 0 <= (profile.training.mixed_share or 0) < 1, "from 0 to below 1"),
        ("spread.per_job", profile.spread.per_job >= 1, "at least 1"),
        ("training.optimizer", profile.training.optimizer in OPTIMIZERS, " or ".join(OPTIMIZERS)),
        ("training.processes", profile.training.processes >= 1, "at least 1"),
        ("lora.dropout", 0 <= profile.lora.dropout < 1, "at least 0 and below 1"),
        ("evaluation.confidence", 0 < evaluation.confidence < 1, "between 0 and 1"),
        ("evaluation.equivalence_margin", evaluation.equivalence_margin > 0, "above 0"),
        ("geometry.k", geometry.k >= 1, "at least 1"),
        ("geometry.lmc_alphas", geometry.lmc_alphas >= 3, "at least 3"),
        ("geometry.lmc_answered", geometry.lmc_answered >= 1, "at least 1"),
        ("geometry.ray_factors", min(geometry.ray_factors, default=0) > 0, "all above 0"),
    ]
    for key, value in profile.flat().items():
        if key.endswith("revision"):  # a branch would be another repository tomorrow
            whole = not value or re.fullmatch(r"[0-9a-f]{40}", value) is not None
            limits.append((key, whole, "a commit, 40 hexadecimal digits, or empty"))
    for name in METHODS:
        training = profile.training_of(name)
        where = f"methods.{name}"
        for key in ("steps", "batch_size", "micro_batch_size"):
            limits.append((f"{where}.{key}", getattr(training, key) >= 1, "at least 1"))
        limits.append((f"{where}.learning_rate", training.learning_rate > 0, "above 0"))
        whole = training.batch_size % max(training.micro_batch_size, 1) == 0
        whole = whole or training.micro_batch_tokens is not None  # it is cut otherwise, then
        limits.append((f"{where}.batch_size", whole, "a multiple of micro_batch_size"))
    for key, holds, wanted in limits:
        if not holds:
            raise UserError(f"{key} is out of range: {path}: it must be {wanted}")
