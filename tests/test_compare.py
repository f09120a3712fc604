"""`finetune-geometry compare`: right numbers, a page that stands alone, one line for bad input."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from synthetic import dense, module_name, write_adapter

from finetune_geometry import records
from finetune_geometry.cli import main
from finetune_geometry.compare import compare, summary
from finetune_geometry.deltas import load_adapter
from finetune_geometry.profiles import UserError
from finetune_geometry.report import base_text, words

MODULES = [module_name(layer, kind) for layer in range(2) for kind in ("q_proj", "o_proj")]


@pytest.fixture
def folders(tmp_path):
    """Adapters sft, near (0.999 of sft), far (unrelated B), short (a hundredth of far)."""
    rng = np.random.default_rng(0)
    a = {m: rng.standard_normal((4, 20)) for m in MODULES}
    b = {m: rng.standard_normal((24, 4)) for m in MODULES}
    noise = {m: rng.standard_normal((24, 4)) for m in MODULES}
    made = {
        "sft": {m: (b[m], a[m]) for m in MODULES},
        "near": {m: (b[m] + 0.04 * noise[m], a[m]) for m in MODULES},
        "far": {m: (noise[m], a[m]) for m in MODULES},
        "short": {m: (0.01 * noise[m], a[m]) for m in MODULES},
    }
    return {name: write_adapter(tmp_path / name, f) for name, f in made.items()}


def arguments(folders, *names) -> list[str]:
    return ["compare", *(f"{name}={folders[name]}" for name in names), "--draws", "40"]


def test_numbers_are_those_of_the_dense_matrices(folders, capsys):
    assert main([*arguments(folders, "sft", "near", "far"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    flat = {
        n: np.concatenate([dense(d).ravel() for d in load_adapter(folders[n]).values()])
        for n in ("sft", "near", "far")
    }
    for pair in found["pairs"]:
        x, y = flat[pair["a"]], flat[pair["b"]]
        assert pair["cosine"] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        assert pair["distance"] == pytest.approx(np.linalg.norm(x - y))
    for name, values in found["adapters"].items():
        assert values["norm"] == pytest.approx(np.linalg.norm(flat[name]))
    assert found["modules"] == 4
    assert found["k"] == 2
    assert found["base_model"] == "student"
    low, high = found["chance"]["cosine"]
    assert low < 0 < high < 0.3


def test_words_say_what_the_numbers_are(folders):
    adapters = [load_adapter(folders[n], n) for n in ("sft", "near", "far", "short")]
    said = words(compare(adapters, draws=40))
    assert said[0].startswith(("sft and near: nearly the same", "far and short: nearly the same"))
    assert any(s.startswith("sft and far: no common direction overall") for s in said)
    assert any(re.match(r"short moved the weights \d+\.\d times less than", s) for s in said)


def test_untouched_and_partly_saved_adapters_are_named(folders, tmp_path):
    import torch

    zero = {m: (np.zeros((24, 4)), np.ones((4, 20))) for m in MODULES}
    extra = {"base_model.model.norm.weight": torch.ones(3)}
    write_adapter(tmp_path / "idle", zero, extra=extra)
    adapters = [load_adapter(folders["sft"]), load_adapter(tmp_path / "idle")]
    result = compare(adapters, draws=10)
    said = " ".join(words(result))
    assert "sft and idle: no cosine, as one of them changes nothing" in said
    assert "idle holds 1 tensors that are no LoRA factors" in said
    json.dumps(summary(result), allow_nan=False)


def test_report_stands_alone_and_explains_itself(folders, tmp_path):
    out = tmp_path / "report"
    assert main([*arguments(folders, "sft", "near", "far"), "--out", str(out)]) == 0
    page = BeautifulSoup((out / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert not page.find_all(["script", "link", "iframe"])
    for image in page.find_all("img"):
        assert image["src"].startswith("data:image/svg+xml;base64,")
        assert len(image["alt"]) > 20
    assert len(page.find_all("img")) == len(page.find_all("figcaption")) == 5
    text = page.get_text()
    assert "unrelated adapters of these shapes" in text
    assert "What these numbers do not say" in text
    names = {path.name for path in out.iterdir()}
    assert {"index.html", "summary.json", "cosine.csv", "chance.csv", "angles.svg"} <= names
    assert not [n for n in names if "partial" in n]
    for table in out.glob("*.csv"):
        assert "nan" not in table.read_text(encoding="utf-8").lower()


def test_a_page_to_share_names_no_folder_of_this_machine():
    assert base_text("/home/me/secret/models/student") == "models/student"
    assert base_text("Qwen/Qwen3-4B") == "Qwen/Qwen3-4B"


def test_report_is_replaced_and_reproduced_byte_for_byte(folders, tmp_path):
    out = tmp_path / "report"
    command = [*arguments(folders, "sft", "far"), "--out", str(out)]
    assert main(command) == 0
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(command) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_names_in_the_page_are_escaped(folders, tmp_path):
    config = json.loads((folders["sft"] / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "<script>alert(1)</script>"
    (folders["sft"] / "adapter_config.json").write_text(json.dumps(config))
    out = tmp_path / "report"
    assert main([*arguments(folders, "sft", "far"), "--any-base", "--out", str(out)]) == 0
    assert "<script>" not in (out / "index.html").read_text(encoding="utf-8")


def test_different_ranks_and_partial_layers_compare(folders, tmp_path, capsys):
    rng = np.random.default_rng(1)
    factors = {m: (rng.standard_normal((24, 2)), rng.standard_normal((2, 20))) for m in MODULES[:2]}
    folders["small"] = write_adapter(tmp_path / "small", factors)
    command = [*arguments(folders, "sft", "small"), "--json"]
    assert main(command) == 2
    assert "small lacks 2" in capsys.readouterr().err
    assert main([*command, "--intersection"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["modules"], found["r"], found["k"]) == (2, 2, 1)


def bad(folders, tmp_path) -> dict[str, tuple[list[str], str]]:
    sft, far = f"sft={folders['sft']}", f"far={folders['far']}"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    broken = shutil.copytree(folders["sft"], tmp_path / "broken")
    weights = broken / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    inside = Path(folders["sft"]) / "report"
    return {
        "one adapter": ([sft], "give at least two"),
        "no name": ([str(folders["sft"]), far], "write NAME=SOURCE"),
        "no source": (["sft=", far], "write NAME=SOURCE"),
        "name that climbs": ([f"../x={folders['sft']}", far], "name '../x'"),
        "name with a slash": ([f"a/b={folders['sft']}", far], "name 'a/b'"),
        "name with markup": ([f"<b>={folders['sft']}", far], "name '<b>'"),
        "empty name": ([f"={folders['sft']}", far], "name ''"),
        "the base's name": ([f"base={folders['sft']}", far], "and not 'base'"),
        "very long name": ([f"{'x' * 65}={folders['sft']}", far], "at most 64"),
        "one name twice": ([sft, f"sft={folders['far']}"], "two adapters are called 'sft'"),
        "no such folder": ([sft, "far=nowhere"], "no such adapter: nowhere"),
        "truncated file": ([sft, f"far={broken}"], "not a whole safetensors file"),
        "k of zero": ([sft, far, "--k", "0"], "k = 0"),
        "negative k": ([sft, far, "--k", "-3"], "k = -3"),
        "k above the rank": ([sft, far, "--k", "5"], "choose k between 1 and 4"),
        "unknown reference": ([sft, far, "--reference", "dpo"], "no reference 'dpo'"),
        "no draws": ([sft, far, "--draws", "0"], "--draws 0"),
        "report over other files": ([sft, far, "--out", str(foreign)], "no report"),
        "report over a file": ([sft, far, "--out", str(tmp_path / "file")], "not a folder"),
        "report over an adapter": ([sft, far, "--out", str(folders["sft"])], "no report"),
        "report below a file": (
            [sft, far, "--out", str(tmp_path / "file" / "x")],
            "cannot write the report",
        ),
        "report around an adapter": (
            [f"sft={inside.parent}", far, "--out", str(tmp_path)],
            "no rep",
        ),
    }


CASES = [
    "one adapter", "no name", "no source", "name that climbs", "name with a slash",
    "name with markup", "empty name", "the base's name", "very long name", "one name twice",
    "no such folder", "truncated file", "k of zero", "negative k", "k above the rank",
    "unknown reference", "no draws", "report over other files", "report over a file",
    "report over an adapter", "report below a file", "report around an adapter",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(folders, tmp_path, capsys, case):
    given, expected = bad(folders, tmp_path)[case]
    before = sorted(tmp_path.rglob("*"))
    command = ["compare", *given]
    if "--out" not in given:
        command += ["--out", str(tmp_path / "report")]
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert said.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_every_bad_input_is_tried(folders, tmp_path):
    assert set(bad(folders, tmp_path)) == set(CASES)


def test_full_disk_leaves_the_old_report(folders, tmp_path, capsys, monkeypatch):
    out = tmp_path / "report"
    command = [*arguments(folders, "sft", "far"), "--out", str(out)]
    assert main(command) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    assert main(command) == 2
    assert "no space left on the disk" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_misspelt_option_and_missing_command_exit_with_2(capsys):
    for argv in ([], ["compare"], ["compare", "a=x", "--ouput", "y"], ["compair"]):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 2
    capsys.readouterr()


def test_compare_as_a_function_needs_two(folders):
    with pytest.raises(UserError, match="give at least two"):
        compare([load_adapter(folders["sft"])])
