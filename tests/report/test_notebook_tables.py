"""Tables as pages show them."""

import re

import pandas as pd

from finetune_geometry.evaluation.paired_tests import p_text
from finetune_geometry.figures.palette import label
from finetune_geometry.report.notebook_tables import show_table


def test_columns_are_formatted_and_equal_tables_are_equal_pages():
    table = pd.DataFrame({"a": ["offline_grpo", "sft"], "p": [0.0, 0.25]}, index=[7, 8])
    page = show_table(table, {"a": label, "p": p_text}).to_html()
    assert "Offline GRPO" in page
    assert "&lt; 0.001" in page or "< 0.001" in page
    assert "0.250" in page
    assert ">7<" not in page  # the index
    (identifier,) = re.findall(r'<table id="T_([0-9a-f]+)"', page)  # of this content alone
    assert ' class="dataframe">' in page
    assert show_table(table.copy(), {"a": label, "p": p_text}).to_html() == page
    other = show_table(table.assign(p=1.0), {"a": label, "p": p_text}).to_html()
    assert identifier not in other


def test_a_p_value_is_never_shown_as_zero():
    assert [p_text(p) for p in (0.0, 0.0009, 0.001, 0.0499, 1.0)] == [
        "< 0.001",
        "< 0.001",
        "0.001",
        "0.050",
        "1.000",
    ]
