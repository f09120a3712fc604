"""Tables are CSV as long as people can open them, and small and whole above."""

import gzip
import importlib.util

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.report.table_writer import write_table

TABLE = pd.DataFrame(
    {"a": ["x", "y", "z"], "layer": [0, 1, -1], "value": np.random.default_rng(0).random(3)}
)


def read(path):
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


@pytest.mark.parametrize(
    ("most_rows", "pyarrow", "name"),
    [(3, True, "t.csv"), (3, False, "t.csv"), (2, True, "t.parquet"), (2, False, "t.csv.gz")],
)
def test_each_form_is_whole_and_the_same_again(tmp_path, monkeypatch, most_rows, pyarrow, name):
    if not pyarrow:
        monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    assert write_table(tmp_path, "t", TABLE, most_rows) == name
    found = read(tmp_path / name)
    pd.testing.assert_frame_equal(found, TABLE, check_dtype=False, rtol=1e-15)
    first = (tmp_path / name).read_bytes()
    assert write_table(tmp_path, "t", TABLE, most_rows) == name
    assert (tmp_path / name).read_bytes() == first


def test_the_packed_csv_is_the_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    write_table(tmp_path, "t", TABLE, 2)
    write_table(tmp_path, "t", TABLE)
    packed = gzip.decompress((tmp_path / "t.csv.gz").read_bytes())
    assert packed == (tmp_path / "t.csv").read_bytes()
