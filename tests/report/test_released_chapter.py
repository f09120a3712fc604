"""The chapter on released weights, end to end: a repository on a hub, the page, the ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import show_released
from collection import METHODS, RELEASE, write_collection
from conftest import ROOT, execute
from fake_hub import FakeHub

from finetune_geometry.evaluation.claims import load_ledger
from finetune_geometry.evaluation.released import load_released
from finetune_geometry.report.released import Findings, here, hold_against, result_table
from finetune_geometry.runs.files import read_csv
from finetune_geometry.runs.records import Run
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import Profile, load_profile
from finetune_geometry.settings.revisions import LOCK

LEDGER = load_ledger()
RELEASED = load_released(LEDGER)
#: What the plan of `collection` means for the ledger. RFT and RIFT were planted with the printed
#: cosines with SFT but independently of each other, which puts their own at 0.977 x 0.967 = 0.945,
#: below C1's line; Offline GRPO was planted with a flatter spectrum than RIFT, not a steeper one.
VERDICTS = dict.fromkeys(["C2", "C4", "C5", "C7", "C12", "C14", "C15", "C16"], "reproduced")
VERDICTS |= {"C1": "direction only", "C13": "direction only"}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "adapters"
    return write_collection(folder, layers=8, width=0.06, r=16)


@pytest.fixture(scope="module")
def found(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    table = tmp_path_factory.mktemp("run") / "folders.csv"
    return hold_against(LEDGER, RELEASED, load_profile("qwen3-4b"), release, table)


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["claim"], table["verdict"], strict=True))


def test_the_planted_geometry_gets_the_verdicts_that_it_should(found: Findings) -> None:
    assert verdicts(found.table) == VERDICTS
    assert list(found.cast.open) == ["sft-order"]
    assert found.modules == 32


def test_planted_numbers_come_out_again(found: Findings) -> None:
    printed = found.printed.set_index("what")
    for method in ("rft", "rift", "dft"):
        label = f"cosine SFT-{method.upper()}"
        assert printed["value"][label] == pytest.approx(METHODS[method][0], abs=0.003)
    norms = found.folders.set_index("part")["norm"]
    for method, (_, norm, _) in METHODS.items():
        assert norms[method] == pytest.approx(norm, rel=0.01)
    # 0.8 in early layers and 0.5 in late ones, here one of eight.
    grpo = printed["value"]["cosine SFT-Offline GRPO"]
    assert grpo == pytest.approx((7 * 0.8 + 0.5) / 8, abs=0.02)
    assert printed["agrees"]["norm of SFT over that of DPO"] == "yes"


def test_yardsticks_are_told_by_what_was_planted(found: Findings) -> None:
    kinds = found.pairs.groupby("kind")
    assert dict(kinds.size().drop("")) == {
        "loss": 15,
        "online": 12,
        "rate": 10,
        "seed": 6,
        "step": 1,
    }
    assert kinds["cosine"].max()["seed"] < 0.05
    assert kinds["cosine"].mean()["rate"] == pytest.approx(0.55, abs=0.02)
    assert set(kinds.get_group("seed")["start"]) == {"independent"}
    assert set(kinds.get_group("loss")["start"]) == {"shared"}


def test_every_folder_is_listed_with_what_it_was_taken_for(found: Findings) -> None:
    table = found.folders.set_index("folder")
    assert set(table.index) == {adapter.folder for adapter in RELEASE}
    for adapter in RELEASE:
        assert np.isnan(table["norm"][adapter.folder]) == bool(adapter.fault)
        assert table["note"][adapter.folder].startswith("cannot be read") == bool(adapter.fault)
    parts = table.loc[table["part"] != "", "part"]
    assert len(parts) == len(METHODS) + 4


def test_a_correction_of_the_table_changes_who_plays(release: Path, tmp_path: Path) -> None:
    table, paper = tmp_path / "folders.csv", load_profile("qwen3-4b")
    before = hold_against(LEDGER, RELEASED, paper, release, table)
    lines = table.read_text(encoding="utf-8").splitlines()
    # A person knows that the folder called "misc" is SFT from the same A in another order.
    lines = ["misc/grpo-final-v2 (use this),sft,order,,5e-6,1000,yes," if "misc" in line else line
             for line in lines]  # fmt: skip
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    after = hold_against(LEDGER, RELEASED, paper, release, table)
    assert "sft-order" in before.cast.open
    assert not after.cast.open
    # The present rules can be asked now, and C5's compares with it.
    assert "weights" in set(before.rules["version"])
    assert "weights" not in set(after.rules["version"])


def test_without_a_collection_everything_is_there_and_empty(tmp_path: Path) -> None:
    found = hold_against(LEDGER, RELEASED, load_profile("qwen3-4b"), None, tmp_path / "folders.csv")
    shown = result_table(found, RELEASED)
    assert list(shown["claim"]) == list(VERDICTS := RELEASED.predictions.verdicts)
    assert len(VERDICTS) == 10
    assert set(shown["verdict"]) == {"not measured"}
    assert found.table.empty
    assert found.pairs.empty
    assert not (tmp_path / "folders.csv").exists()


def test_one_adapter_is_nothing_to_compare(release: Path, tmp_path: Path) -> None:
    table, paper = tmp_path / "folders.csv", load_profile("qwen3-4b")
    hold_against(LEDGER, RELEASED, paper, release, table)
    table.write_text(table.read_text().replace(",yes,", ",no,"), encoding="utf-8")
    with pytest.raises(UserError, match="fewer than two adapters"):
        hold_against(LEDGER, RELEASED, paper, release, table)


def environment(hub: FakeHub, home: Path) -> dict[str, str]:
    return os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "FINETUNE_GEOMETRY_RESULTS": str(home / "results"),
    }


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub(tmp_path / "hub") as running:
        yield running


def test_from_the_hub_to_the_page(
    hub: FakeHub,
    release: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {p.relative_to(release).as_posix(): p for p in release.rglob("*") if p.is_file()}
    commit = hub.add("owner/adapters", files | {"training_args.bin": b"pickle"})
    chosen = "released.collection=owner/adapters"
    results = tmp_path / "results"
    source = ROOT / "notebooks" / "evaluation" / "released_weights.py"
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("FINETUNE_GEOMETRY_SET", chosen)

    # Not fetched: the page says so, measures nothing and asks nobody.
    page = tmp_path / "before.ipynb"
    execute(source, page, "-r", "profile", "smoke", results=results)
    assert "owner/adapters is not here: `make released` fetches it" in page.read_text()
    assert read_csv(results / "smoke" / "released" / "claims.csv").empty
    assert not hub.requests

    command = [sys.executable, "-m", "finetune_geometry", "prefetch", "--profile", "smoke"]
    done = subprocess.run(
        [*command, "--set", chosen, "--released"],
        env=environment(hub, tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert commit[:12] in done.stdout
    assert not any(".bin" in request for request in hub.requests)
    lock = json.loads((results / "smoke" / LOCK).read_text())
    assert lock["released.collection"] == {"repo": "owner/adapters", "commit": commit}

    page = tmp_path / "after.ipynb"
    execute(source, page, "-r", "profile", "smoke", results=results)
    text = page.read_text()
    assert f"Measured: owner/adapters at {commit[:12]}." in text
    run = results / "smoke"
    assert verdicts(read_csv(run / "released" / "claims.csv")) == VERDICTS
    assert len(read_csv(run / "released" / "printed.csv")) == len(RELEASED.printed)
    assert (run / "released" / "folders.csv").is_file()
    numbers = json.loads((run / "numbers" / "released_weights.json").read_text())
    assert numbers["folders"] == len(RELEASE)
    assert numbers["unreadable"] == 2
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(results))
    assert show_released.main("smoke") == 0
    said = capsys.readouterr().out
    assert f"C5     {VERDICTS['C5']}" in said
    assert str(run / "released" / "folders.csv") in said
    for cell in json.loads(text)["cells"]:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            if "remove-stderr" not in cell["metadata"].get("tags", []):
                assert output.get("name") != "stderr", output


def test_a_folder_stands_for_itself_and_a_repository_has_to_be_here(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))

    def where(collection: str) -> tuple[Path | None, str]:
        changes = {"released.collection": collection}
        return here(Run.open("smoke", "", changes).profile.released, "smoke")

    assert where(str(release)) == (release, f"{release}, a folder")
    assert where("notebooks")[0] == ROOT / "notebooks"
    assert where("owner/nothing") == (
        None,
        "owner/nothing is not here: `make released` fetches it",
    )


def test_a_run_s_own_adapters_get_the_run_s_own_verdicts(smoke_run: Path, tmp_path: Path) -> None:
    """Two ways to the same numbers: the chapters of a run, and its adapters as a collection."""
    profile: Profile = load_profile("smoke")
    # Steps of a card are those of the training, here all of it.
    found = hold_against(
        LEDGER, RELEASED, profile, smoke_run / "adapters", tmp_path / "folders.csv"
    )
    own = read_csv(smoke_run / "claims.csv").set_index("claim")
    shared = [
        name for name in found.claims if own["verdict"][name] != "not testable in this regime"
    ]
    assert {"C1", "C2", "C4", "C5", "C7"} <= set(shared)
    ours = found.table.set_index("claim")
    for name in shared:
        assert ours["verdict"][name] == own["verdict"][name], name
        assert ours["value"][name] == pytest.approx(own["value"][name], abs=1e-9), name


@pytest.mark.parametrize(("said", "folder"), [("v1.2", "v1.2"), ("mine/tiny.yaml", "tiny")])
def test_what_came_of_it_is_told_of_a_run_by_its_name_or_by_its_profile(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: str,
    folder: str,
) -> None:
    tables = tmp_path / folder / "released"
    tables.mkdir(parents=True)
    (tables / "claims.csv").write_text("claim,verdict,title\nC1,reproduced,A claim\n")
    (tables / "printed.csv").write_text("agrees\nyes\n")
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    assert show_released.main(said) == 0
    assert str(tables / "folders.csv") in capsys.readouterr().out
