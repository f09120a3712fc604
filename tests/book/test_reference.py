"""The reference run renewed in part: chapters of a run with the same adapters, and of no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import reference
from cells import made_with
from jobs import JOBS, Job
from page_facts import VERSIONS
from settings_unchanged import digests
from shipped import MARK

from finetune_geometry.runs.files import write_csv
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import load_profile
from finetune_geometry.settings.repetitions import MEASUREMENTS

JOB = next(job for job in JOBS if job.stem == "matched_rate")
TINY = load_profile("tiny")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reference and a run, with one chapter in each and the adapters of both the same."""
    for place, value in (("reference", 1.0), ("run", 2.0)):
        folder = tmp_path / place
        (folder / "adapters").mkdir(parents=True)
        numbers = {"matched_rate.norm.sft": value, "cosine.sft_rft": value, "matched_rates": value}
        numbers |= {"cosine.sft_dft": value / 10, "accuracy.dft": value / 4}
        (folder / "numbers.json").write_text(json.dumps(numbers))
        for name in JOB.outputs[1:]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{place}\n")
        rows = [(JOB.name, value), ("geometry/cosine", value)]
        pd.DataFrame(rows, columns=["notebook", "seconds"]).to_csv(
            folder / "timing.csv", index=False
        )
    for name in (*METHODS, "sft-order"):
        weights = tmp_path / "run" / "adapters" / name / "adapter_model.safetensors"
        weights.parent.mkdir()
        weights.write_text(name)
    monkeypatch.setattr(reference, "REFERENCE", tmp_path / "reference")
    known = reference.adapters_of(tmp_path / "run")
    (tmp_path / "reference" / reference.ADAPTERS).write_text(json.dumps(known))
    copied: list[str] = []
    monkeypatch.setattr(
        reference,
        "copy_notebooks",
        lambda folder, chosen, note: copied.extend([*(j.stem for j in chosen), note]),
    )
    monkeypatch.setattr(reference, "COPIED", copied, raising=False)
    return tmp_path


def test_a_chapter_is_renewed_and_the_rest_is_left_alone(made: Path) -> None:
    reference.renew(made / "run", [JOB], TINY)
    numbers = json.loads((made / "reference" / "numbers.json").read_text())
    assert numbers == {
        "cosine.sft_rft": 1.0, "matched_rate.norm.sft": 2.0, "matched_rates": 1.0,
        "cosine.sft_dft": 0.1, "accuracy.dft": 0.25,
    }  # fmt: skip
    for name in JOB.outputs[1:]:
        assert (made / "reference" / name).read_text() == "run\n"
    timing = pd.read_csv(made / "reference" / "timing.csv").set_index("notebook")["seconds"]
    assert timing.to_dict() == {"geometry/cosine": 1.0, JOB.name: 2.0}
    assert reference.COPIED == ["matched_rate", ""]


def test_a_run_with_other_adapters_renews_nothing(made: Path) -> None:
    before = shutil.copytree(made / "reference", made / "before")
    (made / "run" / "adapters" / "dft" / "adapter_model.safetensors").write_text(
        "another processor"
    )
    with pytest.raises(UserError, match="the adapter dft is not the reference's"):
        reference.renew(made / "run", [JOB], TINY)
    for path in before.rglob("*"):
        if path.is_file():
            assert (made / "reference" / path.relative_to(before)).read_bytes() == path.read_bytes()


def test_of_a_chapter_that_every_run_makes_anew_no_table_is_kept_but_the_ledger(
    made: Path,
) -> None:
    job: Job = next(job for job in JOBS if job.stem == "verdict")
    for name in job.outputs[1:]:
        (made / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (made / "run" / name).write_text("run\n")
    reference.renew(made / "run", [job], TINY)
    assert reference.COPIED == ["verdict", ""]
    assert (made / "reference" / "claims.csv").read_text() == "run\n"
    assert not (made / "reference" / "evaluation").exists()


def repeated(made: Path, *shown: str) -> Job:
    """The run has the chapter on causes, and its tables of cells, `shown` from the reference."""
    measurement = MEASUREMENTS["causes"]
    writes = ("controls/causes.csv",)
    job = Job("controls/causes", (), writes, settings=(), repeats=True, shipped=True)
    names = [cell.name for cell in measurement.cells(TINY)]
    cells = [output for name in names for output in measurement.outputs(name)]
    for name in [*job.outputs[1:], *cells]:
        (made / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (made / "run" / name).write_text("run\n")
    for cell in names:
        card = {"processor": "P; AVX2", "adapters": reference.adapters_of(made / "run")}
        card |= {"made_with": made_with(measurement, TINY, digests(TINY))}
        card |= {MARK: True} if cell in shown else {}
        (made / "run" / "cells" / cell / "causes.json").write_text(json.dumps(card))
    return job


def test_chapters_on_repetitions_say_that_another_processor_made_them(made: Path) -> None:
    (made / "run" / "adapters" / "dft" / "adapter_model.safetensors").write_text("rounded")
    job = repeated(made)
    reference.renew(made / "run", [job], TINY)
    stem, note = reference.COPIED
    assert stem == "causes"
    assert "(here: P; AVX2)" in note
    assert (made / "reference" / job.outputs[-1]).read_text() == "run\n"
    columns = ["quantity", "a", "b", "value"]
    rows = [("cosine", "sft", "dft", 0.2), ("accuracy", "dft", "", 0.5)]
    write_csv(made / "run" / "cells" / "run" / "headlines.csv", pd.DataFrame(rows, columns=columns))
    reference.renew(made / "run", [job], TINY)
    note = reference.COPIED[-1]
    assert "a cosine of 0.200 here and of 0.100 there" in note
    assert "50.0% and of 25.0%" in note


def test_repetitions_that_a_run_made_itself_are_added_to_those_that_ship(made: Path) -> None:
    kept = made / "reference" / "cells" / "order1" / "causes.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text("shipped\n")
    reference.renew(made / "run", [repeated(made, "order1")], TINY)
    assert reference.COPIED == ["causes", ""]  # its own six are the reference's
    assert kept.read_text() == "shipped\n"
    assert (made / "reference" / "cells" / "run" / "causes.csv").read_text() == "run\n"
    assert not (kept.parent / "causes.json").exists()


@pytest.mark.parametrize("recorded", [True, False])
def test_the_versions_of_a_run_become_the_reference_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    """A run whose book was rendered before versions were recorded has none."""
    run = tmp_path / "run"
    names = ["numbers.json", "claims.csv", "timing.csv"]
    names += [name for job in JOBS if job.shipped for name in job.outputs[1:]]
    for name in [*names, *([VERSIONS] if recorded else [])]:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("{}\n")
    monkeypatch.setattr(reference, "REFERENCE", tmp_path / "reference")
    monkeypatch.setattr(reference, "adapters_of", lambda folder: {})
    monkeypatch.setattr(reference, "write_explorables", lambda folder, into: into.mkdir())
    reference.copy_numbers(run, load_profile("smoke"))
    assert (tmp_path / "reference" / VERSIONS).is_file() == recorded
