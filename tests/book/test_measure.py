"""Time and memory of a step, and what it said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import measure
import pytest

SAYS = "print('step 1', flush=True); import os, sys; "


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def measured(folder: Path, code: str) -> dict[str, Any]:
    timing = folder / "timing.json"
    assert measure.main(str(timing), "as-it-is", "-", *python(code)) == 0
    record: dict[str, Any] = json.loads(timing.read_text(encoding="utf-8"))
    return record


def test_a_step_leaves_its_time_and_memory(tmp_path: Path) -> None:
    record = measured(tmp_path, "b = bytes([1]) * 300 * 2**20")
    assert record["peak_mib"] > 300
    assert 0 < record["seconds"] < 60


def test_the_unit_of_memory_is_known_on_either_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """getrusage counts KiB, and bytes on macOS."""
    peaks = {}
    for system in ("linux", "darwin"):
        monkeypatch.setattr("measure.sys.platform", system)
        peaks[system] = measured(tmp_path, "")["peak_mib"]
    assert peaks["linux"] == pytest.approx(1024 * peaks["darwin"], rel=0.2)


def test_what_a_step_says_is_in_its_log_while_it_goes_on(tmp_path: Path) -> None:
    log, go_on = tmp_path / "step.log", tmp_path / "go on"
    code = SAYS + f"import time\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)"
    script = [sys.executable, measure.__file__, str(tmp_path / "t.json"), "as-it-is", str(log)]
    step = subprocess.Popen([*script, *python(code)])
    until = time.monotonic() + 60
    while time.monotonic() < until and not (log.is_file() and log.read_text()):
        time.sleep(0.02)
    assert log.read_text(encoding="utf-8") == "step 1\n"
    go_on.touch()
    assert step.wait() == 0


@pytest.mark.parametrize("kept", [True, False])
def test_the_last_lines_of_a_step_that_fails_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: bool
) -> None:
    log, timing = tmp_path / "step.log", tmp_path / "timing.json"
    code = SAYS + "os.write(1, b'\\xff a picture\\n'); print('\\x1b[31mred\\x1b[0m'); sys.exit(3)"
    status = measure.main(str(timing), "as-it-is", str(log) if kept else "-", *python(code))
    assert status == 3
    assert capsys.readouterr().err == "step 1\n\ufffd a picture\nred\n"
    assert not timing.exists()
    assert log.exists() is kept
