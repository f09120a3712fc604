"""A collection's folders, and the table of them that a person corrects."""

import dataclasses

import numpy as np
import pytest
from collection import RELEASE, write_collection
from synthetic import module_name, write_adapter

from finetune_geometry.deltas.collection import Row, kept, open_collection, propose, read_rows
from finetune_geometry.deltas.folder_facts import Grid
from finetune_geometry.settings.errors import UserError

GRID = Grid(seeds=(42, 123), rates=(5e-7, 5e-6, 5e-5))


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("hub") / "release", layers=2, width=0.02, r=12)


def test_every_folder_is_listed_and_what_cannot_be_read_says_why(release):
    members = {member.folder: member for member in open_collection(release)}
    assert set(members) == {adapter.folder for adapter in RELEASE}
    for adapter in RELEASE:
        member = members[adapter.folder]
        assert (member.adapter is None) == bool(adapter.fault) == bool(member.problem)
        assert str(release) not in member.problem
    problems = {a.fault: members[a.folder].problem for a in RELEASE if a.fault}
    assert problems["no weights"].startswith("no adapter_model.safetensors")
    assert problems["truncated"].startswith("not a whole safetensors file")


def test_odd_names_are_understood_as_planned_or_not_at_all(release):
    rows = {row.folder: row for row in propose(open_collection(release), GRID)}
    for adapter in RELEASE:
        row = rows[adapter.folder]
        if adapter.folder.startswith("misc/"):
            assert (row.method, row.seed, row.step) == ("", None, None)
            continue
        assert (row.method, row.variant) == (adapter.method, ""), adapter.folder
        assert row.step == adapter.step
        assert row.seed in (adapter.seed, None)
        assert row.use == (not adapter.fault)
        assert bool(row.note) == bool(adapter.fault)


def test_an_adapter_of_another_model_stays_out_unless_a_person_says_otherwise(tmp_path):
    rng = np.random.default_rng(0)

    def write(name, d, base):
        factors = {module_name(0): (rng.standard_normal((d, 2)), rng.standard_normal((2, d)))}
        write_adapter(tmp_path / "all" / name, factors, base_model_name_or_path=base)

    write("sft", 8, "Qwen/Qwen3-4B")
    write("rft", 8, "/somewhere/else/qwen3-4b/")  # where it lay when it was trained
    write("dpo", 8, "/cache/hub/models--Qwen--Qwen3-4B/snapshots/0123abc")
    write("dft", 8, "Qwen/Qwen3-4B")
    write("llama", 6, "meta-llama/Llama-3.2-3B")
    write("base", 8, "Qwen/Qwen3-4B-Base")
    (tmp_path / "all" / ".cache").mkdir()
    (tmp_path / "all" / ".cache" / "adapter_config.json").write_text("{}")
    rows = {row.folder: row for row in propose(open_collection(tmp_path / "all"), GRID)}
    assert {name for name, row in rows.items() if row.use} == {"sft", "rft", "dpo", "dft"}
    assert rows["llama"].note == "unlike most: 1 modules of meta-llama/Llama-3.2-3B"
    table = tmp_path / "folders.csv"
    kept(table, list(rows.values()))
    table.write_text(table.read_text().replace("base,,base,,,,no", "base,,base,,,,yes"))
    assert {r.folder for r in kept(table, list(rows.values())) if r.use} >= {"base", "sft"}


def test_a_folder_without_adapters_is_no_collection(tmp_path):
    with pytest.raises(UserError, match="one folder for each adapter"):
        open_collection(tmp_path)


def test_the_table_is_made_once_and_then_kept_as_the_person_left_it(release, tmp_path):
    table = tmp_path / "released" / "folders.csv"
    proposed = propose(open_collection(release), GRID)
    assert kept(table, proposed) == proposed
    assert read_rows(table) == proposed
    ours = proposed[0].folder
    edited = table.read_text().replace(f"{ours},", f"{ours},", 1).splitlines()
    edited[1] = f"{ours},kto,mine,7,1e-4,12,yes,whatever"
    table.write_text("\n".join(edited) + "\n")
    before = table.read_bytes()
    rows = kept(table, proposed)
    assert rows[0] == Row(ours, "kto", "mine", 7, 1e-4, 12, use=True)  # the note is the program's
    assert rows[1:] == proposed[1:]
    assert table.read_bytes() == before


def test_new_folders_are_added_and_gone_ones_are_told_of(tmp_path):
    table = tmp_path / "folders.csv"
    first, second = Row("a", "sft", seed=1), Row("b", "dpo")
    kept(table, [first])
    table.write_text(table.read_text().replace(",1,", ",5,"))
    assert kept(table, [first, second]) == [dataclasses.replace(first, seed=5), second]
    assert [row.seed for row in read_rows(table)] == [5, None]
    gone = kept(table, [second])[1]
    assert (gone.folder, gone.use, gone.note) == ("a", False, "not in this collection")


def test_what_cannot_be_read_is_not_used_whatever_the_table_says(tmp_path):
    table = tmp_path / "folders.csv"
    broken = Row("a", "sft", use=False, note="cannot be read: no weights")
    kept(table, [broken])
    table.write_text(table.read_text().replace(",no,", ",yes,"))
    assert kept(table, [broken]) == [broken]


def test_a_spreadsheet_may_have_saved_it(tmp_path):
    table = tmp_path / "folders.csv"
    table.write_bytes(
        "\ufefffolder;method;variant;seed;learning_rate;step;use\r\n"
        "a, b;sft;;42;5,00E-06;1000;Yes\r\n;;;;;;\r\n".encode()
    )
    assert read_rows(table) == [Row("a, b", "sft", "", 42, 5e-6, 1000)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,sft,,forty,,,yes,", "seed 'forty'.*line 2: write a whole number, or nothing"),
        ("a,sft,,,fast,,yes,", "learning_rate 'fast'.*write a number"),
        ("a,sft,,,,1.5,yes,", "step '1.5'"),
        ("a,sft,,,,,maybe,", "use 'maybe'.*write yes or no"),
        ("a,S F T,,,,,yes,", "method 'S F T'"),
        ("a,sft,,,,,yes,\na,rft,,,,,yes,", "folder 'a' twice.*line 3"),
    ],
)
def test_a_slip_in_the_table_is_told_with_its_line(tmp_path, line, words):
    table = tmp_path / "folders.csv"
    table.write_text(f"folder,method,variant,seed,learning_rate,step,use,note\n{line}\n")
    with pytest.raises(UserError, match=words):
        read_rows(table)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"folder,method,variant,sede,learning_rate,step,use\n", "'sede'.*did you mean 'seed'"),
        (b"folder,method\n", "no column 'variant'"),
        (b"folder,m\xe9thod\n", "not UTF-8"),
    ],
)
def test_a_table_of_other_columns_is_refused(tmp_path, head, words):
    table = tmp_path / "folders.csv"
    table.write_bytes(head)
    with pytest.raises(UserError, match=words):
        read_rows(table)
