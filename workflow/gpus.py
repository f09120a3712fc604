"""Which GPUs a step computes on: its own, or none.

On one machine a step claims a device by a lock of the operating system, which is gone with the
process that held it. Snakemake counts devices, but does not say which one a step may take; and two
runs beside each other do not count each other's. On a cluster the scheduler has chosen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

VISIBLE = "CUDA_VISIBLE_DEVICES"
CLAIMABLE = "FINETUNE_GEOMETRY_GPUS"  # of this machine, set by executors.py
AS_IT_IS, NONE = "as-it-is", "none"  # or how many


def on_this_machine() -> list[str]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES takes them: what it lists, else all there are."""
    chosen = os.environ.get(VISIBLE)
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        # CUDA reads no further than a name that is none, as -1.
        end = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
        return list(dict.fromkeys(names[:end]))  # one that is named twice is one
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return said.stdout.split() if said.returncode == 0 else []


def claim(devices: Sequence[str], count: int = 1) -> tuple[list[str], list[IO[str]]]:
    """Wait for devices that no other step holds: their names, and the files that hold them.

    All or none: of two steps that want two, neither may wait with one in its hand.
    """
    folder = Path(tempfile.gettempdir()) / f"finetune-geometry-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        held: dict[str, IO[str]] = {}
        for device in devices:
            name = device.replace("/", "_")  # a part of a GPU may be called MIG-GPU-.../1/0
            file = open(folder / f"{name}.lock", "a", encoding="utf-8")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                held[device] = file
            if len(held) == count:
                return list(held), list(held.values())
        for file in held.values():
            file.close()
        time.sleep(0.5)


@contextlib.contextmanager
def environment(gpu: str) -> Iterator[tuple[dict[str, str], list[int]]]:
    """The environment of a step, and the open files that it must inherit to keep its device.

    gpu: how many, NONE, or AS_IT_IS for a profile that needs no GPU: nothing is changed.
    """
    if gpu == AS_IT_IS:
        yield dict(os.environ), []
    elif gpu == NONE:
        yield os.environ | {VISIBLE: ""}, []
    elif devices := os.environ.get(CLAIMABLE):
        names, files = claim(devices.split(","), int(gpu))
        with contextlib.ExitStack() as held:
            for file in files:
                held.enter_context(file)
            yield os.environ | {VISIBLE: ",".join(names)}, [file.fileno() for file in files]
    else:  # what the scheduler gave; never more, which transformers would train on at once
        given = os.environ.get(VISIBLE)
        chosen = ",".join(given.split(",")[: int(gpu)]) if given else ""
        yield os.environ | ({VISIBLE: chosen} if given else {}), []
