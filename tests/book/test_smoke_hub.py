"""The way of the large profiles, gone as a person goes it: a hub, prefetch, runs, the book.

`smoke-hub` takes its models and data sets from a hub on localhost, which is gone before the first
run starts: the student thinks by default, the teacher has another tokenizer and no padding token,
and the data sets have the columns of DeepScaleR, NuminaMath-QwQ, GSM8K and AIME26.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from fake_endpoint import FakeEndpoint
from fake_hub import FakeHub
from smoke_hub import INSTRUCTION, fill

from finetune_geometry.models.loading import load_tokenizer
from finetune_geometry.rollouts.pool import load_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.profiles import parse_overrides

pytestmark = pytest.mark.smoke

#: Who writes the rollouts of each source.
WRITERS = {"model": "example/teacher", "traces": "Qwen/QwQ-32B-Preview", "endpoint": "served"}


class Place:
    """Where everything of these tests lies, and the commands that a person types."""

    def __init__(self, root: Path, endpoint: str) -> None:
        address = f"rollouts.endpoint.base_url={endpoint} rollouts.endpoint.model=served"
        self.changes = {  # what a person sets for each source
            "model": "",
            "traces": "rollouts.source=traces",
            "endpoint": f"rollouts.source=endpoint {address}",
        }
        self.results = root / "results"
        self.cache = root / "cache"
        self.environment = {
            **os.environ,
            "FINETUNE_GEOMETRY_RESULTS": str(self.results),
            "OPENAI_API_KEY": "of no use",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    def prefetch(self, source: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "finetune_geometry", "prefetch", *self.chosen(source))

    def make(self, source: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run("workflow/run.py", *self.chosen(source), *more)

    def chosen(self, source: str) -> list[str]:
        return ["--profile", "smoke-hub", "--run", source, "--set", self.changes[source]]


def answer(body: dict[str, Any]) -> str:
    """What the server writes: half of it is right."""
    return f"It is \\boxed{{{1 + body['seed'] % 2}}}."


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """All sources prefetched; the hub that served them has gone."""
    root = tmp_path_factory.mktemp("hub")
    with FakeEndpoint(answer, models=["served"]) as endpoint:
        made = Place(root, endpoint.url)
        with FakeHub(root / "hub") as hub:
            fill(hub, root / "models")
            made.environment |= hub.environment(made.cache)
            prefetch_all(made, hub)
        yield made


def prefetch_all(made: Place, hub: FakeHub) -> None:
    """Before it a run stops in one line; the second time the hub is not asked."""
    before = made.make("model")
    assert before.returncode == 1
    assert before.stderr.startswith("error: no commit is fixed: example/student")
    assert "finetune-geometry prefetch --profile smoke-hub" in before.stderr
    assert before.stderr.count("\n") == 1
    for source in made.changes:
        done = made.prefetch(source)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    asked = len(hub.requests)
    assert made.prefetch("model").returncode == 0
    assert len(hub.requests) == asked
    assert not any("pytorch_model.bin" in request for request in hub.requests)


@pytest.fixture(scope="module")
def opened(place: Place) -> Iterator[dict[str, Run]]:
    """The runs, as this process sees them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_GEOMETRY_RESULTS", str(place.results))
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place.cache / "hub"))
        patch.setattr("datasets.config.HF_DATASETS_CACHE", str(place.cache / "datasets"))
        yield {
            source: Run.open("smoke-hub", source, parse_overrides(changes))
            for source, changes in place.changes.items()
        }


@pytest.fixture(scope="module")
def book(place: Place, opened: dict[str, Run]) -> Path:
    """The whole book of the run whose teacher is sampled here."""
    done = place.make("model")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return opened["model"].dir


@pytest.mark.parametrize("source", ["traces", "endpoint"])
def test_rollouts_and_a_training_of_each_kind(
    place: Place, opened: dict[str, Run], source: str
) -> None:
    done = place.make(source, "--", "--until", "methods_sft", "methods_dpo")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert opened[source].adapter_names() == ["sft", "dpo"]
    check_pool(opened[source], WRITERS[source])


def check_pool(run: Run, writer: str) -> None:
    """Rollouts are read with the student's tokenizer and template, whoever wrote them."""
    pool = load_rollouts(run)
    assert pool["source"].str.contains(writer).all()
    assert 0 < pool["reward"].mean() < 1
    tokenizer = load_tokenizer(run.profile)
    for row in pool.itertuples():
        assert tokenizer.decode(row.prompt_ids) == (
            f"<|im_start|>user\n{row.question}\n\n{INSTRUCTION}<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n\n</think>\n\n"
        )
        written = tokenizer.decode(row.completion_ids)
        assert written == row.text + ("<|im_end|>" if row.finish == "stop" else "")


def test_the_pool_of_another_tokenizer_is_the_students(book: Path, opened: dict[str, Run]) -> None:
    check_pool(opened["model"], WRITERS["model"])


def test_the_commits_are_those_that_were_noted(book: Path) -> None:
    notes = json.loads((book / "revisions.json").read_text())
    numbers = json.loads((book / "numbers.json").read_text())
    assert len(notes) == 5
    for setting in ("model.base", "model.teacher"):
        assert numbers[f"profile.{setting}_revision"] == notes[setting]["commit"]
    card = json.loads((book / "adapters" / "sft" / "card.json").read_text())
    assert card["base_sha256"] == f"example/student@{notes['model.base']['commit']}"


def test_both_test_sets_are_answered_and_judged(book: Path) -> None:
    solved = pd.read_csv(book / "evaluation" / "accuracy.csv")
    assert set(solved["n"]) == {12}
    assert "teacher" in set(solved["model"])
    aime = pd.read_csv(book / "evaluation" / "aime.csv")
    assert set(aime["n"]) == {4}
    assert len(aime) == 21  # pairs of the base and the six
    claims = pd.read_csv(book / "claims.csv").set_index("claim")
    assert not any("not testable" in verdict for verdict in claims.loc[["C11"], "verdict"])


def test_the_book_of_models_without_a_record_is_whole(book: Path) -> None:
    page = book / "html" / "notebooks" / "ingredients" / "base_model.html"
    article = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find("article")
    assert article is not None
    assert "with 2 layers" in " ".join(article.get_text(" ").split())
    assert (book / "html" / "index.html").is_file()
