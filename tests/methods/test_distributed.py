"""One training in two processes on the CPU: the same adapter, whatever is killed; its errors."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from toy import adapter, same, toy_run

from finetune_geometry.methods import distributed, training
from finetune_geometry.methods.training import train
from finetune_geometry.settings.errors import UserError


@pytest.fixture(autouse=True)
def results_of_this_test(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path / "results"))


@pytest.mark.parametrize(("method", "tokens"), [("rft", 512), ("dpo", None)])
def test_two_processes_train_the_adapter_of_one(toy_model, capsys, method, tokens):
    changes = {"training__bf16": False, "training__micro_batch_tokens": tokens}
    alone = train(toy_run(toy_model, "alone", **changes), method)
    capsys.readouterr()
    shared = toy_run(toy_model, "shared", training__processes=2, **changes)
    card = train(shared, method)
    assert capsys.readouterr().out.count("step     4 of 4") == 1  # one of them speaks
    one, two = adapter(toy_run(toy_model, "alone"), method), adapter(shared, method)
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], atol=1e-5, rtol=0)
    for (_, loss), (_, other) in zip(card["losses"], alone["losses"], strict=True):
        assert loss == pytest.approx(other, rel=1e-5)
    assert card["settings"]["training"]["processes"] == 2
    assert not (shared.dir / "checkpoints" / method).exists()


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from toy import toy_run
from finetune_geometry.methods.training import train

run = toy_run(Path(sys.argv[2]), "killed", training__processes=2, training__steps=20,
              training__schedule_steps=20, training__save_steps=1)

def kill():
    whole = "checkpoints/rift/checkpoint-[3-9]/trainer_state.json"
    while not [*run.dir.glob(whole)]:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill, daemon=True).start()
train(run, "rift")
"""


def processes_of(run) -> list[psutil.Process]:
    """Those that train for a run."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(run.dir) in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def test_processes_end_with_the_one_that_started_them_and_the_next_ones_go_on(toy_model):
    changes = {
        "training__processes": 2,
        "training__steps": 20,
        "training__schedule_steps": 20,
        "training__save_steps": 1,
    }
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), str(toy_model)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL, done.stderr
    run = toy_run(toy_model, "killed", **changes)
    for _ in range(600):
        if not processes_of(run):
            break
        time.sleep(0.1)
    assert not processes_of(run)
    assert not (run.dir / "adapters/rift").exists()
    states = [*run.dir.glob("checkpoints/rift/checkpoint-*/rng_state_1.pth")]
    assert states  # there was a second process
    assert train(run, "rift")["resumed"]
    whole = toy_run(toy_model, "whole", **changes)
    assert not train(whole, "rift")["resumed"]
    assert same(adapter(run, "rift"), adapter(whole, "rift"))


def test_a_mistake_of_a_person_comes_from_the_processes_in_one_line(toy_model, monkeypatch):
    run = toy_run(toy_model, model__max_length=60, training__processes=2)
    with pytest.raises(UserError, match=r"^the longest row has \d+ tokens, the context 60: sft: "):
        train(run, "sft")
    assert run.adapter_names() == []


def test_what_else_ends_a_process_is_shown(toy_model, monkeypatch):
    run = toy_run(toy_model, training__processes=2)
    checkpoints = run.path("checkpoints/ppo")
    checkpoints.mkdir(parents=True)
    monkeypatch.setattr(type(run.profile), "training_of", lambda self, method: self.training)
    with pytest.raises(RuntimeError, match=r"ended with status 1:\n(.|\n)*KeyError: 'ppo'"):
        distributed.launch(run, "ppo", "ppo", checkpoints)


@pytest.mark.parametrize(
    "changes",
    [
        {"training__processes": 3},
        {"training__processes": 3, "training__micro_batch_tokens": 512},
        {"training__processes": 4},
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(toy_model, changes):
    with pytest.raises(UserError, match=r"^a batch of 4 rows is no multiple of [34] processes x"):
        train(toy_run(toy_model, **changes), "sft")


def test_each_process_needs_a_gpu_of_its_own(toy_model, monkeypatch):
    run = toy_run(toy_model, training__processes=2)
    monkeypatch.setattr(distributed, "device", lambda profile: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match=r"^2 processes and 1 visible GPUs: training\.processes: "):
        train(run, "sft")


def test_the_settings_of_the_processes_are_those_of_the_run(toy_model, monkeypatch):
    """Also of values that were set in the environment or in a notebook."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_SET", "lora.r=3 methods.rift.reward_lambda=0.25")
    run = toy_run(toy_model, training__processes=2, lora__r=5)
    opened = []

    def start(command, **given):
        assert "FINETUNE_GEOMETRY_SET" not in given["env"]
        settings, name, method, adapter_name = command[-4:]
        opened.append((type(run).open(settings, name).profile, method, adapter_name))
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed.subprocess, "Popen", start)
    monkeypatch.delenv("FINETUNE_GEOMETRY_SET")
    with pytest.raises(KeyboardInterrupt):
        training.train(run, "rift", "rift-varied")
    profile, method, name = opened[0]
    assert (method, name) == ("rift", "rift-varied")
    assert profile.flat() == run.profile.flat()
    assert profile.name == "tiny"
    assert (profile.lora.r, profile.methods["rift"].constants["reward_lambda"]) == (5, 0.25)
