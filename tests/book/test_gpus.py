"""Steps on GPUs: one each, never two on one, none for those that need none.

There is no GPU here. Notebooks write down what they were given and when; Snakemake, the workflow
and the locks are real.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import gpus
import psutil
import pytest
from conftest import ROOT
from demands import gpu_of, needs_gpu, resources_of
from jobs import JOBS
from test_workflow import Project

from finetune_geometry.settings.profiles import load_profile

TRAIN = ("train_a", "train_b", "train_c")
TABLE = f"""
JOBS = [
    *(Job(n, reads=(), writes=(n,), settings=("methods.dpo",), loads_model=True) for n in {TRAIN}),
    Job("measure", reads=(), writes=("measure", "claims.csv"), settings=("methods.dpo",)),
]
"""
# What it was given, and from when to when; with `wait`, only once another one has begun, too.
BODY = """
import json, os, pathlib

begun = time.time()
this_run.path("begun_{name}").touch()
deadline = begun + 60
while {wait} and len(list(this_run.dir.glob("begun_train_*"))) < 2 and time.time() < deadline:
    time.sleep(0.05)
time.sleep({seconds})
said = [os.environ.get("CUDA_VISIBLE_DEVICES"), begun, time.time()]
this_run.path("{name}").write_text(json.dumps(said))
this_run.path("claims.csv").touch()  # of some notebook the book wants it
"""
NEEDS_GPU = ("--set", "model.needs_gpu=true")


@pytest.fixture
def lock_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of the test's own, so that two sessions on one machine do not meet."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(gpus.tempfile, "tempdir", str(folder))
    return folder


def project(root: Path, wait: bool = False, seconds: float = 0.3) -> Project:
    bodies = {
        name: BODY.format(name=name, wait=wait and name in TRAIN[:2], seconds=seconds)
        for name in (*TRAIN, "measure")
    }
    return Project(root, TABLE, bodies)


def given(folder: Path) -> dict[str, tuple[str, float, float]]:
    names = (*TRAIN, "measure")
    return {name: tuple(json.loads((folder / name).read_text("utf-8"))) for name in names}


def overlap(spans: list[tuple[str, float, float]]) -> bool:
    """Whether two of the spans (device, begin, end) on one device have a moment in common."""
    return any(
        a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a, b in itertools.combinations(spans, 2)
    )


def test_with_one_gpu_no_two_steps_compute_on_it_at_a_time(
    tmp_path: Path, lock_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    made = project(tmp_path / "checkout")
    said = made.make(*NEEDS_GPU, "--", "--cores", "4")
    seen = given(made.run)
    trained = [seen[name] for name in TRAIN]
    assert [device for device, *_ in trained] == ["7", "7", "7"], said
    assert not overlap(trained)
    assert seen["measure"][0] == ""  # it needs none and sees none


def test_with_two_gpus_two_trainings_run_side_by_side_each_on_its_own(
    tmp_path: Path, lock_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    made = project(tmp_path / "checkout", wait=True)  # each goes on once another has begun
    said = made.make(*NEEDS_GPU, "--", "--cores", "4")
    seen = given(made.run)
    trained = [seen[name] for name in TRAIN]
    assert {device for device, *_ in trained} == {"3", "5"}, said
    assert not overlap(trained)


def test_two_runs_beside_each_other_do_not_share_a_gpu(
    tmp_path: Path, lock_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    made = project(tmp_path / "checkout", seconds=4)  # as long as what is around it
    runs = [made.start("--run", name, *NEEDS_GPU) for name in ("one", "two")]
    said = [run.communicate(timeout=240)[0] for run in runs]
    seen = [given(made.root / "results" / name) for name in ("one", "two")]
    assert not overlap([each[name] for each in seen for name in TRAIN]), said


def test_a_profile_that_needs_no_gpu_is_left_as_it_is(
    tmp_path: Path, lock_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    made = project(tmp_path / "checkout")
    said = made.make()
    assert {device for device, *_ in given(made.run).values()} == {"2"}, said
    assert not list(lock_folder.glob("finetune-geometry-gpus-*"))


def test_a_device_is_held_as_long_as_what_computes_on_it_lives(
    tmp_path: Path, lock_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """... even if what measures the step is killed, and no longer."""
    monkeypatch.setenv(gpus.CLAIMABLE, "0")
    begun = tmp_path / "begun"
    code = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(600)"
    measure = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "workflow" / "measure.py"), str(tmp_path / "t.json")),
            *("1", "-", sys.executable, "-c", code),
        ]
    )
    deadline = time.time() + 60
    while not begun.exists() and time.time() < deadline:
        time.sleep(0.05)
    children = psutil.Process(measure.pid).children()
    measure.kill()
    measure.wait()
    claimed, (file,) = gpus.claim(["0", "1"])
    file.close()
    assert claimed == ["1"]
    for child in children:
        child.kill()
    psutil.wait_procs(children, timeout=30)
    claimed, (file,) = gpus.claim(["0"])
    file.close()
    assert claimed == ["0"]


def test_devices_are_claimed_together_or_not_at_all(
    lock_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpus.CLAIMABLE, "0,1,2")
    claimed, (file,) = gpus.claim(["1"])
    with gpus.environment("2") as (variables, inherited):
        assert variables["CUDA_VISIBLE_DEVICES"] == "0,2"
        assert len(inherited) == 2
        waited = []

        def sleep(seconds: float) -> None:
            """While a step waits for two, the one that is free is not in its hand."""
            file.close()
            waited.append(gpus.claim(["1"])[1][0])
            waited.pop().close()
            raise KeyboardInterrupt

        monkeypatch.setattr(gpus.time, "sleep", sleep)
        with pytest.raises(KeyboardInterrupt), gpus.environment("2"):
            pass
    assert not waited
    assert claimed == ["1"]


def test_a_part_of_a_gpu_is_claimed_by_its_name(lock_folder: Path) -> None:
    part = "MIG-GPU-1a/7/0"
    claimed, (file,) = gpus.claim([part, f"{part[:-1]}1"])
    other, (beside,) = gpus.claim([part, f"{part[:-1]}1"])
    file.close()
    beside.close()
    assert [*claimed, *other] == [part, "MIG-GPU-1a/7/1"]


def test_what_a_scheduler_gave_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpus.CLAIMABLE, "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1a,GPU-2b")  # a node given whole
    with gpus.environment("1") as (variables, _):
        assert variables["CUDA_VISIBLE_DEVICES"] == "GPU-1a"
    with gpus.environment("2") as (variables, _):
        assert variables["CUDA_VISIBLE_DEVICES"] == "GPU-1a,GPU-2b"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with gpus.environment("1") as (variables, _):
        assert "CUDA_VISIBLE_DEVICES" not in variables
    with gpus.environment(gpus.NONE) as (variables, _):
        assert variables["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        ("0,1", ["0", "1"]),
        ("", []),
        ("-1", []),
        ("1, GPU-2b ,-1,0", ["1", "GPU-2b"]),
        ("0,1,0", ["0", "1"]),  # of three a step would wait for ever
    ],
)
def test_gpus_that_the_variable_lists(
    monkeypatch: pytest.MonkeyPatch, variable: str, found: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert gpus.on_this_machine() == found


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("printf '0\\n1\\n'", ["0", "1"]),
        ("echo 'NVIDIA-SMI has failed: no driver'; exit 9", []),  # on stdout, as it does
        (None, []),
    ],
)
def test_gpus_that_the_driver_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, found: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert gpus.on_this_machine() == found


# What follows looks at the book's own table of notebooks.


def test_steps_demand_a_gpu_if_they_load_the_model_and_the_profile_wants_one() -> None:
    small, large = load_profile("tiny"), load_profile("tiny", {"model.needs_gpu": True})
    assert all("gpu" not in resources_of(job, small) for job in JOBS)
    assert {gpu_of(job, small) for job in JOBS} == {gpus.AS_IT_IS}
    for job in JOBS:
        demands = resources_of(job, large)
        assert demands.get("gpu", 0) == int(job.loads_model) == int(needs_gpu(job, large)), job.name
        assert gpu_of(job, large) == ("1" if job.loads_model else gpus.NONE)
        assert demands["mem_mb"] > 0
        assert demands["runtime"] > 0


def test_a_training_that_is_shared_demands_a_gpu_for_each_process() -> None:
    shared = load_profile("tiny", {"model.needs_gpu": True, "training.processes": 2})
    demands = {job.stem: gpu_of(job, shared) for job in JOBS}
    assert [demands[name] for name in ("sft", "dpo", "reshuffled", "second_seed")] == ["2"] * 4
    assert demands["accuracy"] == demands["cka"] == "1"
    assert demands["verdict"] == gpus.NONE
    assert {resources_of(job, shared).get("gpu", 0) for job in JOBS} == {0, 1, 2}


def test_rollouts_that_come_from_elsewhere_need_no_gpu() -> None:
    """... and their step must not hold one for the days that an endpoint may take."""
    values = {"model.needs_gpu": True, "rollouts.source": "traces"}
    profile = load_profile("tiny", values)
    (rollouts,) = (job for job in JOBS if job.stem == "rollouts")
    assert "gpu" not in resources_of(rollouts, profile)
    assert gpu_of(rollouts, profile) == gpus.NONE
