"""`finetune-geometry compare`: right numbers, a page that stands alone, one line for bad input."""

import json
import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import torch
from bs4 import BeautifulSoup
from synthetic import dense, module_name, write_adapter

from finetune_geometry.cli import main
from finetune_geometry.deltas.adapters import load_adapter
from finetune_geometry.report.compare import choose_k, compare
from finetune_geometry.report.findings import LIMITS, verdict, words
from finetune_geometry.report.page_figures import figures
from finetune_geometry.report.summary import summary
from finetune_geometry.report.wording import base_text, number
from finetune_geometry.runs import records
from finetune_geometry.settings.errors import UserError

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
    assert found["ranks"] == [4, 4]
    for pair in found["pairs"]:
        assert 0 < pair["chance_independent_a"] < pair["chance_shared_a"] < 0.3


def test_angles_are_those_of_the_dense_matrices_on_the_side_they_name(tmp_path):
    rng = np.random.default_rng(0)
    b = {m: rng.standard_normal((24, 4)) for m in MODULES}

    def near(factor, size):
        return {m: f + size * rng.standard_normal(f.shape) for m, f in factor.items()}

    a = {m: rng.standard_normal((4, 20)) for m in MODULES}
    parts = {"one": (b, a), "two": (near(b, 0.05), near(a, 0.6))}
    adapters = []
    for name, (left, right) in parts.items():
        factors = {m: (left[m], right[m]) for m in MODULES}
        adapters.append(load_adapter(write_adapter(tmp_path / name, factors), name))
    (pair,) = summary(compare(adapters, draws=10))["pairs"]
    svd = {x.name: {m: np.linalg.svd(dense(x[m])) for m in MODULES} for x in adapters}
    wanted = {"left": [], "right": []}
    for m in MODULES:
        (u, _, vt), (u2, _, vt2) = svd["one"][m], svd["two"][m]
        wanted["left"].append(scipy.linalg.subspace_angles(u[:, :2], u2[:, :2]).min())
        wanted["right"].append(scipy.linalg.subspace_angles(vt[:2].T, vt2[:2].T).min())
    for side, angles in wanted.items():
        expected = np.degrees(np.median(angles))
        assert pair[f"angle_smallest_{side}"] == pytest.approx(expected, rel=1e-6)
    assert pair["angle_smallest_left"] < 0.7 * pair["angle_smallest_right"]


def test_words_say_what_the_numbers_are(folders):
    adapters = [load_adapter(folders[n], n) for n in ("sft", "near", "far", "short")]
    said = words(compare(adapters, draws=40))
    assert re.match(
        r"(sft and near|far and short): a common direction, (over 99|100) % of the energy", said[0]
    )
    assert any(s.startswith("sft and far: no common direction overall") for s in said)
    assert any(re.match(r"short moved the weights \d+\.\d times less than", s) for s in said)


def test_untouched_and_partly_saved_adapters_are_named(folders, tmp_path):
    idle = write_idle(tmp_path / "idle", {"base_model.model.score.weight": torch.ones(3)})
    adapters = [load_adapter(folders["sft"]), load_adapter(idle)]
    result = compare(adapters, draws=10)
    said = " ".join(words(result))
    assert "sft and idle: no cosine, as one of them changes nothing" in said
    assert "idle has 1 tensor beside the numbers here (score.weight)." in said
    assert "classification heads" in said
    json.dumps(summary(result), allow_nan=False)


def write_idle(folder, extra=None):
    """An adapter that was never trained."""
    zero = {m: (np.zeros((24, 4)), np.ones((4, 20))) for m in MODULES}
    return write_adapter(folder, zero, extra=extra)


def test_copies_of_the_base_are_no_change(folders, tmp_path):
    """As PEFT saves them beside a LoRA on the embedding, and beside a head that it trains."""
    factors = {MODULES[0]: (np.ones((24, 4)), np.ones((4, 20)))}
    names = [
        "model.embed_tokens.base_layer.weight",
        "score.original_module.weight",
        "score.modules_to_save.weight",
        f"{MODULES[0]}.base_layer.bias",
    ]
    extra = {f"base_model.model.{name}": torch.ones(3) for name in names}
    adapter = load_adapter(write_adapter(tmp_path / "a", factors, extra=extra))
    assert sorted(adapter.extras) == sorted(f"base_model.model.{name}" for name in names[2:])


def test_report_stands_alone_and_explains_itself(folders, tmp_path):
    out = tmp_path / "report"
    assert main([*arguments(folders, "sft", "near", "far"), "--out", str(out)]) == 0
    page = BeautifulSoup((out / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert not page.find_all(["script", "link", "iframe"])
    for image in page.find_all("img"):
        assert image["src"].startswith("data:image/svg+xml;base64,")
        assert len(image["alt"]) > 20
    assert len(page.find_all("img")) == len(page.find_all("figcaption")) == 6
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
    assert (found["modules"], found["ranks"], found["k"]) == (2, [2, 4], 1)
    assert found["adapters"]["sft"]["modules_left_out"] == 2
    assert main([*command[:-1], "--intersection"]) == 0
    said = capsys.readouterr().out
    assert "Only the 2 modules that all have are compared. Left out: 2 of sft's 4." in said


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
        "the base as reference": ([sft, far, "--reference", "base"], "must be one of sft, far\n"),
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
    "unknown reference", "the base as reference", "no draws", "report over other files",
    "report over a file", "report over an adapter", "report below a file",
    "report around an adapter",
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
    for argv, said in {
        (): "Missing command",
        ("compare",): "Missing argument 'NAME=SOURCE...'",
        ("compare", "a=x", "--ouput", "y"): "No such option: --ouput",
        ("compair",): "Did you mean 'compare'?",
        ("compare", "a=x", "b=y", "--k", "two"): "Invalid value for '--k'",
    }.items():
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.startswith("finetune-geometry: ")
        assert error.count("\n") == 1


def test_compare_as_a_function_needs_two(folders):
    with pytest.raises(UserError, match="give at least two"):
        compare([load_adapter(folders["sft"])])


# --- pairs ----------------------------------------------------------------------------------------


def starts(tmp_path, mix: float, rng) -> list:
    """Two adapters with unrelated B, whose A have the cosine `mix`."""
    modules = [module_name(layer) for layer in range(8)]
    a = {m: rng.standard_normal((8, 60)) for m in modules}
    adapters = []
    for name, share in (("one", 1.0), ("two", mix)):
        factors = {
            m: (
                rng.standard_normal((64, 8)),
                share * a[m] + np.sqrt(1 - share**2) * rng.standard_normal((8, 60)),
            )
            for m in modules
        }
        adapters.append(load_adapter(write_adapter(tmp_path / name, factors), name))
    return adapters


@pytest.mark.parametrize(
    ("mix", "shared", "start", "said"),
    [
        (0.95, True, "shared", "as A is shared"),
        (0.0, False, "independent", "as each has an A of its own"),
        (0.45, None, "unclear", "which the factors leave open"),
    ],
)
def test_each_pair_says_whether_a_is_shared_and_uses_its_chance(tmp_path, mix, shared, start, said):
    result = compare(starts(tmp_path, mix, np.random.default_rng(0)), draws=20)
    facts = summary(result)
    (pair,) = facts["pairs"]
    assert (pair["shared_a"], pair["initial_a"]) == (shared, start)
    assert pair["cosine_of_a"] == pytest.approx(mix, abs=0.05)
    sentence = words(result)[0]
    assert said in sentence
    named = {
        "shared": ["chance_shared_a"],
        "independent": ["chance_independent_a"],
        "unclear": ["chance_shared_a", "chance_independent_a"],
    }[start]
    assert re.findall(r"±([\d.]+)", sentence) == [number(pair[level]) for level in named]
    # With one A the cosines scatter far more; with an A each it makes no difference.
    assert pair["chance_shared_a"] / pair["chance_independent_a"] == pytest.approx(
        {"shared": 2.6, "independent": 1.0, "unclear": 1.5}[start], abs=0.25
    )
    low, high = facts["chance"]["angle_smallest_left"]
    angle = pair["angle_smallest_left"]
    assert f"Smallest left angle {angle:.0f}°, chance {low:.0f}° to {high:.0f}° (k = 4)" in sentence


def test_a_cosine_beyond_the_chance_of_its_own_start_is_found(tmp_path):
    """A cosine that one shared A would make by chance is a finding for adapters with an A each."""
    rng = np.random.default_rng(3)
    one, two = starts(tmp_path, 0.0, rng)
    factors = {m: (two[m].B, two[m].A + 0.3 * one[m].A) for m in one}
    factors = {m: (b + 0.3 * one[m].B, a) for m, (b, a) in factors.items()}
    three = load_adapter(write_adapter(tmp_path / "three", factors), "three")
    result = compare([one, three], draws=20)
    (pair,) = summary(result)["pairs"]
    assert pair["initial_a"] == "unclear"  # a cosine of A of 0.29
    two_and_one = summary(compare([one, two], draws=20))["pairs"][0]
    assert pair["cosine"] > 2 * two_and_one["chance_independent_a"]
    assert pair["p_corrected"] < 0.05
    assert "a common direction, " in words(result)[0]


def test_no_sentence_claims_that_unrelated_starts_give_cosines_near_zero():
    text = " ".join(LIMITS)
    assert "even the same training" not in text
    assert "longer training can bring it anywhere" in text


@pytest.mark.parametrize(
    ("cosine", "p", "said"),
    [
        (0.95, 0.0, "a common direction, 90 % of the energy"),
        (0.01, 0.0499, "a common direction, under 1 % of the energy"),
        (0.01, 0.05, "no common direction overall"),
        (0.99, 0.05, "no common direction overall"),
        (-0.5, 0.0, "opposed, 25 % of the energy"),
        (-0.99, 0.05, "no common direction overall"),
        (1.0, 0.0, "a common direction, 100 % of the energy"),
        (0.9999, 0.0, "a common direction, over 99 % of the energy"),
    ],
)
def test_words_change_at_chance_alone(cosine, p, said):
    assert verdict({"cosine": cosine, "p_corrected": p, "identical": False}) == said


@pytest.mark.parametrize(("times", "said"), [(2.99, False), (3.01, True)])
def test_unequal_lengths_are_named_from_three_times_on(folders, tmp_path, times, said):
    one = load_adapter(folders["sft"])
    longer = {m: (times * one[m].B, one[m].A) for m in one}
    other = load_adapter(write_adapter(tmp_path / "longer", longer))
    text = " ".join(words(compare([one, other], draws=5)))
    assert ("sft moved the weights 3.0 times less than longer" in text) == said


def test_a_copy_is_identical_and_its_distance_zero(folders, tmp_path, capsys):
    folders["copy"] = shutil.copytree(folders["sft"], tmp_path / "copy")
    assert main([*arguments(folders, "far", "sft", "copy"), "--json"]) == 0
    pairs = {(p["a"], p["b"]): p for p in json.loads(capsys.readouterr().out)["pairs"]}
    assert pairs["sft", "copy"]["distance"] == 0.0
    assert [pair for pair, p in pairs.items() if p["identical"]] == [("sft", "copy")]
    assert main(arguments(folders, "far", "sft", "copy")) == 0
    assert "sft and copy: the same weights, every one changes by the same amount (distance 0)." in (
        capsys.readouterr().out
    )


def test_what_differs_in_the_last_digit_is_not_identical(folders, tmp_path):
    one = load_adapter(folders["sft"])
    factors = {m: (one[m].B.copy(), one[m].A) for m in one}
    b = factors[MODULES[0]][0]
    b[0, 0] = np.nextafter(b[0, 0], 9)
    other = load_adapter(write_adapter(tmp_path / "other", factors, dtype=torch.float64))
    result = compare([one, other], draws=5)
    assert not summary(result)["pairs"][0]["identical"]
    assert "a common direction, " in words(result)[0]
    assert "the same weights" not in " ".join(words(result))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-1e-17, "0"), (-0.0004, "-0.0004"), (0.00471, "0.0047"), (2.6e-5, "0.000026"),
        (0.01, "0.010"), (-0.3456, "-0.346"), (1.0, "1.000"),
    ],
)  # fmt: skip
def test_numbers_near_zero_keep_two_digits(value, text):
    assert number(value) == text


# --- shapes, ranks and k --------------------------------------------------------------------------


def of_shapes(tmp_path, shapes, r, seed=0, **config) -> list:
    """Two unrelated adapters; `r` is the rank, or the rank of each module in order."""
    rng = np.random.default_rng(seed)
    ranks = [r] * len(shapes) if isinstance(r, int) else r
    config = {"r": max(ranks), "lora_alpha": 8, **config}
    made = []
    for name in ("one", "two"):
        factors = {
            m: (rng.standard_normal((s[0], n)), rng.standard_normal((n, s[1])))
            for (m, s), n in zip(shapes.items(), ranks, strict=True)
        }
        made.append(f"{name}={write_adapter(tmp_path / name, factors, **config)}")
    return made


@pytest.mark.parametrize(
    ("narrow", "r", "k"),
    [({"score": (1, 200)}, 4, 2), ({"score": (2, 64)}, 8, 4), ({"layers.1.gate": (8, 64)}, 32, 10)],
)
def test_modules_narrower_than_k_are_compared_and_counted(tmp_path, capsys, narrow, r, k):
    shapes = {f"layers.{i}.q": (64, 64) for i in range(3)} | narrow
    command = ["compare", *of_shapes(tmp_path, shapes, r), "--draws", "10"]
    assert main([*command, "--json", "--out", str(tmp_path / "report")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["k"] == k
    assert (found["modules"], found["pairs"][0]["angle_modules"]) == (4, 3)
    assert main(command) == 0
    assert f"(k = {k}, not defined in 1 of 4 modules)" in capsys.readouterr().out


def test_the_first_module_does_not_decide_k(tmp_path, capsys):
    shapes = {f"layers.{i}.q": (40, 40) for i in range(5)}
    given = of_shapes(tmp_path, shapes, [2, 8, 8, 8, 8], rank_pattern={"layers.0.q": 2})
    command = ["compare", *given, "--draws", "5"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["k"], found["ranks"]) == (4, [2, 8])
    assert found["pairs"][0]["angle_modules"] == 4
    assert main([*command, "--k", "8", "--out", str(tmp_path / "report")]) == 0
    assert "(k = 8, not defined in 1 of 5 modules)" in capsys.readouterr().out
    assert "its rank (here 2 to 8, by module)" in (tmp_path / "report/index.html").read_text()
    assert main([*command, "--k", "9"]) == 2
    assert "choose k between 1 and 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ranks", "k"),
    [
        ([[8, 8], [8, 8]], 4), ([[2, 8], [8, 8], [8, 8]], 4), ([[3, 3]], 1), ([[1, 1]], 1),
        ([[64, 64]], 10), ([[], [8, 8]], 4), ([[8]], 4), ([[], []], 1),
    ],
)  # fmt: skip
def test_k_is_half_of_the_median_rank(ranks, k):
    assert choose_k({str(i): found for i, found in enumerate(ranks)}) == k


def test_k_may_be_the_rank_that_two_of_three_have():
    ranks = {"a": [2, 4, 4], "b": [2, 2, 8]}
    assert choose_k(ranks, 4) == 4
    with pytest.raises(UserError, match=r"k = 5: above the rank of two adapters: .* 1 and 4"):
        choose_k(ranks, 5)


# --- reports of what has no direction -------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "drawn"),
    [
        (
            ("sft", "idle", "far"),
            {"cosine", "distance", "energy", "depth", "angles", "orthogonal_fraction"},
        ),
        (("idle", "sft", "far"), {"cosine", "distance", "energy"}),
        (("idle", "idle2"), {"distance"}),
    ],
)
def test_reports_of_adapters_that_change_nothing(folders, tmp_path, capsys, order, drawn):
    for name in ("idle", "idle2"):
        folders[name] = write_idle(tmp_path / name)
    out = tmp_path / "report"
    assert main([*arguments(folders, *order), "--out", str(out)]) == 0
    assert {path.stem for path in out.glob("*.svg")} == drawn
    said = capsys.readouterr().out
    assert ("idle changes nothing, so no direction can be measured" in said) == (order[0] == "idle")
    json.loads((out / "summary.json").read_text(encoding="utf-8"))


def test_a_heat_map_shows_no_minus_zero(folders, tmp_path):
    one = load_adapter(folders["sft"])
    rng = np.random.default_rng(5)
    factors = {m: (-rng.standard_normal((24, 4)), rng.standard_normal((4, 20))) for m in one}
    two = load_adapter(write_adapter(tmp_path / "two", factors), "two")
    result = compare([one, two], draws=5)
    assert -0.005 < summary(result)["pairs"][0]["cosine"] < 0
    figure = next(figure for name, figure, *_ in figures(result) if name == "cosine")
    shown = {text.get_text() for text in figure.axes[0].texts}
    plt.close("all")
    assert "0.00" in shown
    assert "-0.00" not in shown


# --- several stacks of blocks ---------------------------------------------------------------------


def test_the_blocks_of_encoder_and_decoder_are_layers_of_their_own(tmp_path):
    modules = [f"encoder.block.{i}.layer.0.SelfAttention.q" for i in range(2)]
    for i in range(2):
        modules.append(f"decoder.block.{i}.layer.0.SelfAttention.q")
        modules.append(f"decoder.block.{i}.layer.1.EncDecAttention.q")
    given = of_shapes(tmp_path, dict.fromkeys(modules, (20, 20)), 4)
    out = tmp_path / "report"
    assert main(["compare", *given, "--draws", "5", "--out", str(out)]) == 0
    for name in ("cosine", "principal_angles", "orthogonal_fraction", "spectra"):
        table = pd.read_csv(out / f"{name}.csv")
        layers = table[table["module"].isin(modules)].groupby("module")["layer"].unique()
        assert {m: list(layers[m]) for m in modules} == {
            m: [int(m.split(".")[2]) + 2 * m.startswith("decoder")] for m in modules
        }
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "count on from stack to stack (0 to 1: encoder.block; 2 to 3: decoder.block)." in page


# --- what is compared -----------------------------------------------------------------------------


def test_two_base_models_are_both_named(folders, tmp_path, capsys):
    config = json.loads((folders["far"] / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "openai/student"
    (folders["far"] / "adapter_config.json").write_text(json.dumps(config))
    command = arguments(folders, "sft", "far")
    assert main(command) == 2
    assert "allow it: --any-base" in capsys.readouterr().err
    out = tmp_path / "report"
    assert main([*command, "--any-base", "--json", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["base_model"] is None
    bases = {name: values["base_model"] for name, values in found["adapters"].items()}
    assert bases == {"sft": "student", "far": "openai/student"}
    text = BeautifulSoup((out / "index.html").read_text(encoding="utf-8"), "html.parser").get_text()
    assert "2 adapters of openai/student, student, 4 modules" in text
    assert "base models bear different names (sft: student, far: openai/student)" in text


def test_a_refusal_names_the_flag_that_allows_it(folders, tmp_path, capsys):
    factors = {MODULES[0]: (np.ones((24, 4)), np.ones((4, 20)))}
    folders["part"] = write_adapter(tmp_path / "part", factors)
    assert main(arguments(folders, "sft", "part")) == 2
    assert "compare those in common: --intersection" in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_not_printed(folders, tmp_path):
    factors = {m: (np.ones((24, 4)), np.ones((4, 20))) for m in MODULES}
    folder = write_adapter(tmp_path / "odd", factors, extra={"a\x1b[2Jb": torch.ones(1)})
    said = " ".join(words(compare([load_adapter(folders["sft"]), load_adapter(folder)], draws=5)))
    assert "(a[2Jb)" in said
    assert "\x1b" not in said
