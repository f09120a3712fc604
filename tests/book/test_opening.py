"""The figure that the book opens with: its arrows are the run's, and it says what it distorts."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from one_page import load_extension, render_page

opening, drawn = load_extension("opening"), load_extension("opening_picture")
SHIPPED = ROOT / "book" / "reference" / "explorables" / "arrows.json"
NAMES = ["sft", "rft", "dft", "rift", "offline_grpo", "dpo", "sft-order"]
LOOKS = {n: {"label": n.upper(), "colour": "#000", "hollow": n == "sft-order"} for n in NAMES}


def cell_of(vectors: np.ndarray, names: list[str] = NAMES) -> dict[str, Any]:
    """A cell of arrows.json, from the deltas themselves."""
    norms = np.linalg.norm(vectors, axis=1)
    return {
        "names": names,
        "norms": norms.tolist(),
        "cosines": (vectors @ vectors.T / norms[:, None] / norms).tolist(),
        "chance": [-0.01, 0.0, 0.01],
    }


def in_plane(angles: list[float], norms: list[float]) -> dict[str, Any]:
    """Deltas at these angles to SFT, in degrees, all in one plane."""
    turns = np.radians(angles)
    return cell_of(np.array(norms)[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1))


seeds = st.integers(0, 2**32 - 1)


def random_cell(seed: int) -> dict[str, Any]:
    """Deltas in four dimensions, of lengths that differ by up to a hundred."""
    rng = np.random.default_rng(seed)
    return cell_of(rng.normal(size=(len(NAMES), 4)) * 10 ** rng.uniform(-1, 1, (len(NAMES), 1)))


@given(seeds)
def test_length_and_angle_to_sft_are_true(seed: int) -> None:
    cell = random_cell(seed)
    arrows = drawn.arrows_of(cell, LOOKS)
    assert {arrow.name for arrow in arrows} == set(NAMES)
    for arrow in arrows:
        i = NAMES.index(arrow.name)
        x, y = arrow.tip
        assert math.hypot(x, y) == pytest.approx(cell["norms"][i])
        assert y >= -1e-9
        if arrow.name != "sft":
            assert x == pytest.approx(cell["norms"][i] * cell["cosines"][0][i], abs=1e-6)


@given(seeds)
def test_two_others_are_never_further_apart_than_in_truth(seed: int) -> None:
    cell = random_cell(seed)
    arrows = {arrow.name: arrow for arrow in drawn.arrows_of(cell, LOOKS)}
    worst = 0.0
    for i, a in enumerate(NAMES[1:], 1):
        for j, b in enumerate(NAMES[i + 1 :], i + 1):
            true = drawn.degrees(cell["cosines"][i][j])
            lost = true - abs(arrows[a].angle - arrows[b].angle)
            assert lost > -1e-4
            worst = max(worst, lost)
    one, two, true = drawn.most_squeezed(cell, list(drawn.arrows_of(cell, LOOKS)))
    assert true - (two.angle - one.angle) == pytest.approx(worst)


@given(seeds)
def test_labels_of_one_side_do_not_overlap_and_the_picture_is_not_too_wide(seed: int) -> None:
    arrows = drawn.arrows_of(random_cell(seed), LOOKS)
    _, labels, low, high = drawn.fitted(arrows)
    assert high - low <= drawn.WIDTH
    for left in (False, True):
        heights = [label.y for label in labels if label.left == left]
        assert all(b - a > drawn.LINE - 1e-6 for a, b in pairwise(heights))
    assert all(low <= end <= high for label in labels for end in label.ends)


def test_the_sides_are_those_of_the_reshuffled_sft() -> None:
    cell = in_plane([0, 10, 70, 20, 80, 91, 45], [1.0] * 7)
    near, far = drawn.sides_of(drawn.arrows_of(cell, LOOKS))
    assert [arrow.name for arrow in near] == ["rft", "rift"]
    assert [arrow.name for arrow in far] == ["dft", "offline_grpo", "dpo"]


def test_a_run_without_sft_has_no_arrows_and_two_arrows_have_no_pair() -> None:
    cell = cell_of(np.eye(2), ["rft", "dft"])
    assert drawn.arrows_of(cell, LOOKS) == []
    cell = cell_of(np.eye(2), ["sft", "dft"])
    with pytest.raises(ValueError, match="fewer than two arrows beside SFT"):
        drawn.most_squeezed(cell, drawn.arrows_of(cell, LOOKS))


def test_a_cosine_that_is_not_known_draws_no_arrow() -> None:
    cell = in_plane([0, 10, 70, 20, 80, 91, 45], [1.0] * 7)
    cell["cosines"][0][1] = cell["cosines"][1][0] = None
    assert "rft" not in {arrow.name for arrow in drawn.arrows_of(cell, LOOKS)}


CAPTION = "**Is it so?** Look."


def build(
    folder: Path,
    data: dict[str, Any] | None,
    monkeypatch: pytest.MonkeyPatch,
    caption: str = CAPTION,
    said: str = "",
) -> BeautifulSoup:
    """The page with the figure. said: what the build warns of; "" asks for no warning."""
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    source = folder / "source"
    (source / "explorables").mkdir(parents=True)
    if data:
        (source / "explorables" / "arrows.json").write_text(json.dumps(data))
    text = f"# Page\n\n```{{opening}}\n:name: fig-opening\n\n{caption}\n\nMore of it.\n```\n"
    (source / "index.md").write_text(text)
    html, warnings = render_page(source, ["opening"], numfig=True)
    assert said in warnings if said else warnings == ""
    return BeautifulSoup(html, "html.parser")


def shipped() -> dict[str, Any]:
    return dict(json.loads(SHIPPED.read_text(encoding="utf-8")))


def test_the_figure_of_the_reference_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soup = build(tmp_path, shipped(), monkeypatch)
    figure = soup.find("figure", id="fig-opening")
    assert figure is not None
    picture = figure.find("svg", role="img")
    assert picture is not None
    assert "DPO at 91° and 29% as long" in str(picture["aria-label"])
    labels = [text.get_text() for text in picture.find_all("text")]
    assert {"base", "SFT 0°", "RIFT 42°", "DPO 91°"} <= set(labels)
    caption = re.sub(r"\s+", " ", figure.find("figcaption").get_text())
    answer = f"{opening.NEARER[1:]}: RIFT, RFT. Further: Offline GRPO, DFT, DPO. Look."
    assert f"Is it so? N{answer}" in caption
    assert "reference run" not in caption
    assert "Offline GRPO and DFT are 81° apart and are drawn 1° apart" in figure.get_text()
    assert "More of it." in figure.get_text()


def test_without_chance_and_without_the_control_neither_is_spoken_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shipped()
    cell = made["data"]["cells"][0]
    cell |= {key: cell[key][:-1] for key in ("names", "norms", "cosines")}
    cell["cosines"] = [row[:-1] for row in cell["cosines"]]
    cell["chance"] = None
    figure = build(tmp_path, made | {"from_reference": True}, monkeypatch).find("figure")
    assert figure is not None
    assert not figure.find_all(class_=["opening-fan", "opening-chance"])
    assert "reshuffled" not in figure.get_text()
    assert "These arrows are the reference run" in figure.get_text()


def test_a_run_without_deltas_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soup = build(tmp_path, None, monkeypatch)
    assert soup.find("figure") is None
    assert "has no six deltas to draw here: explorables/arrows.json" in soup.get_text()


def test_a_caption_without_a_question_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "begins with no question in bold: add one"
    soup = build(tmp_path, shipped(), monkeypatch, "Look.", said)  # asserts that it is said
    assert soup.find("figure", id="fig-opening") is None
