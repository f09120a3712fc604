"""The report of a comparison: tables, figures, and one page that explains them in plain words.

The page stands alone: style and figures are inside it, and it asks no network for anything.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from finetune_geometry import plots
from finetune_geometry.compare import Comparison, summary
from finetune_geometry.deltas import BASE
from finetune_geometry.geometry_plots import angle_panels, share_panels
from finetune_geometry.palette import introduce
from finetune_geometry.records import atomic_directory, atomic_write
from finetune_geometry.similarity import versus

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


def base_text(name: str) -> str:
    """The base model as a page names it: of a local path, which is nobody's business, the end."""
    path = Path(name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else name


def figures(c: Comparison) -> Iterator[tuple[str, Figure, str, str]]:
    """(file name, figure, caption, what a screen reader says) of each figure."""
    introduce(c.names)  # one colour each, in every figure
    cosines, angles = c.tables["cosine"], c.tables["principal_angles"]
    with_base = [BASE, *c.names]
    pooled = cosines[cosines["module"] == "global"]
    low, high = (f"{c.chance('cosine', 'global')[end]:.3f}" for end in ("low", "high"))
    least = min(0.0, float(pooled.loc[pooled["quantity"] == "cosine", "value"].min()))
    yield (
        "cosine",
        plots.pair_heatmap(
            pooled[pooled["quantity"] == "cosine"],
            title="Global cosine",
            names=with_base,
            diagonal=1.0,
            vmin=least,
            vmax=1.0,
        ),
        "Do two fine-tunings move the weights in the same direction? 1: the same direction, 0: at "
        "right angles; all modules count as one long vector. Of simulated unrelated adapters of "
        f"these shapes with one initial A, 95 % lie between {low} and {high}. The base has no "
        "direction: its change is zero. Length plays no part.",
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
    to_reference = versus(cosines, c.reference, among=c.names)
    band = c.chance("cosine", "layer")
    who = plots.label(c.reference)
    yield (
        "depth",
        plots.by_depth(
            to_reference[
                (to_reference["module"] == "layer") & (to_reference["quantity"] == "cosine")
            ],
            name="other",
            ylabel=f"cosine with {who}",
            chance=(float(band["low"]), float(band["high"])),
            chance_label="chance, one layer",
        ),
        f"In which layers do they part from {c.reference}? The grey band holds 95 % of the values "
        "of single layers for unrelated adapters.",
        f"Cosine with {c.reference} by layer, one line an adapter.",
    )
    in_angles = versus(angles, c.reference, among=c.names)
    null = c.tables["chance"]
    yield (
        "angles",
        angle_panels(
            in_angles[
                (in_angles["module"] == "median")
                & (in_angles["k"] == c.k)
                & in_angles["quantity"].str.startswith("angle_")
            ],
            null[(null["pooled"] == "median") & (null["k"] == c.k) & null["shared_a"]],
            title=f"Angles with {who}, k = {c.k}",
        ),
        f"Do they use the same directions? Principal angles between the {c.k} strongest output "
        "(left) and input (right) directions, median over the modules, at the middle of each mark; "
        "grey, from left to right: chance for smallest, median and largest. On the right it is "
        "that of adapters with one A that never moved: an angle above it shows that A moved, or "
        "was not the same. The left side does not depend on that.",
        f"Smallest, median and largest angle with {c.reference}, left and right.",
    )
    parts = versus(c.tables["orthogonal_fraction"], c.reference, among=c.names)
    yield (
        "outside",
        share_panels(
            parts[(parts["module"] == "global") & parts["side"].isin(["", "left"])],
            {"outside_direction": 1.0, "outside_subspace": c.outside},
            titles={
                "outside_direction": f"outside the direction of {who}",
                "outside_subspace": f"outside its top-{c.k} output subspace",
            },
        ),
        f"How much of each change lies outside that of {c.reference}? On the left outside its one "
        f"direction, on the right outside its {c.k} strongest output directions. Filled: share of "
        "the length; hollow: share of the energy, the squared length, and only energies add up to "
        "1. Dashed: the share of the length that a random change would show.",
        f"Share of each change outside that of {c.reference}.",
    )


def words(c: Comparison) -> list[str]:
    """What the numbers say, one sentence a pair, the most alike first; then the lengths."""
    facts = summary(c)
    low, high = facts["chance"]["cosine"]
    said = []
    known = [p for p in facts["pairs"] if p["cosine"] is not None]
    for pair in sorted(known, key=lambda p: -p["cosine"]):
        cosine = pair["cosine"]
        if low <= cosine <= high:
            verdict = "no common direction overall; single layers and subspaces may share some"
        elif cosine >= 0.95:
            verdict = "nearly the same direction"
        elif cosine <= -0.5:
            verdict = "partly opposite directions"
        elif cosine < low:
            verdict = "slightly opposed, more than chance"
        elif cosine >= 0.2:
            verdict = "partly the same direction"
        else:
            verdict = "barely alike, though more than chance"
        said.append(f"{pair['a']} and {pair['b']}: {verdict} (cosine {cosine:.3f}).")
    for pair in facts["pairs"]:
        if pair["cosine"] is None:
            said.append(f"{pair['a']} and {pair['b']}: no cosine, as one of them changes nothing.")
    norms = {name: values["norm"] for name, values in facts["adapters"].items()}
    longest, shortest = max(norms, key=norms.__getitem__), min(norms, key=norms.__getitem__)
    if norms[shortest] > 0 and norms[longest] > 3 * norms[shortest]:
        said.append(
            f"{shortest} moved the weights {norms[longest] / norms[shortest]:.1f} times less than "
            f"{longest}. Compare directions of so unequal changes with care: a short change may "
            "differ because it stopped early."
        )
    for name, values in facts["adapters"].items():
        if count := values["tensors_not_compared"]:
            said.append(
                f"{name} holds {count} tensors that are no LoRA factors (embeddings, norms, "
                "biases). They change the model, too, and are not part of any number here."
            )
    return said


LIMITS = [
    "They do not say whether the models answer differently. Weights can differ where outputs do "
    "not, and the other way round.",
    "They do not say why. Learning rate, number of steps, data and seed change a direction, too, "
    "not only the loss. The comparison that helps most is the same training with another seed.",
    "If the adapters were not started from the same random A, even the same training gives "
    "cosines near zero. Then compare the left angles only.",
    "An angle or a cosine means something only beside its chance level, which depends on the "
    "sizes of the matrices.",
]


def page(c: Comparison, drawings: list[tuple[str, str, str]]) -> str:
    """The HTML page; `drawings` are (svg, caption, alternative text)."""
    facts = summary(c)
    escape = html.escape
    rows = [
        (
            name,
            f"{v['norm']:.4g}",
            "–" if name == c.reference else _text(v["outside_reference_norm"]),
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
    base = f" of <code>{escape(base_text(c.base_model))}</code>" if c.base_model else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(', '.join(c.names))}: weight changes compared</title>"
        f"<style>{STYLE}</style></head><body>"
        "<h1>How alike are these fine-tunings?</h1>"
        f"<p>{len(c.names)} adapters{base}, {len(c.shapes)} modules. A fine-tuning moves the "
        "weights from the base model to some other point. This page compares these moves: their "
        "lengths, their directions, and the subspaces they use. It looks at weights only.</p>"
        f"<h2>In short</h2><ul>{''.join(f'<li>{escape(s)}</li>' for s in words(c))}</ul>"
        "<h2>Each adapter</h2><table><tr>"
        + "".join(f"<th>{escape(h)}</th>" for h in head)
        + f"</tr>{body}</table>"
        f"<p>Norm: length of the change (Frobenius). Off {escape(c.reference)}: share of the "
        f"length at right angles to {escape(c.reference)}'s change. Entropy and stable rank: how "
        "many directions a module's change uses, from 1 to the LoRA rank (here at least "
        f"{c.r}), counted evenly or by strength; mean over modules.</p>"
        f"<h2>All pairs</h2>{figure_text}"
        "<h2>What these numbers do not say</h2><ul>"
        + "".join(f"<li>{escape(limit)}</li>" for limit in LIMITS)
        + "</ul><h2>Files</h2><p><code>cosine.csv</code>, <code>principal_angles.csv</code>, "
        "<code>orthogonal_fraction.csv</code>, <code>spectra.csv</code>, <code>chance.csv</code> "
        "hold every number by module and layer, <code>summary.json</code> the main ones; the "
        "figures lie beside them as SVG.</p></body></html>\n"
    )


def write_report(c: Comparison, out: Path) -> Path:
    """Write the report folder, whole or not at all; returns the path of its page."""
    plots.set_style()
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
