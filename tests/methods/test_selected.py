"""Which prompts of the pool a training reads."""

import dataclasses

import pandas as pd
import pytest

from finetune_geometry.methods.rows import selected
from finetune_geometry.settings.errors import UserError
from finetune_geometry.settings.profiles import load_profile

TRAINING = load_profile("tiny").training


def pool(mixed: int, right: int, wrong: int) -> pd.DataFrame:
    """Two rollouts a prompt; so many prompts of each kind, one after the other."""
    rewards = [(1.0, 0.0)] * mixed + [(1.0, 1.0)] * right + [(0.0, 0.0)] * wrong
    rows = [(group, reward) for group, both in enumerate(rewards) for reward in both]
    return pd.DataFrame(rows, columns=["group", "reward"])


def left(table: pd.DataFrame, **changes: object) -> list[int]:
    return selected(table, dataclasses.replace(TRAINING, **changes))["group"].unique().tolist()


def test_as_they_come_nothing_is_dropped():
    table = pool(2, 3, 1)
    pd.testing.assert_frame_equal(selected(table, TRAINING), table)


def test_mixed_prompts_alone():
    assert left(pool(2, 3, 1), pool="mixed") == [0, 1]
    with pytest.raises(UserError, match=r"no prompt is left.*0 mixed prompts of 4"):
        left(pool(0, 3, 1), pool="mixed")


@pytest.mark.parametrize(
    ("share", "mixed", "others"), [(0.1, 10, 90), (0.2, 10, 40), (0.5, 10, 10), (0.05, 5, 90)]
)
def test_the_share_is_as_asked_and_the_kind_of_which_there_is_enough_is_whole(share, mixed, others):
    found = left(pool(10, 60, 30), mixed_share=share)
    assert sum(group < 10 for group in found) == mixed
    assert sum(group >= 10 for group in found) == others
    assert found == left(pool(10, 60, 30), mixed_share=share)


def test_no_mixed_prompt_at_all():
    assert left(pool(2, 3, 1), mixed_share=0.0) == [2, 3, 4, 5]
