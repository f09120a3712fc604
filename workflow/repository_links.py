"""Links from the pages to where the project is kept: repository, edit, issue, Binder, Colab.

The address stands in _config.yml, under `repository`, or in the environment variable
FINETUNE_GEOMETRY_REPOSITORY, which goes before it: ADDRESS, or ADDRESS@BRANCH. Without one the
pages have no such links. Like build_book.py this module needs nothing of the package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from shipped import ROOT

VARIABLE = "FINETUNE_GEOMETRY_REPOSITORY"
ADDRESS = re.compile(r"(https://(github|gitlab)\.com/(?!\.)[\w.-]+/(?!\.)[\w.-]+?)(?:\.git)?/?")
BRANCH = re.compile(r"(?!\.)[\w.-]+")
FIX = "write https://github.com/OWNER/NAME or https://gitlab.com/OWNER/NAME"
BINDER, COLAB = "https://mybinder.org", "https://colab.research.google.com"
#: Pages that are made from the package, a folder each; all others are files of the repository.
MADE = "book/api/"


@dataclass(frozen=True)
class Repository:
    """Its address without an ending, the host ("github" or "gitlab"), the branch."""

    address: str
    host: str
    branch: str


def repository(config: Mapping[str, Any]) -> Repository | None:
    """The repository that is configured; None if none is.

    config: _config.yml. Raises ValueError, "what: where: fix", for what is no address of one, or no
    branch that links can name.
    """
    told = config.get("repository") or {}
    address, where = str(told.get("url") or ""), "_config.yml, repository"
    branch = str(told.get("branch") or "main")
    if own := os.environ.get(VARIABLE, "").strip():
        where = VARIABLE
        address, _, named = own.partition("@")
        branch = named if "@" in own else branch
    if not address:
        return None
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(f"no address of a repository: {where}: {(own or address)!r}: {FIX}")
    if not BRANCH.fullmatch(branch):
        raise ValueError(
            f"no branch that a link can name: {where}: {branch!r}: take one of letters, digits, "
            "dots and hyphens"
        )
    return Repository(found[1], found[2], branch)


def checked() -> Repository | None:
    """As `repository`, of the checkout's _config.yml: to know of a fault before a long run."""
    return repository(yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8")))


def with_links(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the book with what the theme must know of the repository.

    Raises ValueError as `repository` does.
    """
    found = repository(config)
    if found is None:
        return config
    # Colab opens notebooks of GitHub alone.
    launch = {"notebook_interface": "jupyterlab", "binderhub_url": BINDER}
    if found.host == "github":
        launch["colab_url"] = COLAB
    sphinx = config["sphinx"]["config"]
    options = {
        **sphinx["html_theme_options"],
        "repository_url": found.address,
        "repository_branch": found.branch,
        "use_repository_button": True,
        "use_edit_page_button": True,
        "use_issues_button": True,
        "launch_buttons": launch,
    }
    context = {
        **sphinx.get("html_context", {}),
        "edit_page_url_template": edit_template(found),
        "edit_page_provider_name": {"github": "GitHub", "gitlab": "GitLab"}[found.host],
    }
    sphinx = {**sphinx, "html_theme_options": options, "html_context": context}
    return {**config, "sphinx": {**config["sphinx"], "config": sphinx}}


def edit_template(found: Repository) -> str:
    """Where a page is edited (a template of Jinja that is given `file_name`).

    Of an executed notebook that is the .py beside it; of a page on the package, the room whose
    docstrings it shows.
    """
    base = found.address + ("/-" if found.host == "gitlab" else "")
    source = "{{ file_name | replace('.ipynb', '.py') }}"
    room = f"src/finetune_geometry/{{{{ file_name[{len(MADE)}:] | replace('.md', '') }}}}"
    return (
        f"{{% if file_name.startswith('{MADE}') %}}{base}/tree/{found.branch}/{room}"
        f"{{% else %}}{base}/edit/{found.branch}/{source}{{% endif %}}"
    )
