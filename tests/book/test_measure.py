"""What measure.py does with a command that fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = Path(__file__).resolve().parents[2] / "workflow" / "measure.py"
#: Says `words` and fails, as often as told, then leaves what it was given; it counts its starts.
COMMAND = """
import pathlib, sys
starts = pathlib.Path("starts")
count = int(starts.read_text()) if starts.exists() else 0
starts.write_text(str(count + 1))
given = sys.stdin.read()
if count < int(sys.argv[1]):
    sys.exit(sys.argv[2])
pathlib.Path("given").write_text(given, encoding="utf-8")
"""


def measured(folder: Path, fails: int, words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, str(MEASURE), "timing.json", "as-it-is"),
            *(sys.executable, "-c", COMMAND, str(fails), words),
        ],
        input="a notebook, with an é",
        capture_output=True,
        encoding="utf-8",
        cwd=folder,
    )


def starts(folder: Path) -> int:
    return int((folder / "starts").read_text())


def test_a_kernel_that_died_before_its_first_cell_is_started_again(tmp_path: Path) -> None:
    done = measured(tmp_path, 2, "RuntimeError: Kernel died before replying to kernel_info")
    assert done.returncode == 0, done.stderr
    assert starts(tmp_path) == 3
    assert (tmp_path / "given").read_text(encoding="utf-8") == "a notebook, with an é"
    assert json.loads((tmp_path / "timing.json").read_text())["seconds"] > 0


@pytest.mark.parametrize(
    ("words", "times"),
    [("Kernel died before replying to kernel_info", 3), ("Kernel died", 1), ("ValueError: 3", 1)],
)
def test_any_other_failure_is_told_at_once(tmp_path: Path, words: str, times: int) -> None:
    done = measured(tmp_path, 9, words)
    assert done.returncode == 1
    assert starts(tmp_path) == times
    assert words in done.stderr
    assert not (tmp_path / "timing.json").exists()
