"""The chapter on released weights at the paper's size: 28 folders of Qwen3-4B's attention, fp32.

`pytest tests/benchmarks/test_released_size.py --benchmark-only -s` prints what it takes beyond
fetching: one execution of the page, from a repository on a hub on localhost, as processes of their
own. It needs 8 GB of disk for as long as it runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from collection import RELEASE, write_collection
from conftest import ROOT, execute
from fake_hub import FakeHub

from finetune_geometry.runs.files import read_csv

MIB = 1024  # that one laptop can spare
REPOSITORY = "owner/adapters"


def fetch(hub: FakeHub, home: Path) -> None:
    command = [sys.executable, "-m", "finetune_geometry", "prefetch", "--profile", "smoke"]
    subprocess.run(
        [*command, "--set", f"released.collection={REPOSITORY}", "--released"],
        env=os.environ
        | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "FINETUNE_GEOMETRY_RESULTS": str(home / "results"),
        },
        check=True,
    )


def test_the_chapter_at_the_paper_s_size(benchmark, capsys, tmp_path, monkeypatch):
    root = write_collection(tmp_path / "adapters", layers=36, width=1.0, r=32)
    files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
    with FakeHub(tmp_path / "hub") as hub:
        hub.add(REPOSITORY, files)
        fetch(hub, tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("FINETUNE_GEOMETRY_SET", f"released.collection={REPOSITORY}")
    source = ROOT / "notebooks" / "evaluation" / "released_weights.py"
    timing = tmp_path / "timing.json"

    def page() -> None:
        execute(
            *(source, tmp_path / "out.ipynb", "-r", "profile", "smoke"),
            results=tmp_path / "results",
            under=(
                sys.executable,
                str(ROOT / "workflow" / "measure.py"),
                str(timing),
                "as-it-is",
                "-",
            ),
        )

    benchmark.pedantic(page, rounds=1)
    took = json.loads(timing.read_text(encoding="utf-8"))
    with capsys.disabled():
        print(
            f"\n{len(RELEASE)} folders: {took['seconds']:.1f} s ({took['cpu_seconds']:.1f} s of "
            f"processors), peak {took['peak_mib']:.0f} MiB"
        )
    assert took["peak_mib"] < MIB
    claims = read_csv(tmp_path / "results" / "smoke" / "released" / "claims.csv")
    assert (claims["verdict"] == "reproduced").sum() == 8
