"""Figures of the method chapters (gradient weight, curves, norms) and of the ingredients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from statsmodels.stats.proportion import proportion_confint

from finetune_geometry.figures.palette import INK, colour, label, marker

LINES = ("solid", "dashed", "dotted", "dashdot")


def gradient_weights(
    method: str, curves: Mapping[str, Any], x: Any, xlabel: str, ylabel: str
) -> Figure:
    """How hard the objective pulls: one curve of gradient weights over `x` for each kind of token.

    curves: legend text to weights, (points,); x: (points,).
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    axes.axhline(0, color=INK, linewidth=0.8)
    for (text, values), line in zip(curves.items(), LINES, strict=False):
        axes.plot(x, values, color=colour(method), linestyle=line, marker="", label=text)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _legend_beside(axes)
    return figure


def _legend_beside(axes: Any, title: str = "") -> None:
    """To the right of the axes, where it covers no line."""
    axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def training_curves(method: str, card: Mapping[str, Any], clip: float) -> Figure:
    """Training loss and gradient norm before clipping at every logged step, from a run card.

    clip: norm above which a gradient is scaled down (max_grad_norm); drawn as a line.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2))
    for axes, key, text in (
        (left, "losses", "training loss (this objective's own)"),
        (right, "gradient_norms", "gradient norm before clipping"),
    ):
        steps, values = zip(*card[key], strict=True)
        axes.plot(steps, values, color=colour(method), label=label(method))
        axes.set(xlabel="step", ylabel=text)
    right.axhline(clip, color=INK, linewidth=0.9, linestyle="dashed")
    right.annotate("clipped above", (1, clip), xycoords=("axes fraction", "data"), ha="right",
                   va="bottom", fontsize="small", color=INK,
                   bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1})  # fmt: skip
    right.set_ylim(bottom=0)
    return figure


def adapter_norms(method: str, norms: pd.DataFrame) -> Figure:
    """Frobenius norm of each module's delta by layer; one line for each kind of projection.

    norms: columns layer, kind, norm.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    for (kind, rows), line in zip(norms.groupby("kind", sort=False), LINES, strict=False):
        axes.plot(rows["layer"], rows["norm"], color=colour(method), linestyle=line, label=kind)
    axes.set(xlabel="layer", ylabel="Frobenius norm of the delta")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_beside(axes, "projection")
    return figure


def pretraining_curves(cards: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Loss and validation accuracy of the student and the teacher while they were raised.

    A model without a card leaves nothing to draw; if none has one, the figure says so.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2))
    if not cards:
        for axes in (left, right):
            axes.text(0.5, 0.5, "no record", ha="center", va="center", transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
        return figure
    names = {"student": "base", "teacher": "teacher"}
    for role, card in cards.items():
        millions = card["tokens"] / card["step"] / 1e6
        for axes, key in ((left, "loss"), (right, "accuracy")):
            steps, values = zip(*card[key], strict=True)
            dots = marker(names[role]) if key == "accuracy" else ""
            tokens = [millions * step for step in steps]
            axes.plot(tokens, values, color=colour(names[role]), marker=dots, label=role)
    left.set(xlabel="training tokens (millions)", ylabel="loss per solution token", yscale="log")
    right.set(xlabel="training tokens (millions)", ylabel="accuracy, 2 to 8 steps", ylim=(0, 1))
    right.legend()
    return figure


def _errors(value: Any, low: Any, high: Any) -> list[Any]:
    """Bars below and above; an interval that ends at the value itself may be off by rounding."""
    return [np.maximum(value - low, 0), np.maximum(high - value, 0)]


def accuracy_by_steps(answers: pd.DataFrame) -> Figure:
    """Accuracy with 95 % Wilson intervals by number of steps; columns model, steps, correct.

    A number of 0 is not known: then one dot a model is of all problems.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    for shift, name in ((-0.08, "base"), (0.08, "teacher")):
        rows = answers[answers["model"] == name]
        if rows.empty:  # a teacher that cannot be asked here
            continue
        counts = rows.groupby("steps")["correct"].agg(["sum", "size"])
        low, high = proportion_confint(counts["sum"], counts["size"], method="wilson")
        value = counts["sum"] / counts["size"]
        axes.errorbar(counts.index + shift, value, yerr=_errors(value, low, high), capsize=3,
                      color=colour(name), marker=marker(name), label=label(name))  # fmt: skip
    axes.set(xlabel="steps of the problem", ylabel="accuracy", ylim=(0, 1.02))
    if not answers["steps"].any():
        axes.set(xlabel="", xticks=[0], xticklabels=["all problems"], xlim=(-1, 1))
    axes.legend()
    return figure


def group_outcomes(rows: pd.DataFrame) -> Figure:
    """Share of groups by number of right rollouts, short and long problems stacked.

    rows: columns group, reward, steps (0: not known; if none is, all are stacked as one).
    """
    groups = rows.groupby("group").agg(right=("reward", "sum"), steps=("steps", "first"))
    middle = int(groups["steps"].median())
    long = groups["steps"] > middle
    kinds = {f"up to {middle} steps": ~long, f"more than {middle} steps": long}
    if not groups["steps"].any():
        kinds = {"all problems": ~long}
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    places = range(int(rows.groupby("group").size().max()) + 1)
    bottom = pd.Series(0.0, index=places)
    for (text, chosen), shade in zip(kinds.items(), ("#BBBBBB", "#555555"), strict=False):
        share = groups[chosen]["right"].astype(int).value_counts() / len(groups)
        share = share.reindex(places, fill_value=0.0)
        axes.bar(list(places), share, bottom=bottom, color=shade, width=0.7, label=text)
        bottom += share
    for place, height in bottom.items():
        axes.annotate(f"{height:.1%}", (place, height), ha="center", va="bottom", fontsize="small")
    axes.set(xlabel="right rollouts in a group", ylabel="share of groups", xticks=list(places))
    axes.set_ylim(0, bottom.max() * 1.12)
    axes.legend()
    return figure


def learning_rate_sweep(sweep: pd.DataFrame, untrained: Mapping[str, float]) -> Figure:
    """Accuracy with 95 % Wilson intervals, and the loss on held-out rollouts, by learning rate.

    sweep: columns learning rate, accuracy, right, problems, loss (nats a token).
    untrained: right, problems and loss of the base on the same data.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4))
    low, high = proportion_confint(sweep["right"], sweep["problems"], method="wilson")
    left.errorbar(sweep["learning rate"], sweep["accuracy"], capsize=3, color=colour("sft"),
                  yerr=_errors(sweep["accuracy"], low, high),
                  marker=marker("sft"))  # fmt: skip
    right.plot(sweep["learning rate"], sweep["loss"], color=colour("sft"), marker=marker("sft"))
    base = {"accuracy": untrained["right"] / untrained["problems"], "loss": untrained["loss"]}
    for axes, value in zip((left, right), base.values(), strict=True):
        axes.axhline(value, color=colour("base"), linestyle="dashed", label="base, untrained")
        axes.set(xscale="log", xlabel="peak learning rate")
        axes.set_xticks(rates := sweep["learning rate"].to_list(), [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
    left.set_ylabel("validation accuracy, SFT")
    right.set_ylabel("held-out loss, nats a token")
    left.legend()
    return figure
