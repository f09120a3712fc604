"""What the name of an adapter's folder, and the files in it, say about how it was trained.

Nothing here guesses. A word counts only if it can mean one thing, two statements that differ cancel
each other, and what is left over of a name is handed back as it is, because it may say that the
adapter is not what it seems ("sft-lambda2").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune_geometry.deltas.locations import CONFIG
from finetune_geometry.settings.objectives import METHODS

#: Methods on the student's own solutions, which are none of this book's objectives.
ONLINE = ("online_grpo", "online_dapo")
#: The two words that a name may set before or behind "grpo": alone it says too little.
_ONLINE = r"(?:online|on_?policy)"
_METHODS = {
    "offline_grpo": r"off(?:line)?_?grpo|grpo_?offline",
    "online_grpo": rf"(?:{_ONLINE}_?)+grpo(?:_?{_ONLINE})*|grpo(?:_?{_ONLINE})+",
    "online_dapo": rf"(?:{_ONLINE}_?)*dapo(?:_?{_ONLINE})*",
    **{name: name for name in METHODS if name != "offline_grpo"},
}
_NUMBER = r"(\d+(?:\.\d+)?(?:e[-_]?\d+)?)"
_START, _END = r"(?<![a-z0-9])", r"(?![a-z0-9.])"
_SEED = re.compile(rf"{_START}seed[_=]?(\d+){_END}")
_RATE = re.compile(rf"{_START}(?:lr|learning_?rate)[_=]?{_NUMBER}{_END}")
_STEP = re.compile(rf"{_START}(?:checkpoint|ckpt|global_step|steps?)[_=]?(\d+)(k?){_END}")
_STEP_AFTER = re.compile(rf"{_START}(\d+)(k?)_?steps?{_END}")
_BARE_SEED = re.compile(rf"{_START}s?(\d+){_END}")
_BARE_RATE = re.compile(rf"{_START}(\d+(?:\.\d+)?e_\d+){_END}")
#: Words that say nothing about the training: of places, of what is compared ("seed", "lr": the
#: value is in the files), and of the base model and the rank, which the configuration states.
_EMPTY = frozenset(
    """adapter adapters lora peft model models checkpoint checkpoints run runs results main grid
    sweep sensitivity seed seeds lr rate rates step steps offline qwen qwen3 4b instruct 2507 r32
    """.split()
)
#: Keys of a JSON file beside the weights, by what they tell. "steps" is mostly a plan, but not in
#: the card of a training of this book.
_KEYS = {
    "method": ("method", "objective"),
    "variant": ("variant",),
    "seed": ("seed",),
    "learning_rate": ("learning_rate", "lr"),
    "step": ("global_step", "step"),
}
#: Lines of the model card that transformers' Trainer writes.
_CARD = {
    "learning_rate": re.compile(r"^- learning_rate: ([0-9.eE+-]+)\s*$", re.M),
    "seed": re.compile(r"^- seed: (\d+)\s*$", re.M),
}
_LARGEST = 2**22  # bytes of a file that may hold such facts


@dataclass(frozen=True)
class Facts:
    """How an adapter was trained, as far as it is said; empty or None: not said."""

    method: str = ""
    variant: str = ""  # what the name has beyond the rest
    seed: int | None = None
    learning_rate: float | None = None
    step: int | None = None
    doubts: tuple[str, ...] = ()  # statements that contradict each other


@dataclass(frozen=True)
class Grid:
    """Seeds and rates that the authors state: of these a bare number in a name is understood."""

    seeds: Collection[int] = ()
    rates: Collection[float] = ()


def facts_of_names(folders: Sequence[str], grid: Grid = Grid()) -> dict[str, Facts]:
    """What each folder's path says. Words that all paths share say nothing and are left out."""
    words = [set(_words(folder)) for folder in folders]
    shared = set.intersection(*words) if len(words) > 1 else set()
    return {folder: _facts_of_name(folder, shared, grid) for folder in folders}


def _words(folder: str) -> list[str]:
    # A point is part of a word between digits alone.
    words = re.split(r"[^a-z0-9.]+|(?<!\d)\.|\.(?!\d)", folder.lower())
    return [word for word in words if word]


def _facts_of_name(folder: str, shared: set[str], grid: Grid) -> Facts:
    text = "_".join(_words(folder))  # the minus of an exponent is a "_" now, too
    doubts: list[str] = []

    def take(pattern: str | re.Pattern[str], read: Callable[[re.Match[str]], Any]) -> list[Any]:
        """What the pattern finds, read and cut out of the text; what reads as None stays."""
        nonlocal text
        found = []

        def cut(match: re.Match[str]) -> str:
            value = read(match)
            found.append(value)
            return match[0] if value is None else ""

        text = re.sub(pattern, cut, text)
        return [value for value in found if value is not None]

    def only(name: str, found: Iterable[Any]) -> Any:
        values = sorted(set(found))
        if len(values) > 1:
            doubts.append(f"{name}: {_or(values)} in the name")
        return values[0] if len(values) == 1 else None

    # A rate of 1 or more is one whose sign was lost ("lr5e6"), and nobody's statement.
    rates = take(_RATE, lambda match: rate if (rate := _rate(match[1])) < 1 else None)
    seeds = take(_SEED, lambda match: int(match[1]))
    steps = [
        step
        for pattern in (_STEP, _STEP_AFTER)
        for step in take(pattern, lambda match: int(match[1]) * (1000 if match[2] else 1))
    ]
    if not rates:
        rates = take(_BARE_RATE, lambda m: rate if (rate := _rate(m[1])) in grid.rates else None)
    if not seeds:
        seeds = take(_BARE_SEED, lambda m: seed if (seed := int(m[1])) in grid.seeds else None)
    methods = []
    for name, pattern in _METHODS.items():
        if take(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", lambda match: match[0]):
            methods.append(name)
    left = [word for word in text.split("_") if word and word not in _EMPTY | shared]
    return Facts(
        method=only("method", methods) or "",
        variant="-".join(left),
        seed=only("seed", seeds),
        learning_rate=only("learning_rate", rates),
        step=only("step", steps),
        doubts=tuple(doubts),
    )


def _rate(text: str) -> float:
    return float(text.replace("e_", "e-"))


def _or(values: Iterable[Any]) -> str:
    return " or ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


def facts_of_files(folder: Path) -> Facts:
    """What the folder's own JSON files and its model card say, on their top level."""
    said: dict[str, set[Any]] = {name: set() for name in _KEYS}
    for path in sorted(folder.glob("*.json")):
        if path.name != CONFIG and path.stat().st_size <= _LARGEST:
            for name, value in _in_json(path):
                said[name].add(value)
    card = folder / "README.md"
    if card.is_file() and card.stat().st_size <= _LARGEST:
        text = card.read_text(encoding="utf-8", errors="replace")
        for name, pattern in _CARD.items():
            said[name] |= {_as(name, value) for value in pattern.findall(text)} - {None}
    doubts = tuple(
        f"{name}: {_or(sorted(values))} in the files"
        for name, values in said.items()
        if len(values) > 1
    )
    known = {name: next(iter(values)) for name, values in said.items() if len(values) == 1}
    if known.get("variant") == "paper":  # the name of an objective's printed form in this book
        del known["variant"]
    return Facts(**known, doubts=doubts)


def _in_json(path: Path) -> list[tuple[str, Any]]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return []
    if not isinstance(tree, Mapping):
        return []
    keys = _KEYS | ({"step": ("steps",)} if path.name == "card.json" else {})
    found = [(name, _as(name, tree[key])) for name, of in keys.items() for key in of if key in tree]
    return [(name, value) for name, value in found if value is not None]


def _as(name: str, value: Any) -> Any:
    """A value of the type that a fact has, or None: a method is one whose name is known."""
    try:
        if name == "variant":
            return value if isinstance(value, str) else None
        if name == "method":
            named = _facts_of_name(str(value), set(), Grid()).method
            return named or None
        if isinstance(value, bool) or (name != "learning_rate" and float(value) != int(value)):
            return None
        return float(value) if name == "learning_rate" else int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def together(name: Facts, files: Facts) -> Facts:
    """Both sources as one: what either says, unless they differ."""
    doubts = [*name.doubts, *files.doubts]
    known: dict[str, Any] = {}
    for field in ("method", "seed", "learning_rate", "step"):
        one, two = getattr(name, field), getattr(files, field)
        known[field] = one if two in (None, "") else two
        if one not in (None, "") and two not in (None, "") and one != two:
            known[field] = "" if field == "method" else None
            doubts.append(f"{field}: {_or([one])} in the name, {_or([two])} in the files")
    variants = list(dict.fromkeys(v for v in (files.variant, name.variant) if v))
    return replace(Facts(**known), variant="-".join(variants), doubts=tuple(doubts))
