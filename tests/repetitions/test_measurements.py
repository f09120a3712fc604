"""What is measured of a repetition, on a toy model with random adapters, and how it is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import measure_cell
import numpy as np
import pandas as pd
import pytest
from cells import maker_of
from settings_unchanged import cell_ships
from shipped import MARK
from synthetic import module_name, write_adapter
from toy import toy_pool, toy_run
from trainings import covers

from finetune_geometry.deltas.adapters import BASE, load_adapter
from finetune_geometry.repetitions.behaviour import BEHAVIOURS, MEASURES, measure_behaviour
from finetune_geometry.repetitions.causes import OTHERS, measure_causes
from finetune_geometry.repetitions.cells import made_where, read_cells, write_cell
from finetune_geometry.repetitions.paths import measure_path, shares
from finetune_geometry.repetitions.rays import FIVE, measure_annealed, measure_ray
from finetune_geometry.runs import reads
from finetune_geometry.runs.records import Run
from finetune_geometry.runs.snapshots import snapshot_dir
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.objectives import METHODS
from finetune_geometry.settings.profiles import load_profile
from finetune_geometry.settings.repetitions import MEASUREMENTS, annealed_name
from finetune_geometry.settings.variation import repeated_orders
from finetune_geometry.settings.variations import cells

WIDTHS = {"q_proj": (32, 32), "k_proj": (32, 16)}  # of the toy model: inputs, outputs


def random_adapter(
    run: Run, name: str, scale: float, seed: int, folder: Path | None = None
) -> None:
    """Rank 4 on two projections of both layers."""
    rng = np.random.default_rng(seed)
    factors = {
        module_name(layer, kind): (
            scale * rng.standard_normal((outputs, 4)),
            rng.standard_normal((4, inputs)) / 6,
        )
        for layer in range(2)
        for kind, (inputs, outputs) in WIDTHS.items()
    }
    write_adapter(folder or run.adapter_dir(name), factors, target_modules=list(WIDTHS))


@pytest.fixture(scope="module")
def run(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run's own six and its yardstick, and the six annealed; a base that answers nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path_factory.mktemp("cells")))
        patch.setenv("FINETUNE_GEOMETRY_READS", "yes")  # the profile notes what is read of it
        made = toy_run(
            toy_model,
            pool=toy_pool(heldout=3),
            problems__validation=4,
            problems__test=6,
            evaluation__max_new_tokens=8,
            geometry__lmc_rows=4,
            geometry__ray_factors=(0.5, 1.0),
        )
    names = [*METHODS, "sft-order", *(f"{method}-annealed" for method in METHODS)]
    for seed, name in enumerate(names):
        random_adapter(made, name, 0.02, seed)
    return made


def own(run: Run):
    return cells(run.profile)[0]


@pytest.fixture(autouse=True)
def nothing_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "READ", set())


def declared(chapter: str) -> None:
    """All that was read of the profile decides the tables, so a card must hold it."""
    settings = (*MEASUREMENTS[chapter].settings, "spread")
    assert reads.READ
    assert not [key for key in reads.READ if not any(covers(part, key) for part in settings)]


def test_a_ray_has_every_factor_of_every_method_and_the_base_once(run: Run) -> None:
    tables = measure_ray(run, own(run))
    declared("ray")
    assert {*tables} == {*MEASUREMENTS["ray"].tables}
    ray = tables["ray"]
    assert list(ray["model"]) == [BASE, *(method for method in METHODS for _ in (0.5, 1.0))]
    assert ray["loss"].is_unique  # another model at every point
    assert (ray.loc[ray["model"] != BASE, "problems"] == 0).all()  # the base knows nothing
    accuracy = tables["ray_accuracy"]
    best = accuracy[accuracy["which"] == "best"].set_index("model")["factor"]
    for method, rows in ray[ray["model"] != BASE].groupby("model"):
        losses = {0.0: ray["loss"].iloc[0], **dict(zip(rows["factor"], rows["loss"], strict=True))}
        assert best[method] == min(losses, key=losses.get)
    trained = accuracy[accuracy["which"] == "trained"].set_index("model")["factor"]
    assert trained[BASE] == 0
    assert (trained[list(METHODS)] == 1).all()
    tests = tables["ray_mcnemar"].groupby("family").size()
    assert tests.to_dict() == {
        **{"trained": 10, "best": 10, "own": 6},
        **{"trained, base": 1, "best, base": 1},
    }
    assert "dpo" not in FIVE


def test_annealed_ones_stand_beside_the_trained_of_their_cell(run: Run) -> None:
    tables = measure_annealed(run, own(run))
    declared("annealed")
    assert {*tables} == {*MEASUREMENTS["annealed"].tables}
    turned = tables["annealed_cosine"].set_index(["first", "second"])
    one, two = (load_adapter(run.adapter_dir(name), name) for name in ("dft", "dft-annealed"))
    dense = [
        np.concatenate([(d.scale * d.B @ d.A).ravel() for d in adapter.values()])
        for adapter in (one, two)
    ]
    norms = [np.linalg.norm(whole) for whole in dense]
    expected = dense[0] @ dense[1] / np.prod(norms)
    row = turned.loc["dft", "dft"]
    assert row["annealed"] == pytest.approx(expected, abs=1e-9)
    assert [row["norm_trained"], row["norm_annealed"]] == pytest.approx(norms)
    assert len(turned) == 15 + 6
    assert {*tables["annealed_accuracy"]["which"]} == {"trained", "annealed"}
    assert annealed_name(cells(run.profile)[2], "rft") == "rft-annealed2"


def test_parts_of_a_delta_add_up_and_random_ones_are_the_same_again(run: Run) -> None:
    first, second = (measure_causes(run, own(run)) for _ in range(2))
    declared("causes")
    assert {*first} == {*MEASUREMENTS["causes"].tables}
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, second[name])
    table = first["causes"].set_index(["method", "part"])["loss"]
    assert len(table) == 2 + len(OTHERS) * 8
    lengths = first["causes_parts"].set_index("method")
    sft = load_adapter(run.adapter_dir("sft"), "sft")
    whole = {
        name: sum(delta.norm() ** 2 for delta in load_adapter(run.adapter_dir(name), name).values())
        for name in OTHERS
    }
    norm = sum(delta.norm() ** 2 for delta in sft.values())
    for method in OTHERS:
        row = lengths.loc[method]
        assert row["c"] ** 2 * norm + row["length"] ** 2 == pytest.approx(whole[method])
        assert row["fraction"] == pytest.approx(row["length"] / whole[method] ** 0.5)
        assert table[method, "random"] != table[method, "off"]
    assert first["causes"]["loss"].is_unique


def keep_on_the_way(run: Run, name: str, step: int, seed: int, **changes: object) -> None:
    """An adapter on the way, with the card of a training that both come from."""
    origin = {"objective": name, "rows_sha256": "00"}
    (run.adapter_dir(name) / "card.json").write_text(json.dumps({"steps": 4, **origin}))
    folder = snapshot_dir(run, name, step)
    random_adapter(run, name, 0.02, seed, folder)
    (folder / "card.json").write_text(json.dumps({"step": step, **origin, **changes}))


def test_a_path_has_every_pair_at_every_share(run: Run) -> None:
    roles = [*METHODS, "sft-order"]
    for seed, role in enumerate(roles):
        for step in run.profile.training.snapshot_steps:
            keep_on_the_way(run, role, step, 100 * step + seed)
    tables = measure_path(run, own(run))
    declared("path")
    path, lengths = (tables[name] for name in MEASUREMENTS["path"].tables)
    assert list(path.groupby("share", sort=False)["step"].agg(["size", "first"]).itertuples()) == [
        (0.1, 21, 1), (0.5, 21, 2), (1.0, 21, 4),
    ]  # fmt: skip
    at = snapshot_dir(run, "dft", 2), run.adapter_dir("dft"), snapshot_dir(run, "rft", 2)
    here, end, other = (
        np.concatenate([(d.scale * d.B @ d.A).ravel() for d in load_adapter(folder).values()])
        for folder in at
    )
    row = lengths.set_index(["share", "role"]).loc[0.5, "dft"]
    norm = np.linalg.norm(here)
    assert row["norm"] == pytest.approx(norm)
    assert row["to_end"] == pytest.approx(here @ end / norm / np.linalg.norm(end))
    value = path.set_index(["share", "a", "b"])["value"]
    expected = here @ other / norm / np.linalg.norm(other)
    assert value[0.5, "rft", "dft"] == pytest.approx(expected)
    of_end = lengths[lengths["share"] == 1]
    assert of_end["to_end"].tolist() == pytest.approx([1.0] * 7)
    keep_on_the_way(run, "rft", 1, 0, rows_sha256="ff")
    with pytest.raises(UserError, match=r"rft after 1 steps is another training's.*delete"):
        measure_path(run, own(run))
    shutil.rmtree(snapshot_dir(run, "rft", 1))
    with pytest.raises(UserError, match="rft after 1 steps is missing"):
        measure_path(run, own(run))


def test_shares_of_a_path_end_where_the_shortest_training_ends() -> None:
    profile = load_profile(
        "tiny", {"methods.dpo.steps": 40, "training.snapshots": [0.004, 0.01, 0.995]}
    )
    found = shares(profile, ["sft", "dpo", "sft-order"])
    first = {"sft": 1, "dpo": 1, "sft-order": 1}
    assert found == {0.004: first, 1.0: {"sft": 100, "dpo": 40, "sft-order": 100}}


def test_every_two_models_of_a_cell_are_held_together_and_against_the_run_s(run: Run) -> None:
    known = cells(run.profile)
    draw = next(cell for cell in known if cell.kind == "draw")
    for seed, name in enumerate(draw.adapters.values()):
        random_adapter(run, name, 0.02, 50 + seed)
    own_pairs = {"one A, one order": 15, "one A, two orders": 6}
    for cell, pairs in ((known[0], own_pairs), (draw, {**own_pairs, "two A": 49})):
        table = measure_behaviour(run, cell)["behaviour"]
        assert table["pair"].value_counts().to_dict() == pairs
        assert not table.duplicated(["a", "b"]).any()
        assert (table["tokens"] > 0).all()
        assert {*table} == {"a", "b", "pair", *MEASURES, *BEHAVIOURS}
    declared("behaviour")
    row = table[(table["a"] == "dft-draw1") & (table["b"] == "rft")].iloc[0]
    one, two = (
        np.concatenate([(d.scale * d.B @ d.A).ravel() for d in adapter.values()])
        for adapter in (load_adapter(run.adapter_dir(name), name) for name in (row["a"], row["b"]))
    )
    assert row["distance"] == pytest.approx(np.linalg.norm(one - two))
    assert row["lengths"] == pytest.approx(abs(np.linalg.norm(one) - np.linalg.norm(two)))
    assert row["cosine"] == pytest.approx(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    needed = MEASUREMENTS["behaviour"].adapters(draw)
    assert {*table["a"], *table["b"]} == {*needed}


def test_the_tables_of_cells_are_read_together_or_not_at_all(run: Run) -> None:
    first, second = cells(run.profile)[:2]
    for number, cell in enumerate((first, second)):
        table = pd.DataFrame({"cell": ["?"], "value": [number], "b": [""]})
        write_cell(run, cell, {"toy": table})
    found = read_cells(run, (first, second), "toy")
    assert found.to_dict("list") == {"cell": ["run", "order1"], "value": [0, 1], "b": ["", ""]}
    with pytest.raises(UserError, match=r"missing cells/order1/ray.csv.*make controls ONLY=order1"):
        read_cells(run, (second,), "ray")


def test_every_measurement_has_its_maker() -> None:
    for measurement in MEASUREMENTS.values():
        module, _, function = measurement.maker.partition(".")
        assert f"\ndef {function}(run: Run, cell: Cell)" in maker_of(measurement).read_text()
        assert maker_of(measurement).stem == module
        known = {cell.name for cell in cells(load_profile("tiny"))}
        assert known.issuperset(measurement.which)
    orders = {
        f"order{order}" if order else "run" for order in repeated_orders(load_profile("tiny"))
    }
    assert orders.issuperset(MEASUREMENTS["annealed"].which)  # others are not trained annealed


def test_a_card_says_what_decided_its_tables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By it another run knows whether it may show them; parts are kept until it is written."""
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(run.dir.parent))
    monkeypatch.setattr(Run, "open", lambda *_: run)
    measure_cell.main("tiny", "toy", "causes", "run")
    card = run.read_json("cells/run/causes.json")
    assert card["made_with"]["lora.r"] == 4
    assert not any(key.startswith(("geometry.cka", "released")) for key in card["made_with"])
    assert not (run.dir / "parts" / "cells" / "run" / "causes").exists()
    assert cell_ships(MEASUREMENTS["causes"], "run", run.profile, run.dir)
    other = load_profile("tiny", {"methods.dpo.beta": 0.3})
    assert not cell_ships(MEASUREMENTS["causes"], "run", other, run.dir)
    table = made_where(run, [cells(run.profile)[0]], "causes")
    assert table["made in"].tolist() == ["this run"]
    run.write_json("cells/run/causes.json", card | {MARK: True})
    table = made_where(run, [cells(run.profile)[0]], "causes")
    assert table["made in"].tolist() == ["the reference run"]
