"""The interactive figures: data that hold what the tables hold, a still picture, one arithmetic."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from one_page import load_extension, render_page
from shipped import EXPLORABLES, MARK
from synthetic import module_name, write_adapter

from finetune_geometry.deltas.adapters import load_adapter, zero_adapter
from finetune_geometry.geometry.nulls import chance_table
from finetune_geometry.geometry.similarity import cosine_table
from finetune_geometry.geometry.subspaces import principal_angle_table
from finetune_geometry.methods import losses
from finetune_geometry.report import explorable_tables, explorables, run_files
from finetune_geometry.report.explorable_pictures import ticks
from finetune_geometry.runs.files import write_csv
from finetune_geometry.settings.objectives import METHODS

ASSET = ROOT / "book" / "_static" / "explorables"
EXTENSION = ROOT / "book" / "_ext" / "explorable.py"
every_figure = pytest.mark.parametrize("name", EXPLORABLES)


extension = load_extension("explorable")


# A small run, its tables made by the functions that make those of a real one.

STEPS = (2, 10)
NUMBERS = {
    "run.profile": "toy",
    "principal_angles.k": 2,
    "profile.methods.rift.reward_lambda": 0.25,
    "profile.methods.dpo.beta": 0.3,
    "profile.rollouts.k": 5,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    shared = {module_name(layer): rng.standard_normal((3, 12)) for layer in range(3)}

    def train(name: str) -> None:
        factors = {m: (rng.standard_normal((16, 3)), a) for m, a in shared.items()}
        write_adapter(folder / "adapters" / name, factors)

    for name in [*METHODS, "sft-order"]:
        train(name)
    adapters = [load_adapter(folder / "adapters" / n, n) for n in [*METHODS, "sft-order"]]
    adapters.insert(0, zero_adapter(adapters[0]))
    shapes = dict.fromkeys(shared, (16, 12))
    tables = {
        "geometry/cosine": cosine_table(adapters),
        "geometry/principal_angles": principal_angle_table(adapters, ks=[1, 2]),
        "geometry/chance_angles": chance_table(shapes, [1, 2], r=3, draws=20, seed=0),
        "geometry/mode_connectivity": line_table(),
        "controls/path": path_table(),
        "controls/ray": ray_table(),
    }
    for name, table in tables.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_csv(folder / f"{name}.csv", table)
    (folder / "numbers.json").write_text(json.dumps(NUMBERS))
    return folder


def line_table() -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = []
    for a, b in (("base", "sft"), ("sft", "dpo")):
        for quantity, values in (("curve", [3.0, 1.0, 2.0]), ("rise", [0.0, -1.5, 0.0])):
            for alpha, value in zip((0.0, 0.5, 1.0), values, strict=True):
                rows.append(
                    (a, b, quantity, "sft_cross_entropy", alpha, value, value - 1, value + 1)
                )
    rows.append(("base", "base", "blind", "sft_cross_entropy", 0.0, 6.0, 6.0, 6.0))
    columns = ["a", "b", "quantity", "metric", "alpha", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def ray_table() -> pd.DataFrame:
    rows = []
    for shift, cell in enumerate(("run", "order1")):
        rows.append(("base", 0.0, 2.0, 4, 10, cell))
        for method in METHODS:
            rows += [(method, f, 1.0 + f + shift, 5 + shift, 10, cell) for f in (0.5, 1.0)]
    columns = ["model", "factor", "loss", "right", "problems", "cell"]
    return pd.DataFrame(rows, columns=columns)


def path_table() -> pd.DataFrame:
    rows = [
        (cell, step, a, b, step / 100 - shift)
        for shift, cell in enumerate(("run", "order2"))
        for step in STEPS
        for a, b in combinations([*METHODS, "sft-order"], 2)
    ]
    return pd.DataFrame(rows, columns=["cell", "step", "a", "b", "value"])


def made(run: Path, name: str) -> dict[str, Any]:
    found = explorables.explorable(run, name)
    assert not found["missing"]
    return dict(found["data"])


def pair_of(table: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    return table[((table["a"] == a) & (table["b"] == b)) | ((table["a"] == b) & (table["b"] == a))]


def test_arrows_have_the_norms_and_cosines_of_the_table(run: Path) -> None:
    table = explorable_tables.table(run, "geometry/cosine.csv").query("level == 'global'")
    own = made(run, "arrows")["cells"][0]
    assert own["names"] == [*METHODS, "sft-order"]
    norms = table[table["quantity"] == "norm"].set_index("a")["value"]
    assert own["norms"] == pytest.approx(list(norms[own["names"]]), rel=1e-5)
    cosines = table[table["quantity"] == "cosine"]
    for (i, a), (j, b) in combinations(enumerate(own["names"]), 2):
        expected = pair_of(cosines, a, b)["value"].item()
        assert own["cosines"][i][j] == own["cosines"][j][i] == pytest.approx(expected, rel=1e-5)
    chance = explorable_tables.chance_of(run, "global", "cosine")
    assert own["chance"] == pytest.approx(chance, rel=1e-5)


def test_arrows_of_other_bases_have_no_level_of_chance(run: Path) -> None:
    cells = made(run, "arrows")["cells"]
    others = [cell for cell in cells if cell["label"].startswith("another base")]
    shipped = list((ROOT / "models").glob("*/geometry/cosine.csv"))
    assert [cell["chance"] for cell in others] == [None] * len(shipped)


def test_repetitions_of_the_reference_run_are_called_so(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    run = tmp_path / "run"
    rows = [
        (cell, kind, quantity, a, b, value)
        for cell, kind in (("run", "run"), ("order1", "order"))
        for quantity, a, b, value in (
            *(("norm", "sft", "", 2.0), ("norm", "dpo", "", 1.0)),
            ("cosine", "sft", "dpo", 0.25),
        )
    ]
    columns = ["cell", "kind", "quantity", "a", "b", "value"]
    write_csv(run / "controls" / "spread.csv", pd.DataFrame(rows, columns=columns))
    (run / "numbers").mkdir()
    (run / "numbers" / "spread.json").write_text(json.dumps({MARK: True}))
    cell = made(run, "arrows")["cells"][1]
    assert cell["label"] == "reference run, order 1"
    assert (cell["names"], cell["norms"]) == (["sft", "dpo"], [2.0, 1.0])
    assert cell["cosines"] == [[1.0, 0.25], [0.25, 1.0]]


def test_depth_has_the_values_of_each_layer(run: Path) -> None:
    data = made(run, "depth")
    assert (data["layers"], data["k"]) == ([0, 1, 2], 2)
    cosines = explorable_tables.table(run, "geometry/cosine.csv").query("level == 'layer'")
    angles = explorable_tables.table(run, "geometry/principal_angles.csv")
    angles = angles.query("level == 'module' and k == 2 and quantity == 'angle_smallest'")
    assert len(data["pairs"]) == 21
    for pair in data["pairs"]:
        rows = pair_of(cosines, pair["a"], pair["b"]).query("quantity == 'cosine'")
        assert pair["cosine"] == pytest.approx(list(rows.sort_values("layer")["value"]), rel=1e-5)
        for side in ("left", "right"):
            one = pair_of(angles, pair["a"], pair["b"]).query("side == @side")
            expected = list(one.sort_values("layer")["value"])
            assert pair[side] == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_a_line_is_walked_from_the_method_to_the_base(run: Path) -> None:
    to_base, to_dpo = made(run, "line")["lines"]
    assert (to_base["a"], to_base["b"]) == ("sft", "base")
    curve = to_base["metrics"]["sft_cross_entropy"]
    assert (curve["alpha"], curve["value"]) == ([0.0, 0.5, 1.0], [2.0, 1.0, 3.0])
    assert to_dpo["metrics"]["sft_cross_entropy"]["value"] == [3.0, 1.0, 2.0]
    assert curve["low"][1] == -2.5
    assert made(run, "line")["metrics"][0]["blind"] == 6.0


def test_every_ray_starts_at_its_own_base(run: Path) -> None:
    data = made(run, "ray")
    assert (data["cells"], data["problems"]) == (["run", "order1"], 10)
    first, second = data["models"]["dft"]
    assert (first["factor"], first["loss"]) == ([0.0, 0.5, 1.0], [2.0, 1.5, 2.0])
    assert second["accuracy"] == [0.4, 0.6, 0.6]


def test_the_film_has_a_frame_for_every_step_of_each_repetition(run: Path) -> None:
    data = made(run, "film")
    assert data["names"] == [*METHODS, "sft-order"]
    assert [cell["label"] for cell in data["cells"]] == ["the run", "order 2"]
    for shift, cell in enumerate(data["cells"]):
        assert [frame["step"] for frame in cell["steps"]] == list(STEPS)
        for frame in cell["steps"]:
            expected = np.full((7, 7), frame["step"] / 100 - shift)
            np.fill_diagonal(expected, 1.0)
            assert frame["cosines"] == expected.tolist()


def test_the_token_has_the_run_s_constants(run: Path) -> None:
    assert made(run, "token") == {"lambda": 0.25, "bias": 0.1, "beta": 0.3, "group": 5}


@every_figure
def test_a_run_without_the_tables_says_which(tmp_path: Path, name: str) -> None:
    found = explorables.explorable(tmp_path, name)
    assert bool(found["missing"]) == (found["data"] is None) == (name != "token")
    assert bool(found["picture"]) == (name == "token")


def test_what_a_run_shows_of_the_reference_comes_from_there(tmp_path: Path) -> None:
    reference, run = tmp_path / "reference", tmp_path / "run"
    (run / "numbers").mkdir(parents=True)
    (run / "numbers" / "ray.json").write_text(json.dumps({MARK: True}))
    reference.mkdir()
    kept = {"data": [1], "missing": "", "from_reference": False, "looks": {}, "picture": "p"}
    for name in ("ray", "line"):
        (reference / f"{name}.json").write_text(json.dumps(kept))
    explorables.write_explorables(run, run / "explorables", reference)
    ray, line = (
        json.loads((run / "explorables" / f"{name}.json").read_text()) for name in ("ray", "line")
    )
    assert ray == {**kept, "from_reference": True}
    assert line["data"] is None  # not shown from there, and not made here


def test_workflow_and_package_speak_of_the_same_figures() -> None:
    assert tuple(explorables.EXPLORABLES) == EXPLORABLES
    assert run_files.MARK == MARK


# The texts, the asset, the places.


@every_figure
def test_every_figure_has_a_question_an_answer_a_label_and_an_alternative(name: str) -> None:
    texts = extension.load_texts()
    assert tuple(texts) == EXPLORABLES
    for field in extension.FIELDS:
        assert texts[name][field].strip()
    assert texts[name]["question"].strip().count("?") >= 1
    assert len(texts[name]["alt"].split()) >= 5


@every_figure
def test_every_figure_stands_in_its_chapter_and_has_its_script(name: str) -> None:
    page = ROOT / extension.load_texts()[name]["page"]
    source = next(p for p in (page.with_suffix(".py"), page.with_suffix(".md")) if p.is_file())
    text = source.read_text(encoding="utf-8")
    assert len(re.findall(rf"```{{explorable}} {name}$", text, re.M)) == 1
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = {c["file"] for part in toc["parts"] for c in part["chapters"]}
    assert {extension.load_texts()[name]["page"], "book/explorables"} <= chapters
    assert f'Explorables.register("{name}"' in (ASSET / f"{name}.js").read_text(encoding="utf-8")
    assert f"{name}.js" in extension.SCRIPTS


def test_a_text_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.yaml"
    path.write_text("one: {label: a, page: b, question: c, not: d, alt: e}")
    with pytest.raises(ValueError, match="the explorable one has no answer"):
        extension.load_texts(path)


def test_the_asset_is_small_whole_and_asks_no_network() -> None:
    files = [path for path in ASSET.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 1_500_000
    assert {*extension.SCRIPTS, "explorables.css", "d3.LICENSE"} <= {path.name for path in files}
    own = [p for p in files if p.suffix in (".js", ".css") and p.name != "d3.min.js"]
    for path in own:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 300
        assert not re.search(r"https?:|fetch\(|import\s*\(|XMLHttpRequest", text), path.name


def test_the_library_is_the_one_that_is_named() -> None:
    import hashlib

    notes = (ASSET / "README.md").read_text(encoding="utf-8")
    library = (ASSET / "d3.min.js").read_bytes()
    assert hashlib.sha256(library).hexdigest() in notes
    version = re.search(r"v(\d+\.\d+\.\d+)", library[:60].decode())
    assert version is not None
    assert f"D3 {version[1]}" in notes


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.13, 0.31) == [-0.1, 0.0, 0.1, 0.2, 0.3]
    assert ticks(2.0, 2.0) == [2.0]


# The directive.


def build(folder: Path, text: str, data: Path | None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The HTML of a one-page book; its warnings are the test's."""
    monkeypatch.syspath_prepend(str(EXTENSION.parent))
    source = folder / "source"
    source.mkdir(parents=True)
    (source / "index.md").write_text(f"# Page\n\n{text}\n")
    numbers = re.findall(r"\{number\}`([\w.]+)", extension.TEXTS.read_text(encoding="utf-8"))
    (source / "numbers.json").write_text(json.dumps(dict.fromkeys(numbers, 0.5) | {"ray.by": 1}))
    if data:
        shutil.copytree(data, source / "explorables")
    html, warnings = render_page(
        source, ["number_role", "explorable"], myst_enable_extensions=["colon_fence", "dollarmath"]
    )
    said = [line for line in warnings.splitlines() if "explorables" in line]
    assert not said, said
    return html


def test_the_directive_shows_picture_data_question_and_folded_answer(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explorables.write_explorables(run, tmp_path / "data")
    text = "\n\n".join(f"```{{explorable}} {name}\n```" for name in EXPLORABLES)
    html = build(tmp_path, text, tmp_path / "data", monkeypatch)
    soup = BeautifulSoup(html, "html.parser")
    for name in EXPLORABLES:
        box = soup.find(id=f"explorable-{name}")
        assert box is not None
        assert str(box["aria-label"]).startswith("Interactive figure: ")
        picture = box.find("svg", role="img")
        assert picture is not None
        assert len(str(picture["aria-label"]).split()) >= 5
        held = box.find("script", id=f"explorable-data-{name}")
        assert held is not None
        stored = json.loads((tmp_path / "data" / f"{name}.json").read_text(encoding="utf-8"))
        read = json.loads(held.get_text())
        assert read["data"] == stored["data"]
        assert read["looks"] == stored["looks"]
        assert box.find(class_="explorable-question") is not None
        folded = box.find("details")
        assert folded is not None
        assert not folded.has_attr("open")
        assert "explorable-missing" not in str(box)
    assert len(html) < 2_000_000
    loaded = [str(script.get("src", "")) for script in soup.find_all("script")]
    assert next(s for s in loaded if "explorables/" in s).startswith(
        "_static/explorables/d3.min.js"
    )


def test_a_page_without_a_figure_loads_no_script_and_the_list_names_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = build(tmp_path, "```{explorable-list}\n```", None, monkeypatch)
    assert "d3.min.js" not in html
    for name, words in extension.load_texts().items():
        assert words["label"] in html
        assert f"{words['page']}.html#explorable-{name}" in html


def test_a_figure_without_data_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    html = build(tmp_path, "```{explorable} ray\n```", None, monkeypatch)
    assert "has no data for this figure" in html
    assert "explorable-data-ray" not in html
    assert "<details>" not in html  # an answer would quote what is not there


# The arithmetic of the six losses: the script's is the package's.

CASES = [
    (p, reward, others, margin)
    for p in (0.05, 0.5, 1.0)
    for reward in (0.0, 1.0)
    for others in ([0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    for margin in (-2.0, 0.0, 1.5)
]
CONSTANTS = {"lambda": 0.5, "bias": 0.1, "beta": 0.1}
PROGRAM = "JSON.stringify(CASES.map(([p, r, o, h]) => tokenWeights(p, r, o, h, CONSTANTS)))"


def by_the_script(tmp_path: Path) -> list[dict[str, float]]:
    values = f"const CASES = {json.dumps(CASES)}; const CONSTANTS = {json.dumps(CONSTANTS)};"
    script = (ASSET / "weights.js").read_text(encoding="utf-8")
    if node := shutil.which("node"):
        code = f"{script}\n{values}\nconsole.log({PROGRAM})"
        done = subprocess.run([node, "-"], input=code, capture_output=True, text=True, check=True)
        return list(json.loads(done.stdout))
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        pytest.skip("neither node nor chromium is installed: the script cannot be run")
    page = tmp_path / "page.html"
    page.write_text(
        f"<body><pre></pre><script>{script}\n{values}\n"
        f"document.querySelector('pre').textContent = {PROGRAM}</script></body>"
    )
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    held = BeautifulSoup(done.stdout, "html.parser").find("pre")
    assert held is not None
    return list(json.loads(held.get_text()))


def by_the_package(p: float, reward: float, others: list[float], h: float) -> dict[str, float]:
    """Weights as gradients of the losses: w = -d loss / d log p, of one row with one token."""
    beta = CONSTANTS["beta"]
    right = torch.tensor([reward], dtype=torch.float64)
    group = torch.tensor([[reward, *others]], dtype=torch.float64)
    advantage = losses.group_advantage(group, CONSTANTS["bias"])[:, 0]
    zero = torch.zeros(1, dtype=torch.float64)

    def pair(log_probs: torch.Tensor) -> torch.Tensor:
        # The other completion is as likely as makes the margin h.
        own = log_probs.sum(-1)
        other = own.detach() + (-h if reward else h) / beta
        both = (own, other) if reward else (other, own)
        return losses.dpo(*both, zero, zero, beta)

    of = {
        "sft": lambda u: losses.sft(u),
        "rft": lambda u: losses.rft(u, right),
        "dft": lambda u: losses.dft(u),
        "rift": lambda u: losses.rift(u, right, CONSTANTS["lambda"]),
        "offline_grpo": lambda u: losses.offline_grpo(u, advantage),
        "dpo": pair,
    }
    weights = {}
    for name, loss in of.items():
        log_p = torch.tensor([[np.log(p)]], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(log_p).sum(), log_p)
        weights[name] = -float(gradient)
    if all(other == reward for other in others):  # in no pair
        weights["dpo"] = 0.0
    return weights


def test_the_script_weighs_a_token_as_the_losses_do(tmp_path: Path) -> None:
    found = by_the_script(tmp_path)
    assert len(found) == len(CASES)
    for case, weights in zip(CASES, found, strict=True):
        assert list(weights) == list(METHODS)
        assert weights == pytest.approx(by_the_package(*case), abs=1e-12), case
