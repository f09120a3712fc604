"""Where models run, and what to change where the memory there is too small."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from finetune_geometry.runs.keys import device_type
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import Profile

GIB = 2**30
PATIENCE = 60  # seconds that the driver has to answer
#: What a plain RuntimeError says: PyTorch's on a CPU, and those of CUDA's libraries.
_EXHAUSTED = re.compile(
    r"(can't|cannot|not enough|out of) (allocate )?memory|CU[A-Z]+_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
#: ... and how much was asked for, in PyTorch's words or NumPy's.
_ASKED = re.compile(r"(?:tried|unable) to allocate ([\d.]+) (bytes|[KMGT]iB)", re.IGNORECASE)
_UNITS = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": GIB, "tib": 2**40}


def device(profile: Profile) -> torch.device:
    """The device that all models of this process run on: one GPU, or the CPU.

    Of processes that share a training each has a GPU of its own, by $LOCAL_RANK. Raises UserError
    where the profile needs a GPU and none works.
    """
    if device_type() == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if profile.model.needs_gpu:
        raise UserError(
            f"no GPU that works ({why_no_gpu()}): profile {profile.name}, model.needs_gpu: mend "
            "it, or take a profile for a CPU, as tiny"
        )
    return torch.device("cpu")


def why_no_gpu() -> str:
    """What PyTorch and the driver say of it, in one line."""
    reasons = []
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        reasons.append("CUDA_VISIBLE_DEVICES hides all GPUs")
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # a build without CUDA; no driver, an old one
        reasons.append(f"PyTorch: {_line(str(error))}")
    tool = shutil.which("nvidia-smi")
    if tool is None:
        reasons.append("there is no nvidia-smi")
    else:
        reasons.append(f"nvidia-smi: {_asked(tool)}")
    return "; ".join(reasons)


def _asked(tool: str) -> str:
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:  # a driver that hangs
        return f"no answer within {PATIENCE} seconds"
    return _line(done.stdout + done.stderr) or "says nothing"


def _line(text: str) -> str:
    return " ".join(text.split())[:200].rstrip(". ")


@contextmanager
def enough_memory(setting: str, value: object, advice: str = "lower it") -> Iterator[None]:
    """Out of memory within the block becomes a UserError that names the setting to change.

    It says what was asked for and what there is, on a GPU and on a CPU.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        text = str(error)
        surely = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not surely and not _EXHAUSTED.search(text):
            raise
        on_gpu = "CUDA" in text or "_STATUS_ALLOC_FAILED" in text
        asked = _ASKED.search(text)
        size = float(asked[1]) * _UNITS[asked[2].lower()] / GIB if asked else None
        wanted = "" if size is None else f"{size:.2f} GiB more asked for, "
        raise UserError(
            f"out of memory ({wanted}{_free(on_gpu)}): {setting} = {value}: {advice}, then run "
            "the same command again"
        ) from error


def _free(on_gpu: bool) -> str:
    if on_gpu and device_type() == "cuda":
        free, total = torch.cuda.mem_get_info()
    else:
        memory = psutil.virtual_memory()
        free, total = memory.available, memory.total
    return f"{free / GIB:.2f} of {total / GIB:.1f} GiB free"
