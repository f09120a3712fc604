/* The ray of a delta: the base, the model and beyond, with a slider for the factor. */
"use strict";

Explorables.register("ray", (box) => {
  const { models, problems, cells } = box.data;
  const names = Object.keys(models);
  const kinds = [["loss", "held-out loss (nats a token)"]];
  if (problems > 0) kinds.unshift(["accuracy", "validation problems answered correctly"]);
  const kind = box.select("Measure", kinds, kinds[0][0]);
  const factors = [...new Set(names.flatMap((n) => models[n].flatMap((run) => run.factor)))].sort(d3.ascending);
  const chosen = box.checks("Methods", names, names.filter((n) => ["sft", "dft", "dpo"].includes(n)));
  const slider = box.range("Factor λ", {
    min: 0, max: factors.length - 1, step: 1, value: Math.max(0, factors.indexOf(1)),
    show: (i) => d3.format(".2f")(factors[i]),
  });

  /** Factor -> mean over the repetitions, in the order of `factors`; null where none is known. */
  const means = (name, column) => factors.map((factor) => {
    const found = models[name].map((run) => run[column][run.factor.indexOf(factor)])
      .filter((v) => v !== undefined && v !== null);
    return found.length ? d3.mean(found) : null;
  });

  return () => {
    const column = kind.get();
    const percent = column === "accuracy";
    const shown = chosen.get();
    const all = shown.flatMap((n) => models[n].flatMap((run) => run[column]));
    const plot = Explorables.axes(box, {
      xs: [-0.05, factors[factors.length - 1] + 0.05],
      ys: Explorables.span(all.length ? all : [0, 1]),
      xlabel: "factor λ (0: the base, 1: as trained)", ylabel: kinds.find(([key]) => key === column)[1],
      yformat: percent ? d3.format(".0%") : undefined,
      label: "Lines over the factor of the delta, one a method.",
    });
    Explorables.cursor(plot, factors[slider.get()]);
    const by = percent ? d3.format(".1%") : d3.format(".3f");
    const rows = shown.map((name) => {
      if (models[name].length > 1) for (const run of models[name]) {
        Explorables.line(plot, box.looks[name], run.factor, run[column], { faint: true });
      }
      const mean = means(name, column);
      Explorables.line(plot, box.looks[name], factors, mean);
      const best = percent ? d3.greatestIndex(mean) : d3.leastIndex(mean);
      return { name, here: mean[slider.get()], best: factors[best], there: mean[best] };
    });
    box.show(rows.map((r) => [r.name, box.label(r.name),
      `${r.here === null ? "not measured" : by(r.here)}; best ${by(r.there)} at ${r.best}`]));
    box.say(rows.length
      ? `At λ = ${d3.format(".2f")(factors[slider.get()])}` +
        (cells.length > 1 ? `, means over ${cells.length} repetitions: ` : ": ") +
        rows.map((r) => `${box.label(r.name)} ${r.here === null ? "not measured" : by(r.here)}, ` +
          `best at ${r.best}`).join("; ") + "."
      : "No method is chosen.");
  };
});
