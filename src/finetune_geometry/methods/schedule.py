"""The learning rate of every step."""

from __future__ import annotations

import math

import torch
from transformers import get_scheduler

from finetune_geometry.settings.sections import Training


def rates_of(training: Training) -> list[float]:
    """The learning rate of every step, by the scheduler that the trainer takes."""
    total = max(training.schedule_steps or 0, training.steps)
    dummy = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=training.learning_rate)
    warmup = training.warmup_ratio
    steps = math.ceil(total * warmup) if warmup < 1 else int(warmup)
    schedule = get_scheduler(
        training.scheduler, dummy, num_warmup_steps=steps, num_training_steps=total
    )
    found = []
    for _ in range(training.steps):
        found.append(float(schedule.get_last_lr()[0]))
        dummy.step()
        schedule.step()
    return found
