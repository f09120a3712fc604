"""The card of a pool as a table to read: the same rows for every source, and more of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def card_table(card: Mapping[str, Any]) -> pd.DataFrame:
    """The card of `pool.sample_rollouts`, one line a fact; column "value"."""
    left_out = card["problems_left_out"]
    facts: dict[str, Any] = {
        "rollouts to train on": f"{card['rows']:,}",
        "held-out rollouts, never trained on": f"{card['heldout_rows']:,}",
        "share of right rollouts": f"{card['mean_reward']:.1%}",
        "all-right groups": f"{card['all_right']:.1%}",
        "mixed groups": f"{card['mixed']:.1%}",
        "all-wrong groups": f"{card['all_wrong']:.1%}",
        "rollouts whose check was given up, counted as wrong": card["unverifiable"],
        "rollouts cut off before a right answer, counted as wrong": card["too_long"],
        "rollouts cut off, with an answer or without": card["unfinished"],
        "rollouts that repeat an earlier one of their group": f"{card['repeated']:.1%}",
        "groups of one text only": f"{card['identical']:.1%}",
        "tokens in a rollout, mean": f"{card['mean_tokens']:.0f}",
        "tokens in a rollout, longest": card["max_tokens"],
        "problems left out, the text of an earlier one": left_out["repeated"],
        "problems left out, of a test set": left_out["in_test"],
        "groups left out, too long for the student or with an empty rollout": card[
            "groups_left_out"
        ],
    }
    if "selection" in card:
        facts |= _of_a_data_set(card)
    if "server" in card:
        facts |= _of_a_server(card)
    facts["pool (SHA-256)"] = card["pool_sha256"][:16]
    return pd.Series(facts, name="value").to_frame()


def _of_a_data_set(card: Mapping[str, Any]) -> dict[str, Any]:
    """What the source "traces" tells beyond that."""
    selection, disagreement = card["selection"], card["disagreement"]
    writers = card["teacher"].split(", ")
    return {
        "problems met in the data set": f"{selection['problems']:,}",
        "problems left out, fewer than K responses": selection["too_few"],
        "problems left out, several questions under one name": selection["several_questions"],
        "problems left out, one of the first K responses cut off": selection["unfinished"],
        "problems left out, no true answer given": selection["no_answer"],
        "rollouts that the data set judges, too": f"{disagreement['judged']:,}",
        "right by the data set, not by the verifier": disagreement["right_there_only"],
        "right by the verifier, not by the data set": disagreement["right_here_only"],
        "judged by the data set, given up by the verifier": disagreement["undecided_here"],
        "data set": card["data_set"],
        "its licence": card["licence"],
        "its commit": card["revision"] or "files of a folder",
        "written by": ", ".join(writers[:2]) + (" and others" if writers[2:] else ""),
        "kept of a response": card["text"],
    }


def _of_a_server(card: Mapping[str, Any]) -> dict[str, Any]:
    """What the source "endpoint" tells beyond that."""
    first, last = card["first_answer"], card["last_answer"]
    return {
        "server": card["server"],
        "models that answered": ", ".join(f"{name} ({n:,})" for name, n in card["models"].items()),
        "answers came": f"{first[:10]} to {last[:10]}" if first else "never",
        "tokens read and written": f"{card['input_tokens']:,} and {card['output_tokens']:,}",
        "cost, in the unit of the prices": f"{card['cost']:.2f}",
        "attempts refused, and asked again": card["refused_attempts"],
        "attempts without an answer, counted at their most": card["lost_attempts"],
        "empty answers": card["empty_answers"],
        "answers with thinking apart, which is no part of a rollout": card["with_reasoning"],
        "prompts for which the server had no room": card["no_room"],
    }


def shorten(text: str, most: int = 3000) -> str:
    """A rollout to look at: of a long one two thirds of `most` characters and its end."""
    if len(text) <= most:
        return text
    begin = 2 * most // 3
    return f"{text[:begin]}\n[... {len(text) - most:,} characters ...]\n{text[begin - most :]}"
