"""Training through the trainer, side by side with a bare PyTorch loop on the same rows; and what
uniform batches cost beside batches that are sorted by length.

`pytest tests/benchmarks --benchmark-only -s` prints the overhead of an optimiser step.  Both sides:
the shipped student, LoRA, bf16 autocast, AdamW, clipping, the same micro-batches in the same order,
one thread.  The first steps are left out; the medians of the others are compared.
"""

from __future__ import annotations

import time
from itertools import pairwise
from statistics import mean, median
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from finetune_geometry.methods import training
from finetune_geometry.methods.rows import row_order, unpaired_rows
from finetune_geometry.methods.trainers import SHAPE_STEP
from finetune_geometry.models.loading import load_model
from finetune_geometry.models.prompts import prompt_ids
from finetune_geometry.problems.generator import Difficulty, generate_problems
from finetune_geometry.rollouts.pool import POOL, load_rollouts
from finetune_geometry.runs.folders import project_root
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.sections import Training

WARM, STEPS = 5, 25


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose pool holds the gold solutions of problems of all lengths."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    if not (project_root() / "models/student/model.safetensors").is_file():
        pytest.skip("no model there: models/student")
    run = Run.open(
        "tiny",
        "speed",
        {
            "training.steps": WARM + STEPS,
            "training.schedule_steps": WARM + STEPS,
            "training.save_steps": 1000,
            "training.logging_steps": 1,
        },
    )
    _, tokenizer = load_model(run.profile)
    problems = generate_problems("rollouts", 400, 0, Difficulty())
    rows = [
        {
            "group": group,
            "split": "train",
            "prompt_ids": prompt_ids(tokenizer, p.question),
            "completion_ids": [*tokenizer(p.solution).input_ids, tokenizer.eos_token_id],
            "text": p.solution,
            "reward": 1.0,
        }
        for group, p in enumerate(problems)
    ]
    run.write_table(POOL, pd.DataFrame(rows))
    return run


def bare_loop(run: Run) -> tuple[list[float], float]:
    """CPU seconds of each optimiser step of a plain loop (no trainer, logits, cross-entropy), and
    the loss per token before the first update."""
    settings, lora = run.profile.training, run.profile.lora
    torch.set_num_threads(settings.threads)
    rows = unpaired_rows(load_rollouts(run), "sft", run.profile.methods["sft"])
    order = row_order(rows["input_ids"].map(len).to_numpy(), settings)
    ids, labels = rows["input_ids"].tolist(), rows["labels"].tolist()
    model: Any = load_model(run.profile)[0]
    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules=list(lora.target_modules))
    model = get_peft_model(model, config).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, WARM + STEPS)
    seconds, first = [], 0.0
    for step in range(WARM + STEPS):
        begun = time.process_time()
        batch = order[step * settings.batch_size : (step + 1) * settings.batch_size]
        tokens = sum(label != -100 for row in batch for label in labels[row])
        for start in range(0, len(batch), settings.micro_batch_size):
            part = batch[start : start + settings.micro_batch_size]
            longest = -(-max(len(ids[row]) for row in part) // SHAPE_STEP) * SHAPE_STEP
            inputs, mask = torch.zeros(2, len(part), longest, dtype=torch.long)
            targets = torch.full((len(part), longest), -100)
            for place, row in enumerate(part):
                inputs[place, : len(ids[row])] = torch.tensor(ids[row])
                mask[place, : len(ids[row])] = 1
                targets[place, : len(ids[row])] = torch.tensor(labels[row])
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=inputs, attention_mask=mask, use_cache=False).logits
            loss = cross_entropy(
                logits[:, :-1].float().flatten(0, 1), targets[:, 1:].flatten(), reduction="sum"
            )
            (loss / tokens).backward()
            first += loss.item() / tokens if step == 0 else 0.0
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        seconds.append(time.process_time() - begun)
    return seconds[WARM:], first


def trainer_steps(run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], float]:
    """The same of `train(run, "sft")`; a step counts from the end of the one before."""
    seconds, card = trained(run, monkeypatch)
    return seconds, card["losses"][0][1]


def trained(run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], dict[str, Any]]:
    """CPU seconds of each step of `train(run, "sft")` but the first ones, and its card."""
    ends: list[float] = []

    class Clock(training.Watch):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.process_time())
            super().on_step_end(*args, **kwargs)

    monkeypatch.setattr(training, "Watch", Clock)
    card = training.train(run, "sft")
    return [after - before for before, after in pairwise(ends)][WARM - 1 :], card


def test_the_trainer_against_a_bare_loop(benchmark, run, monkeypatch):
    bare, expected = bare_loop(run)
    own, found = benchmark.pedantic(lambda: trainer_steps(run, monkeypatch), rounds=1)
    bare += bare_loop(run)[0]  # before and after, so that a drift of the machine cancels
    # The same work: as many steps, and on the same rows, for B = 0 gives both the base's loss.
    assert len(own) == STEPS
    assert len(bare) == 2 * STEPS
    assert found == pytest.approx(expected, rel=1e-2)
    overhead = median(own) / median(bare) - 1
    benchmark.extra_info["overhead"] = overhead
    print(
        f"\nan optimiser step of {run.profile.training.batch_size} rows: bare loop "
        f"{median(bare):.3f} s, trainer {median(own):.3f} s, overhead {overhead:+.1%}"
    )


def sorted_order(lengths: np.ndarray, settings: Training) -> list[int]:
    """The order before uniform batches: within 20 batches rows of similar length went together.

    It saved padding, and made batches of short and of long solutions out of one pool; copies of one
    row met in a batch wherever a stretch spanned several passes.
    """
    rng, batch = np.random.default_rng(settings.seed), settings.batch_size
    wanted = settings.steps * batch
    passes = [rng.permutation(len(lengths)) for _ in range(-(-wanted // len(lengths)))]
    shuffled = np.concatenate(passes)[:wanted]
    order: list[int] = []
    for start in range(0, wanted, 20 * batch):
        stretch = shuffled[start : start + 20 * batch]
        batches = stretch[np.argsort(lengths[stretch], kind="stable")].reshape(-1, batch)
        order += rng.permutation(batches).ravel().tolist()
    return order


def test_uniform_batches_against_sorted_ones(benchmark, run, monkeypatch):
    """In turns, so that a drift of the machine cancels. The mean: steps differ in their length."""
    seconds: dict[str, list[float]] = {"uniform": [], "sorted": []}
    padding: dict[str, float] = {}
    distinct: dict[str, int] = {}

    def both() -> None:
        for name, order in [("sorted", sorted_order), ("uniform", row_order)] * 2:
            monkeypatch.setattr(training, "row_order", order)
            steps, card = trained(run, monkeypatch)
            seconds[name] += steps
            padding[name] = card["padding"]
            distinct[name] = card["distinct_rows_per_batch"]["least"]

    benchmark.pedantic(both, rounds=1)
    # Equal work: as many steps of as many rows. And each is what it says: only uniform batches hold
    # no row twice, and they pay for it in padding.
    assert len(seconds["uniform"]) == len(seconds["sorted"]) == 2 * STEPS
    assert distinct["uniform"] == run.profile.training.batch_size > distinct["sorted"]
    assert padding["uniform"] > padding["sorted"]
    cost = mean(seconds["uniform"]) / mean(seconds["sorted"]) - 1
    benchmark.extra_info["cost"] = cost
    print(
        f"\nan optimiser step of {run.profile.training.batch_size} rows: sorted batches "
        f"{mean(seconds['sorted']):.3f} s ({padding['sorted']:.0%} padding), uniform "
        f"{mean(seconds['uniform']):.3f} s ({padding['uniform']:.0%}), cost {cost:+.1%}"
    )
