"""What a profile fetches, and what of it is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune_geometry.estimates.architecture import architecture_of
from finetune_geometry.estimates.machines import GIB
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.hub import COMMIT, fetched
from finetune_geometry.settings.profiles import Profile
from finetune_geometry.settings.revisions import Item, needed

TOKENIZER = 0.02  # GiB
#: GiB of one file of a data set of traces: rows and words as its page tells them, 6 bytes a word,
#: packed to 40 %; the last one as its page lists it.
FILES = {
    "PrimeIntellect/NuminaMath-QwQ-CoT-5M": 58_000 * 1300 * 6 * 0.4 / GIB,
    "open-r1/OpenR1-Math-220k": 9_400 * 2.5 * 2900 * 6 * 0.4 / GIB,
    "lime-nlp/DeepScaleR_Difficulty": 17e9 / GIB,
}
DATASET = 0.05  # GiB of any other: assumed


@dataclass(frozen=True)
class Download:
    """A repository: its size in GiB, and whether it is here already."""

    repo: str
    gib: float
    here: bool


def downloads(profile: Profile) -> list[Download]:
    """Every repository that the profile needs: as large as it is on the disk, else as computed."""
    return [_download(item) for item in needed(profile)]


def _download(item: Item) -> Download:
    if COMMIT.fullmatch(item.revision):
        try:
            folder = fetched(item.repo, item.revision, item.kind, files=item.files)
        except UserError:
            pass
        else:
            return Download(item.repo, _size(folder), here=True)
    if item.kind == "model":
        parameters = architecture_of(item.repo, item.revision).parameters
        return Download(item.repo, parameters * 2 / GIB + TOKENIZER, here=False)  # bf16 on the hub
    one = FILES.get(item.repo, DATASET)
    return Download(item.repo, one * len(item.files or ("",)), here=False)


def _size(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / GIB
