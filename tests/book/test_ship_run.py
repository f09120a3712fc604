"""A run ships in small: adapters in half precision, tables, a column of the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import ship_run
from conftest import ROOT
from safetensors.numpy import load_file

from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.geometry.similarity import cosine_table
from finetune_geometry.runs.files import read_csv
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS


@pytest.fixture
def ship(smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Ships the smoke run, with these options, into a folder of its own and returns that."""

    def shipped_with(*options: str) -> Path:
        monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(smoke_run.parent))
        monkeypatch.setattr(ship_run, "ROOT", tmp_path)
        monkeypatch.setattr(ship_run, "REFERENCE", tmp_path / "reference")
        monkeypatch.setattr("sys.argv", ["ship_run.py", "--profile", "smoke", *options])
        ship_run.main()
        return tmp_path / "models" / "smoke"

    return shipped_with


@pytest.fixture
def shipped(ship: Callable[..., Path]) -> Path:
    return ship()


@pytest.mark.smoke
def test_the_shipped_adapters_say_what_the_run_s_tables_say(shipped: Path, smoke_run: Path) -> None:
    names = sorted(path.name for path in (shipped / "adapters").iterdir())
    assert set(names) == {*METHODS, *ship_run.CONTROLS}  # not those of the sweep
    for name in names:
        weights = load_file(shipped / "adapters" / name / "adapter_model.safetensors")
        assert {value.dtype for value in weights.values()} == {np.dtype(np.float16)}
        whole = (smoke_run / "adapters" / name / "adapter_model.safetensors").read_bytes()
        card = json.loads((shipped / "adapters" / name / "card.json").read_text(encoding="utf-8"))
        assert card["fp32_sha256"] == hashlib.sha256(whole).hexdigest()
    adapters = [load_adapter(shipped / "adapters" / name, name) for name in ("sft", "rft", "dft")]
    again = cosine_table(adapters).query("level == 'global' and quantity == 'cosine'")
    table = read_csv(shipped / "geometry" / "cosine.csv").query("quantity == 'cosine'")
    for row in again.itertuples():
        pair = table[(table["a"] == row.a) & (table["b"] == row.b) & (table["level"] == "global")]
        assert row.value == pytest.approx(float(pair["value"].iloc[0]), abs=2e-3)
    assert "module" not in set(table["level"])


@pytest.mark.smoke
def test_what_ships_names_its_base_and_no_path_of_a_machine(shipped: Path) -> None:
    column = shipped.parents[1] / "reference" / "claims" / "smoke.csv"
    assert column.read_bytes() == (shipped / "claims.csv").read_bytes()
    settings = json.loads((shipped / "adapters" / "sft" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "models/student"
    readme = (shipped / "adapters" / "dpo" / "README.md").read_text(encoding="utf-8")
    assert "DPO" in readme
    assert "pairs to draw from" in readme
    for path in shipped.rglob("*"):
        if path.suffix in {".json", ".md", ".csv"}:
            assert str(ROOT) not in path.read_text(encoding="utf-8"), path
    sums = read_csv(shipped / "evaluation" / "sums.csv")
    assert (sums["right"] <= sums["sums"]).all()


@pytest.mark.smoke
def test_too_much_is_not_shipped(
    ship: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship_run, "LIMIT_MB", 0.01)
    with pytest.raises(UserError, match="ship fewer"):
        ship()
    assert not (tmp_path / "models" / "smoke").exists()


@pytest.mark.smoke
def test_of_a_run_that_is_not_examined_its_geometry_ships_alone(
    ship: Callable[..., Path], smoke_run: Path, tmp_path: Path
) -> None:
    folder = ship("--only", "geometry")
    assert not list(folder.rglob("*.safetensors"))
    assert not (tmp_path / "reference").exists()
    kept = read_csv(folder / "geometry" / "likeness.csv").query("quantity == 'cosine'")
    table = read_csv(smoke_run / "geometry" / "cosine.csv")
    table = table.query("quantity == 'cosine' and level == 'global'").set_index(["a", "b"])["value"]
    row = kept.set_index(["a", "b"]).loc[("sft", "dpo")]
    assert row["value"] == pytest.approx(table["sft", "dpo"])
    assert row["low"] <= row["value"] <= row["high"]
    assert set(read_csv(folder / "geometry" / "norms.csv")["adapter"]) >= set(METHODS)


def test_a_factor_beyond_half_precision_is_refused() -> None:
    with pytest.raises(UserError, match="too large for fp16"):
        ship_run.halved({"a": np.array([1e5], dtype=np.float32)}, "sft")
