/* The weight of one token under each of the six losses; arithmetic alone (weights.js). */
"use strict";

Explorables.register("token", (box) => {
  const constants = box.data;
  const others = Math.max(1, constants.group - 1);
  const by = d3.format(".2f");
  const probability = box.range("The student's probability p", {
    min: 0.01, max: 1, step: 0.01, value: 0.3, show: by,
  });
  const reward = box.select("This rollout is", [["1", "right (r = 1)"], ["0", "wrong (r = 0)"]], "1");
  const right = box.range(`Right ones among the ${others} others of its group`, {
    min: 0, max: others, step: 1, value: Math.floor(others / 2), show: String,
  });
  const margin = box.range("DPO's margin h (0: the start of the training)", {
    min: -6, max: 6, step: 0.1, value: 0, show: d3.format(".1f"),
  });
  const what = box.select("Show", [
    ["weight", "the weight of the token"],
    ["push", "the push on its own logit: weight × (1 − p)"],
  ], "weight");

  return () => {
    const p = probability.get();
    const rewards = d3.range(others).map((i) => (i < right.get() ? 1 : 0));
    const weights = tokenWeights(p, +reward.get(), rewards, margin.get(), constants);
    const times = what.get() === "push" ? 1 - p : 1;
    const names = Object.keys(box.looks).filter((n) => n in weights);
    const values = names.map((n) => weights[n] * times);
    const width = Math.max(260, box.figure.clientWidth || 560);
    const [row, left, rightEdge, top] = [34, 112, 50, 8];
    const height = top + row * names.length + 50;
    box.figure.innerHTML = "";
    const svg = d3.select(box.figure).append("svg").attr("width", width).attr("height", height)
      .attr("role", "img").attr("aria-label", "Bars: the weight of the token under each loss.");
    const x = d3.scaleLinear([-1, 1.1], [left, width - rightEdge]);
    svg.append("g").attr("class", "explorable-axis")
      .attr("transform", `translate(0,${height - 46})`).call(d3.axisBottom(x).ticks(width < 420 ? 5 : 9));
    svg.append("text").attr("x", width - rightEdge).attr("y", height - 4).attr("text-anchor", "end")
      .text("pushed away  ←  0  →  imitated");
    svg.append("line").attr("class", "explorable-cursor")
      .attr("x1", x(0)).attr("x2", x(0)).attr("y1", top).attr("y2", height - 46);
    names.forEach((name, i) => {
      const look = box.looks[name];
      const middle = top + row * (i + 0.5);
      svg.append("text").attr("x", left - 18).attr("y", middle + 4).attr("text-anchor", "end").text(look.label);
      const value = values[i];
      svg.append("rect").attr("fill", look.colour)
        .attr("x", Math.min(x(0), x(value))).attr("width", Math.max(1.5, Math.abs(x(value) - x(0))))
        .attr("y", middle - 10).attr("height", 20);
      svg.append("text").attr("y", middle + 4).text(d3.format(".3~f")(value))
        .attr("x", value >= 0 ? x(value) + 6 : x(value) - 6)
        .attr("text-anchor", value >= 0 ? "start" : "end");
    });

    const listed = (keep) => names.filter((n) => keep(weights[n]))
      .map((n) => `${box.label(n)} (${d3.format(".3~f")(weights[n] * times)})`).join(", ") || "none";
    box.say(
      `A token of probability ${by(p)} in a ${reward.get() === "1" ? "right" : "wrong"} rollout; ` +
      `${right.get()} of ${others} others in its group are right; DPO's margin is ` +
      `${d3.format(".1f")(margin.get())}. ` +
      `Imitated by: ${listed((w) => w > 0)}. Pushed away by: ${listed((w) => w < 0)}. ` +
      `Left alone by: ${listed((w) => w === 0)}.` +
      (what.get() === "push" ? ` In brackets: the push, weight × ${by(1 - p)}.` : ""));
  };
});
