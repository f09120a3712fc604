"""What was expected of a control before it was made, held against what came of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from finetune_geometry.report.bases import PREDICTIONS, predictions_of
from finetune_geometry.report.notebook_tables import show_table
from finetune_geometry.settings.errors import UserError

COLUMNS = ["quantity", "low", "high", "found", "came"]


def held_against(profile: str, control: str, found: Mapping[str, float]) -> pd.DataFrame:
    """The ranges that book/predictions.yaml gives for this control, and the numbers of the run.

    profile: name of the profile whose predictions are read.
    control: as in the file, such as "ray".
    found: quantity, as the file calls it -> number of the run.

    Columns: quantity (in words), low, high (the ends of the range), found, came ("as expected",
    "lower", "higher", or "not measured" where the number is NaN). Of a profile for which nothing
    was written down all of `found` is listed, with missing ranges and "". Raises UserError if the
    run has no number for a quantity that was predicted.
    """
    control_of = predictions_of(profile).get("controls", {}).get(control, {})
    expected = control_of.get("expected", {})
    if missing := [name for name in expected if name not in found]:
        raise UserError(
            f"no number for {missing[0]!r}: {PREDICTIONS}: {profile}, {control}: the chapter has "
            f"{', '.join(found)}"
        )
    nan = float("nan")
    rows = []
    for name in expected or found:
        low, high = expected.get(name, (nan, nan))
        value = float(found[name])
        came = "not measured" if np.isnan(value) else "higher" if value > high else "lower"
        came = "as expected" if low <= value <= high else came if name in expected else ""
        rows.append((name.replace("_", " "), low, high, value, came))
    return pd.DataFrame(rows, columns=COLUMNS)


def show_expected(profile: str, control: str, found: Mapping[str, float]) -> Styler:
    """`held_against`, as the chapters show it; without the columns that hold nothing."""
    table = held_against(profile, control, found)
    if table["low"].isna().all():
        table = table.drop(columns=["low", "high", "came"])
    formats = {column: _in_words for column in ("low", "high", "found") if column in table}
    words = {"low": "expected from", "high": "to", "came": "what came"}
    return show_table(
        table.rename(columns=words), {words.get(name, name): form for name, form in formats.items()}
    )


def _in_words(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3g}"
