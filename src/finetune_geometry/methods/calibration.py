"""Measuring this machine, for estimates that assume less (`finetune-geometry calibrate`).

Everything is measured through the code that a run goes through, on random weights of the shape of
the profile's base model (its first blocks, where all would not fit), in at most two minutes.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.estimates import flops
from finetune_geometry.estimates.architecture import Architecture, architecture_of
from finetune_geometry.estimates.lengths import Lengths, lengths_of
from finetune_geometry.estimates.machines import CPU, shape_key
from finetune_geometry.methods.counted import build
from finetune_geometry.methods.rows import row_lengths, row_order
from finetune_geometry.methods.timed_steps import now, timed_steps
from finetune_geometry.methods.trainers import SHAPE_STEP
from finetune_geometry.models.adapter_mixture import Mixture
from finetune_geometry.models.generation import generate
from finetune_geometry.models.teacher_forcing import completion_logprobs
from finetune_geometry.models.tiny import build_tokenizer
from finetune_geometry.runs.keys import fast_bf16
from finetune_geometry.settings.profiles import Profile

BUDGET = 1.5  # seconds that one measurement may take, about
STEPS = 5  # of training; the first one is not counted
KERNEL = 2.0  # seconds of papermill and of a notebook's kernel, beside the imports

Say = Callable[[str], None]


def calibrate(profile: Profile, say: Say = print) -> dict[str, Any]:
    """Measure the constants of `estimates.machines` at a profile's shapes.

    Returns {"gpu" or "cpu": {device, threads, constants, shapes: {shape: constants}}}.
    """
    torch.set_num_threads(profile.training.threads)
    probe = Probe(profile)
    say(f"{probe.name}: {probe.shape.layers} of {probe.whole.layers} blocks, random weights")
    constants = {
        "matrix_rate": probe.matrix_rate(),
        "bandwidth": probe.bandwidth(),
        "start_seconds": _start_seconds(),
    }
    probe.rate = constants["matrix_rate"]
    say(f"matrix products: {probe.rate / 1e9:,.0f} GFLOP/s")
    found = {"training_share": probe.training_share()}
    say(f"training: {found['training_share']:.0%} of it")
    found |= probe.inference()
    say(f"sampling: {found['writing_share']:.0%}, reading: {found['reading_share']:.0%}")
    return {
        probe.kind: {
            "device": probe.name,
            "threads": profile.training.threads,
            "constants": constants,
            "shapes": {shape_key(probe.whole): found},
        }
    }


class Probe:
    """A model of a profile's shape on this machine's device, and what is timed on it."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.kind = "gpu" if on_gpu else CPU
        self.name = torch.cuda.get_device_name(0) if on_gpu else CPU
        self.whole = architecture_of(profile.model.base, profile.model.base_revision)
        self.shape = _cut(self.whole, on_gpu)
        self.text: Lengths = lengths_of(profile)
        self.tokenizer = build_tokenizer()
        self.rng = np.random.default_rng(0)
        self.rate = 1e11
        self.threads = profile.training.threads

    def matrix_rate(self) -> float:
        """Operations a second of square matrix products in the number format of training."""
        half = self.profile.training.bf16 and fast_bf16()
        dtype = torch.bfloat16 if half else torch.float32
        size = 8192 if self.kind == "gpu" else 1024
        one = torch.randn(size, size, device=self.device, dtype=dtype)
        return 2 * size**3 / self._fastest(lambda: one @ one)

    def bandwidth(self) -> float:
        """Bytes a second of copying 256 MiB, read and written."""
        held = torch.zeros(2**26, device=self.device)
        other = torch.empty_like(held)
        return 2 * held.numel() * 4 / self._fastest(lambda: other.copy_(held))

    def training_share(self) -> float:
        """Share of the matrix rate that steps of SFT reach, optimiser and trainer included."""
        profile, training = self.profile, self.profile.training
        per_token = flops.training(self.shape, profile.lora, self.text.row)
        afford = BUDGET * self.rate * 0.3 / (per_token * self.text.row)
        batch = int(max(1, min(training.batch_size, afford)))
        size = training.micro_batch_size
        if training.micro_batch_tokens is not None:
            size = max(1, int(training.micro_batch_tokens / self.text.row))
        micro = min(size, batch)
        batch -= batch % micro
        settings = dataclasses.replace(
            training,
            steps=STEPS,
            batch_size=batch,
            micro_batch_size=micro,
            micro_batch_tokens=None,
            processes=1,
        )
        rows = self._rows(2 * batch)
        lengths = row_lengths(rows)
        order = row_order(lengths.max(1), settings)
        seconds = timed_steps(profile, self._model(), rows, order, batch, micro)
        # The last steps' positions, padding included: each micro-batch as long as its longest row.
        wide = lengths.max(1)[order].reshape(STEPS, -1, micro).max(2)
        wide = -(-wide // SHAPE_STEP) * SHAPE_STEP
        # Of the prompts a GPU computes no logits.
        scored = 1.0 if self.kind == CPU else self.text.completion / self.text.row
        done = [
            sum(micro * w * flops.training(self.shape, profile.lora, w, scored) for w in step)
            for step in wide.tolist()
        ]
        shares = [work / taken / self.rate for work, taken in zip(done, seconds, strict=True)]
        return statistics.median(shares[1:])

    def inference(self) -> dict[str, float]:
        """Shares of reading and of writing, seconds a layer and step, and what a mixture costs."""
        model = self._model().eval()
        model.generation_config.eos_token_id = self.shape.vocabulary  # no answer ends
        context = int(self.text.prompt + self.text.completion / 2)
        per_token = flops.writing(self.shape, context)
        afford = BUDGET * self.rate * 0.3 / (per_token * 20)
        many = int(max(2, min(self.profile.rollouts.batch_size, afford)))
        few = max(1, many // 16)
        rows = self._reading_rows(context)
        with Mixture(model, {"one": self._deltas()}) as mixture:

            def timed(weights: dict[str, float]) -> tuple[float, float]:
                mixture.set(weights)
                reading = self._fastest(lambda: completion_logprobs(model, rows))
                return self._step(model, many, context), reading

            # Side by side, so that what else the machine does weighs on both.
            pairs = [(timed({}), timed({"one": 1.0})) for _ in range(2)]
            mixture.set({})
            quick = self._step(model, few, context)
        slow, read = (min(times) for times in zip(*(plain for plain, _ in pairs), strict=True))
        mixed = [min(times) for times in zip(*(mixed for _, mixed in pairs), strict=True)]
        slope = max((slow - quick) / (many - few), slow / many / 10)
        rest = max(slow - many * slope, 0.0)
        length = float(np.mean([len(p) + len(c) for p, c in rows]))
        scored = float(np.mean([len(c) / (len(p) + len(c)) for p, c in rows]))
        work = len(rows) * length * flops.reading(self.shape, length, scored)
        return {
            "writing_share": per_token / slope / self.rate,
            "layer_seconds": rest / self.shape.layers,
            "reading_share": work / read / self.rate,
            "mixture_writing": max(1.0, mixed[0] / slow),
            "mixture_reading": max(1.0, mixed[1] / read),
        }

    def _model(self) -> Any:
        torch.manual_seed(0)
        dtype = getattr(torch, self.profile.model.dtype)
        with self.device:
            return build(self.shape, dtype, attn_implementation=self.profile.model.attention)

    def _rows(self, count: int) -> pd.DataFrame:
        """Rows of random tokens, as long as the profile's are."""
        spread = self.rng.normal(self.text.row, 0.25 * self.text.row, count)
        rows = []
        for size in np.clip(spread, 16, self.text.longest).astype(int):
            ids = self.rng.integers(4, min(self.shape.vocabulary, 500), size).tolist()
            prompt = int(size * self.text.prompt / self.text.row)
            rows.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:], "weight": 1.0})
        return pd.DataFrame(rows)

    def _reading_rows(self, context: int) -> list[tuple[list[int], list[int]]]:
        per_row = flops.reading(self.shape, context) * context
        count = int(max(1, min(64, BUDGET * self.rate * 0.3 / per_row)))
        rows = self._rows(count)
        prompts = rows["labels"].map(lambda labels: labels.count(-100))
        return [
            (ids[:prompt], ids[prompt:])
            for ids, prompt in zip(rows["input_ids"], prompts, strict=True)
        ]

    def _deltas(self) -> dict[str, LowRankDelta]:
        lora, deltas = self.profile.lora, {}
        for layer in range(self.shape.layers):
            for name in lora.target_modules:
                block = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
                inputs, outputs = self.shape.shapes[name]
                deltas[f"model.layers.{layer}.{block}.{name}"] = LowRankDelta(
                    A=self.rng.normal(size=(lora.r, inputs)) * 1e-3,
                    B=self.rng.normal(size=(outputs, lora.r)) * 1e-3,
                    scale=lora.alpha / lora.r,
                )
        return deltas

    def _step(self, model: Any, rows: int, context: int) -> float:
        """Seconds of one step of sampling `rows` answers, each after `context` tokens."""
        # One prompt for all: it is read once, and what is left is sampling.
        ids = [self.rng.integers(4, min(self.shape.vocabulary, 500), context).tolist()] * rows

        def sample(new: int) -> float:
            begun = now(self.threads)
            generate(model, self.tokenizer, ids, max_new_tokens=new, temperature=1.0,
                     batch_size=rows)  # fmt: skip
            return now(self.threads) - begun

        sample(2)  # warm
        short, long = (min(sample(new) for _ in range(3)) for new in (2, 34))
        return max(long - short, 1e-6) / 32

    def _fastest(self, work: Callable[[], Any]) -> float:
        """Seconds of the fastest of several calls, within the budget."""
        best, begun = float("inf"), time.perf_counter()
        for _ in range(3):
            while True:
                start = now(self.threads)
                work()
                best = min(best, now(self.threads) - start)
                if time.perf_counter() - begun > BUDGET or best > BUDGET / 10:
                    break
        return best


def _cut(shape: Architecture, on_gpu: bool) -> Architecture:
    """The first blocks of a model: those of 300M weights at most on a CPU, of 2G on a GPU."""
    room = 2e9 if on_gpu else 3e8
    layers = int(max(1, min(shape.layers, room / shape.block_weights)))
    return dataclasses.replace(shape, layers=layers)


def _start_seconds() -> float:
    """Seconds of processor until a notebook that trains or samples has imported what it needs."""
    before = os.times()
    subprocess.run([sys.executable, "-c", "import finetune_geometry.methods.training"], check=True)
    after = os.times()
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system + KERNEL
