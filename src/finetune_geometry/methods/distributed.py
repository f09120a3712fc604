"""One training shared by several processes (DDP): how they are started, and what each one does.

`training.processes` of them run this module, each on a GPU of its own, or on the CPU. PyTorch's
launcher starts and ends them; accelerate, within the trainer, averages their gradients.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import torch

from finetune_geometry.models.device import device
from finetune_geometry.runs.files import atomic_write
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError

ERROR, LOG = "error.txt", "processes.log"
OVERRIDES = "FINETUNE_GEOMETRY_SET"


def rank() -> int:
    """The number of this process among those that share a training; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def launch(run: Run, method: str, name: str, checkpoints: Path) -> None:
    """Train in processes of their own and wait for them; raises what they raise as UserError.

    Prints what the first of them says. They end when this process does, however it ends.
    """
    training = run.profile.training_of(method)
    least = 1 if training.micro_batch_tokens else training.micro_batch_size
    if training.batch_size % (least * training.processes) != 0:
        raise UserError(
            f"a batch of {training.batch_size} rows is no multiple of {training.processes} "
            f"processes x {least}: training.processes: change it, batch_size or micro_batch_size"
        )
    if device(run.profile).type == "cuda" and torch.cuda.device_count() < training.processes:
        raise UserError(
            f"{training.processes} processes and {torch.cuda.device_count()} visible GPUs: "
            "training.processes: lower it; each process needs a GPU of its own"
        )
    settings = checkpoints / f"{run.profile.name}.yaml"  # a run knows its profile by this name
    values = dataclasses.asdict(run.profile)
    del values["name"]
    settings.write_text(json.dumps(values), encoding="utf-8")
    (checkpoints / ERROR).unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(training.processes), "-m", __spec__.name),
        *(str(settings), run.name, method, name),
    ]
    environment = {"OMP_NUM_THREADS": str(training.threads), **os.environ}
    environment.pop(OVERRIDES, None)  # they are in the settings
    with (
        open(checkpoints / LOG, "w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # closes with this process: see `_end_with_parent`
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
        ) as started,
    ):
        try:
            for line in started.stdout or ():
                print(line, end="", flush=True)
            status = started.wait()
        finally:
            if started.poll() is None:
                started.terminate()
    if status != 0:
        if (checkpoints / ERROR).is_file():
            raise UserError((checkpoints / ERROR).read_text(encoding="utf-8"))
        tail = (checkpoints / LOG).read_text(encoding="utf-8")[-3000:]
        raise RuntimeError(f"a training process ended with status {status}:\n{tail}")


def main(arguments: list[str] | None = None) -> int:
    """One of the processes; `arguments` as `launch` gives them."""
    # Kept here: `training` imports this module.
    from finetune_geometry.methods.training import train_here

    parser = argparse.ArgumentParser(description="One process of a shared training.")
    for argument in ("settings", "run", "method", "name"):
        parser.add_argument(argument)
    given = parser.parse_args(arguments)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        train_here(Run.open(given.settings, given.run), given.method, given.name)
    except UserError as error:
        with atomic_write(Path(given.settings).with_name(ERROR)) as file:
            file.write(str(error))
        return 1
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


def _end_with_parent() -> None:
    """A process that goes on alone would write into checkpoints that the next one goes on from."""
    os.read(sys.stdin.fileno(), 1)  # returns when whoever started the training is gone
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
