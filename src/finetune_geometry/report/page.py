"""The report of a comparison: tables, figures, and one page that explains them in plain words.

The page stands alone: style and figures are inside it, and it asks no network for anything.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from finetune_geometry.report.figure_forms import STYLE
from finetune_geometry.report.findings import LIMITS, told
from finetune_geometry.report.html import templates
from finetune_geometry.report.page_figures import figures
from finetune_geometry.report.page_tables import (
    ADAPTER_HEAD,
    adapter_rows,
    heads_table,
    merging_table,
    path_table,
)
from finetune_geometry.report.result import Comparison
from finetune_geometry.report.summary import summary
from finetune_geometry.report.table_writer import MOST_ROWS, write_table
from finetune_geometry.report.wording import base_text, count
from finetune_geometry.runs.files import atomic_directory, atomic_write

# Headings, the figures below each, and the table below these.
SECTIONS = {
    "Who is alike": (("cosine", "distance"), None),
    "Where the weights changed": (("energy",), None),
    "The path of the series": (("path",), path_table),
    "Beside the reference": (("depth", "angles", "orthogonal_fraction"), None),
    "If they were merged": ((), merging_table),
    "What is saved whole": ((), heads_table),
}
WHAT = {
    "cosine": "cosines, distances and norms, by module, by layer and overall",
    "principal_angles": "angles between the subspaces, by module",
    "orthogonal_fraction": "how much of each change is orthogonal to that of the reference",
    "spectra": "singular values and effective ranks, by module",
    "pairs": "chance levels of the cosines, and whether A was shared",
    "chance": "chance levels of the angles",
    "energy": "shares of the energy by layer, by kind and by module",
    "rank": "rank given, and rank needed for 90 % and 99 % of the energy, by module",
    "merging": "what is common, what cancels and whose signs differ, by pair",
    "path": "steps, turns and breaks of the series",
    "heads": "tensors saved whole: shapes, norms, cosines",
}
PHONE = 4.6  # rem on a phone for each inch of a figure, so that its text stays legible


def page(
    c: Comparison, facts: dict[str, Any], drawings: list[dict[str, Any]], files: dict[str, str]
) -> str:
    """The HTML page.

    Args:
        facts: of `summary`.
        drawings: `name`, `data` (the SVG in base64), `caption`, `alt`, and `width` on a phone, in
            rem, of each figure.
        files: table -> name of its file.
    """
    environment = templates()
    by_name = {drawing["name"]: drawing for drawing in drawings}
    sections = []
    for title, (wanted, table) in SECTIONS.items():
        head, rows, note = table(c, facts) if table else ([], [], "")
        shown = [by_name[name] for name in wanted if name in by_name]
        if shown or rows:
            sections.append(
                {"title": title, "drawings": shown, "head": head, "rows": rows, "note": note}
            )
    low, high = c.ranks
    packed = [file for file in files.values() if not file.endswith(".csv")]
    return environment.get_template("compare.html").render(
        title=", ".join(c.names[:6]) + (" and others" if len(c.names) > 6 else ""),
        adapters=adapter_rows(c, facts),
        adapter_head=[text.format(reference=c.reference) for text in ADAPTER_HEAD],
        bases=sorted({base_text(base) for base in c.base_models.values() if base}),
        modules=count(len(c.shapes), "module"),
        told={about: [_bound(s) for s in said] for about, said in told(c, facts).items()},
        reference=c.reference,
        ranks=f"{high}" if low == high else f"{low} to {high}, by module",
        sections=sections,
        limits=LIMITS,
        files=[
            *((file, WHAT[name]) for name, file in files.items()),
            ("summary.json", "the main numbers"),
        ],
        packed=", ".join(packed),
        most_rows=f"{MOST_ROWS:,}".replace(",", " "),
    )


def write_report(c: Comparison, out: Path, facts: dict[str, Any] | None = None) -> Path:
    """Write the report folder, whole or not at all; returns the path of its page."""
    facts = summary(c) if facts is None else facts
    with plt.rc_context(STYLE), atomic_directory(out) as folder:
        files = {name: write_table(folder, name, table) for name, table in c.tables.items()}
        drawings = []
        for name, figure, caption, alt in figures(c, facts):
            width = f"{PHONE * figure.get_size_inches()[0]:.1f}"
            svg = _svg(figure)
            with atomic_write(folder / f"{name}.svg") as file:
                file.write(svg)
            data = base64.b64encode(svg.encode()).decode()
            drawings.append(
                {"name": name, "data": data, "caption": caption, "alt": alt, "width": width}
            )
        with atomic_write(folder / "summary.json") as file:
            json.dump(facts, file, indent=2, allow_nan=False)
            file.write("\n")
        with atomic_write(folder / "index.html") as file:
            file.write(page(c, facts, drawings, files))
    return out / "index.html"


def _bound(sentence: str) -> str:
    """Without a line break between a number and its sign."""
    return sentence.replace(" %", "\u00a0%").replace("k = ", "k\u00a0=\u00a0")


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # Neither date nor random ids: two runs give the same bytes. Text as paths: no font is needed.
    with plt.rc_context({"svg.hashsalt": "finetune-geometry", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return buffer.getvalue()
