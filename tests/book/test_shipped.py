"""What a run shows of the reference run, when it does, and what is read without any run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import build_book
import pytest
import shipped
import yaml
from build_book import notebooks
from cells import made_with
from conftest import ROOT, Reading
from jobs import JOBS, Job
from settings_unchanged import (
    as_in_the_reference,
    cells_to_make,
    digest,
    digests,
    executed,
    lineage,
    settings_of,
)
from shipped import REFERENCE, shown_from_reference, with_note
from test_workflow import Project

from finetune_geometry.evaluation import answers
from finetune_geometry.settings.profiles import load_profile
from finetune_geometry.settings.repetitions import MEASUREMENTS

SHIPPED = [job for job in JOBS if job.shipped]


def shown(settings: dict[str, object]) -> set[str]:
    profile = load_profile("tiny", settings)
    return {job.stem for job in SHIPPED if as_in_the_reference(job, profile, JOBS)}


def test_reference_settings_show_every_shipped_chapter() -> None:
    assert shown({}) == {job.stem for job in SHIPPED}
    assert not any(as_in_the_reference(job, load_profile("smoke"), JOBS) for job in SHIPPED)
    assert "reshuffled" not in {job.stem for job in SHIPPED}  # the geometry uses its adapter


@pytest.mark.parametrize(
    ("key", "value", "left"),
    [
        ("training.steps", 90, {"base_model"}),
        ("methods.sft.learning_rate", 1e-3, {"base_model"}),
        # Not a setting of the controls, but of what they read: the rollouts, and DPO's adapter.
        ("rollouts.temperature", 0.5, {"base_model"}),
        ("methods.dpo.beta", 0.2, {"base_model", "learning_rate"}),
        ("geometry.k", 2, {"base_model", "learning_rate", "path", "ray", "annealed", "causes"}),
        ("problems.test", 100, set()),
        ("model.attention", "sdpa", set()),
    ],
)
def test_a_changed_setting_never_shows_the_reference_as_its_own(
    key: str, value: object, left: set[str]
) -> None:
    assert shown({key: value}) == left


def test_retrained_models_never_show_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_profile("tiny")
    shutil.copytree(ROOT / "models", tmp_path / "models")
    monkeypatch.setattr("settings_unchanged.ROOT", tmp_path)
    digest.cache_clear()
    assert digests(profile) == settings_of(profile)["models"]
    assert as_in_the_reference(SHIPPED[0], profile, JOBS)
    with open(tmp_path / "models" / "student" / "config.json", "a", encoding="utf-8") as file:
        file.write("\n")
    digest.cache_clear()
    assert not as_in_the_reference(SHIPPED[0], profile, JOBS)
    digest.cache_clear()  # others ask for the models of the checkout


# Chapters on repetitions, which no run makes unless it is asked to.


def repeating(stem: str, *reads: str) -> Job:
    writes = (f"controls/{stem}.csv",)
    return Job(f"controls/{stem}", reads, writes, settings=(), repeats=True, shipped=True)


RAY = repeating("ray")
ANNEALED = repeating("annealed", "controls/ray.csv")
REPEATING = [*(job for job in JOBS if not job.repeats), RAY, ANNEALED, repeating("spread")]


@pytest.fixture
def shipping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reference with three chapters on repetitions."""
    made = shutil.copytree(REFERENCE, tmp_path / "reference")
    for job in REPEATING:
        if job.repeats:
            (made / job.outputs[1]).write_text("{}")
    monkeypatch.setattr("settings_unchanged.REFERENCE", made)
    return made


def test_repetitions_are_made_only_when_asked_for(shipping: Path) -> None:
    further = {"ray", "annealed", "spread"}
    for settings in ({}, {"training.steps": 90}):
        profile = load_profile("tiny", settings)
        assert not further & executed([], profile, REPEATING)
    every = {job.stem for job in REPEATING}
    assert every - executed([], load_profile("smoke"), REPEATING) == further
    assert executed(every, load_profile("tiny"), REPEATING) == every


def test_a_chapter_of_other_settings_never_reads_the_reference_s_tables(shipping: Path) -> None:
    """`annealed` reads a table of `ray`."""
    assert "ray" not in executed(["annealed"], load_profile("tiny"), REPEATING)
    asked = executed(["annealed"], load_profile("smoke"), REPEATING)
    assert {"ray", "annealed"} <= asked
    assert "spread" not in asked


def test_a_repetition_that_is_asked_for_renews_every_chapter_that_reads_it(
    shipping: Path,
) -> None:
    tiny = load_profile("tiny")
    none = executed([], tiny, REPEATING)
    assert executed(["order1"], tiny, REPEATING) == none | {"ray", "annealed", "spread"}
    assert executed(["draw1"], tiny, REPEATING) == none | {"spread"}
    assert executed(["student1"], tiny, REPEATING) == none  # no chapter reads one yet


def test_what_was_measured_of_a_repetition_shows_until_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a chapter that is asked for the run makes all its own; of one repetition that one."""
    ray, tiny = MEASUREMENTS["ray"], load_profile("tiny")
    monkeypatch.setattr("settings_unchanged.REFERENCE", tmp_path)
    every = [cell.name for cell in ray.cells(tiny)]
    assert [cell.name for cell in cells_to_make(ray, ["order1"], tiny)] == every  # none ships
    for name in every:
        *tables, card = (tmp_path / output for output in ray.outputs(name))
        card.parent.mkdir(parents=True)
        card.write_text(json.dumps({"made_with": made_with(ray, tiny, digests(tiny))}))
        for table in tables:
            table.touch()
    for asked, made in {"order1": ["order1"], "causes": [], "ray": every}.items():
        assert [cell.name for cell in cells_to_make(ray, [asked], tiny)] == made
    other = load_profile("tiny", {"training.steps": 90})
    assert [cell.name for cell in cells_to_make(ray, [], other)] == every
    # What decides nothing about it: the draws of the chance levels.
    same = load_profile("tiny", {"geometry.null_draws": 7})
    assert cells_to_make(ray, [], same) == []


def test_lineage_goes_all_the_way_back() -> None:
    jobs = [
        Job("a", reads=(), writes=("a.csv",), settings=()),
        Job("b", reads=("a.csv",), writes=("b.csv",), settings=()),
        Job("c", reads=("b.csv",), writes=("c.csv",), settings=()),
        Job("d", reads=("a.csv",), writes=("d.csv",), settings=()),
    ]
    assert {job.name for job in lineage(jobs[2], jobs)} == {"a", "b", "c"}


def test_the_reference_holds_what_a_run_shows_of_it() -> None:
    for job in SHIPPED:
        assert job.source.with_suffix(".ipynb").is_file()
        for name in job.outputs[1:]:
            assert (REFERENCE / name).stat().st_size > 0
    numbers = json.loads((REFERENCE / "numbers.json").read_text(encoding="utf-8"))
    profile = json.loads((REFERENCE / "settings.json").read_text(encoding="utf-8"))["profile"]
    assert numbers["run.profile"] == "tiny"
    assert {key.removeprefix("profile."): numbers[key] for key in numbers if "profile." in key}
    assert all(numbers[f"profile.{key}"] == value for key, value in profile.items())


def test_the_pages_of_the_toc_are_the_jobs() -> None:
    """`make read` knows the notebooks without the table of jobs, which needs the package."""
    assert set(notebooks()) == {job.name for job in JOBS}


def test_a_note_stands_below_the_title() -> None:
    cells = [{"cell_type": "markdown", "source": ["(label)=\n", "# Title\n", "\n", "Prose."]}, {}]
    noted = with_note({"cells": cells, "nbformat": 4}, "Look here.")
    text = "(label)=\n# Title\n\n:::{important}\nLook here.\n:::\n\nProse."
    assert noted["cells"] == [{"cell_type": "markdown", "source": text}, {}]
    assert noted["nbformat"] == 4


def test_the_verdict_names_the_chapters_that_are_of_the_reference_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = {"cells": [{"cell_type": "markdown", "source": "# Title"}]}
    for name in ("controls/second_seed", "controls/reshuffled", build_book.VERDICT):
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(page), encoding="utf-8")
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / "second_seed.json").write_text('{"from_reference": true}')
    (tmp_path / "numbers" / "reshuffled.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        build_book,
        "assemble",
        lambda source, executed, *_: shutil.copytree(executed, source / "notebooks"),
    )
    monkeypatch.setattr(build_book, "render", lambda *_: 0)
    assert build_book.main("book.log") == 0
    made = tmp_path / "book_source" / "notebooks" / f"{build_book.VERDICT}.ipynb"
    note = json.loads(made.read_text(encoding="utf-8"))["cells"][0]["source"]
    assert "[](../controls/second_seed)" in note
    assert "reshuffled" not in note
    assert json.loads((tmp_path / "timing" / "book.json").read_text())["seconds"] >= 0


# A small project whose first notebook and last need not be made anew.


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("shipped"))
    with open(made.root / "workflow" / "jobs.py", "a", encoding="utf-8") as file:
        file.write("\nimport dataclasses\n")
        file.write("for n in (0, 2): JOBS[n] = dataclasses.replace(JOBS[n], shipped=True)\n")
    said = make_reference(made)
    assert "run `make book` first" in said
    assert made.executed() == {"sample", "train", "judge"}  # there is no reference yet
    assert "is the reference" in make_reference(made)
    return made


def make_reference(project: Project) -> str:
    environment = os.environ | {"PYTHONPATH": str(project.root / "src")}
    environment.pop("FINETUNE_GEOMETRY_RESULTS", None)
    done = subprocess.run(
        [sys.executable, str(project.root / "workflow" / "reference.py"), "--profile", "smoke"],
        env=environment,
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout


def test_a_run_shows_the_reference_until_it_is_asked_or_a_setting_differs(
    project: Project,
) -> None:
    run = project.root / "results" / "other"
    said = project.make("--run", "other")
    assert "show notebooks/judge from the reference run" in said
    assert "execute notebooks/judge" not in said
    assert shown_from_reference(run) == ["judge", "sample"]
    assert (run / "claims.csv").read_text() == "claims"
    page = json.loads((run / "notebooks" / "judge.ipynb").read_text(encoding="utf-8"))
    title = "".join(page["cells"][0]["source"])
    assert title.startswith("# A chapter")
    assert "make controls ONLY=judge" in title
    assert json.loads((run / "numbers.json").read_text())["judge.from_reference"] is True
    assert "judge" not in (run / "timing.csv").read_text()
    assert "Nothing to do" in project.make("--run", "other")

    dry = ("--run", "other", "--", "--dry-run")
    assert "judge" in project.executed("--set", "evaluation.confidence=0.9", *dry)
    assert "judge" in project.executed("--set", "methods.dpo.beta=0.3", *dry)
    assert project.executed("--set", "lora.r=4", *dry) == set()

    assert "did you mean 'judge'" in project.make("--run", "other", "--execute", "jugde")
    assert project.executed("--run", "other", "--execute", "judge") == {"judge"}
    assert shown_from_reference(run) == ["sample"]
    assert "judge.from_reference" not in (run / "numbers.json").read_text()
    # Asked once, the run goes on executing it.
    assert "Nothing to do" in project.make("--run", "other")


def test_what_reads_no_other_notebook_is_executed_when_asked_too(project: Project) -> None:
    """All that it reads is older than its page: no date tells that the page is another's."""
    run = project.root / "results" / "first"
    project.make("--run", "first")
    assert shown_from_reference(run) == ["judge", "sample"]
    changed = ("--run", "first", "--set", "rollouts.temperature=0.5", "--", "--dry-run")
    assert project.executed(*changed) == {"sample", "train", "judge"}
    assert "sample" in project.executed("--run", "first", "--execute", "all")
    assert shown_from_reference(run) == []
    assert "sample" in (run / "timing.csv").read_text()


def test_a_run_that_shows_the_reference_cannot_become_it(project: Project) -> None:
    run = project.root / "results" / "smoke"
    numbers = run / "numbers" / "judge.json"
    before = numbers.read_text(encoding="utf-8")
    numbers.write_text('{"from_reference": true}', encoding="utf-8")
    try:
        assert "run `make controls` first" in make_reference(project)
    finally:
        numbers.write_text(before, encoding="utf-8")


def test_a_run_of_other_settings_than_its_profiles_cannot_become_the_reference(
    project: Project,
) -> None:
    numbers = project.root / "results" / "smoke" / "numbers.json"
    before = numbers.read_text(encoding="utf-8")
    made = json.loads(before) | {"profile.lora.r": 3}  # as with SET="lora.r=3"
    numbers.write_text(json.dumps(made), encoding="utf-8")
    try:
        said = make_reference(project)
    finally:
        numbers.write_text(before, encoding="utf-8")
    assert said.startswith("error: made with lora.r = 3, the profile smoke has ")
    assert "is the reference" in make_reference(project)


# The reference run, read without any run.


def test_reading_renders_the_reference_and_touches_no_tracked_file(reading: Reading) -> None:
    assert reading.done.returncode == 0, reading.done.stderr
    html = reading.folder / "read" / "html"
    assert reading.done.stdout == f"The reference run: {html / 'index.html'}\n"
    first = html / "book" / "index.html"
    assert "The reference run, as it came with the project" in first.read_text(encoding="utf-8")
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert all((html / f"{page}.html").is_file() for page in pages)
    assert not reading.changed


def test_package_and_workflow_speak_of_the_same_files() -> None:
    assert answers.EXECUTE == shipped.EXECUTE  # the workflow imports nothing heavy, hence twice
    assert ROOT / answers.SHIPPED == REFERENCE / "answers"


def test_a_page_that_was_not_executed_is_named_in_one_line(tmp_path: Path, monkeypatch, capsys):
    import read_reference

    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    monkeypatch.setattr(read_reference, "notebooks", lambda: ["methods/not_there"])
    assert read_reference.main() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "not_there.ipynb: run `make reference`" in said


def test_reading_imports_nothing_of_the_package() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'workflow')!r}); import read_reference; "
        "print(*[name for name in sys.modules if name.startswith(('finetune', 'numpy', 'torch'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("built", [False, True])
def test_making_the_book_offers_the_reference_first(tmp_path: Path, built: bool) -> None:
    page = tmp_path / "read" / "html" / "index.html"
    if built:
        page.parent.mkdir(parents=True)
        page.touch()
    done = subprocess.run(
        ["make", "--no-print-directory", "offer", f"FINETUNE_GEOMETRY_RESULTS={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    place = str(page) if built else "make read (in another terminal)"
    assert done.stdout == f"Read the reference run meanwhile: {place}\n"
