"""The picture that the book opens with, as SVG: arrows at their true angles to SFT.

Which deltas, and what is said of them, is the directive's (`opening`). Of a cell of arrows.json the
names, norms and cosines are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

REFERENCE, CONTROL = "sft", "sft-order"
WIDTH = 420  # of the picture with its labels, in its own units, of which a letter is 14 high
LETTER, LINE, GAP, EDGE = 7.4, 19, 9, 8  # a letter's width, a label's height, tip to label, margin
HEAD = 11  # length of an arrow's head
BASE = '<circle class="opening-base" r="4"/><text y="21" text-anchor="middle">base</text>'
SHORT = 0.6  # of the longest: a shorter one ends among the others


@dataclass(frozen=True)
class Arrow:
    """A delta as it is drawn: its look, its angle to SFT in degrees, its Frobenius norm."""

    name: str
    label: str
    colour: str
    hollow: bool
    angle: float
    length: float

    @property
    def tip(self) -> tuple[float, float]:
        """Along SFT and at a right angle to it, in units of the norm."""
        turn = math.radians(self.angle)
        return self.length * math.cos(turn), self.length * math.sin(turn)

    @property
    def text(self) -> str:
        return f"{self.label} {self.angle:.0f}°"


def degrees(cosine: float) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def arrows_of(cell: Mapping[str, Any], looks: Mapping[str, Any]) -> list[Arrow]:
    """The arrows of a cell of arrows.json, by their angle; empty where SFT has none."""
    names = list(cell["names"])
    if REFERENCE not in names:
        return []
    found = [
        Arrow(name, *(looks[name][key] for key in ("label", "colour", "hollow")),
              degrees(1.0 if name == REFERENCE else cosine), norm)
        for name, norm, cosine in zip(
            names, cell["norms"], cell["cosines"][names.index(REFERENCE)], strict=True
        )
        if cosine is not None
    ]  # fmt: skip
    return sorted(found, key=lambda arrow: arrow.angle)


def most_squeezed(cell: Mapping[str, Any], arrows: Sequence[Arrow]) -> tuple[Arrow, Arrow, float]:
    """The two, SFT apart, that are drawn too near by most, and their true angle in degrees.

    Raises ValueError where there are no two.
    """
    names = list(cell["names"])
    others = [arrow for arrow in arrows if arrow.name != REFERENCE]
    pairs = []
    for i, one in enumerate(others):
        for two in others[i + 1 :]:
            cosine = cell["cosines"][names.index(one.name)][names.index(two.name)]
            if cosine is not None:
                pairs.append((one, two, degrees(cosine)))
    if not pairs:
        raise ValueError("fewer than two arrows beside SFT")
    return max(pairs, key=lambda pair: pair[2] - (pair[1].angle - pair[0].angle))


def sides_of(arrows: Sequence[Arrow]) -> tuple[list[Arrow], list[Arrow]]:
    """The losses that are nearer to SFT than the reshuffled SFT is, and the others."""
    control = next(arrow for arrow in arrows if arrow.name == CONTROL)
    losses = [arrow for arrow in arrows if arrow.name not in (REFERENCE, CONTROL)]
    near = [arrow for arrow in losses if arrow.angle < control.angle]
    return near, [arrow for arrow in losses if arrow not in near]


# The picture. Its y runs upwards here and is turned round at the very end.


@dataclass(frozen=True)
class Label:
    """A text that begins (right) or ends (left of its tip) at x; y is its middle."""

    arrow: Arrow
    x: float
    y: float
    left: bool

    @property
    def ends(self) -> tuple[float, float]:
        wide = LETTER * len(self.arrow.text)
        return (self.x - wide, self.x) if self.left else (self.x, self.x + wide)


def labels_of(arrows: Sequence[Arrow], unit: float) -> list[Label]:
    """A label beside each tip, moved up where the one below it is in the way.

    unit: of the picture, for a norm of 1.
    """
    longest = max(arrow.length for arrow in arrows)

    def is_left(arrow: Arrow) -> bool:
        return arrow.angle > 85 or (arrow.angle > 60 and arrow.length < SHORT * longest)

    found = []
    for left in (False, True):
        low = -math.inf
        group = [arrow for arrow in arrows if is_left(arrow) == left]
        for arrow in reversed(group) if left else group:
            x, y = (unit * part for part in arrow.tip)
            low = max(y, low + LINE)
            found.append(Label(arrow, x - GAP if left else x + GAP, low, left))
    return found


def picture(arrows: Sequence[Arrow], chance: Sequence[float] | None) -> str:
    """The arrows as SVG text, in ink and on ground of the page.

    chance: cosines of two random deltas, (low, middle, high).
    """
    unit, labels, low, high = fitted(arrows)
    longest = unit * max(arrow.length for arrow in arrows)
    top = max([longest, *(label.y + LINE / 2 for label in labels)]) + EDGE
    control = next((arrow for arrow in arrows if arrow.name == CONTROL), None)
    reference = next(arrow for arrow in arrows if arrow.name == REFERENCE)
    parts = []
    if control:
        parts.append(_sector(0.0, control.angle, longest, "opening-fan"))
    if chance:
        parts.append(_sector(degrees(chance[2]), degrees(chance[0]), longest, "opening-chance"))
    widest = max(90.0, arrows[-1].angle)
    parts.append(_arc(0.0, widest, unit * reference.length, "opening-arc"))
    parts += [_arrow(arrow, unit) for arrow in reversed(arrows)]
    parts.append(BASE)
    parts += [_label(label, unit) for label in labels]
    box = f"{low:.0f} {-top:.0f} {high - low:.0f} {top + LINE + EDGE:.0f}"
    return (
        f'<svg class="opening-picture" viewBox="{box}" role="img" '
        f'aria-label="{escape(in_words(arrows))}">{"".join(parts)}</svg>'
    )


def fitted(arrows: Sequence[Arrow]) -> tuple[float, list[Label], float, float]:
    """The unit with which the picture is WIDTH wide, its labels, its left and its right end."""
    unit = WIDTH / max(arrow.length for arrow in arrows)
    while True:
        labels = labels_of(arrows, unit)
        ends = [*(label.ends for label in labels), *((unit * a.tip[0], 20.0) for a in arrows)]
        low, high = min(-20.0, *(end[0] for end in ends)) - EDGE, max(e[1] for e in ends) + EDGE
        if high - low <= WIDTH or unit * max(a.length for a in arrows) < WIDTH / 8:
            return unit, labels, low, high
        unit *= 0.98


def in_words(arrows: Sequence[Arrow]) -> str:
    """What the picture shows, for those who do not see it."""
    reference = next(arrow for arrow in arrows if arrow.name == REFERENCE)
    told = [
        f"{arrow.label} at {arrow.angle:.0f}° and {arrow.length / reference.length:.0%} as long"
        for arrow in arrows
        if arrow.name != REFERENCE
    ]
    return f"Arrows from one point, the base. SFT lies flat; beside it {', '.join(told)}."


def _at(angle: float, radius: float) -> str:
    turn = math.radians(angle)
    return f"{radius * math.cos(turn):.1f} {-radius * math.sin(turn):.1f}"


def _arc(start: float, end: float, radius: float, css: str) -> str:
    return (
        f'<path class="{css}" d="M {_at(start, radius)} '
        f'A {radius:.1f} {radius:.1f} 0 0 0 {_at(end, radius)}"/>'
    )


def _sector(start: float, end: float, radius: float, css: str) -> str:
    return (
        f'<path class="{css}" d="M 0 0 L {_at(start, radius)} '
        f'A {radius:.1f} {radius:.1f} 0 0 0 {_at(end, radius)} Z"/>'
    )


def _arrow(arrow: Arrow, unit: float) -> str:
    """A shaft and a head; of the control dashed and hollow."""
    length = unit * arrow.length
    head = min(HEAD, length)
    dash = ' stroke-dasharray="7 5"' if arrow.hollow else ""
    fill = "var(--pst-color-background, #fff)" if arrow.hollow else arrow.colour
    return (
        f'<g transform="rotate({-arrow.angle:.2f})" stroke="{arrow.colour}">'
        f'<path d="M 0 0 H {length - head:.1f}" stroke-width="3"{dash}/>'
        f'<path d="M {length:.1f} 0 l {-head} {-0.45 * head:.2f} v {0.9 * head:.2f} z" '
        f'fill="{fill}" stroke-width="1.5"/></g>'
    )


def _label(label: Label, unit: float) -> str:
    """The text and, where it does not stand beside its tip, a line to it."""
    x, y = (unit * part for part in label.arrow.tip)
    line = ""
    if label.y - y > LINE / 2:
        line = f'<path class="opening-lead" d="M {x:.1f} {-y:.1f} L {label.x:.1f} {-label.y:.1f}"/>'
    anchor = "end" if label.left else "start"
    return (
        f'{line}<text x="{label.x:.1f}" y="{5 - label.y:.1f}" text-anchor="{anchor}">'
        f"{escape(label.arrow.text)}</text>"
    )
