"""Tables as a page shows them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler


def show_table(table: pd.DataFrame, formats: Mapping[str, Any]) -> Styler:
    """A table to show: without its index, each column in the format (or by the function) given."""
    # The identifier is made of the content: two executions write the same page.
    style = table.style.format(dict(formats)).hide(axis="index")
    style = style.set_uuid(f"{zlib.crc32(table.to_csv().encode()):x}")
    return style.set_table_attributes('class="dataframe"')
