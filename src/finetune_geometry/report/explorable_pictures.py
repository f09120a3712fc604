"""Small pictures as SVG text: what an interactive figure shows where no script runs.

They take ink and ground from the page they stand in (`currentColor`, classes of explorables.css),
so they are right on light and dark pages, unlike the figures of notebooks, which bring their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 420, 280  # without the legend, in units of the picture
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 44
LINE = 19  # height of a row of the legend


@dataclass(frozen=True)
class Series:
    """One line or arrow: label, colour, whether its marks are hollow, and its points."""

    label: str
    colour: str
    hollow: bool
    x: Sequence[float]
    y: Sequence[float]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [low, high], some `about` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def line_picture(
    series: Sequence[Series],
    alt: str,
    *,
    xlabel: str,
    ylabel: str,
    band: Sequence[float] | None = None,
    arrows: bool = False,
) -> str:
    """A chart of lines as SVG text, or of arrows from the first point of each to its last.

    band: a level of chance, (low, high) on the vertical axis. Of arrows both axes have one unit.
    """
    xs, ys = [v for s in series for v in s.x], [v for s in series for v in (*s.y, *(band or ()))]
    box = _same_unit(_span(xs), _span(ys)) if arrows else (_span(xs, 0.0), _span(ys))
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = box
        return (
            LEFT + (x - x0) / (x1 - x0) * plot_width,
            TOP + (y1 - y) / (y1 - y0) * plot_height,
        )

    parts = _axes(box, at, xlabel, ylabel)
    if band:
        (_, top), (_, low) = at(box[0][0], band[1]), at(box[0][0], band[0])
        height = max(low - top, 1.0)
        parts.append(_tag("rect", x=LEFT, y=top, width=plot_width, height=height, css="chance"))
    for one in series:
        points = [at(x, y) for x, y in zip(one.x, one.y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="2"/>'
        )
        marked = points[-1:] if arrows else points if len(points) <= 16 else []
        parts += [_dot(x, y, one) for x, y in marked]
    rows = math.ceil(len(series) / 2)
    for i, one in enumerate(series):
        x, y = LEFT + (i % 2) * 180, HEIGHT + (i // 2) * LINE + 6
        parts.append(_dot(x, y, one))
        parts.append(f'<text x="{x + 10}" y="{y + 4}">{escape(one.label)}</text>')
    return (
        f'<svg class="explorable-picture" viewBox="0 0 {WIDTH} {HEIGHT + rows * LINE + 6}" '
        f'role="img" aria-label="{escape(alt)}">{"".join(parts)}</svg>'
    )


def _axes(box: Any, at: Any, xlabel: str, ylabel: str) -> list[str]:
    (x0, x1), (y0, y1) = box
    parts = []
    for value in ticks(y0, y1):
        x, y = at(x0, value)
        parts.append(_tag("line", x1=x, x2=WIDTH - RIGHT, y1=y, y2=y, css="grid"))
        parts.append(
            f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{_sign(value)}</text>'
        )
    for value in ticks(x0, x1):
        x, y = at(value, y0)
        parts.append(
            f'<text x="{x:.1f}" y="{y + 17:.1f}" text-anchor="middle">{_sign(value)}</text>'
        )
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    parts.append(
        f'<text x="{LEFT}" y="{HEIGHT - 10}">{escape(xlabel)}</text>'
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(ylabel)}</text>"
    )
    return parts


def _sign(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _tag(name: str, css: str, **numbers: float) -> str:
    inside = " ".join(f'{key}="{value:.1f}"' for key, value in numbers.items())
    return f'<{name} class="{css}" {inside}/>'


def _dot(x: float, y: float, one: Series) -> str:
    fill = "var(--pst-color-background, #fff)" if one.hollow else one.colour
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{one.colour}" '
        'stroke-width="1.5"/>'
    )


def _span(values: Sequence[float], room: float = 0.06) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 1, high + 1
    return low - room * (high - low), high + room * (high - low)


def _same_unit(
    x: tuple[float, float], y: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The two spans, one of them widened around its middle: a unit is as long on both axes."""
    ratio = (WIDTH - LEFT - RIGHT) / (HEIGHT - TOP - BOTTOM)
    wide, high = x[1] - x[0], y[1] - y[0]
    wide, high = max(wide, high * ratio), max(high, wide / ratio)
    return (
        (sum(x) / 2 - wide / 2, sum(x) / 2 + wide / 2),
        (sum(y) / 2 - high / 2, sum(y) / 2 + high / 2),
    )


def series_of(look: Mapping[str, Any], x: Sequence[float], y: Sequence[float]) -> Series:
    """A `Series` in the look of an adapter, as `explorable_tables.looks` gives it."""
    return Series(look["label"], look["colour"], look["hollow"], x, y)
