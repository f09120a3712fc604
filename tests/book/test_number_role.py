"""The book's `number` role shows what the run recorded; what it cannot show is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from one_page import load_extension, render_page

EXTENSION = Path(__file__).parents[2] / "book" / "_ext" / "number_role.py"
NUMBERS: dict[str, Any] = {
    "cosine.sft_rft": 0.97654,
    "accuracy.sft": 0.875,
    "rollouts.rows": 6000,
    "run.profile": "tiny",
    "cosine.base_sft": None,
    "profile.geometry.ks": [1, 4, 8],
}


role = load_extension("number_role")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cosine.sft_rft:.3f", "0.977"),
        ("cosine.sft_rft", "0.97654"),
        ("accuracy.sft:.1%", "87.5%"),
        ("rollouts.rows:,", "6,000"),
        ("run.profile", "tiny"),
        ("cosine.base_sft:.3f", "not defined"),
        ("profile.geometry.ks", "1, 4, 8"),
        (" cosine.sft_rft:.1f ", "1.0"),
    ],
)
def test_shows_the_recorded_value_in_the_given_format(text: str, shown: str) -> None:
    assert role.show(NUMBERS, text)[1] == shown


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cosine.sft_rtf", "did you mean cosine.sft_rft"),
        ("nowhere.at_all", "no notebook has recorded"),
        ("", "no notebook has recorded"),
        ("run.profile:.3f", "does not fit '.3f'"),
        ("cosine.sft_rft:nonsense", "does not fit 'nonsense'"),
    ],
)
def test_what_cannot_be_shown_is_an_error_that_says_why(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        role.show(NUMBERS, text)


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "does not exist"), ("{", "is not JSON"), ("[1]", "is not a JSON object")],
)
def test_a_file_that_cannot_be_read_names_the_fix(
    tmp_path: Path, content: str | None, fault: str
) -> None:
    path = tmp_path / "numbers.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=f"{fault}.*notebooks"):
        role.load_numbers(path)


def test_the_environment_variable_wins_over_the_source_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(role.ENVIRONMENT_VARIABLE, raising=False)
    assert role.numbers_path(tmp_path) == (tmp_path / "numbers.json").resolve()
    other = tmp_path / "other.json"
    monkeypatch.setenv(role.ENVIRONMENT_VARIABLE, str(other))
    assert role.numbers_path(tmp_path) == other.resolve()


def build(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Builds a one-page book; returns its HTML and its warnings."""
    monkeypatch.syspath_prepend(str(EXTENSION.parent))
    monkeypatch.delenv(role.ENVIRONMENT_VARIABLE, raising=False)
    source = folder / "source"
    source.mkdir()
    (source / "index.md").write_text(text)
    (source / "numbers.json").write_text(json.dumps(NUMBERS))
    return render_page(source, ["number_role"], myst_enable_extensions=["colon_fence"])


def test_works_in_text_and_in_a_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "# Page\n\nThe cosine is {number}`cosine.sft_rft:.3f`.\n\n"
        ":::{list-table} Of {number}`rollouts.rows:,` rows.\n* - a\n:::\n"
    )
    html, warnings = build(tmp_path, text, monkeypatch)
    assert warnings == ""
    assert '<abbr class="number" title="run: cosine.sft_rft">0.977</abbr>' in html
    assert '<abbr class="number" title="run: rollouts.rows">6,000</abbr>' in html


def test_an_unknown_key_is_a_warning_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    html, warnings = build(tmp_path, "# Page\n\nIt is {number}`cosine.dpo`.\n", monkeypatch)
    assert "index.md:3: WARNING: number: no notebook has recorded 'cosine.dpo'" in warnings
    assert "[cosine.dpo]" in html
