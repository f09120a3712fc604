"""Files that appear whole, folders that survive a kill, and tables that come back from CSV."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_geometry.runs import files
from finetune_geometry.runs.files import (
    HOST,
    atomic_directory,
    atomic_write,
    read_csv,
    sweep,
    write_csv,
)
from finetune_geometry.settings.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(path: Path, word: str) -> None:
    with atomic_directory(path) as folder:
        for name in ("a", "b", "c"):
            (folder / name).write_text(word)


def held(path: Path) -> set[str]:
    """What the files of a folder of `fill` say; two words mean that two writes were mixed."""
    assert names(path) == ["a", "b", "c"]
    return {file.read_text() for file in path.iterdir()}


@pytest.fixture(scope="module")
def dead() -> int:
    """Number of a process that no longer runs."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_file_appears_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    with atomic_write(path) as file:
        file.write("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert names(path.parent) == ["table.csv"]


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path, "wb") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_an_interrupted_folder_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    fill(path, "old")
    with pytest.raises(RuntimeError), atomic_directory(path) as folder:
        (folder / "a").write_text("new")
        raise RuntimeError
    assert held(path) == {"old"}
    with atomic_directory(path) as folder:
        (folder / "b").write_text("new")
    assert names(path) == ["b"]
    assert names(tmp_path) == ["adapter"]


# Everything that changes the disk while a folder takes the place of another.
STEPS = ("mkdir", "open", "rename", "replace", "rmdir", "unlink")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("occasion", [1, 2, 3])
def test_a_failed_step_keeps_the_old_folder_or_has_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, occasion: int
) -> None:
    path = tmp_path / "adapter"
    fill(path, "old")
    real, calls = getattr(os, step), []

    def failing(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == occasion:
            raise OSError(errno.EIO, "the disk is gone for a moment")
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, failing)
        try:
            fill(path, "new")
        except OSError:
            assert held(path) == {"old"}
        else:
            assert held(path) == {"new"}
    fill(path, "newer")
    assert held(path) == {"newer"}
    assert names(tmp_path) == ["adapter"]


KILLED = """
import os, signal, sys
from pathlib import Path

from finetune_geometry.runs.files import atomic_directory

# Audit hooks see every call that changes the disk, also those inside shutil, before it happens.
WATCHED = {"os.mkdir", "os.rename", "os.rmdir", "os.remove", "shutil.rmtree", "open"}
left, armed = int(sys.argv[2]), False

def kill(event, arguments):
    global left
    if armed and event in WATCHED:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
armed = True
with atomic_directory(Path(sys.argv[1])) as folder:
    for name in ("a", "b", "c"):
        (folder / name).write_text("new")
armed = False
"""


def killed(path: Path, occasion: int) -> bool:
    """Replace a folder in a process that is killed right before its n-th change to the disk."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(occasion)], check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


def test_a_kill_at_any_instant_loses_neither_the_old_folder_nor_the_new(tmp_path: Path) -> None:
    seen, missing, occasion = set(), 0, 0
    while True:
        occasion += 1
        folder = tmp_path / str(occasion)
        path = folder / "adapter"
        fill(path, "old")
        alive = not killed(path, occasion)
        missing += not path.exists()
        sweep(folder)  # what the next use of the folder begins with
        assert names(folder) == ["adapter"]
        (word,) = held(path)
        seen.add(word)
        if alive:
            break
    assert word == "new"
    assert seen == {"old", "new"}
    assert missing == 1  # the one instant at which the name is nobody's was among those tried
    assert occasion > 8


def test_a_kill_is_mended_by_the_next_write_of_the_same_folder(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    occasion = 0
    while path.exists() or not occasion:  # until the instant at which the name is nobody's
        occasion += 1
        fill(path, "old")
        assert killed(path, occasion)
    with pytest.raises(RuntimeError), atomic_directory(path):
        raise RuntimeError
    assert held(path) == {"old"}
    assert names(tmp_path) == ["adapter"]


def test_leftovers_of_dead_processes_go_and_those_of_live_ones_stay(
    tmp_path: Path, dead: int
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        live = [f".t.csv.{process.pid}@{HOST}.partial", f".t.csv.{os.getpid()}@{HOST}.partial"]
        other = f".t.csv.{dead}@elsewhere.example.partial"
        strangers = [".timing.csv.partial", ".cache", f".t.{dead}@{HOST}.json", "t.old"]
        for name in (*live, other, *strangers, f".t.csv.{dead}@{HOST}.partial"):
            (tmp_path / name).touch()
        whole, half = tmp_path / f".sft.{dead}@{HOST}.old", tmp_path / f".dpo.{dead}@{HOST}.partial"
        for folder in (whole, half, tmp_path / f".rft.{process.pid}@{HOST}.old"):
            folder.mkdir()
            (folder / "card.json").touch()
        sweep(tmp_path)
        kept = [*live, other, *strangers, f".rft.{process.pid}@{HOST}.old", "sft"]
        assert names(tmp_path) == sorted(kept)
        process.communicate(b"\n")


def test_leftovers_of_another_machine_go_after_a_day(
    tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes cannot be seen from here."""
    left = tmp_path / f".sft.{dead}@elsewhere.partial"
    left.mkdir()
    sweep(tmp_path)
    assert left.exists()
    now = time.time()
    monkeypatch.setattr(files.time, "time", lambda: now + 25 * 3600)
    sweep(tmp_path)
    assert not left.exists()


def test_a_folder_set_aside_takes_no_name_from_its_successor(tmp_path: Path, dead: int) -> None:
    fill(tmp_path / "sft", "new")
    fill(tmp_path / f".sft.{dead}@{HOST}.old", "old")
    sweep(tmp_path)
    assert names(tmp_path) == ["sft"]
    assert held(tmp_path / "sft") == {"new"}


def test_both_leftovers_of_one_process_go_beside_a_successor(tmp_path: Path, dead: int) -> None:
    fill(tmp_path / "adapter", "newer")
    for kind in ("old", "partial"):
        fill(tmp_path / kind, kind)
        (tmp_path / kind).rename(tmp_path / f".adapter.{dead}@{HOST}.{kind}")
    sweep(tmp_path)
    assert names(tmp_path) == ["adapter"]
    assert held(tmp_path / "adapter") == {"newer"}


def test_writing_one_name_leaves_the_leftovers_of_others(tmp_path: Path, dead: int) -> None:
    """A report may be written into a folder that is not a run's."""
    mine, other = (tmp_path / f".{name}.{dead}@{HOST}.partial" for name in ("mine", "other"))
    for path in (mine, other):
        path.touch()
    with atomic_write(tmp_path / "mine") as file:
        file.write("whole")
    assert names(tmp_path) == [other.name, "mine"]


def test_a_full_disk_is_named_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "adapter.safetensors"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="no space left") as caught, atomic_write(path) as file:
        file.write("new")
    assert str(path) in str(caught.value)
    assert "MiB are left" in str(caught.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["adapter.safetensors"]


@pytest.mark.parametrize(
    ("error", "free", "named"),
    [
        (OSError(errno.ENOSPC, "full"), 5, True),  # the system's own word counts, whatever is free
        (KeyError("I/O error: No space left on device"), 5, True),
        (RuntimeError("write failed"), 0.9, True),
        (RuntimeError("write failed"), 1, False),
        (OSError(errno.EIO, "broken"), 0.5, False),
        (KeyError("other"), 0.5, False),
    ],
)
def test_what_a_full_disk_is_told_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, free: float, named: bool
) -> None:
    asked = []

    def usage(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(free=int(free * 2**20))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    path = tmp_path / "not" / "yet" / "there"
    if not named:
        files.explain_full_disk(error, path)
        return
    with pytest.raises(UserError) as caught:
        files.explain_full_disk(error, path)
    assert str(caught.value) == (
        f"no space left on the disk: {path}: free some of it ({free:.0f} MiB are left), "
        "then run the same command again; nothing that was whole is lost"
    )
    assert asked == [tmp_path]


def test_other_errors_of_the_disk_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="read-only"), atomic_directory(tmp_path / "x"):
        raise OSError(errno.EROFS, "read-only")


# Tables.

ODD = ["NA", "None", "null", "nan", "NaN", "", " ", "1", "1e5", "inf", "-1", "True", "a,b", 'a"b',
       "a\nb", "a\r\nb", '"', "0x1", "1_000", "N/A", "é"]  # fmt: skip
texts = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]))
columns = st.one_of(
    st.lists(texts, min_size=3, max_size=3).map(lambda v: pd.Series(v, dtype=str)),
    st.lists(st.floats(), min_size=3, max_size=3).map(lambda v: pd.Series(v, dtype=np.float64)),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3).map(
        lambda v: pd.Series(v, dtype=np.int64)
    ),
    st.lists(st.booleans(), min_size=3, max_size=3).map(lambda v: pd.Series(v, dtype=bool)),
)


@given(st.dictionaries(texts, columns, min_size=1, max_size=4))
def test_what_is_written_to_csv_comes_back(parts: dict[str, pd.Series]) -> None:
    """Names stay names whatever they look like, numbers keep every bit, NaN stays NaN."""
    table = pd.DataFrame(parts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        write_csv(path, table)
        back = read_csv(path)
    pd.testing.assert_frame_equal(back, table, check_exact=True, check_column_type=False)
    for name in table:
        if table[name].dtype == np.float64:
            same = np.signbit(back[name]) == np.signbit(table[name])
            assert (same | table[name].isna()).all()  # -0.0 is not 0.0


def test_missing_values_come_back_missing(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "side": ["", None, "left"],
            "low": [None, 1, 2],
            "high": pd.array([1, None, 3], dtype="Int64"),
            "none": [np.nan] * 3,
            "equal": [True, None, False],
        }
    )
    write_csv(tmp_path / "t.csv", table)
    back = read_csv(tmp_path / "t.csv")
    assert back["side"].isna().tolist() == [False, True, False]
    assert back["side"].tolist()[0] == ""
    np.testing.assert_array_equal(back["low"], [np.nan, 1, 2])
    np.testing.assert_array_equal(back["high"], [1, np.nan, 3])
    assert back["none"].dtype == np.float64
    assert back["none"].isna().all()
    assert back["equal"].tolist()[::2] == [True, False]
    assert back["equal"].isna().tolist() == [False, True, False]


def test_numbers_of_numpy_among_others_are_numbers(tmp_path: Path) -> None:
    odd = pd.Series([np.float64(0.1), np.int64(2), 3.5], dtype=object)
    write_csv(tmp_path / "t.csv", pd.DataFrame({"a": odd}))
    assert read_csv(tmp_path / "t.csv")["a"].tolist() == [0.1, 2.0, 3.5]


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", pd.DataFrame({"a": [], "b,c": []}))
    back = read_csv(tmp_path / "t.csv")
    assert list(back) == ["a", "b,c"]
    assert back.empty


def test_csv_of_another_program_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'a,n,"x"\r\nNA,1,\r\n"sft",2,0.5')
    back = read_csv(tmp_path / "t.csv")
    assert back["a"].tolist() == ["NA", "sft"]
    assert back["n"].tolist() == [1, 2]
    np.testing.assert_array_equal(back["x"], [np.nan, 0.5])
    (tmp_path / "t.csv").write_text("a,n\nsft,1\n5," + "9" * 400 + "\n")
    back = read_csv(tmp_path / "t.csv")
    assert back["a"].tolist() == ["sft", "5"]
    assert back["a"].dtype == "str"
    np.testing.assert_array_equal(back["n"], [1, np.inf])  # no whole number of 64 bits


@pytest.mark.parametrize("text", ["a,b\n1\n", 'a\n"1', 'a\n1"2"\n', "a,b\n1,2,3\n"])
def test_a_broken_table_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=r"not a table: .*t\.csv"):
        read_csv(tmp_path / "t.csv")
