"""Calibrating measures through the code of a run, on this machine, and estimates take it up."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import toy_run

from finetune_geometry.estimates import machines
from finetune_geometry.estimates.estimate import estimate
from finetune_geometry.methods import calibration, timed_steps

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:peft")


def test_every_constant_is_measured_and_used(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    monkeypatch.setattr(calibration, "BUDGET", 0.02)
    profile, said, told = toy_run(toy_model, rollouts__batch_size=8).profile, [], []
    monkeypatch.setattr(timed_steps, "on_one_gpu", lambda a: told.append(type(a).__name__) or a)
    found = calibration.calibrate(profile, said.append)
    assert told == ["SFTConfig"]  # several would share each batch, and none of it is so in a run
    (kind,) = found
    (shape,) = found[kind]["shapes"]
    assert shape.startswith("2 layers of 32")
    values = {**found[kind]["constants"], **found[kind]["shapes"][shape]}
    assert all(value >= 0 for value in values.values())
    assert values["matrix_rate"] > 1e8
    assert 0 < values["training_share"] < 1
    assert {"mixture_reading", "mixture_writing"} <= {n for n, v in values.items() if v >= 1}
    assert any("training" in text for text in said)
    path = machines.keep_measured(found)
    assert path.parent == tmp_path
    machine = estimate(profile).machine
    measured = {name for name, constant in machine.constants.items() if constant.measured}
    assert measured == set(values)
    assert estimate(profile).stage("methods/sft").measured


def test_a_large_model_is_cut() -> None:
    from finetune_geometry.estimates.architecture import architecture_of

    whole = architecture_of("Qwen/Qwen3-4B-Instruct-2507")
    cut = calibration._cut(whole, on_gpu=False)
    assert 1 <= cut.layers < 5
    assert cut.block_weights * cut.layers < 4e8
    assert calibration._cut(whole, on_gpu=True).layers > cut.layers
