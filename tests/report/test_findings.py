"""The sentences and the page of a collection: groups instead of pairs, a series, heads."""

import json
import re

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from synthetic import module_name, write_adapter

from finetune_geometry.cli import main
from finetune_geometry.deltas.adapters import adapter_from, load_adapter
from finetune_geometry.deltas.lowrank import LowRankDelta
from finetune_geometry.report import page as page_module
from finetune_geometry.report import table_writer as table_files
from finetune_geometry.report.compare import compare
from finetune_geometry.report.findings import told, words
from finetune_geometry.report.summary import summary
from finetune_geometry.report.wording import listed, percent, spread

MODULES = [module_name(layer, kind) for layer in range(3) for kind in ("q_proj", "v_proj")]
RNG = np.random.default_rng


def factors(rng, r=4):
    return {m: (rng.standard_normal((24, r)), rng.standard_normal((r, 20))) for m in MODULES}


def adapter(name, parts):
    return adapter_from(name, {m: LowRankDelta(b, a) for m, (b, a) in parts.items()}, "student")


def collection(sizes, seed=0):
    """Groups "a0", "a1", ..., "b0", ... that share A and most of B, named by their letter."""
    rng = RNG(seed)
    made = []
    for letter, size in zip("abcdefgh", sizes, strict=False):
        one = factors(rng)
        for i in range(size):
            other = factors(rng)
            parts = {m: (one[m][0] + 0.3 * other[m][0], one[m][1]) for m in MODULES}
            made.append(adapter(f"{letter}{i}", parts))
    return made


# --- many adapters --------------------------------------------------------------------------------


def test_of_many_pairs_groups_are_told_and_no_list():
    result = compare(collection([6, 5, 1, 1]), draws=5)
    facts = summary(result)
    assert [group["members"] for group in facts["groups"]] == [
        [f"a{i}" for i in range(6)],
        [f"b{i}" for i in range(5)],
    ]
    assert facts["ungrouped"] == ["c0", "d0"]
    assert facts["one_a"] == [group["members"] for group in facts["groups"]]
    alike = told(result)["Alike"]
    assert len(alike) <= 9
    assert len(facts["pairs"]) == 78
    found = sum(p["p_corrected"] < 0.05 and p["cosine"] > 0 for p in facts["pairs"])
    assert found >= 15 + 10
    assert alike[0].startswith(f"Of 78 pairs {found} have more of a direction in common")
    text = " ".join(alike)
    assert "A group: a0, a1, a2, a3, a4 and a5 (cosine 0.9" in text
    assert "In no group: c0 and d0." in text
    closest = max(facts["pairs"], key=lambda p: p["cosine"])
    assert f"The closest pair that is not the same: {closest['a']} and {closest['b']}: " in text
    furthest = min(facts["pairs"], key=lambda p: p["cosine"])
    assert f"The most distant pair: {furthest['a']} and {furthest['b']}: " in text


def test_four_adapters_are_told_pair_by_pair_and_five_are_not():
    for number, pairs in ((4, 6), (5, 0)):
        said = told(compare(collection([number]), draws=5))["Alike"]
        assert sum(bool(re.match(r"a\d and a\d: ", sentence)) for sentence in said) == pairs


def test_equal_weights_are_called_the_same_and_near_ones_are_not():
    first, *rest = collection([2, 2, 1])
    copy = adapter("copy", {m: (first[m].B, first[m].A) for m in MODULES})
    near = adapter("near", {m: (first[m].B * (1 + 1e-9), first[m].A) for m in MODULES})
    result = compare([first, copy, near, *rest], draws=5)
    assert summary(result)["identical"] == [["a0", "copy"]]
    said = " ".join(words(result))
    assert "a0 and copy are the same weights (distance 0)." in said
    assert not re.search(r"near[^.]* are the same weights", said)
    assert re.search(r"closest pair that is not the same: \w+ and near: a common direction", said)


def test_opposed_adapters_are_counted_and_cancel():
    made = collection([3])
    against = adapter("against", {m: (-made[0][m].B, made[0][m].A) for m in MODULES})
    result = compare([*made, against], draws=5)
    facts = summary(result)
    assert facts["more_than_chance"] == {"pairs": 6, "alike": 3, "opposed": 3}
    said = " ".join(words(result))
    assert "a0 and against: opposed, 100 % of the energy (cosine -1.000;" in said
    assert "a0 and against cancel: their sum has 100 % less energy than at right angles." in said


def test_many_adapters_that_change_nothing():
    made = collection([5])
    idle = [adapter(name, {m: (0 * made[0][m].B, made[0][m].A) for m in MODULES}) for name in "xy"]
    result = compare([*made, *idle], draws=5)
    said = told(result)["Alike"]
    assert "x and y change nothing: no cosine." in said
    assert sum("nothing" in sentence for sentence in said) == 1
    json.dumps(summary(result), allow_nan=False)


# --- where, how much rank, merged -----------------------------------------------------------------


def test_the_module_that_stands_out_is_named():
    rng = RNG(1)
    parts = factors(rng)
    big = MODULES[3]
    parts[big] = (9 * parts[big][0], parts[big][1])
    result = compare([adapter("one", parts), adapter("two", factors(rng))], draws=5)
    where = told(result)["Where"]
    share = summary(result)["adapters"]["one"]["top_module"]["share"]
    energy = {m: np.sum((b @ a) ** 2) for m, (b, a) in parts.items()}
    assert share == pytest.approx(energy[big] / sum(energy.values()))
    assert where[-1] == (
        f"One module, {big}, holds {percent(share)} of the energy of one; by its size alone it "
        "would hold 17 %."
    )
    assert where[0].startswith("Energy of each change: v_proj ")


def test_the_rank_that_was_needed_is_told():
    rng = RNG(2)
    thin = {m: (b * np.array([1, 0.5, 1e-3, 1e-3]), a) for m, (b, a) in factors(rng).items()}
    (said,) = told(compare([adapter("one", thin), adapter("two", thin)], draws=5))["Rank"]
    assert said.startswith(
        "r = 4 was given; rank 2 holds 99 % of the energy in every module of every adapter"
    )


def test_what_a_merge_keeps_is_told():
    made = collection([1, 1, 1, 1])
    (said,) = told(compare(made, draws=5))["Merged"]
    assert re.match(r"Merged as their mean, 2[4-6] % of the mean energy is common", said)
    assert "(25 % if they were at right angles)" in said


# --- a series -------------------------------------------------------------------------------------


def series(breaks_at=None, n=8):
    rng = RNG(3)
    goal, start = factors(rng), factors(rng)
    made = []
    for i in range(n):
        if i == breaks_at:
            goal, start = factors(rng), factors(rng)
        share = 1 - 0.6 ** (i + 1)
        parts = {m: (share * goal[m][0] + 0.03 * share, start[m][1]) for m in MODULES}
        made.append(adapter(f"c{i}", parts))
    return made


def test_a_series_settles_and_a_broken_one_breaks():
    facts = summary(compare(series(), draws=5, series=True))
    path = facts["path"]
    assert path["checkpoints"] == 8
    assert path["breaks"] == []
    assert path["settles"] == "c4"
    assert path["straightness"] > 0.999
    broken = compare(series(breaks_at=5), draws=5, series=True)
    assert summary(broken)["path"]["breaks"] == [{"at": "c5", "why": "start"}]
    said = told(broken)["Path"]
    assert "It breaks at c5: the initial A is another one, so this is not one training." in said
    assert "path" not in compare(series(), draws=5).tables


def test_the_path_of_a_series_is_on_its_page(tmp_path, capsys):
    for i, one in enumerate(series()):
        write_adapter(tmp_path / f"c{i}", {m: (one[m].B, one[m].A) for m in MODULES})
    given = [f"c{i}={tmp_path / f'c{i}'}" for i in range(8)]
    out = tmp_path / "report"
    assert main(["compare", *given, "--series", "--draws", "5", "--out", str(out)]) == 0
    assert "The path from the base through 8 checkpoints" in capsys.readouterr().out
    assert {"path.svg", "path.csv"} <= {path.name for path in out.iterdir()}
    text = BeautifulSoup((out / "index.html").read_text("utf-8"), "html.parser").get_text()
    assert "The path of the series" in text
    assert "8. c7" in text
    found = json.loads((out / "summary.json").read_text("utf-8"))
    assert found["path"]["settles"] == "c4"


# --- heads, pages ---------------------------------------------------------------------------------


def test_heads_are_measured_and_compared(tmp_path, capsys):
    key = "base_model.model.classifier.weight"
    heads = [torch.randn(3, 20, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    given = []
    for i, head in enumerate(heads):
        folder = write_adapter(tmp_path / str(i), factors(RNG(i)), extra={key: head})
        given.append(f"h{i}={folder}")
    out = tmp_path / "report"
    assert main(["compare", *given, "--draws", "5", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    cosine = torch.nn.functional.cosine_similarity(heads[0].ravel(), heads[1].ravel(), dim=0)
    assert "h0 and h1 save classifier.weight (3 x 20) whole: norm " in said
    assert f"cosine {float(cosine):.3f} (unrelated numbers: ±0.253)" in said
    text = BeautifulSoup((out / "index.html").read_text("utf-8"), "html.parser").get_text()
    assert "What is saved whole" in text
    assert (out / "heads.csv").is_file()


def test_a_page_of_thirty_adapters_stays_readable(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "MOST_ROWS", 2000)
    monkeypatch.setattr(page_module, "MOST_ROWS", 2000)
    monkeypatch.setattr(
        page_module, "write_table", lambda f, n, t: table_files.write_table(f, n, t, 2000)
    )
    result = compare(collection([12, 10, 8]), draws=5)
    page = page_module.write_report(result, tmp_path / "report")
    found = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    assert len(found.find("h2", string="In short").find_all_next("li")) < 40
    tables = found.find_all("table")
    assert len(tables[0].find_all("tr")) == 31
    assert max(len(table.find_all("tr")) for table in tables[1:]) < 20
    assert "Tables of more than" in found.get_text()
    assert (tmp_path / "report" / "principal_angles.parquet").is_file()
    assert "principal_angles.parquet" in found.get_text()


def test_every_table_that_is_written_is_explained():
    result = compare(series(), draws=5, series=True)
    assert set(result.tables) | {"heads"} == set(page_module.WHAT)
    with_figures = {name for names, _ in page_module.SECTIONS.values() for name in names}
    assert with_figures == {
        "cosine", "distance", "energy", "path", "depth", "angles", "orthogonal_fraction"
    }  # fmt: skip


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "most", "text"),
    [
        ([], 3, ""), (["a"], 3, "a"), (["a", "b"], 3, "a and b"),
        (["a", "b", "c"], 3, "a, b and c"),
        (["a", "b", "c", "d"], 3, "a, b and 2 more"),
    ],
)  # fmt: skip
def test_lists_of_names_stay_short(names, most, text):
    assert listed(names, most) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"), (1e-9, "under 1 %"), (0.0099, "under 1 %"), (0.01, "1 %"),
        (0.38, "38 %"), (0.994, "99 %"),
        (0.9951, "over 99 %"), (1.0, "100 %"),
    ],
)  # fmt: skip
def test_percentages_are_never_0_or_100_for_what_is_neither(share, text):
    assert percent(share) == text


def test_spreads_are_one_number_where_adapters_agree():
    assert spread([0.50, 0.54]) == "52 %"
    assert spread([0.50, 0.70]) == "50 to 70 %"


def test_reading_an_adapter_from_disk_tells_the_same(tmp_path):
    """What is in memory and what is in a file differ in nothing that is told."""
    parts = [factors(RNG(i)) for i in range(2)]
    memory = [adapter(f"n{i}", part) for i, part in enumerate(parts)]
    disk = [
        load_adapter(
            write_adapter(tmp_path / f"n{i}", part, dtype=torch.float64, lora_alpha=4), f"n{i}"
        )
        for i, part in enumerate(parts)
    ]
    one, two = (summary(compare(adapters, draws=5)) for adapters in (memory, disk))
    assert one == two
