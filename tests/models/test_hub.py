"""Prefetching from a hub, and reading what was fetched without one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub
from huggingface_hub import constants, hf_hub_download

from finetune_geometry.cli import main
from finetune_geometry.models.hub import Item, Listed, needed, prefetch
from finetune_geometry.problems import sources
from finetune_geometry.problems.sources import load_problems
from finetune_geometry.runs.keys import adapter_origin, content_sha256
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import fetched
from finetune_geometry.settings.profiles import load_profile
from finetune_geometry.settings.revisions import LOCK, locked

WEIGHTS = b"0123456789abcdef" * 4096
MODEL = {
    "config.json": "{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle",
    "original/consolidated.00.pth": b"pickle",
    "original/params.json": "{}",
    "onnx/model.safetensors": b"another copy",
}
GSM8K = "".join(
    json.dumps({"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"}) + "\n"
    for n in range(3)
)
CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train.jsonl}
  - {split: test, path: main/test.jsonl}
- config_name: socratic
  data_files:
  - {split: test, path: socratic/test.jsonl}
---
"""
DATA = {
    "README.md": CARD,
    "main/train.jsonl": GSM8K,
    "main/test.jsonl": GSM8K,
    "socratic/test.jsonl": '{"question": "q", "answer": "no #### 0"}\n',
    "load.py": "raise SystemExit",
}
AIME = json.dumps({"problem_idx": 1, "problem": "How many?", "answer": 70}) + "\n"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "arrow"))
    with FakeHub(tmp_path / "hub") as running:
        running.put_in_place(monkeypatch, tmp_path / "cache")
        yield running


def settings(hub: FakeHub, **more: str) -> dict[str, str]:
    """Settings of a profile whose problems and base are on the hub, all pinned."""
    return {
        "model.base": "owner/model",
        "model.base_revision": hub.add("owner/model", MODEL),
        "problems.source": "hub",
        "problems.rollout_dataset": "openai/gsm8k",
        "problems.rollout_revision": hub.add("openai/gsm8k", DATA, "dataset"),
        "problems.test_dataset": "openai/gsm8k",
        "problems.test_revision": hub.add("openai/gsm8k", DATA, "dataset"),
        "problems.aime_dataset": "contest/aime",
        "problems.aime_revision": hub.add("contest/aime", {"train.jsonl": AIME}, "dataset"),
        "problems.rollouts": "2",
        "problems.validation": "1",
        **more,
    }


def command(given: dict[str, str], *arguments: str, run: str = "r") -> int:
    changes = " ".join(f"{key}={value}" for key, value in given.items())
    return main(["prefetch", "--profile", "tiny", "--run", run, "--set", changes, *arguments])


def test_what_a_profile_needs() -> None:
    assert needed(load_profile("tiny")) == []
    hub = {"model.teacher": "owner/teacher", "problems.source": "hub"}
    hub |= {"problems.test_dataset": "openai/gsm8k", "problems.rollout_dataset": "openai/gsm8k"}
    profile = load_profile("tiny", hub)
    assert [item.key for item in needed(profile)] == ["model.teacher", "problems.rollout_dataset"]
    traces = {"rollouts.source": "traces", "rollouts.traces.dataset": "open-r1/OpenR1-Math-220k"}
    problems, wanted = needed(load_profile("tiny", hub | traces | {"rollouts.k": 2}))
    assert (problems.key, wanted.key) == ("problems.rollout_dataset", "rollouts.traces.dataset")
    assert problems.files is None
    assert wanted.files == ("data/train-00000-of-*.parquet",)  # one of ten
    assert wanted.revision == "e4e141ec9dea9f8326f4d347be56105859b2bd68"  # a commit it is known by
    pinned = {"rollouts.traces.revision": "a" * 40}
    assert needed(load_profile("tiny", hub | traces | pinned))[1].revision == "a" * 40
    folder = {**hub, **traces, "rollouts.traces.folder": "/data"}
    assert [i.key for i in needed(load_profile("tiny", folder))] == ["problems.rollout_dataset"]
    endpoint = hub | {"rollouts.source": "endpoint"}
    assert "model.teacher" not in [item.key for item in needed(load_profile("tiny", endpoint))]


def test_all_of_a_profile_is_fetched_at_its_commits_and_read_without_the_hub(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(hub)
    profile = load_profile("tiny", given)
    with pytest.raises(UserError, match=r"not fetched: contest/aime.*prefetch --profile tiny"):
        load_problems(profile, "aime")
    assert command(given, "--dry-run") == 0
    assert "65.5 kB to fetch" in capsys.readouterr().out
    assert not any("GET /cdn/" in asked for asked in hub.requests)
    assert command(given) == 0
    said = capsys.readouterr().out
    assert f"owner/model  model  {given['model.base_revision'][:12]}  65.5 kB in 2 files" in said
    assert "all of tiny is here" in said
    asked = len(hub.requests)
    assert command(given) == 0  # all is here: the hub is not asked again
    assert len(hub.requests) == asked
    assert "to fetch" not in capsys.readouterr().out
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = fetched("owner/model", given["model.base_revision"])
    here = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert here == ["config.json", "model.safetensors"]  # no pickle, no second copy
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [problem.answer for problem in load_problems(profile, "test")] == ["1", "2", "3"]
    assert len(load_problems(profile, "rollouts")) == 2
    assert [problem.answer for problem in load_problems(profile, "aime")] == ["70"]
    examined = [problem.id for problem in sources.exam_problems(profile)]
    validation = [problem.id for problem in load_problems(profile, "validation")]
    assert validation
    assert examined[:-4] == validation
    assert not (
        fetched("openai/gsm8k", given["problems.test_revision"], "dataset") / "load.py"
    ).exists()


def test_a_profile_without_a_second_test_set_has_none() -> None:
    assert load_problems(load_profile("tiny"), "aime") == []


def test_an_open_commit_is_fixed_once_for_a_run(hub: FakeHub) -> None:
    given = settings(hub)
    for name in ("model.base_revision", "problems.rollout_revision", "problems.test_revision"):
        del given[name]
    first = hub.add("owner/model", MODEL)
    assert command(given) == 0
    run = Run.open("tiny", "r", given)
    assert run.profile.model.base_revision == first
    assert run.profile.problems.test_revision == run.profile.problems.rollout_revision != ""
    assert set(run.read_json(LOCK)) == {
        "model.base", "problems.rollout_dataset", "problems.test_dataset",
    }  # fmt: skip
    newer = hub.add("owner/model", {**MODEL, "config.json": '{"changed": 1}'})
    assert command(given) == 0
    assert Run.open("tiny", "r", given).profile.model.base_revision == first
    assert command(given, run="later") == 0
    assert Run.open("tiny", "later", given).profile.model.base_revision == newer
    # The note is about this repository, not about another one in its place; a pin comes first.
    other = Run.open("tiny", "r", given | {"model.base": "owner/other"})
    assert other.profile.model.base_revision == ""
    pinned = Run.open("tiny", "r", given | {"model.base_revision": newer})
    assert pinned.profile.model.base_revision == newer
    with pytest.raises(UserError, match="no commit is fixed: owner/other"):
        fetched("owner/other", other.profile.model.base_revision)


def test_a_broken_note_of_commits_is_told(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"model.base": "x"}', '{"model.base": {"repo": "x"}}'):
        (tmp_path / LOCK).write_text(text)
        with pytest.raises(UserError, match="not a list of commits"):
            locked(load_profile("tiny"), tmp_path)


def test_commits_are_part_of_what_decides() -> None:
    one, two = (
        load_profile("tiny", {"model.base": "owner/model", "model.base_revision": digit * 40})
        for digit in "ab"
    )
    assert content_sha256("owner/model", "a" * 40) == f"owner/model@{'a' * 40}"
    assert content_sha256("models/student", "a" * 40) == content_sha256("models/student")
    origins = [adapter_origin(profile, "sft", "rows")["base_sha256"] for profile in (one, two)]
    assert origins == [f"owner/model@{digit * 40}" for digit in "ab"]
    with pytest.raises(UserError, match=r"model.base_revision .* 40 hexadecimal digits"):
        load_profile("tiny", {"model.base_revision": "main"})


def test_progress_goes_up_to_all_bytes(hub: FakeHub) -> None:
    items = [Item("owner/model", hub.add("owner/model", MODEL))]
    told, sizes = [], []
    prefetch(items, lambda *both: told.append(both), sizes.extend)
    total = len(WEIGHTS) + 2
    assert sizes == [Listed(items[0], 2, total, total)]
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 1


def test_what_was_broken_off_is_fetched_by_the_next_call(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Item("owner/model", hub.add("owner/model", MODEL))
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    class Broken(dict[str, int]):
        def pop(self, name: str, left: int) -> int:  # type: ignore[override]
            return 0 if name.endswith("model.safetensors") else left

    hub.cut = Broken()
    with pytest.raises(UserError, match=r"cannot reach the hub: .*goes on where it was"):
        prefetch([item])
    with pytest.raises(UserError, match="not fetched: owner/model"):
        fetched(item.repo, item.revision)  # a part of it is not it
    hub.cut, hub.requests = {}, []
    (folder,) = prefetch([item])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not any("config.json" in asked and "GET" in asked for asked in hub.requests)


def test_what_another_program_left_in_the_cache_is_not_taken_for_the_whole(hub: FakeHub) -> None:
    commit = hub.add("owner/model", MODEL)
    hf_hub_download("owner/model", "config.json", revision=commit)
    with pytest.raises(UserError, match="not fetched: owner/model"):
        fetched("owner/model", commit)
    (folder,) = prefetch([Item("owner/model", commit)])
    assert fetched("owner/model", commit) == folder
    assert (folder / "model.safetensors").is_file()


def test_only_some_files_where_so_asked(hub: FakeHub) -> None:
    item = Item("owner/model", hub.add("owner/model", MODEL), files=("onnx/*", "config.json"))
    (folder,) = prefetch([item])
    here = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert here == ["config.json", "model.safetensors"]
    assert fetched(item.repo, item.revision, files=item.files) == folder


def refused(capsys: pytest.CaptureFixture[str], given: dict[str, str]) -> str:
    capsys.readouterr()
    assert command(given) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_what_a_person_can_mend_is_one_line(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(hub)
    hub.gated.add("owner/model")
    said = refused(capsys, given)
    assert f"gated: owner/model: accept its licence at {hub.url}/owner/model" in said
    assert "hf auth login" in said
    assert "HF_TOKEN" in said
    hub.gated.clear()
    hub.private.add("contest/aime")
    said = refused(capsys, given)
    assert f"missing or private: {hub.url}/datasets/contest/aime" in said
    assert "problems.aime_dataset" in said
    hub.private.clear()
    assert "missing or private" in refused(capsys, given | {"model.base": "owner/nobody"})
    said = refused(capsys, given | {"model.base_revision": "0" * 40})
    assert "no commit 000000000000" in said
    assert "--set model.base_revision=..." in said
    hub.add("owner/pickled", {"config.json": "{}", "pytorch_model.bin": b"pickle"})
    pickled = {k: v for k, v in given.items() if k != "model.base_revision"}
    pickled |= {"model.base": "owner/pickled"}
    assert "no .safetensors file: owner/pickled" in refused(capsys, pickled)
    hub.add("owner/empty", {"notes.txt": "nothing"}, "dataset")
    empty = {k: v for k, v in given.items() if k != "problems.aime_revision"}
    empty |= {"problems.aime_dataset": "owner/empty"}
    assert "none of *.parquet" in refused(capsys, empty)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10, 9, 1_000_030_000))
    said = refused(capsys, given)
    assert "66.8 kB to fetch, 1.00 GB free" in said
    assert "HF_HOME" in said


def test_without_a_network_or_login_it_is_one_line(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In processes of their own: the client reads its settings when it is imported."""
    given = settings(hub)
    hub.gated.add("owner/model")
    hub.accepted.add("hf_accepted")
    results = {"FINETUNE_GEOMETRY_RESULTS": str(tmp_path / "results")}
    environment = {
        **os.environ,
        **hub.environment(tmp_path / "home"),
        **results,
    }
    changes = " ".join(f"{key}={value}" for key, value in given.items())
    program = [sys.executable, "-m", "finetune_geometry", "prefetch", "--profile", "tiny"]

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, "--set", changes],
            env=environment | more,
            capture_output=True,
            text=True,
            check=False,
        )

    nowhere = run(HF_ENDPOINT="http://127.0.0.1:1")
    assert (nowhere.returncode, nowhere.stderr.count("\n")) == (2, 1)
    assert "cannot reach the hub: http://127.0.0.1:1/owner/model" in nowhere.stderr
    offline = run(HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stderr.count("\n")) == (2, 1)
    assert "HF_HUB_OFFLINE is set" in offline.stderr
    stranger = run(HF_TOKEN="hf_stranger")
    assert "gated: owner/model" in stranger.stderr
    hub.expired.add("hf_expired")
    expired = run(HF_TOKEN="hf_expired")
    assert f"not let in (401): {hub.url}/owner/model: log in again" in expired.stderr
    member = run(HF_TOKEN="hf_accepted")
    assert (member.returncode, member.stderr) == (0, "")
