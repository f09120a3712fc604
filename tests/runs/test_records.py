"""Runs: whole files or none, tables that come back, parameters that cannot be misspelt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finetune_geometry.runs.files import HOST
from finetune_geometry.runs.folders import project_root, results_root
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.parameters import check_parameters


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    monkeypatch.delenv("FINETUNE_GEOMETRY_SET", raising=False)
    return Run.open("smoke", "here")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_project_root_is_the_checkout() -> None:
    assert (project_root() / "src" / "finetune_geometry" / "runs" / "records.py").is_file()


@pytest.mark.parametrize("name", ["geometry/cosine.csv", "rollouts/rollouts.parquet"])
def test_tables_come_back_exactly(run: Run, name: str) -> None:
    table = pd.DataFrame({"a": ["sft", "rft"], "value": [1 / 3, 2e-17], "layer": [0, 1]})
    run.write_table(name, table)
    pd.testing.assert_frame_equal(run.read_table(name), table, check_exact=True)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_names_that_look_like_nothing_come_back(run: Run, name: str) -> None:
    table = pd.DataFrame(
        {
            "a": ["NA", "None", "null", "nan", "1"],
            "side": ["", "", "left", "", ""],
            "low": [np.nan, 0.1, 1.0, np.nan, np.inf],
        }
    )
    run.write_table(name, table)
    pd.testing.assert_frame_equal(run.read_table(name), table, check_exact=True)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_labels_of_rows_are_not_kept(run: Run, name: str) -> None:
    table = pd.DataFrame({"a": [1, 2]}, index=[7, 5])
    run.write_table(name, table)
    pd.testing.assert_frame_equal(run.read_table(name), table.reset_index(drop=True))


def test_json_is_readable_text(run: Run) -> None:
    path = run.write_json("note.json", {"where": Path("a") / "b", "word": "é", 3: (1, 2)})
    assert path.read_text(encoding="utf-8").startswith('{\n  "where": "a/b",\n  "word": "é",')
    assert run.read_json("note.json") == {"where": "a/b", "word": "é", "3": [1, 2]}


def test_results_lie_in_the_checkout_or_where_they_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINETUNE_GEOMETRY_RESULTS", raising=False)
    assert results_root() == project_root() / "results"
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path / "not" / "yet"))
    assert Run.open("smoke").dir == tmp_path / "not" / "yet" / "smoke"


def test_pages_and_hidden_folders_are_not_swept(run: Run) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = f".x.{process.pid}@{HOST}.partial"
    for folder in ("html/deep", ".tool", "geometry"):
        run.path(f"{folder}/{left}").touch()
    Run.open("smoke", "here")
    kept = [
        folder
        for folder in ("html/deep", ".tool", "geometry")
        if (run.dir / folder / left).exists()
    ]
    assert kept == ["html/deep", ".tool"]


def test_lists_in_parquet_come_back(run: Run) -> None:
    run.write_table("rollouts/rollouts.parquet", pd.DataFrame({"ids": [[1, 2], [3]]}))
    assert [list(ids) for ids in run.read_table("rollouts/rollouts.parquet")["ids"]] == [
        [1, 2],
        [3],
    ]


@pytest.mark.parametrize(
    ("missing", "maker"),
    [
        ("rollouts/rollouts.parquet", "notebooks/ingredients/rollouts"),
        ("adapters/dpo/card.json", "notebooks/methods/dpo"),
        ("adapters/dpo/logs/card.json", "notebooks/methods/dpo"),
        ("adapters/sft-order/card.json", "notebooks/controls/reshuffled"),
        ("geometry/cka.csv", "notebooks/geometry/cka"),
        ("geometry/predicted_cosine.csv", "notebooks/geometry/cosine"),
        ("evaluation/mcnemar.csv", "notebooks/evaluation/accuracy"),
        ("claims.csv", "notebooks/evaluation/verdict"),
    ],
)
def test_a_missing_file_names_the_notebook_that_makes_it(
    run: Run, missing: str, maker: str
) -> None:
    with pytest.raises(UserError, match=maker):
        run.read_json(missing)
    assert (project_root() / f"{maker}.py").is_file()


def test_numbers_of_all_notebooks_in_one_file(run: Run) -> None:
    run.record("cosine", {"sft_rft": np.float64(0.977), "by": {"late": np.int64(3)}})
    run.record("cka", {"label": "x", "undefined": float("nan"), "all": np.array([1.0, np.inf])})
    assert run.merge_numbers() == run.dir / "numbers.json"
    numbers = run.read_json("numbers.json")
    assert numbers["cosine.sft_rft"] == 0.977
    assert numbers["cosine.by.late"] == 3
    assert numbers["cka.label"] == "x"
    assert numbers["cka.undefined"] is None
    assert numbers["cka.all"] == [1.0, None]
    assert (numbers["run.name"], numbers["run.profile"]) == ("here", "smoke")
    assert list(numbers) == sorted(numbers)
    assert numbers["profile.lora.r"] == run.profile.lora.r


def test_recording_again_replaces_the_section(run: Run) -> None:
    run.record("cosine", {"old": 1})
    run.record("cosine", {"new": 2})
    assert "cosine.old" not in json.loads(run.merge_numbers().read_text())


def test_adapters_in_the_order_of_the_methods(run: Run) -> None:
    hidden = (".sft.1@here.partial", ".dft.1@here.old")
    for name in ("dpo-matched", "dpo", "rft", "sft", *hidden):
        folder = run.adapter_dir(name)
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").touch()
    run.adapter_dir("dft").mkdir()  # begun, not finished
    assert run.adapter_names() == ["sft", "rft", "dpo", "dpo-matched"]


def test_opening_a_run_clears_up_after_killed_processes(run: Run) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    adapters = run.dir / "adapters"
    aside, half = (adapters / f".{n}.{process.pid}@{HOST}" for n in ("sft", "dpo"))
    for folder in (Path(f"{aside}.old"), Path(f"{half}.partial")):
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").touch()
    assert run.adapter_names() == []
    left = run.path(f"geometry/.cka.csv.{process.pid}@{HOST}.partial")
    left.touch()
    assert Run.open("smoke", "here").adapter_names() == ["sft"]
    assert names(adapters) == ["sft"]
    assert not left.exists()


def test_a_run_is_named_as_its_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    assert Run.open("smoke").dir == tmp_path / "smoke"


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", ".hidden", "/root"])
def test_a_run_stays_below_results(tmp_path: Path, run: Run, name: str) -> None:
    with pytest.raises(UserError, match="not a folder's name"):
        Run.open("smoke", name)
    assert names(tmp_path) == ["here"]


def test_overrides_of_a_notebook_win_over_the_workflows(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_SET", "training.steps=2 training.seed=9")
    opened = Run.open("smoke", "here", {"training.steps": 3, "training.batch_size": None})
    assert (opened.profile.training.steps, opened.profile.training.seed) == (3, 9)
    assert opened.profile.training.batch_size == run.profile.training.batch_size


def parameters(**values: Any) -> dict[str, Any]:
    """Globals of a notebook after its parameters cell."""
    declared = {"profile": str, "run": str, "k": int, "learning_rate": float | None}
    defaults = {"profile": "tiny", "run": "", "k": 10, "learning_rate": None}
    return {"__annotations__": declared, **defaults, **values}


def in_jupyter(*cells: str, **values: Any) -> dict[str, Any]:
    return parameters(**values) | {"In": ["", *cells, "check_parameters(globals())"], "Out": {}}


DECLARING = 'profile: str = "tiny"\nk: int = 10  # subspace'


def test_right_parameters_pass_and_whole_numbers_become_floats() -> None:
    cells = in_jupyter(DECLARING, "# Parameters\nlearning_rate = 1\n", learning_rate=1)
    check_parameters(cells)
    assert isinstance(cells["learning_rate"], float)


@pytest.mark.parametrize(
    "notebook",
    [
        parameters(lerning_rate=1e-3),
        in_jupyter(DECLARING, "# Parameters\nlerning_rate = 1e-3\n", lerning_rate=1e-3),
    ],
)
def test_a_misspelt_parameter_is_an_error(notebook: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"'lerning_rate'.*did you mean 'learning_rate'"):
        check_parameters(notebook)


def test_names_that_a_reader_defined_are_not_parameters() -> None:
    """Running the second cell again, after the whole notebook."""
    check_parameters(in_jupyter(DECLARING, "result = 3", result=3))


def test_a_missing_tag_is_an_error() -> None:
    """papermill then puts its cell first, and the notebook's own values would win silently."""
    with pytest.raises(UserError, match="tag it 'parameters'"):
        check_parameters(in_jupyter("# Parameters\nk = 4\n", DECLARING))


def test_nothing_declared_is_an_error() -> None:
    with pytest.raises(UserError, match="annotate"):
        check_parameters({"k": 3})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"k": 2.5}, "k = 2.5.*whole number"),
        ({"k": "4"}, "k = '4'"),
        ({"k": None}, "k = None"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
        ({"profile": 4}, "profile = 4.*text"),
    ],
)
def test_values_of_another_type_are_an_error(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_parameters(parameters(**values))


def test_a_run_belongs_to_one_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    Run.open("smoke", "mine")
    assert Run.open("smoke", "mine", {"training.steps": 3}).name == "mine"
    with pytest.raises(UserError, match=r"'mine' was made with profile 'smoke', not 'tiny'"):
        Run.open("tiny", "mine")
