"""Where the adapters lie that a training keeps on its way."""

from __future__ import annotations

from pathlib import Path

from finetune_geometry.runs.records import Run


def snapshot_dir(run: Run, name: str, step: int) -> Path:
    """The folder of the adapter `name` as it stood after `step` steps of its training."""
    return run.dir / "snapshots" / name / str(step)
