"""Where steps run: what is refused before anything starts, and what Snakemake is told."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import executors
import gpus
import pytest
import yaml
from executors import jobs_left, place

from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import Profile, load_profile

SMALL = load_profile("smoke")
LARGE = load_profile("smoke", {"model.needs_gpu": True})


def command(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of workflow/profiles, to edit; the plugins count as installed."""
    folder = tmp_path / "profiles"
    shutil.copytree(executors.PROFILES, folder)
    monkeypatch.setattr(executors, "PROFILES", folder)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    for variable in executors.PASSED_ON:
        monkeypatch.delenv(variable, raising=False)
    return folder


def fill_in(profiles: Path, name: str, **values: str) -> None:
    path = profiles / name / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["default-resources"] |= values
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


@pytest.fixture
def slurm(tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster with one account and two partitions; the folder of its commands."""
    folder = tmp_path / "bin"
    command(folder, "sbatch", "exit 1")
    command(folder, "sacctmgr", "echo lab")
    command(folder, "sinfo", "echo gpus; echo cpus")
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def test_a_profile_says_whether_it_runs_on_cores_or_on_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert place("", SMALL).folder.name == "local"
    assert place("", SMALL).environment[gpus.CLAIMABLE] == ""
    large = place("", LARGE)
    assert large.folder.name == "gpu"
    assert large.arguments[:2] == ["--resources", "gpu=2"]
    assert large.environment == {gpus.CLAIMABLE: "1,3"}
    assert place("local", LARGE).arguments == large.arguments  # counted wherever they are used
    assert place("gpu", SMALL).arguments == []
    shared = load_profile("tiny", {"model.needs_gpu": True, "training.processes": 3})
    with pytest.raises(UserError, match=r"3 processes of a training want a GPU each, 2 here"):
        place("", shared)


@pytest.mark.parametrize(
    ("name", "profile", "words"),
    [
        ("slrum", SMALL, "no executor 'slrum': EXECUTOR: did you mean 'slurm'?"),
        ("", LARGE, "no GPU here: "),
        ("slurm", SMALL, "slurm_account is not filled in: "),
        ("kubernetes", SMALL, "kubernetes-volume-persistent-volumes is not filled in: "),
    ],
)
def test_what_a_person_can_mend_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, profile: Profile, words: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError) as told:
        place(name, profile)
    assert str(told.value).startswith(words)
    assert "\n" not in str(told.value)


def test_a_missing_plugin_is_told_with_the_command_that_brings_it(
    profiles: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fill_in(profiles, "slurm", slurm_account="lab", slurm_partition="gpus")
    with pytest.raises(UserError, match=r"lacks a plugin: EXECUTOR=slurm: .*pip install .*cluster"):
        place("slurm", SMALL)


def test_slurm_is_for_where_jobs_are_submitted(
    tmp_path: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    fill_in(profiles, "slurm", slurm_account="lab", slurm_partition="gpus")
    with pytest.raises(UserError, match="no sbatch here: EXECUTOR=slurm"):
        place("slurm", SMALL)


def test_slurms_account_and_partition_must_be_there(profiles: Path, slurm: Path) -> None:
    fill_in(profiles, "slurm", slurm_account="lab", slurm_partition="gpus,cpus")
    assert place("slurm", LARGE).remote
    fill_in(profiles, "slurm", slurm_account="labb")
    with pytest.raises(UserError, match=r"no account 'labb': .*config.yaml: did you mean 'lab'"):
        place("slurm", LARGE)
    command(slurm, "sacctmgr", "exit 1")  # a cluster without accounts cannot tell
    assert place("slurm", LARGE).remote
    fill_in(profiles, "slurm", slurm_partition="gpus,cpu")
    with pytest.raises(UserError, match=r"no partition 'cpu': .*config.yaml: did you mean 'cpus'"):
        place("slurm", LARGE)


def test_partitions_beside_the_config_are_chosen_among(profiles: Path, slurm: Path) -> None:
    fill_in(profiles, "slurm", slurm_account="lab", slurm_partition="")
    assert "SNAKEMAKE_SLURM_PARTITIONS" not in place("slurm", LARGE).environment
    path = profiles / "slurm" / "partitions.yaml"
    path.write_text("partitions: {gpus: {max_gpu: 1}}", encoding="utf-8")
    assert place("slurm", LARGE).environment["SNAKEMAKE_SLURM_PARTITIONS"] == str(path)


def test_jobs_elsewhere_are_told_keys_and_caches_and_no_gpu_of_this_machine(
    profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = profiles / "kubernetes" / "config.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("EDIT-ME", "disk"), encoding="utf-8")
    assert place("kubernetes", LARGE).arguments == []
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.setenv("HF_HOME", "/work/models")
    told = place("kubernetes", LARGE)
    assert told.arguments == ["--envvars", "HF_HOME", "OPENAI_API_KEY"]
    assert told.environment == {gpus.CLAIMABLE: ""}


def test_jobs_of_a_run_that_are_left_in_the_queue(slurm: Path, tmp_path: Path) -> None:
    run = tmp_path / "results" / "a run"
    command(slurm, "squeue", f"echo '11 {run}'; echo '12 {run}-2'; echo '13 {run}'")
    assert jobs_left(run) == ["11", "13"]
    command(slurm, "squeue", "exit 1")
    assert jobs_left(run) == []
    (slurm / "squeue").unlink()
    assert jobs_left(run) == []
