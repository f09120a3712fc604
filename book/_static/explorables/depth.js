/* Cosine, angle and length by layer, with one slider for the layer. */
"use strict";

Explorables.register("depth", (box) => {
  const { layers, names, norm, pairs, chance, k } = box.data;
  const first = names.includes("sft") ? "sft" : names[0];
  const beside = names.filter((n) => n !== first);
  const reference = box.select("Compare with", names.map((n) => [n, box.label(n)]), first);
  const side = box.select("Angles of", [["left", "output directions"], ["right", "input directions"]], "left");
  const chosen = box.checks("Methods", names, beside.filter((n) => ["dft", "sft-order"].includes(n)));
  const slider = box.range("Layer", {
    min: 0, max: layers.length - 1, step: 1, value: 0, show: (i) => String(layers[i]),
  });
  const pairOf = (a, b) => pairs.find((p) => (p.a === a && p.b === b) || (p.a === b && p.b === a));

  return () => {
    const against = reference.get();
    const shown = chosen.get().filter((n) => n !== against && pairOf(n, against));
    const at = slider.get();
    const [top, middle, low] = Explorables.panels(box, 3);
    const common = { xs: [layers[0] - 0.3, layers[layers.length - 1] + 0.3], height: 190,
      xticks: layers.length <= 12 ? layers : undefined, xlabel: "layer" };

    const draw = (holder, ylabel, level, valuesOf, who, ys) => {
      const all = who.flatMap(valuesOf).concat(level ? [level[0], level[2]] : []);
      const plot = Explorables.axes(box, {
        ...common, holder, ylabel, ys: ys || Explorables.span(all.length ? all : [0, 1]),
        label: `${ylabel}, by layer; the slider stands at layer ${layers[at]}.`,
      });
      if (level) Explorables.chanceBand(plot, level);
      Explorables.cursor(plot, layers[at]);
      for (const name of who) Explorables.line(plot, box.looks[name], layers, valuesOf(name));
    };
    const to = box.label(against);
    draw(top, `cosine with ${to}`, chance.cosine, (n) => pairOf(n, against).cosine, shown);
    draw(middle, `smallest angle with ${to} (degrees, k = ${k})`, chance[side.get()],
      (n) => pairOf(n, against)[side.get()], shown, [0, 92]);
    draw(low, "length (Frobenius norm)", null, (n) => norm[n], [against, ...shown]);

    const product = (n, i) => norm[n][i] * norm[against][i];
    const rows = shown.map((name) => {
      const pair = pairOf(name, against);
      return {
        name, cosine: pair.cosine[at], angle: pair[side.get()][at], length: norm[name][at],
        share: product(name, at) / d3.sum(layers, (_, i) => product(name, i)),
        lowest: layers[d3.leastIndex(pair.cosine)],
      };
    });
    const by = d3.format(".2f");
    const length = d3.format(".3g");
    box.show([
      [against, to, `length ${length(norm[against][at])}`],
      ...rows.map((r) => [r.name, box.label(r.name),
        `cosine ${by(r.cosine)}, ${r.angle === null ? "no angle" : `${d3.format(".0f")(r.angle)}°`}, ` +
        `length ${length(r.length)}, share ${d3.format(".0%")(r.share)}`]),
    ]);
    box.say(rows.length
      ? `Layer ${layers[at]}. ` + rows.map((r) =>
        `${box.label(r.name)}: cosine ${by(r.cosine)} with ${to}; this layer has ` +
        `${d3.format(".0%")(r.share)} of the products of lengths. Lowest in layer ${r.lowest}.`).join(" ")
      : "No method is chosen.");
  };
});
