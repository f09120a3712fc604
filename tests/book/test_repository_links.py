"""Links to where the project is kept: all of them with an address, none without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import read_reference
import small_book
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from repository_links import VARIABLE, Repository, repository, with_links

ADDRESS = "https://github.com/owner/a.name"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
CONFIG["repository"] = {"url": "", "branch": "main"}  # whatever the project has by now
HOSTS = ("github", "gitlab", "mybinder", "colab")


@pytest.fixture(autouse=True)
def no_address_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def links(html: Path, page: str) -> list[str]:
    """Where the buttons above a page lead."""
    soup = BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")
    header = soup.find(class_="bd-header-article")
    assert header is not None
    return [str(link["href"]) for link in header.find_all("a", href=True)]


def test_without_an_address_no_page_has_a_link(small_book_html: Path) -> None:
    for page in small_book.PAGES:
        assert not [to for to in links(small_book_html, page) if any(h in to for h in HOSTS)]


def test_without_an_address_the_configuration_stays() -> None:
    assert repository(CONFIG) is None
    assert with_links(CONFIG) is CONFIG


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small book, rendered with an address and a branch."""
    folder = tmp_path_factory.mktemp("linked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, f"{ADDRESS}.git@next")
        small_book.make(folder)
    return folder / "html"


def test_a_notebook_can_be_launched_edited_and_told_of(linked: Path) -> None:
    found = links(linked, "notebooks/a/two")
    file = "notebooks/a/two"
    assert ADDRESS in found
    assert f"{ADDRESS}/edit/next/{file}.py" in found  # the source; the .ipynb is its copy
    assert any(to.startswith(f"{ADDRESS}/issues/new?") for to in found)
    binder = f"https://mybinder.org/v2/gh/owner/a.name/next?urlpath=lab/tree/{file}.ipynb"
    assert binder in found
    colab = f"https://colab.research.google.com/github/owner/a.name/blob/next/{file}.ipynb"
    assert colab in found


def test_a_page_of_prose_can_be_edited_and_not_launched(linked: Path) -> None:
    found = links(linked, "book/one")
    assert f"{ADDRESS}/edit/next/book/one.md" in found
    assert not [to for to in found if "mybinder" in to or "colab" in to]


def test_a_page_on_the_package_leads_to_its_docstrings(linked: Path) -> None:
    found = links(linked, "book/api/deltas")
    assert f"{ADDRESS}/tree/next/src/finetune_geometry/deltas" in found
    assert not [to for to in found if "/edit/" in to]
    assert (ROOT / "src" / "finetune_geometry" / "deltas").is_dir()


def test_what_is_launched_is_in_the_repository() -> None:
    """The theme names the notebook by its page, below the top of the repository."""
    assert (ROOT / "notebooks" / "geometry" / "cosine.ipynb").is_file()
    assert (ROOT / "environment.yml").is_file()


def test_the_variable_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"repository": {"url": "https://gitlab.com/o/n/", "branch": "old"}}
    assert repository(told) == Repository("https://gitlab.com/o/n", "gitlab", "old")
    monkeypatch.setenv(VARIABLE, ADDRESS)
    assert repository(told) == Repository(ADDRESS, "github", "old")
    monkeypatch.setenv(VARIABLE, f"{ADDRESS}@v1.0")
    assert repository(told) == Repository(ADDRESS, "github", "v1.0")


def test_colab_is_offered_for_github_alone() -> None:
    config = {**CONFIG, "repository": {"url": "https://gitlab.com/o/n"}}
    made = with_links(config)["sphinx"]["config"]
    assert "colab_url" not in made["html_theme_options"]["launch_buttons"]
    template = made["html_context"]["edit_page_url_template"]
    assert "https://gitlab.com/o/n/-/edit/main/" in template


@pytest.mark.parametrize(
    "wrong",
    ["github.com/owner/name", "https://github.com/owner", "https://example.org/owner/name",
     "https://github.com/owner/name/tree/main", "git@github.com:owner/name.git",
     "https://github.com/owner/na me", "https://github.com/../name"],
)  # fmt: skip
def test_what_is_no_address_is_told(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"no address of a repository: _config\.yml, ") as told:
        repository({"repository": {"url": wrong}})
    assert "write https://github.com/OWNER/NAME" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("branch", ["a/b", "..", "", "a b"])
def test_a_branch_that_no_link_can_name_is_told(
    branch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{ADDRESS}@{branch}")
    with pytest.raises(ValueError, match=f"no branch that a link can name: {VARIABLE}: "):
        repository(CONFIG)


def test_a_wrong_address_stops_before_anything_is_rendered_or_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FINETUNE_GEOMETRY_RESULTS", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "github.com/owner/name")
    assert read_reference.main() == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: no address of a repository: {VARIABLE}: 'github.com/owner/")
    assert said.count("\n") == 1
    done = subprocess.run(
        [sys.executable, str(ROOT / "workflow" / "run.py"), "--profile", "smoke"],
        env=os.environ.copy(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == said
    assert not list(tmp_path.iterdir())
