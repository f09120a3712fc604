"""Rows of Parquet, CSV and JSON-lines files, one after another, in the memory of one block."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from finetune_geometry.settings.errors import UserError

ROWS = 1024  # of a Parquet file in memory at a time
BLOCK = 1 << 22  # bytes of a CSV file at a time: far more than its longest row


def rows(
    path: Path,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    chosen: np.ndarray | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows of a file in their order, as mappings of `columns` and those `optional` it has.

    chosen: (n,) numbers of the wanted rows, ascending; None: all.
    Raises UserError, one line, for a file that is broken or lacks one of `columns`.
    """
    read = {".parquet": _parquet, ".csv": _csv}.get(path.suffix, _json_lines)
    with _one_line(path):
        yield from read(path, columns, optional, chosen)


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """What a broken file raises, as a UserError."""
    try:
        yield
    except UserError:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise UserError(
            f"cannot be read: {path}: delete it and fetch it again ({reason})"
        ) from error


def _present(
    path: Path, names: Sequence[str], columns: Sequence[str], optional: Sequence[str]
) -> list[str]:
    """The columns to read; raises UserError that names what is missing."""
    missing = [name for name in columns if name not in names]
    if missing:
        raise UserError(
            f"no column {', '.join(missing)}: {path}: it has {', '.join(names)}; the data set was "
            "changed: set rollouts.traces.revision to a commit before that"
        )
    return [name for name in dict.fromkeys((*columns, *optional)) if name in names]


def _parquet(
    path: Path, columns: Sequence[str], optional: Sequence[str], chosen: np.ndarray | None
) -> Iterator[dict[str, Any]]:
    with pa.parquet.ParquetFile(path) as file:
        present = _present(path, file.schema_arrow.names, columns, optional)
        begin = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            inside = _between(chosen, begin, size)
            begin += size
            if inside is None or len(inside):  # a block without a wanted row is not read
                batches = file.iter_batches(ROWS, row_groups=[group], columns=present)
                yield from _taken(batches, inside)


def _csv(
    path: Path, columns: Sequence[str], optional: Sequence[str], chosen: np.ndarray | None
) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        present = _present(path, next(csv.reader(file), []), columns, optional)
    with pa.csv.open_csv(
        path,
        read_options=pa.csv.ReadOptions(block_size=BLOCK),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        # Text, all of it: where the first answers are numbers, all would be taken for numbers.
        convert_options=pa.csv.ConvertOptions(
            include_columns=present, column_types=dict.fromkeys(present, pa.string())
        ),
    ) as batches:
        yield from _taken(batches, chosen)


def _taken(batches: Any, chosen: np.ndarray | None) -> Iterator[dict[str, Any]]:
    begin = 0
    for batch in batches:
        inside = _between(chosen, begin, batch.num_rows)
        begin += batch.num_rows
        yield from (batch if inside is None else batch.take(pa.array(inside))).to_pylist()


def _between(chosen: np.ndarray | None, begin: int, size: int) -> np.ndarray | None:
    """Those of `chosen` in a block of `size` rows, counted from its begin; None stays None."""
    if chosen is None:
        return None
    low, high = np.searchsorted(chosen, (begin, begin + size))
    return chosen[low:high] - begin


def _json_lines(
    path: Path, columns: Sequence[str], optional: Sequence[str], chosen: np.ndarray | None
) -> Iterator[dict[str, Any]]:
    wanted = None if chosen is None else set(chosen.tolist())
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file):
            if wanted is None or number in wanted:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number + 1} holds no named values")
                yield {name: row[name] for name in _present(path, list(row), columns, optional)}
