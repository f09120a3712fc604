"""Tables as files: CSV for people, and something smaller where they are large."""

from __future__ import annotations

import gzip
import importlib.util
import io
from pathlib import Path

import pandas as pd

from finetune_geometry.runs.files import atomic_write

# Rows above which a table is no CSV any more: about 10 MB, more than an editor opens gladly.
MOST_ROWS = 100_000


def write_table(folder: Path, name: str, table: pd.DataFrame, most_rows: int = MOST_ROWS) -> str:
    """Write a table into a folder and return the file's name.

    NAME.csv up to `most_rows` rows; above, NAME.parquet if pyarrow is installed, else NAME.csv.gz.
    The same table gives the same bytes.
    """
    if len(table) <= most_rows:
        file_name = f"{name}.csv"
        with atomic_write(folder / file_name) as file:
            table.to_csv(file, index=False, lineterminator="\n")
    elif importlib.util.find_spec("pyarrow") is not None:
        file_name = f"{name}.parquet"
        with atomic_write(folder / file_name, "wb") as file:
            table.to_parquet(file, index=False, engine="pyarrow", compression="zstd")
    else:
        file_name = f"{name}.csv.gz"
        # Neither the time nor the name goes into the header.
        with (
            atomic_write(folder / file_name, "wb") as file,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
        ):
            table.to_csv(text, index=False, lineterminator="\n")
    return file_name
