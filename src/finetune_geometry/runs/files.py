"""Files that are whole or not there, and tables that come back from CSV as they were written.

A file or folder is written under a hidden name beside its own, then renamed.  The hidden names are
`.NAME.PID@HOST.partial` for what is being written and `.NAME.PID@HOST.old` for a folder that waits
until its successor has the name.  `sweep` clears up what killed processes left of both.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import psutil

from finetune_geometry.settings.errors import UserError

HIDDEN = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)@(?P<host>[^@]+)\.(?P<kind>partial|old)")
HOST = platform.node() or "localhost"
DAY = 86400.0  # seconds


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}@{HOST}.{kind}")


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears at `path` whole or not at all (makes the folders above it).

    On any exception the old file, if there was one, stays as it was. A full disk raises `UserError`
    with the path and the space left.
    """
    path = Path(path)
    partial = _beside(path, "partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        text = "b" not in mode
        with open(
            partial, mode, encoding="utf-8" if text else None, newline="\n" if text else None
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        explain_full_disk(error, path)
        raise


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """A folder to fill; it takes the name `path` (replacing what is there) when the block ends.

    No system renames a folder onto one that is not empty, so the old one steps aside first.  A kill
    between the two renames leaves it there, whole; the next `sweep` gives its name back.
    """
    path = Path(path)
    partial, aside = _beside(path, "partial"), _beside(path, "old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        partial.mkdir()
        yield partial
        if path.is_dir() and not path.is_symlink():
            os.replace(path, aside)
        os.replace(partial, path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        explain_full_disk(error, path)
        raise
    finally:
        if aside.exists():
            _clear(aside, path)


def sweep(folder: Path, name: str = "") -> None:
    """Clear up what killed processes left in `folder`, of all names or of one.

    A folder that was set aside gets its name back if nothing has the name now; all else is deleted.
    What a live process writes stays: one of this machine by its number, one of another machine
    until a day after the last change.  With `name`, leftovers of this process count as dead, too:
    it is about to write that name itself.
    """
    found = [(path, HIDDEN.fullmatch(path.name)) for path in folder.iterdir()]
    left = [(path, match) for path, match in found if match and name in ("", match["name"])]
    for path, match in sorted(left, key=lambda pair: pair[0].suffix, reverse=True):  # old ones last
        mine = bool(name) and (match["pid"], match["host"]) == (str(os.getpid()), HOST)
        if mine or _abandoned(path, int(match["pid"]), match["host"]):
            _clear(path, path.with_name(match["name"]))


def _abandoned(path: Path, pid: int, host: str) -> bool:
    if host == HOST:
        return not psutil.pid_exists(pid)
    try:
        return time.time() - path.lstat().st_ctime > DAY
    except FileNotFoundError:  # finished meanwhile
        return False


def _clear(left: Path, path: Path) -> None:
    """Give the name `path` back to a folder set aside if it is free; else delete `left`."""
    with contextlib.suppress(OSError):  # another process was quicker
        if left.suffix == ".old":
            if not path.exists():
                os.replace(left, path)
                return
            # Half a folder must not look like one set aside.
            os.replace(left, left.with_suffix(".partial"))
            left = left.with_suffix(".partial")
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def explain_full_disk(error: BaseException, path: Path) -> None:
    """Raise `UserError` if writing to `path` failed for want of space; any other error passes."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free / 2**20
    if (
        (isinstance(error, OSError) and error.errno == errno.ENOSPC)
        or "No space left on device" in str(error)  # safetensors: a class of its own
        or (isinstance(error, RuntimeError) and free < 1)  # torch.save: does not say why
    ):
        raise UserError(
            f"no space left on the disk: {path}: free some of it ({free:.0f} MiB are left), "
            "then run the same command again; nothing that was whole is lost"
        ) from error


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV that `read_csv` gives back exactly: text in quotes, numbers bare.

    A float has all digits that tell it from its neighbours; a missing value is an empty bare cell.
    """
    columns = [column.tolist() for _, column in table.items()]
    with atomic_write(path) as file:
        for row in ([str(name) for name in table], *zip(*columns, strict=True)):
            file.write(",".join(map(_cell, row)) + "\n")


def _cell(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float)):
        return "" if value != value else repr(value)
    if value is None or value is pd.NA:
        return ""
    return '"' + str(value).replace('"', '""') + '"'


CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r?\n)')


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table of `write_csv`: a column with quotes is text, whatever it looks like.

    pandas' own reader takes adapters called `NA`, `None` or `1e5` and an empty text for something
    else, and drops the last bits of some floats.  Raises `UserError` for a file that is no table.
    """
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    text += "" if text.endswith("\n") else "\n"
    rows: list[list[tuple[bool, str]]] = [[]]
    at = 0
    while at < len(text):
        cell = CELL.match(text, at)
        if cell is None:
            break
        quoted, bare, end = cell.groups()
        rows[-1].append((False, bare) if quoted is None else (True, quoted.replace('""', '"')))
        rows += [] if end == "," else [[]]
        at = cell.end()
    head, *body = rows[:-1] or [[]]
    if at < len(text) or any(len(row) != len(head) for row in body):
        raise UserError(f"not a table: {path}: delete it and run its notebook again")
    return pd.DataFrame(
        {name: _column([row[n] for row in body]) for n, (_, name) in enumerate(head)}
    )


def _column(cells: list[tuple[bool, str]]) -> pd.Series:
    """The cells of one column, (in quotes, text) each, as what `_cell` made them of."""
    texts = [text for _, text in cells]
    logical = {"True": True, "False": False, "": np.nan}
    if not texts:
        return pd.Series([], dtype=object)
    if any(quoted for quoted, _ in cells):
        return pd.Series([text if quoted or text else None for quoted, text in cells], dtype=str)
    if {""} != set(texts) <= logical.keys():
        return pd.Series([logical[text] for text in texts])
    for kind, missing in ((int, "?"), (float, "nan")):
        with contextlib.suppress(ValueError, OverflowError):
            return pd.Series([kind(text or missing) for text in texts], dtype=kind)
    return pd.Series(texts, dtype=str)  # made by another program
