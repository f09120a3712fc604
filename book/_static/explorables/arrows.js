/* The deltas as arrows, in the plane that holds most of the length of those that are chosen. */
"use strict";

Explorables.register("arrows", (box) => {
  const { cells } = box.data;
  const which = cells.length > 1
    ? box.select("Trainings", cells.map((cell, i) => [String(i), cell.label]), "0")
    : { get: () => "0" };
  const reference = box.select("Compare with", cells[0].names.map((n) => [n, box.label(n)]), "sft");
  const chosen = box.checks("Arrows", cells[0].names, cells[0].names);

  /** The two leading eigenvectors of a small symmetric matrix, by Jacobi's rotations. */
  function leading(matrix) {
    const n = matrix.length;
    const a = matrix.map((row) => [...row]);
    const v = d3.range(n).map((i) => d3.range(n).map((j) => (i === j ? 1 : 0)));
    for (let sweep = 0; sweep < 40; sweep++) {
      for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) {
        if (Math.abs(a[p][q]) < 1e-14) continue;
        const angle = 0.5 * Math.atan2(2 * a[p][q], a[q][q] - a[p][p]);
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        for (const m of [a, v]) for (let k = 0; k < n; k++) {
          const [x, y] = [m[k][p], m[k][q]];
          m[k][p] = c * x - s * y;
          m[k][q] = s * x + c * y;
        }
        for (let k = 0; k < n; k++) {
          const [x, y] = [a[p][k], a[q][k]];
          a[p][k] = c * x - s * y;
          a[q][k] = s * x + c * y;
        }
      }
    }
    const order = d3.range(n).sort((i, j) => a[j][j] - a[i][i]);
    return order.map((i) => ({ value: Math.max(0, a[i][i]), vector: v.map((row) => row[i]) }));
  }

  /** Points of the plane and the share of squared length that it holds. */
  function project(cell, names) {
    const at = names.map((n) => cell.names.indexOf(n));
    const gram = at.map((i) => at.map((j) =>
      (cell.cosines[i][j] || 0) * cell.norms[i] * cell.norms[j]));
    const found = leading(gram);
    const axes = found.slice(0, 2).map(({ value, vector }) => {
      const axis = vector.map((part) => part * Math.sqrt(value));
      const longest = d3.greatest(axis, Math.abs);  // it points to the right, or up
      return longest < 0 ? axis.map((part) => -part) : axis;
    });
    const total = d3.sum(at, (i) => cell.norms[i] ** 2);
    return {
      points: names.map((_, i) => [axes[0][i], axes[1] ? axes[1][i] : 0]),
      share: total > 0 ? d3.sum(found.slice(0, 2), (f) => f.value) / total : 1,
    };
  }

  return () => {
    const cell = cells[+which.get()];
    const names = chosen.get().filter((n) => cell.names.includes(n));
    const against = reference.get();
    const [plane, strip] = Explorables.panels(box, 2);
    if (!names.length || !cell.names.includes(against)) {
      plane.innerHTML = strip.innerHTML = "";
      box.show([]);
      box.say(names.length ? `There is no ${box.label(against)} here.` : "No arrow is chosen.");
      return;
    }
    const { points, share } = project(cell, names);
    const plot = Explorables.axes(box, {
      holder: plane, same: true, height: 320,
      xs: Explorables.span([0, ...points.map((p) => p[0])], 0.1),
      ys: Explorables.span([0, ...points.map((p) => p[1])], 0.1),
      xlabel: "first axis (Frobenius norm)", ylabel: "second axis",
      label: `${names.length} arrows from the base in a plane.`,
    });
    plot.svg.append("text").text("base").attr("text-anchor", "end")
      .attr("x", plot.x(0) - 2).attr("y", plot.y(0) + 20);
    names.forEach((name, i) => {
      const [x, y] = points[i];
      const look = box.looks[name];
      Explorables.line(plot, look, [0, x], [0, y], { marks: false });
      Explorables.dot(plot, look, x, y, 90);
      if (names.length <= 4) {
        plot.svg.append("text").text(look.label)
          .attr("x", plot.x(x)).attr("y", plot.y(y) - 10)
          .attr("text-anchor", plot.x(x) > plot.width - 90 ? "end" : "middle");
      }
    });

    const from = cell.names.indexOf(against);
    const rows = names.filter((n) => n !== against).map((name) => {
      const i = cell.names.indexOf(name);
      return { name, cosine: cell.cosines[from][i], norm: cell.norms[i] };
    }).filter(({ cosine }) => cosine !== null).sort((a, b) => b.cosine - a.cosine);
    const last = rows[rows.length - 1];
    const level = cell.chance;
    const line = Explorables.axes(box, {
      holder: strip, height: 110, xs: [Math.min(-0.1, ...rows.map((r) => r.cosine - 0.05)), 1],
      ys: [0, 1], xlabel: `cosine with ${box.label(against)}`, ylabel: "",
      label: "The cosines on one axis, with the level of chance.",
    });
    line.svg.select(".explorable-grid").remove();
    if (level) {
      line.svg.append("rect").attr("class", "chance")
        .attr("x", line.x(level[0])).attr("width", Math.max(2, line.x(level[2]) - line.x(level[0])))
        .attr("y", line.edge.top).attr("height", line.height - line.edge.top - line.edge.bottom);
      line.svg.append("text").text("chance").attr("text-anchor", "middle")
        .attr("x", line.x(level[1])).attr("y", line.edge.top - 6);
    }
    for (const { name, cosine } of rows) Explorables.dot(line, box.looks[name], cosine, 0.5, 100);

    const by = d3.format(".3f");
    const length = d3.format(".3g");
    box.show([
      [against, box.label(against), `length ${length(cell.norms[from])}`],
      ...rows.map((r) => [r.name, box.label(r.name), `${by(r.cosine)}, length ${length(r.norm)}`]),
    ]);
    const inside = rows.filter((r) => level && r.cosine >= level[0] && r.cosine <= level[2]);
    box.say(
      `The plane holds ${d3.format(".0%")(share)} of the squared length of what is chosen` +
      (names.length <= 2 ? ", so the angle is the real one. " : ". ") +
      (rows.length > 1
        ? `Nearest to ${box.label(against)}: ${box.label(rows[0].name)} (${by(rows[0].cosine)}); ` +
          `furthest: ${box.label(last.name)} (${by(last.cosine)}). `
        : "") +
      (level
        ? `Chance is ${by(level[0])} to ${by(level[2])}; within it: ` +
          `${inside.map((r) => box.label(r.name)).join(", ") || "none"}.`
        : "The level of chance was not computed for these shapes."));
  };
});
