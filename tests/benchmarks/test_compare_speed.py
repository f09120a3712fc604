"""`finetune-geometry compare` as a whole process, at the size of a released collection of adapters.

`pytest tests/benchmarks/test_compare_speed.py --benchmark-only -s` prints the costs. Adapters have
the shapes of Qwen3-4B's attention projections, rank 32, fp16, one shared A a module that training
has moved a little, as the paper's release has.

With COMPARE_COST=book/compare_cost.csv the table that the book shows is written there.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import save_file
from synthetic import module_name

SHAPES = {"q_proj": (4096, 2560), "k_proj": (1024, 2560), "v_proj": (1024, 2560)} | {
    "o_proj": (2560, 4096)
}
RANK = 32
# Runs a command and tells the peak memory of it alone: of all children, the largest so far.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(code, seconds, peak / (2**20 if sys.platform == "darwin" else 2**10))
"""


def write_adapters(folder: Path, count: int, layers: int, width: float) -> list[str]:
    """`count` adapter folders; returns the arguments NAME=FOLDER."""
    rng = np.random.default_rng(0)
    shapes = {k: (round(width * out), round(width * into)) for k, (out, into) in SHAPES.items()}
    start = {
        kind: rng.standard_normal((RANK, shape[1])).astype(np.float32)
        for kind, shape in shapes.items()
    }
    arguments = []
    for n in range(count):
        tensors = {}
        for layer in range(layers):
            for kind, (out, into) in shapes.items():
                stem = f"base_model.model.{module_name(layer, kind)}"
                moved = start[kind] + 0.1 * rng.standard_normal((RANK, into), dtype=np.float32)
                tensors[f"{stem}.lora_A.weight"] = moved.astype(np.float16)
                b = 0.01 * rng.standard_normal((out, RANK), dtype=np.float32)
                tensors[f"{stem}.lora_B.weight"] = b.astype(np.float16)
        place = folder / f"a{n:02d}"
        place.mkdir(parents=True)
        save_file(tensors, place / "adapter_model.safetensors")
        settings = {
            "peft_type": "LORA",
            "base_model_name_or_path": "Qwen/Qwen3-4B",
            "r": RANK,
            "lora_alpha": 2 * RANK,
            "target_modules": list(shapes),
        }
        (place / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
        arguments.append(f"a{n:02d}={place}")
    return arguments


def cost(arguments: list[str], out: Path) -> tuple[float, float]:
    """Seconds and peak MiB of one comparison with a report, as a process of its own."""
    command = [sys.executable, "-m", "finetune_geometry", "compare", *arguments, "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    said = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout.split()
    assert said[0] == "0", said
    return float(said[1]), float(said[2])


@pytest.mark.parametrize("count", [7, 28])
def test_a_collection_at_the_paper_s_size(benchmark, capsys, tmp_path, count):
    arguments = write_adapters(tmp_path / "adapters", count, layers=36, width=1.0)
    took, peak = benchmark.pedantic(cost, args=(arguments, tmp_path / "report"), rounds=1)
    with capsys.disabled():
        print(f"\n{count} adapters, {36 * len(SHAPES)} modules: {took:.1f} s, peak {peak:.0f} MiB")
    assert (tmp_path / "report" / "index.html").is_file()


#: Adapters, layers, width as a share of Qwen3-4B's.
GRID = [
    *((2, 9, 1.0), (2, 36, 1.0), (7, 36, 0.5), (7, 36, 1.0)),
    *((14, 36, 1.0), (28, 9, 1.0), (28, 36, 0.5), (28, 36, 1.0)),
]


def test_cost_by_adapters_modules_and_width(benchmark, capsys, tmp_path):
    """The table of the book: every row a process of its own, one after the other."""
    rows: list[dict[str, float | int]] = []

    def all_of_them() -> None:
        for count, layers, width in GRID:
            folder = tmp_path / f"{count}-{layers}-{width}"
            arguments = write_adapters(folder, count, layers, width)
            time.sleep(1)  # let the disk finish
            took, peak = cost(arguments, tmp_path / "out")
            rows.append(
                {
                    "adapters": count,
                    "pairs": count * (count - 1) // 2,
                    "modules": layers * len(SHAPES),
                    "width": round(width * SHAPES["q_proj"][1]),
                    "seconds": round(took, 1),
                    "peak MiB": round(peak),
                }
            )

    benchmark.pedantic(all_of_them, rounds=1)
    with capsys.disabled():
        print()
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))
    if where := os.environ.get("COMPARE_COST"):
        with open(ROOT / where, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    assert len(rows) == len(GRID)
