"""The first minutes of each profile that fetches: prefetch as it stands, then every kind of step.

The hub is on localhost and its models are toys, but under the names and at the commits that the
profile pins; so is the server of the paper's teacher. A run is made small, and let go on without a
GPU; nothing else of the profile is changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from fake_endpoint import FakeEndpoint
from fake_hub import FakeHub
from smoke_hub import fill
from trace_files import gsm8k_row, write_gsm8k

from finetune_geometry.evaluation.answers import predict
from finetune_geometry.methods.training import train
from finetune_geometry.models.loading import load_model
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.rollouts.pool import load_rollouts, sample_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import is_path
from finetune_geometry.settings.profiles import load_profile, profile_names
from finetune_geometry.settings.revisions import needed
from finetune_geometry.settings.trace_sets import TRACE_SETS

pytestmark = pytest.mark.smoke

FETCHING = [
    name
    for name in profile_names()
    if name != "smoke-hub" and not is_path(load_profile(name).model.base)
]
#: A commit for what no profile pins.
ANY = "0123456789abcdef0123456789abcdef01234567"
SMALL = {
    "model.needs_gpu": False,
    "model.dtype": "float32",
    "model.max_length": 256,
    "problems.rollouts": 14,
    "problems.validation": 4,
    "problems.test": 4,
    "rollouts.prompts": 10,
    "rollouts.heldout_prompts": 2,
    "rollouts.max_new_tokens": 24,
    "lora.r": 4,
    "training.steps": 2,
    "training.schedule_steps": 3,
    "training.batch_size": 4,
    "training.micro_batch_size": 2,
    "training.threads": 1,
    "evaluation.max_new_tokens": 24,
}
#: A teacher of the project's own writes whole solutions, and is seldom wrong.
GENERATED = {"rollouts.max_new_tokens": 128, "rollouts.temperature": 2.0, "problems.max_steps": 3}


def own_files(name: str, root: Path) -> dict[str, str]:
    """The setting that names the files a profile reads from a folder, which are on no hub."""
    traces = load_profile(name).rollouts.traces
    on_hub = traces.dataset not in TRACE_SETS or TRACE_SETS[traces.dataset].on_hub
    return {} if on_hub else {"rollouts.traces.folder": str(root / "solutions")}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeHub, Path]]:
    """A hub with the repositories of all profiles, and a folder with what is on no hub."""
    root = tmp_path_factory.mktemp("first")
    rows = [
        gsm8k_row(n, [f"It is {n}.\nA: {n}", "A: 0"] * 2, [True, False] * 2) for n in range(1, 15)
    ]
    write_gsm8k(root / "solutions", rows)
    with FakeHub(root / "hub") as hub:
        fill(hub, root / "models")
        for name in FETCHING:
            for item in needed(load_profile(name, own_files(name, root))):
                if item.kind == "model":
                    kind = "teacher" if "llama" in item.repo.lower() else "student"
                    hub.mirror(f"example/{kind}", item.repo, item.revision or ANY)
                else:
                    hub.mirror(item.repo, item.repo, item.revision or ANY, "dataset")
        yield hub, root


def test_there_are_such_profiles() -> None:
    assert {"qwen3-4b", "qwen3-0.6b", "llama-3.2-3b", "smollm2-135m", "smollm2-gsm8k"} <= set(
        FETCHING
    )


def _answer(body: dict[str, Any]) -> str:
    """What the server writes: half of it is right."""
    return f"It is \\boxed{{{1 + body['seed'] % 2}}}."


@pytest.mark.parametrize("name", FETCHING)
def test_the_first_minutes(
    served: tuple[FakeHub, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, root = served
    cache, results = root / f"cache-{name}", root / "results"
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(results))
    monkeypatch.setenv("OPENAI_API_KEY", "of no use")
    own = own_files(name, root)
    command = [sys.executable, "-m", "finetune_geometry", "prefetch", "--profile", name]
    done = subprocess.run(
        [*command, "--run", name, "--set", " ".join(f"{k}={v}" for k, v in own.items())],
        env=os.environ | hub.environment(cache),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(cache / "datasets"))
    profile = load_profile(name, own)
    if profile.model.needs_gpu and not torch.cuda.is_available():
        with pytest.raises(UserError, match="needs_gpu") as told:
            load_model(Run.open(name, name).profile)
        assert "\n" not in str(told.value)
    teacher = profile.rollouts.endpoint.model
    with FakeEndpoint(_answer, models=[teacher]) as server:
        address = {"rollouts.endpoint.base_url": server.url} if name == "qwen3-4b" else {}
        small = SMALL | own | (GENERATED if is_path(profile.model.teacher) else {})
        run = Run.open(name, name, small | address)
        card = sample_rollouts(run)
    assert card["source"] == profile.rollouts.source
    assert card["pairs"] > 0
    rows = load_rollouts(run)
    model, tokenizer = load_model(run.profile)
    ends = set(tokenizer.all_special_ids)
    for row in rows.itertuples():
        assert run.profile.prompt.instruction in tokenizer.decode(row.prompt_ids)
        assert (row.completion_ids[-1] in ends) == (row.finish == "stop")
    for method in ("sft", "dpo"):
        assert train(run, method)["steps"] == 2
    answers = predict(model, tokenizer, load_problems(run.profile, "test"), "base", run.profile)
    assert len(answers) == 4
