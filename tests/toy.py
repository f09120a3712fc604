"""A random Qwen3 of a few thousand weights and a pool of rollouts, for the tests of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM

from finetune_geometry.models.prompts import completion_ids, prompt_ids
from finetune_geometry.models.tiny import build_config, build_tokenizer
from finetune_geometry.problems.generator import Difficulty, generate_problems
from finetune_geometry.rollouts.pool import POOL
from finetune_geometry.runs.records import Run

#: Rewards of the groups of the pool: all right, mixed, and all wrong ones, K = 4.
REWARDS = ((1, 1, 1, 1), (1, 0, 1, 1), (0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 0), (1, 1, 1, 0))


def save_toy_model(folder: Path) -> Path:
    """A checkpoint of 2 layers and width 32 with large random weights (its logits are not flat)."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = build_config(
        len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        initializer_range=0.2,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def toy_pool(rewards: Sequence[Sequence[int]] = REWARDS, heldout: int = 1) -> pd.DataFrame:
    """A pool with these rewards: gold solutions, and spoilt ones where the reward is 0."""
    tokenizer, rows = build_tokenizer(), []
    problems = generate_problems("rollouts", len(rewards) + heldout, 0, Difficulty(2, 3))
    for group, problem in enumerate(problems):
        held = group >= len(rewards)
        for sample, reward in enumerate((1, 1) if held else rewards[group]):
            wrong = problem.solution.replace("=", f"={sample}")
            text = problem.solution if reward else wrong
            rows.append(
                {
                    "prompt": problem.id,
                    "question": problem.question,
                    "group": group,
                    "sample": sample,
                    "split": "heldout" if held else "train",
                    "steps": problem.steps,
                    "prompt_ids": prompt_ids(tokenizer, problem.question),
                    "completion_ids": completion_ids(tokenizer, [text], [True])[0],
                    "text": text,
                    "finish": "stop",
                    "source": "toy",
                    "answer": problem.answer,
                    "reward": float(reward),
                    "verdict": "right" if reward else "wrong",
                }
            )
    return pd.DataFrame(rows)


def toy_run(
    model: Path, name: str = "toy", pool: pd.DataFrame | None = None, **changes: object
) -> Run:
    """A run of four steps of four rows on the toy model; `methods__dpo__beta=1` changes a value."""
    settings = {
        "model.base": str(model),
        "model.teacher": str(model),
        "lora.r": 4,
        "lora.alpha": 8,
        "training.snapshots": [0.1, 0.5],
        "training.steps": 4,
        "training.schedule_steps": 6,
        "training.batch_size": 4,
        "training.micro_batch_size": 2,
        "training.save_steps": 2,
        "training.logging_steps": 1,
        "training.learning_rate": 1e-2,
        "methods.dpo.micro_batch_size": 2,
    }
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    run = Run.open("tiny", name, settings)
    if not (run.dir / POOL).exists() or pool is not None:
        table = toy_pool() if pool is None else pool
        run.write_table(POOL, table.drop(columns=["prompt_ids", "completion_ids"]))  # text alone
    return run


def adapter(run: Run, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a trained adapter."""
    return load_file(run.adapter_dir(name) / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Whether two adapters are bitwise equal."""
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
