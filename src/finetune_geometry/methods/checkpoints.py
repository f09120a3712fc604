"""Checkpoints of a training that is under way: whose they are, and which one to go on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pandas as pd

from finetune_geometry.runs.files import atomic_directory


def begin(checkpoints: Path, origin: dict[str, Any]) -> None:
    """Forget checkpoints of another origin: going on from them would give a mixture of two."""
    note = checkpoints / "settings.json"
    text = json.dumps(origin)
    if checkpoints.exists() and not (note.exists() and note.read_text() == text):
        shutil.rmtree(checkpoints)
    checkpoints.mkdir(parents=True, exist_ok=True)
    note.write_text(text)


def last_checkpoint(checkpoints: Path, processes: int) -> Path | None:
    """The newest whole checkpoint: `trainer_state.json` is the last file that is written to one.

    Of several processes each writes one file of its own, and may be the last to do so.
    """
    states = checkpoints.glob("checkpoint-*/trainer_state.json")
    whole = [
        path.parent
        for path in states
        if path.read_text().rstrip().endswith("}")
        and len([*path.parent.glob("rng_state*.pth")]) == processes
    ]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def kept_rows(checkpoints: Path, rows: pd.DataFrame) -> datasets.Dataset:
    """The rows as a data set in a folder of the training, written if it is not there.

    What TRL works out of them beforehand, DPO's reference, it keeps beside them: all processes of a
    training find it there, and so does one that goes on after a kill.
    """
    folder = checkpoints / "rows"
    if not folder.is_dir():
        with atomic_directory(folder) as new:
            datasets.disable_progress_bars()  # noise in a notebook
            datasets.Dataset.from_pandas(rows, preserve_index=False).save_to_disk(new)
    return datasets.load_from_disk(folder)
