"""Training the tiny student and teacher from nothing, on generated problems.

Only this module trains all weights; everything after it trains LoRA adapters.  The loop is plain
PyTorch: bf16 autocast where the processor is fast at it, rows grouped by length into a few fixed
shapes (new shapes cost time on a CPU), resumable from a safetensors checkpoint.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import Qwen3ForCausalLM

from finetune_geometry.models.generation import generate
from finetune_geometry.models.prompts import prompt_ids
from finetune_geometry.models.tiny import build_config, build_tokenizer
from finetune_geometry.problems.answer_check import is_correct
from finetune_geometry.problems.generator import Difficulty, generate_problems
from finetune_geometry.problems.problem import Problem
from finetune_geometry.runs.keys import fast_bf16

LENGTH_STEP = 32  # rows are padded to a multiple of it


def _rows(tokenizer: Any, problems: list[Problem]) -> list[tuple[list[int], int]]:
    """Token ids of prompt + solution + EOS, and the prompt's length, of each problem."""
    rows = []
    for problem in problems:
        prompt = prompt_ids(tokenizer, problem.question)
        solution = tokenizer(problem.solution, add_special_tokens=False).input_ids
        rows.append(([*prompt, *solution, tokenizer.eos_token_id], len(prompt)))
    return rows


def _batches(
    rows: list[tuple[list[int], int]], tokens_per_batch: int, pad: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of (ids, labels), each of one padded length and about `tokens_per_batch` tokens."""
    waiting: dict[int, list[tuple[list[int], int]]] = {}
    batches = []
    for row in rows:
        length = math.ceil(len(row[0]) / LENGTH_STEP) * LENGTH_STEP
        group = waiting.setdefault(length, [])
        group.append(row)
        if len(group) == max(1, tokens_per_batch // length):
            ids = torch.full((len(group), length), pad)
            labels = torch.full((len(group), length), -100)
            for i, (tokens, prompt_length) in enumerate(group):
                ids[i, : len(tokens)] = torch.tensor(tokens)
                labels[i, prompt_length : len(tokens)] = ids[i, prompt_length : len(tokens)]
            batches.append((ids, labels))
            group.clear()
    return batches


def _save_state(path: Path, model: Any, optimiser: torch.optim.Optimizer, state: dict) -> None:
    """Write model, AdamW moments and progress in one atomic safetensors file."""
    tensors = {f"model.{n}": p.detach() for n, p in model.named_parameters()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"adamw.{index}.{key}": value for key, value in moments.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"state": json.dumps(state)})
    partial.rename(path)


def _load_state(path: Path, model: Any, optimiser: torch.optim.Optimizer) -> dict:
    """Read what `_save_state` wrote; returns the progress."""
    with safe_open(path, "pt") as file:
        for name, parameter in model.named_parameters():
            parameter.data.copy_(file.get_tensor(f"model.{name}"))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key in file.keys():  # noqa: SIM118 - a safe_open handle is not iterable
            if key.startswith("adamw."):
                _, index, name = key.split(".")
                moments.setdefault(int(index), {})[name] = file.get_tensor(key)
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        return json.loads(file.metadata()["state"])


def train_from_scratch(
    output: Path,
    *,
    difficulty: Difficulty,
    problems: int,
    seed: int,
    start_from: Path | None = None,
    learning_rate: float = 1.5e-3,
    tokens_per_batch: int = 4096,
    save_every: int = 250,
    evaluate: Callable[[Any, Any], float] | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Train a tiny model on `problems` generated problems, one pass, and save it in bf16.

    output: folder of the finished checkpoint; a part-trained state lies in it while training.
    start_from: a finished checkpoint to go on from (the teacher continues the student).
    learning_rate: peak of AdamW, 3 % warm-up, then a cosine to a tenth.
    evaluate: called with (model, tokenizer) at every save; its value becomes a point of the curve.
    Returns the card: settings, tokens seen, seconds, loss and accuracy curves.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    config = build_config(len(tokenizer), attn_implementation="eager")
    if start_from is None:
        model = Qwen3ForCausalLM(config)
    else:
        model = Qwen3ForCausalLM.from_pretrained(
            start_from, dtype=torch.float32, attn_implementation="eager"
        )
    rows = _rows(tokenizer, generate_problems("train", problems, seed, difficulty))
    batches = _batches(rows, tokens_per_batch, tokenizer.pad_token_id)
    random.Random(seed).shuffle(batches)
    decay = [p for p in model.parameters() if p.dim() > 1]
    other = [p for p in model.parameters() if p.dim() == 1]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": other, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    output.mkdir(parents=True, exist_ok=True)
    state_file = output / "training_state.safetensors"
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "tokens": 0, "loss": [], "accuracy": []}
    if state_file.exists():
        state = _load_state(state_file, model, optimiser)
    warmup = max(1, len(batches) * 3 // 100)
    begun, before = time.perf_counter(), state["seconds"]
    for step in range(state["step"], len(batches)):
        progress = step / len(batches)
        rate = min((step + 1) / warmup, 0.55 + 0.45 * math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * rate
        ids, labels = batches[step]
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16()):
            logits = model(input_ids=ids, use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        state["step"], state["tokens"] = step + 1, state["tokens"] + ids.numel()
        if (step + 1) % 25 == 0:
            state["loss"].append([step + 1, loss.item()])
        if (step + 1) % save_every == 0 or step + 1 == len(batches):
            state["seconds"] = before + time.perf_counter() - begun
            if evaluate:
                model.eval()
                state["accuracy"].append([step + 1, evaluate(model, tokenizer)])
                model.train()
            _save_state(state_file, model, optimiser, state)
            print(
                f"step {step + 1}/{len(batches)}  loss {loss.item():.4f}  "
                f"accuracy {state['accuracy'][-1:]}  {state['seconds']:.0f} s",
                flush=True,
            )
    model.bfloat16().save_pretrained(output)
    tokenizer.save_pretrained(output)
    card = {
        "architecture": "Qwen3ForCausalLM",
        "parameters": sum(p.numel() for p in model.parameters()),
        "min_steps": difficulty.min_steps,
        "max_steps": difficulty.max_steps,
        "max_value": difficulty.max_value,
        "distractors": difficulty.distractors,
        "problems": problems,
        "seed": seed,
        "start_from": start_from.name if start_from else None,
        "learning_rate": learning_rate,
        "tokens_per_batch": tokens_per_batch,
        "threads": threads,
        **state,
    }
    (output / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    state_file.unlink()
    return card


def raise_student(
    folder: Path,
    problems: int,
    seed: int,
    evaluate: Callable[[Any, Any], float] | None = None,
) -> None:
    """Train a student from nothing on problems of 2-4 steps, unless it is there."""
    if not (folder / "card.json").exists():
        train_from_scratch(
            folder, difficulty=Difficulty(2, 4), problems=problems, seed=seed, evaluate=evaluate
        )


def raise_models(folder: Path, student_problems: int, teacher_problems: int) -> None:
    """Train the student from nothing and the teacher from the student, under `folder`.

    The student sees problems of 2-4 steps, the teacher goes on with 2-8 steps.  What is finished
    is kept: remove a model's folder to train it again.
    """
    validation = generate_problems("validation", 210, 42, Difficulty(2, 8))
    prompts = [problem.question for problem in validation]

    def accuracy(model: Any, tokenizer: Any) -> float:
        """Share of 210 validation problems that greedy decoding solves."""
        ids = [prompt_ids(tokenizer, question) for question in prompts]
        texts = tokenizer.batch_decode(generate(model, tokenizer, ids, max_new_tokens=200))
        right = [is_correct(t, p.answer) for t, p in zip(texts, validation, strict=True)]
        return sum(right) / len(right)

    student, teacher = folder / "student", folder / "teacher"
    raise_student(student, student_problems, 1, accuracy)
    if not (teacher / "card.json").exists():
        train_from_scratch(
            teacher,
            difficulty=Difficulty(2, 8),
            problems=teacher_problems,
            seed=2,
            start_from=student,
            learning_rate=1e-3,
            evaluate=accuracy,
        )
