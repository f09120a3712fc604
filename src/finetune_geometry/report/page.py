"""The report of a comparison: tables, figures, and one page that explains them in plain words.

The page stands alone: style and figures are inside it, and it asks no network for anything.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from finetune_geometry.deltas.adapters import BASE
from finetune_geometry.deltas.depth import stack_ranges
from finetune_geometry.figures import plots
from finetune_geometry.figures.geometry_plots import angle_panels, share_panels
from finetune_geometry.figures.palette import introduce, set_style
from finetune_geometry.geometry.pairs import CHANCE_OF, start_of
from finetune_geometry.geometry.tidy import versus
from finetune_geometry.report.compare import Comparison
from finetune_geometry.report.findings import LIMITS, base_text, count, number, summary, words
from finetune_geometry.runs.files import atomic_directory, atomic_write

STYLE = """
:root { color-scheme: light dark; --ink: #222; --ground: #fdfdfc; --line: #d8d8d4; --soft: #666; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e6; --ground: #1b1c1e; --line: #44464a; --soft: #aaa; } }
body { font: 17px/1.6 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 46rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
table { border-collapse: collapse; font-size: .9rem; display: block; overflow-x: auto; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1.6rem 0; } figure img { max-width: 100%; height: auto; background: #fff;
  border-radius: 8px; display: block; }
@media (max-width: 40rem) { figure div { overflow-x: auto; } figure img { max-width: none;
  width: 36rem; } }  /* legible, by scrolling sideways */
figcaption { font-size: .9rem; color: var(--soft); margin-top: .5rem; }
code { font-size: .9em; overflow-wrap: anywhere; }
"""


def figures(c: Comparison) -> Iterator[tuple[str, Figure, str, str]]:
    """(file name, figure, caption, what a screen reader says) of each figure that has something.

    Where the reference changes nothing, or no two adapters change anything, some have not.
    """
    introduce(c.names)  # one colour each, in every figure
    cosines = c.tables["cosine"]
    pooled = cosines[cosines["level"] == "global"]
    pooled_cosines = pooled[pooled["quantity"] == "cosine"]
    with_base = [BASE, *c.names]
    if len(pooled_cosines):
        bounds = sorted(
            level for a, b in combinations(c.names, 2) if (level := _matching_chance(c, a, b))
        )
        near, far = number(bounds[0]), number(bounds[-1])
        among = f"±{far}" if near == far else f"±{near} to ±{far}, depending on the pair"
        yield (
            "cosine",
            plots.pair_heatmap(
                # To what is shown, so that no cell reads -0.00.
                pooled_cosines.assign(value=pooled_cosines["value"].round(2) + 0.0),
                title="Global cosine",
                names=with_base,
                diagonal=1.0,
                vmin=min(0.0, float(pooled_cosines["value"].min())),
                vmax=1.0,
                undefined="not defined: a delta is 0",
            ),
            "Do two fine-tunings move the weights in the same direction? 1: the same direction, 0: "
            "at right angles; all modules count as one long vector. Of unrelated adapters of these "
            f"shapes 95 % lie within {among}: wider if both started from one A. A change of zero, "
            "such as the base's, has no direction. Length plays no part.",
            "Matrix of global cosines between the adapters.",
        )
    yield (
        "distance",
        plots.pair_heatmap(
            pooled[pooled["quantity"] == "distance"],
            title="Distance",
            names=with_base,
            fmt=".3g",
            cmap="cividis",
            colorbar_label="Frobenius norm",
        ),
        "How far apart did they end, and how far from the base? The base's column is the length "
        "of each change. An adapter close to the base has changed little, whatever its direction.",
        "Matrix of distances between the base and the adapters.",
    )
    yield from _against_reference(c)


def _matching_chance(c: Comparison, a: str, b: str) -> float:
    """|cosine| that 95 % of unrelated pairs stay below, if they started as this pair did.

    0 where the pair has no cosine; the wider of both levels where the start is unknown.
    """
    start = start_of(c.value("pairs", "cosine_of_a", a, b, level="mean"))
    return max(c.value("pairs", what, a, b) or 0.0 for what in CHANCE_OF[start])


def _against_reference(c: Comparison) -> Iterator[tuple[str, Figure, str, str]]:
    who = plots.label(c.reference)
    by_layer = versus(c.tables["cosine"], c.reference, among=c.names)
    by_layer = by_layer[(by_layer["level"] == "layer") & (by_layer["quantity"] == "cosine")]
    if len(by_layer):
        yield (
            "depth",
            plots.by_depth(
                by_layer,
                name="other",
                ylabel=f"cosine with {who}",
                chance=_layer_chance(c),
                chance_label="chance, one layer",
            ),
            f"In which layers do they part from {c.reference}? The grey band holds 95 % of the "
            "values of single layers for unrelated adapters, at the layer and the pair where it "
            f"is widest.{_stack_words(c)}",
            f"Cosine with {c.reference} by layer, one line an adapter.",
        )
    angles = versus(c.tables["principal_angles"], c.reference, among=c.names)
    angles = angles[
        (angles["level"] == "median")
        & (angles["k"] == c.k)
        & angles["quantity"].str.startswith("angle_")
    ]
    if len(angles):
        null = c.tables["chance"]
        starts = {
            start_of(c.value("pairs", "cosine_of_a", c.reference, other, level="mean"))
            for other in angles["other"].unique()
        }
        shared = "shared" in starts
        right = (
            "On the right it is that of adapters with one A that never moved: an angle above it "
            "shows that A moved, or was not the same."
            if shared
            else "It supposes input directions of each adapter's own."
        )
        yield (
            "angles",
            angle_panels(
                angles,
                null[
                    (null["level"] == "median") & (null["k"] == c.k) & (null["shared_a"] == shared)
                ],
                title=f"Angles with {who}, k = {c.k}",
            ),
            f"Do they use the same directions? Principal angles between the {c.k} strongest output "
            "(left) and input (right) directions, median over the modules, at the middle of each "
            "mark; grey, from left to right: chance for smallest, median and largest. "
            f"{right} The left side does not depend on that.",
            f"Smallest, median and largest angle with {c.reference}, left and right.",
        )
    parts = versus(c.tables["orthogonal_fraction"], c.reference, among=c.names)
    parts = parts[
        (parts["level"] == "global")
        & parts["side"].isin(["", "left"])
        & parts["quantity"].str.startswith("orthogonal_")
    ]
    if len(parts):
        yield (
            "orthogonal_fraction",
            share_panels(
                parts,
                {"orthogonal_to_direction": 1.0, "orthogonal_to_subspace": c.chance_orthogonal},
                titles={
                    "orthogonal_to_direction": f"orthogonal to the direction of {who}",
                    "orthogonal_to_subspace": f"orthogonal to its top-{c.k} output subspace",
                },
            ),
            f"How much of each change lies outside that of {c.reference}? On the left outside its "
            f"one direction, on the right outside its {c.k} strongest output directions. Markers: "
            "share of the length; strokes: share of the energy, the squared length, and only "
            "energies add up to 1. Dashed: the share of the length that a random change would "
            "show.",
            f"Share of each change outside that of {c.reference}.",
        )


def _layer_chance(c: Comparison) -> tuple[float, float]:
    """The widest chance band of one layer's cosine with the reference."""
    pairs = versus(c.tables["pairs"], c.reference, among=c.names)
    pairs = pairs[pairs["level"] == "layer"]
    wide = 0.0
    for other, rows in pairs.groupby("other", sort=False):
        start = start_of(c.value("pairs", "cosine_of_a", c.reference, str(other), level="mean"))
        wide = max(wide, float(rows.loc[rows["quantity"].isin(CHANCE_OF[start]), "value"].max()))
    return -wide, wide


def _stack_words(c: Comparison) -> str:
    """Which layers are which, where blocks of several stacks are counted on."""
    stacks = stack_ranges(c.shapes)
    if len(stacks) < 2:
        return ""
    listed = (
        f"{low} to {high}: {path or 'top'}" if high > low else f"{low}: {path or 'top'}"
        for path, (low, high) in stacks.items()
    )
    return f" Layers count on from stack to stack ({'; '.join(listed)})."


def page(c: Comparison, drawings: list[tuple[str, str, str]]) -> str:
    """The HTML page; `drawings` are (svg, caption, alternative text)."""
    facts = summary(c)
    escape = html.escape
    rows = [
        (
            name,
            f"{v['norm']:.4g}",
            "–" if name == c.reference else _text(v["orthogonal_to_reference_norm"]),
            _text(v["entropy_rank"], 2),
            _text(v["stable_rank"], 2),
        )
        for name, v in facts["adapters"].items()
    ]
    head = ("adapter", "norm", f"off {c.reference}", "entropy rank", "stable rank")
    body = "".join("<tr>" + "".join(f"<td>{escape(x)}</td>" for x in row) + "</tr>" for row in rows)
    figure_text = "".join(
        f'<figure><div><img alt="{escape(alt)}" src="data:image/svg+xml;base64,'
        f'{base64.b64encode(svg.encode()).decode()}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for svg, caption, alt in drawings
    )
    bases = sorted({base_text(base) for base in c.base_models.values() if base})
    base = f" of {', '.join(f'<code>{escape(name)}</code>' for name in bases)}" if bases else ""
    low, high = c.ranks
    ranks = f"{high}" if low == high else f"{low} to {high}, by module"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(', '.join(c.names))}: weight changes compared</title>"
        f"<style>{STYLE}</style></head><body>"
        "<h1>How alike are these fine-tunings?</h1>"
        f"<p>{len(c.names)} adapters{base}, {count(len(c.shapes), 'module')}. A fine-tuning moves "
        "the weights from the base model to some other point. This page compares these moves: "
        "their lengths, their directions, and the subspaces they use. It looks at weights only.</p>"
        f"<h2>In short</h2><ul>{''.join(f'<li>{escape(s)}</li>' for s in words(c))}</ul>"
        "<h2>Each adapter</h2><table><tr>"
        + "".join(f"<th>{escape(h)}</th>" for h in head)
        + f"</tr>{body}</table>"
        f"<p>Norm: length of the change (Frobenius). Off {escape(c.reference)}: share of the "
        f"length at right angles to {escape(c.reference)}'s change. Entropy and stable rank: how "
        f"many directions a module's change uses, from 1 to its rank (here {ranks}), counted "
        "evenly or by strength; mean over modules.</p>"
        f"<h2>All pairs</h2>{figure_text}"
        "<h2>What these numbers do not say</h2><ul>"
        + "".join(f"<li>{escape(limit)}</li>" for limit in LIMITS)
        + "</ul><h2>Files</h2><p><code>cosine.csv</code>, <code>principal_angles.csv</code>, "
        "<code>orthogonal_fraction.csv</code>, <code>spectra.csv</code> hold every number by "
        "module and layer, <code>pairs.csv</code> and <code>chance.csv</code> the chance levels of "
        "cosines and angles, <code>summary.json</code> the main numbers; the figures lie beside "
        "them as SVG.</p></body></html>\n"
    )


def write_report(c: Comparison, out: Path) -> Path:
    """Write the report folder, whole or not at all; returns the path of its page."""
    set_style()
    with atomic_directory(out) as folder:
        for name, table in c.tables.items():
            with atomic_write(folder / f"{name}.csv") as file:
                table.to_csv(file, index=False, lineterminator="\n")
        drawings = []
        for name, figure, caption, alt in figures(c):
            svg = _svg(figure)
            with atomic_write(folder / f"{name}.svg") as file:
                file.write(svg)
            drawings.append((svg, caption, alt))
        with atomic_write(folder / "summary.json") as file:
            json.dump(summary(c), file, indent=2)
            file.write("\n")
        with atomic_write(folder / "index.html") as file:
            file.write(page(c, drawings))
    return out / "index.html"


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # Neither date nor random ids: two runs give the same bytes. Text as paths: no font is needed.
    with plt.rc_context({"svg.hashsalt": "finetune-geometry", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return buffer.getvalue()


def _text(value: Any, digits: int = 3) -> str:
    return "not defined" if value is None else f"{value:.{digits}f}"
