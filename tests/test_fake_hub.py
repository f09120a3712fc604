"""The hub of the tests, asked by the real client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

WEIGHTS = bytes(range(256)) * 4096  # 1 MB
MODEL = {"config.json": "{}", "model.safetensors": WEIGHTS, "onnx/model.bin": b"no"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub(tmp_path / "hub") as running:
        yield running


def test_a_snapshot_at_a_commit_is_what_was_added(hub: FakeHub, tmp_path: Path) -> None:
    first = hub.add("owner/small", MODEL)
    second = hub.add("owner/small", {**MODEL, "config.json": '{"new": 1}'})
    assert first != second
    assert len(first) == 40
    for revision, config in ((first, "{}"), (second, '{"new": 1}'), ("main", '{"new": 1}')):
        folder = snapshot_download(
            "owner/small",
            revision=revision,
            endpoint=hub.url,
            cache_dir=tmp_path / "cache",
            allow_patterns=["*.json", "*.safetensors"],
        )
        here = Path(folder)
        assert here.name == (second if revision == "main" else revision)
        assert (here / "config.json").read_text() == config
        assert (here / "model.safetensors").read_bytes() == WEIGHTS
        assert not (here / "onnx").exists()
    # Large files are reached by a redirect, once: both commits share the blob.
    assert sum("GET /cdn/" in asked for asked in hub.requests) == 1


def test_listings_have_commits_and_sizes(hub: FakeHub) -> None:
    commit = hub.add("owner/small", MODEL)
    hub.add("owner/rows", {"main/train.jsonl": "{}\n" * 3, "README.md": "x"}, kind="dataset")
    api = HfApi(endpoint=hub.url)
    info = api.model_info("owner/small", files_metadata=True)
    assert info.sha == commit
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    assert sizes == {"config.json": 2, "model.safetensors": len(WEIGHTS), "onnx/model.bin": 2}
    assert api.list_repo_files("owner/small") == sorted(MODEL)
    assert api.dataset_info("owner/rows").id == "owner/rows"
    top = [entry.path for entry in api.list_repo_tree("owner/rows", repo_type="dataset")]
    assert top == ["README.md", "main"]


def test_a_broken_download_goes_on_where_it_broke(hub: FakeHub, tmp_path: Path) -> None:
    weights = WEIGHTS * 12  # the client writes pieces of 10 MB
    hub.add("owner/small", {"model.safetensors": weights})
    hub.cut["owner/small/model.safetensors"] = 11 << 20
    path = hf_hub_download(
        "owner/small", "model.safetensors", endpoint=hub.url, cache_dir=tmp_path / "cache"
    )
    assert Path(path).read_bytes() == weights
    whole, rest = (asked for asked in hub.requests if "GET /cdn/" in asked)
    assert "bytes=" not in whole
    assert rest.endswith(f"bytes={10 << 20}-")


def test_it_refuses_as_the_hub_does(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("owner/gated", MODEL)
    hub.add("owner/private", MODEL)
    hub.gated.add("owner/gated")
    hub.private.add("owner/private")
    hub.accepted.add("hf_accepted")

    def fetch(repo: str, **more: str | bool) -> str:
        return snapshot_download(repo, endpoint=hub.url, cache_dir=tmp_path / "cache", **more)

    for token in (False, "hf_stranger"):
        with pytest.raises(GatedRepoError):
            fetch("owner/gated", token=token)
        with pytest.raises(RepositoryNotFoundError):
            fetch("owner/private", token=token)
        with pytest.raises(RepositoryNotFoundError):
            fetch("owner/nowhere", token=token)
    assert Path(fetch("owner/gated", token="hf_accepted")).is_dir()
    assert Path(fetch("owner/private", token="hf_accepted")).is_dir()
    with pytest.raises(RevisionNotFoundError):
        fetch("owner/gated", token="hf_accepted", revision="not-there")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("owner/gated", "absent", endpoint=hub.url, token="hf_accepted")
