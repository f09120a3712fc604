"""A collection of adapters, one folder each, and the table that says what each folder is.

The table is a CSV file that a person can correct. What the names and files of the folders say for
certain is filled in once; afterwards the table is read, never rewritten but for new folders.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_geometry.deltas.adapters import Adapter, load_adapter
from finetune_geometry.deltas.folder_facts import Grid, facts_of_files, facts_of_names, together
from finetune_geometry.deltas.locations import CONFIG
from finetune_geometry.settings.errors import UserError, closest

COLUMNS = ["folder", "method", "variant", "seed", "learning_rate", "step", "use", "note"]
_WEIGHTS = ("adapter_model*.safetensors", "adapter_model*.bin")
UNREADABLE = "cannot be read"
_METHOD = re.compile(r"[a-z0-9_]*")
_USE = {"yes": True, "no": False}


@dataclass(frozen=True)
class Member:
    """One folder of a collection: its adapter, or why it cannot be read."""

    folder: str  # below the collection, with "/"
    path: Path
    adapter: Adapter | None
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table. Empty or None: not known."""

    folder: str
    method: str = ""
    variant: str = ""  # empty: the method as the paper has it
    seed: int | None = None
    learning_rate: float | None = None
    step: int | None = None
    use: bool = True
    note: str = ""  # of the program's; not read back


def open_collection(root: Path) -> list[Member]:
    """Every folder below `root` with an adapter's configuration or weights, by name.

    Only the headers of the files are read. A folder that is no whole adapter has a `problem`.
    """
    patterns = (CONFIG, *_WEIGHTS)
    folders = {path.parent for pattern in patterns for path in root.rglob(pattern)}
    found = []
    for path in sorted(folders):
        folder = path.relative_to(root).as_posix()
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue  # a cache of the hub client's
        try:
            found.append(Member(folder, path, load_adapter(path, folder)))
        except UserError as error:
            reason = str(error).replace(f"{path}/", "").replace(f": {path}", "")
            found.append(Member(folder, path, None, reason))
    if not found:
        raise UserError(f"no adapters: {root}: a collection has one folder for each adapter")
    return found


def propose(members: Sequence[Member], grid: Grid) -> list[Row]:
    """A row for each folder, of what its name and its files say for certain.

    What cannot be read, and what changes other modules or another base model than most do, gets
    "no" under use, with the reason; a person may overrule the latter.
    """
    readable = {member.folder: member.adapter for member in members if member.adapter}
    usual = Counter(map(_form, readable.values())).most_common(1)
    names = facts_of_names([member.folder for member in members], grid)
    rows = []
    for member in members:
        known = together(names[member.folder], facts_of_files(member.path))
        notes = [f"{UNREADABLE}: {member.problem}"] if member.problem else []
        if member.adapter and _form(member.adapter) != usual[0][0]:
            base = member.adapter.base_model or "an unnamed base"
            notes.append(f"unlike most: {len(member.adapter)} modules of {base}")
        rows.append(
            Row(
                member.folder,
                *(known.method, known.variant, known.seed, known.learning_rate, known.step),
                use=not notes,
                note="; ".join([*notes, *known.doubts]),
            )
        )
    return rows


def _form(adapter: Adapter) -> tuple[Any, ...]:
    """What adapters must share to be compared: modules, shapes, and the base's name as far as it
    does not depend on where it lay."""
    cached = re.search(r"models--[^/\\]+--([^/\\]+)", adapter.base_model)  # of the hub client's
    base = cached[1] if cached else re.split(r"[/\\]", adapter.base_model.rstrip("/\\"))[-1]
    return base.lower(), tuple(adapter.shapes.items())


def kept(path: Path, proposed: Sequence[Row]) -> list[Row]:
    """The rows of the table at `path`, brought up to date: those of new folders are added.

    The file is written where it is missing or lacks a folder, and left alone otherwise. The notes
    are those proposed. Rows of folders that are not there are told of and not used.
    """
    before = {row.folder: row for row in read_rows(path)} if path.is_file() else {}
    rows = []
    for row in proposed:
        old = before.get(row.folder, row)
        use = old.use and not row.note.startswith(UNREADABLE)
        rows.append(dataclasses.replace(old, note=row.note, use=use))
    there = {row.folder for row in proposed}
    rows += [
        dataclasses.replace(row, use=False, note="not in this collection")
        for row in before.values()
        if row.folder not in there
    ]
    if there - before.keys():
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{path.name}.partial")
        half.write_text(_as_csv(rows), encoding="utf-8")
        half.replace(path)
    return rows


def _as_csv(rows: Sequence[Row]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = [getattr(row, name) for name in COLUMNS]
        texts = {None: "", True: "yes", False: "no"}
        # `True == 1`: only what is None or a truth value is put into words.
        writer.writerow([texts[c] if c is None or isinstance(c, bool) else c for c in cells])
    return file.getvalue()


def read_rows(path: Path) -> list[Row]:
    """Read a table that a person may have edited, in a spreadsheet, too. Errors name the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"not UTF-8: {path}: save it as CSV, UTF-8") from None
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if head.count(";") > 3 else ",")
    for name in reader.fieldnames or []:
        if name not in COLUMNS:
            raise UserError(f"unknown column {name!r}: {path}: {closest(name, COLUMNS)}")
    missing = [name for name in COLUMNS[:-1] if name not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"no column {missing[0]!r}: {path}: it needs {', '.join(COLUMNS[:-1])}")
    rows: list[Row] = []
    for cells in reader:
        where = f"{path}, line {reader.line_num}"
        given = {name: (cells.get(name) or "").strip() for name in COLUMNS}
        if not any(given.values()):
            continue
        if given["folder"] in {row.folder for row in rows}:
            raise UserError(f"folder {given['folder']!r} twice: {where}: delete one of the lines")
        if given["use"].lower() not in _USE:
            raise UserError(f"use {given['use']!r}: {where}: write yes or no")
        if not _METHOD.fullmatch(given["method"]):
            raise UserError(
                f"method {given['method']!r}: {where}: use small letters, digits and '_'"
            )
        rows.append(
            Row(
                given["folder"],
                given["method"],
                given["variant"],
                _number(given["seed"], int, "seed", where),
                _number(given["learning_rate"], float, "learning_rate", where),
                _number(given["step"], int, "step", where),
                _USE[given["use"].lower()],
                given["note"],
            )
        )
    return rows


def _number(text: str, kind: Callable[[str], Any], name: str, where: str) -> Any:
    if not text:
        return None
    try:
        return kind(text.replace(",", ".") if kind is float else text)
    except ValueError:
        words = "a whole number" if kind is int else "a number"
        raise UserError(f"{name} {text!r}: {where}: write {words}, or nothing") from None
