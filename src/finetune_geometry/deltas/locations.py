"""Where adapters and checkpoints lie: a local folder, or a repository of a hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from finetune_geometry.settings.errors import UserError

CONFIG = "adapter_config.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w.-]+)?(/[\w./-]+)?")


def locate(source: str | Path) -> Path:
    """The local folder of `source`: itself, or a hub id fetched into the hub client's cache.

    A hub id is `owner/repository`, with `@revision` and `/folder/inside` as needed. Only the
    .json and .safetensors files of that one folder are fetched. Raises `UserError` if there is
    no such folder; where a repository holds adapters further down, it lists their folders.
    """
    text = str(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"not a folder: {path}: give the folder that holds {CONFIG}")
    meant_locally = len(path.parts) > 2 and Path(path.parts[0]).is_dir()
    if meant_locally or not _HUB_ID.fullmatch(text) or ".." in text:
        raise UserError(
            f"no such adapter: {text}: give a folder that holds {CONFIG}, "
            "or a hub id such as owner/repository"
        )
    owner, name, *inside = text.strip("/").split("/")
    name, _, revision = name.partition("@")
    repository, folder = f"{owner}/{name}", "/".join(inside)
    return locate(_fetch(repository, revision or None, folder, text) / folder)


def _fetch(repository: str, revision: str | None, folder: str, text: str) -> Path:
    """The local copy of a repository, with the files of `folder` in it."""
    # A hub client is needed for a hub id only; everything local works without one.
    from huggingface_hub import HfApi, constants, snapshot_download

    start = f"{folder}/" if folder else ""
    wanted: list[str] | None = None  # without a connection: what the cache holds
    try:
        if not constants.HF_HUB_OFFLINE:
            files = HfApi().list_repo_files(repository, revision=revision)
            wanted = [glob.escape(f) for f in files if _lies_in(f, start)]
            if not any(f.endswith(".safetensors") for f in wanted):
                below = adapters_below(f for f in files if f.startswith(start))
                held = ", ".join(sorted(f for f in files if f.startswith(start))[:5]) or "nothing"
                raise UserError(
                    f"no .safetensors file in {text}: hub: " + (below or f"it holds {held}")
                )
        root = snapshot_download(repository, revision=revision, allow_patterns=wanted)
    except UserError:
        raise
    except Exception as error:  # the client raises a dozen kinds: offline, 404, gated, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot fetch {text}: hub: {reason}; check the id and the connection, or "
            "download the folder and give its path"
        ) from None
    return Path(root)


def _lies_in(file: str, start: str) -> bool:
    """Whether a file of a repository lies in the folder `start` itself and can be of use."""
    name = file.removeprefix(start)
    return file.startswith(start) and "/" not in name and name.endswith((".json", ".safetensors"))


def adapters_below(files: Iterable[str]) -> str:
    """Words for the folders that hold adapters, from paths with "/"; empty if there is none."""
    folders = sorted({f.removesuffix(CONFIG).strip("/") for f in files if f.endswith(f"/{CONFIG}")})
    if not folders:
        return ""
    more = f", and {len(folders) - 40} more" if len(folders) > 40 else ""
    return f"it holds adapters further down, add one of: {', '.join(folders[:40])}{more}"
