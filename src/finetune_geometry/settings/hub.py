"""The one door to what lies on a hub: models and data sets, at fixed commits, read offline.

`fetched` gives the local folder of a repository that `finetune-geometry prefetch` has brought
here; nothing is downloaded by it. Which repositories a profile needs: `settings/revisions.py`.
The downloading itself: `models/hub.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.packages import package_at, package_folder

#: What is fetched of a repository. Weights are safetensors: a pickle can run code.
FILES = {
    "model": ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"),
    "dataset": ("*.parquet", "*.json", "*.jsonl", "*.csv", "README.md"),
}
#: Copies of the weights for other programs.
NOT_FETCHED = {"model": ("*/*.safetensors", "original/*", "onnx/*"), "dataset": ()}
#: ... and of a collection of adapters, one folder each, whose names and cards say what they are.
RELEASED_FILES = ("*.safetensors", "*.json", "*README.md")
COMMIT = re.compile(r"[0-9a-f]{40}")
#: The values of a profile that name a repository, those that pin it, and its kind.
PINS = {
    "model.base": ("model.base_revision", "model"),
    "model.teacher": ("model.teacher_revision", "model"),
    "problems.rollout_dataset": ("problems.rollout_revision", "dataset"),
    "problems.test_dataset": ("problems.test_revision", "dataset"),
    "problems.aime_dataset": ("problems.aime_revision", "dataset"),
    "rollouts.traces.dataset": ("rollouts.traces.revision", "dataset"),
    "released.collection": ("released.revision", "model"),
}


def is_path(name: str) -> bool:
    """Whether a model or data set is a folder: models/..., or what begins with . or /."""
    return name.startswith(("models/", "./", "../", "/"))


def pinned(name: str, revision: str) -> str:
    """A repository with its commit, as one text that stands for its content; or a path."""
    return f"{name}@{revision}" if revision and not is_path(name) else name


def fetched(
    repo: str,
    revision: str,
    kind: str = "model",
    profile: str = "NAME",
    files: tuple[str, ...] | None = None,
) -> Path:
    """The local folder of a repository at a commit, offline; a path stands for itself.

    kind: "model" or "dataset". profile: whose repository it is, for the advice of an error.
    files: patterns of what is wanted of it; None: what FILES lists.
    Raises UserError, which names the command to run first, if some of it is not here.
    """
    if is_path(repo):
        return Path(repo)
    command = f"finetune-geometry prefetch --profile {profile}"
    advice = f"run `{command}` first, with the --run and --set of this run"
    if not COMMIT.fullmatch(revision):
        raise UserError(f"no commit is fixed: {repo} (revision {revision!r}): {advice}")
    if package := package_at(repo, revision):
        converted = package_folder(package)
        if not (converted / "config.json").is_file():
            raise UserError(f"not fetched: {repo} from {package.pin}: {advice}")
        return converted
    # The client is imported where a repository is asked for: what is local does without it.
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    try:
        # With the listing of the repository the client tells a part of it from the whole.
        get_cached_repo_tree(repo, repo_type=kind, revision=revision)
        folder = snapshot_download(
            repo,
            repo_type=kind,
            revision=revision,
            allow_patterns=list(files or FILES[kind]),
            ignore_patterns=list(NOT_FETCHED[kind]) if files is None else None,
            local_files_only=True,
        )
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):  # not here, or a part of it
        raise UserError(f"not fetched: {repo} at {revision[:12]}: {advice}") from None
    return Path(folder)
