"""Sampling from the shipped models, side by side with transformers' own `generate`.

`pytest tests/benchmarks --benchmark-only -s` prints the ratios.  Both sides: fp32, one thread, the
same batch size, fused attention ("sdpa"); the greedy tokens must be the same.  Run it alone on an
idle machine: keys and values are read from memory, which a neighbour slows down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetune_geometry.models.generation import generate
from finetune_geometry.models.prompts import prompt_ids
from finetune_geometry.problems.generator import Difficulty, generate_problems
from finetune_geometry.runs.folders import project_root

PROMPTS, BATCH, NEW = 256, 256, 256


def plain(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy completions by transformers, up to and including the EOS."""
    completions = []
    for start in range(0, len(prompts), BATCH):
        padded = tokenizer.pad({"input_ids": prompts[start : start + BATCH]}, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(**padded, max_new_tokens=NEW, do_sample=False)
        for row in out[:, padded.input_ids.shape[1] :].tolist():
            eos = tokenizer.eos_token_id
            completions.append(row[: row.index(eos) + 1] if eos in row else row)
    return completions


def timed(work: Callable[[], list[list[int]]]) -> tuple[list[list[int]], float, float]:
    """(result, seconds on the clock, seconds of this process)."""
    begun, used = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - begun, time.process_time() - used


@pytest.mark.parametrize("name", ["student", "teacher"])
@pytest.mark.parametrize("k", [1, 4], ids=["256 problems", "64 problems, K = 4"])
def test_sampling_against_transformers(benchmark, name, k):
    folder = project_root() / "models" / name
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"no model there: {folder}")
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    problems = generate_problems("test", PROMPTS // k, 0, Difficulty())
    prompts = [prompt_ids(tokenizer, p.question) for p in problems for _ in range(k)]
    expected, clock, process = min(
        (timed(lambda: plain(model, tokenizer, prompts)) for _ in range(2)), key=lambda r: r[2]
    )
    runs: list[tuple[list[list[int]], float, float]] = []
    benchmark.pedantic(
        lambda: runs.append(
            timed(lambda: generate(model, tokenizer, prompts, max_new_tokens=NEW, batch_size=BATCH))
        ),
        rounds=3,
        warmup_rounds=1,
    )
    found, own_clock, own_process = min(runs, key=lambda r: r[2])
    assert found == expected
    tokens = sum(map(len, found))
    benchmark.extra_info |= {"ratio": clock / own_clock, "ratio_process": process / own_process}
    print(
        f"\n{name}, {PROMPTS // k} problems x {k}, {tokens} tokens: transformers {clock:.2f} s, "
        f"this project {own_clock:.2f} s, {tokens / own_clock:.0f} tokens/s, "
        f"ratio {clock / own_clock:.2f} on the clock, {process / own_process:.2f} in CPU time"
    )
