"""How true the estimates are: calibrate, then measure a training and a sampling of `tiny`.

Both sides in one run, one after the other, on a machine that is as busy throughout.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from finetune_geometry.estimates.estimate import estimate
from finetune_geometry.estimates.machines import keep_measured
from finetune_geometry.methods.calibration import calibrate
from finetune_geometry.methods.training import train
from finetune_geometry.rollouts.pool import sample_rollouts
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.profiles import load_profile


def test_training_and_sampling(benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    profile = load_profile("tiny")
    keep_measured(calibrate(profile))
    expected, run = estimate(profile), Run.open("tiny")
    torch.set_num_threads(profile.training.threads)
    begun = time.perf_counter()
    sample_rollouts(run)
    sampled = time.perf_counter() - begun
    card = benchmark.pedantic(train, args=(run, "sft"), rounds=1)
    start = expected.machine["start_seconds"]
    ratios = {
        "sampling": (expected.stage("ingredients/rollouts").seconds - start) / sampled,
        "training": (expected.stage("methods/sft").seconds - start) / card["seconds"],
    }
    print({name: round(ratio, 2) for name, ratio in ratios.items()})
    assert all(0.75 < ratio < 1.25 for ratio in ratios.values()), ratios
