"""Where an adapter lies: which files of which revision a hub is asked for, and what is said."""

import pytest

from finetune_geometry.deltas import locations as sources
from finetune_geometry.deltas.locations import adapters_below, locate
from finetune_geometry.settings.errors import UserError

FILES = [
    "README.md", "adapter_config.json", "adapter_model.safetensors", "optimizer.pt",
    "deep/[1]/adapter_config.json", "deep/[1]/adapter_model.safetensors", "plain/notes.md",
    *(f"plain/part-{i}.txt" for i in range(6)),
]  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository as the hub's client shows and fetches it; every call's arguments."""
    calls: list = []
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()

    def listed(self, repository, revision=None):
        calls.append(("list", repository, revision))
        return FILES

    def fetch(repository, revision=None, allow_patterns=None):
        calls.append(("fetch", repository, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", listed)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return calls


@pytest.mark.parametrize(
    ("source", "revision"),
    [("owner/pair", None), ("owner/pair@v2", "v2")],
)
def test_the_revision_asked_for_is_the_one_fetched(hub, tmp_path, source, revision):
    assert locate(source) == tmp_path
    wanted = ["adapter_config.json", "adapter_model.safetensors"]
    assert hub == [("list", "owner/pair", revision), ("fetch", "owner/pair", revision, wanted)]


def test_names_of_folders_are_no_patterns(hub, tmp_path):
    """Brackets in a folder's name are letters to the hub, not a choice."""
    assert sources._fetch("owner/pair", None, "deep/[1]", "owner/pair/deep/[1]") == tmp_path
    (patterns,) = (call[3] for call in hub if call[0] == "fetch")
    assert patterns == ["deep/[[]1]/adapter_config.json", "deep/[[]1]/adapter_model.safetensors"]


def test_without_a_connection_the_cache_answers(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert locate("owner/pair@v2") == tmp_path
    assert hub == [("fetch", "owner/pair", "v2", None)]


def test_a_folder_without_weights_lists_a_few_of_its_files(hub):
    with pytest.raises(UserError) as caught:
        locate("owner/pair/plain")
    few = "plain/notes.md, plain/part-0.txt, plain/part-1.txt, plain/part-2.txt, plain/part-3.txt"
    assert str(caught.value) == f"no .safetensors file in owner/pair/plain: hub: it holds {few}"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError("404 Not Found\nRequest ID: 1"), "404 Not Found"), (TimeoutError(), "TimeoutError")],
)
def test_what_the_hub_says_is_told_in_one_line(hub, monkeypatch, error, reason):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", fails)
    with pytest.raises(UserError) as caught:
        locate("owner/pair")
    assert str(caught.value) == (
        f"cannot fetch owner/pair: hub: {reason}; check the id and the connection, or "
        "download the folder and give its path"
    )


def test_a_path_of_two_parts_may_be_a_hub_id_beside_a_folder_of_the_owner_s_name(
    hub, tmp_path, monkeypatch
):
    here = tmp_path / "here"
    (here / "owner").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert locate("owner/pair") == tmp_path
    with pytest.raises(UserError, match=r"no such adapter: owner/pair/sub: .*owner/repository"):
        locate("owner/pair/sub")


@pytest.mark.parametrize(
    ("folders", "more"), [(39, ""), (40, ""), (41, ", and 1 more"), (45, ", and 5 more")]
)
def test_at_most_forty_folders_are_listed(folders, more):
    files = [f"a{i:02d}/adapter_config.json" for i in range(folders)]
    shown = ", ".join(f"a{i:02d}" for i in range(min(folders, 40)))
    wanted = f"it holds adapters further down, add one of: {shown}{more}"
    assert adapters_below(reversed(files)) == wanted
    assert adapters_below(["adapter_config.json", "a/config.json"]) == ""
