/* The straight line between two models, walked with a slider. */
"use strict";

Explorables.register("line", (box) => {
  const { metrics, lines } = box.data;
  const words = (one) => `${box.label(one.a)} to ${box.label(one.b)}`;
  const first = Math.max(0, lines.findIndex((one) => one.a === "sft" && one.b === "dpo"));
  const way = box.select("Line", lines.map((one, i) => [String(i), words(one)]), String(first));
  const measured = (one) => metrics.filter((m) => one.metrics[m.name]).map((m) => [m.name, m.label]);
  const metric = box.select("Measure", measured(lines[first]), measured(lines[first])[0][0]);
  let alphas = lines[first].metrics[metric.get()].alpha;
  // Only measured points are shown: the slider counts them.
  const slider = box.range("Position α", {
    min: 0, max: alphas.length - 1, step: 1, value: Math.floor(alphas.length / 2),
    show: (i) => d3.format(".2f")(alphas[i]),
  });
  let listed = first;

  /** The value at alpha between two measured points. */
  const between = (xs, ys, alpha) => d3.scaleLinear(xs, ys)(alpha);

  return () => {
    const one = lines[+way.get()];
    if (+way.get() !== listed) {  // not every measure was taken on every line
      listed = +way.get();
      const before = metric.get();
      metric.fill(measured(one), one.metrics[before] ? before : measured(one)[0][0]);
    }
    const kind = metrics.find((m) => m.name === metric.get());
    const { alpha, value, low, high } = one.metrics[kind.name];
    const percent = kind.name === "accuracy";
    const by = percent ? d3.format(".1%") : d3.format(".3f");
    if (alpha.join() !== alphas.join()) {
      const before = alphas[slider.get()];
      alphas = alpha;
      slider.input.max = alpha.length - 1;
      slider.set(d3.leastIndex(alpha, (t) => Math.abs(t - before)));
    }
    const at = slider.get();
    const chord = alpha.map((t) => value[0] + t * (value[value.length - 1] - value[0]));
    const ends = alpha.map((_, i) => [chord[i] + low[i], chord[i] + high[i]]);
    const plot = Explorables.axes(box, {
      xs: [-0.03, 1.03], ys: Explorables.span([...value, ...ends.flat()]),
      xlabel: `α, from ${box.label(one.a)} (0) to ${box.label(one.b)} (1)`,
      ylabel: percent ? "accuracy" : `${kind.label} (nats a token)`,
      yformat: percent ? d3.format(".0%") : undefined,
      label: `${kind.label} on the line from ${words(one)}.`,
    });
    const area = d3.area((_, i) => plot.x(alpha[i]), ([a]) => plot.y(a), ([, b]) => plot.y(b));
    plot.svg.append("path").attr("class", "explorable-band").attr("d", area(ends));
    plot.svg.append("path").attr("class", "explorable-chord")
      .attr("d", d3.line((_, i) => plot.x(alpha[i]), plot.y)(chord));
    Explorables.cursor(plot, alpha[at]);
    plot.svg.append("path").attr("class", "explorable-curve")
      .attr("d", d3.line((_, i) => plot.x(alpha[i]), plot.y)(value));
    Explorables.dot(plot, box.looks[one.a], alpha[0], value[0], 110);
    Explorables.dot(plot, box.looks[one.b], 1, value[value.length - 1], 110);
    plot.svg.append("circle").attr("class", "explorable-here").attr("r", 6)
      .attr("cx", plot.x(alpha[at])).attr("cy", plot.y(value[at]));

    const here = alpha[at];
    box.show(measured(one).map(([name, text]) => {
      const m = one.metrics[name];
      const format = name === "accuracy" ? d3.format(".1%") : d3.format(".3f");
      return ["", text, format(between(m.alpha, m.value, here))];
    }));
    const rise = value[at] - chord[at];
    const signed = percent ? d3.format("+.1%") : d3.format("+.3f");
    const inside = low[at] <= 0 && high[at] >= 0;
    const atEnd = at === 0 || at === alpha.length - 1;
    box.say(
      `At α = ${d3.format(".2f")(here)} of the way from ${words(one)}, ${kind.label}: ${by(value[at])}. ` +
      (atEnd ? "This is an end of the line."
        : `That is ${signed(rise)} from the straight line (interval ${signed(low[at])} to ` +
          `${signed(high[at])})${inside ? ", which may be none at all" : ""}.`) +
      (kind.blind !== null ? ` A blind guess among all tokens has ${by(kind.blind)}.` : ""));
  };
});
