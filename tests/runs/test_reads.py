"""What of a profile is read is noted, and what is noted changes nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_geometry.runs import reads
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import Profile, load_profile
from finetune_geometry.settings.sections import Training

TRAINING = [field.name for field in dataclasses.fields(Training)]
CONSTANTS = ["methods.rift.reward_lambda", "methods.rift.negative_reward"]
SWITCHES = {"prompt.template.thinking": False, "prompt.template.date": "1 May"}
SHARED = ["steps", "batch_size", "micro_batch_size", "learning_rate", "seed"]


@pytest.fixture
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FINETUNE_GEOMETRY_READS", str(tmp_path / "reads"))
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    monkeypatch.setattr(reads, "READ", set())
    return tmp_path / "reads"


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda p: (p.lora.r, p.geometry.k, p.name), ["lora.r", "geometry.k"]),
        (lambda p: (p.lora, p.methods, p.methods["dpo"], p.training_of("sft")), []),
        (lambda p: getattr(p.problems, "test"), ["problems.test"]),  # noqa: B009
        (lambda p: p.methods["dpo"].beta, ["methods.dpo.beta"]),
        (lambda p: [m.steps for m in p.methods.values()], [f"methods.{m}.steps" for m in METHODS]),
        (lambda p: p.methods["rift"].constants, CONSTANTS),
        (lambda p: p.training_of("dpo").warmup_ratio, ["training.warmup_ratio"]),
        (lambda p: p.training_of("rft").seed, ["training.seed", "methods.rft.seed"]),
        (
            lambda p: vars(p.training_of("rft")),
            [*(f"training.{key}" for key in TRAINING), *(f"methods.rft.{key}" for key in SHARED)],
        ),
        (lambda p: p.flat(), list(load_profile("smoke", SWITCHES).flat())),
        (lambda p: p.rollouts.endpoint, []),
        (lambda p: p.rollouts.endpoint.model, ["rollouts.endpoint.model"]),
        (lambda p: p.prompt.template, ["prompt.template.thinking", "prompt.template.date"]),
        *(
            (lambda p, how=how: how(p.geometry), [f"geometry.{f}" for f in vars(section)])
            for section in [load_profile("smoke").geometry]
            for how in (vars, repr, dataclasses.asdict, dataclasses.replace)
        ),
    ],
)
def test_a_read_is_noted_under_its_dotted_name(
    watching: Path, use: Callable[[Profile], Any], expected: list[str]
) -> None:
    profile = reads.watched(load_profile("smoke", SWITCHES))
    assert set() == reads.READ
    use(profile)
    assert set(expected) == reads.READ


def test_a_watched_profile_says_the_same(watching: Path) -> None:
    """Keys of caches are made of the text and the values of sections."""
    plain = load_profile("smoke", SWITCHES | {"methods.dpo.steps": 7})
    watched = reads.watched(plain)
    assert watched.flat() == plain.flat()
    assert isinstance(watched, Profile)
    for name, section in [*vars(plain).items(), *plain.methods.items()]:
        if dataclasses.is_dataclass(section):
            twin = getattr(watched, name, None) or watched.methods[name]
            assert repr(twin) == repr(section)
            assert dataclasses.asdict(twin) == dataclasses.asdict(section)
            assert vars(twin).keys() == vars(section).keys()
            assert isinstance(twin, type(section))
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(twin, next(iter(vars(section))), 3)
    assert vars(watched.training_of("dpo")) == vars(plain.training_of("dpo"))


def test_a_notebook_leaves_what_its_runs_read(watching: Path) -> None:
    this_run = Run.open("smoke", "here")
    varied = Run.open("smoke", "here", {"lora.r": 4})
    assert not reads.READ  # opening and checking a profile reads it for no notebook
    assert (this_run.profile.geometry.k, varied.profile.lora.r) == (4, 4)
    this_run.record("cosine", {"value": 1})
    read = json.loads((watching / "cosine.json").read_text(encoding="utf-8"))
    assert read == ["geometry.k", "lora.r"]
    assert varied.profile.rollouts.k
    this_run.record("cosine", {"value": 2})  # once more: the folder is there
    read = json.loads((watching / "cosine.json").read_text(encoding="utf-8"))
    assert read == ["geometry.k", "lora.r", "rollouts.k"]


def test_numbers_are_gathered_for_no_notebook(watching: Path) -> None:
    Run.open("smoke", "here").merge_numbers()
    assert not watching.exists()


def test_nothing_is_noted_unless_asked_for(watching: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINETUNE_GEOMETRY_READS")
    plain = load_profile("smoke")
    assert reads.watched(plain) is plain
    this_run = Run.open("smoke", "here")
    assert this_run.profile.lora.r
    this_run.record("cosine", {"value": 1})
    assert not reads.READ
    assert not watching.exists()
