/* The training as a film: cosines after as many steps, with a button to play it. */
"use strict";

Explorables.register("film", (box) => {
  const { names, cells } = box.data;
  const cell = cells.length > 1
    ? box.select("Repetition", cells.map((c, i) => [String(i), c.label]), "0") : { get: () => "0" };
  const times = cells[0].steps.map((s) => s.step);  // all repetitions are looked at alike
  const reference = box.select("Compare with", names.map((n) => [n, box.label(n)]), "sft");
  const last = times[times.length - 1];
  const slider = box.range("Step", {
    min: times[0], max: last, step: 1, value: last, show: String,
  });
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const SECONDS = 8;  // of the whole film
  let playing = false;
  let waiting = 0;  // the next frame, or the next jump
  let before = 0;
  let now = 0;
  const play = box.button("Play", () => {
    if (!playing && slider.get() >= last) slider.set(times[0]);
    now = slider.get();
    set(!playing);
    box.redraw();
  });
  slider.input.addEventListener("input", () => { if (playing) { set(false); box.redraw(); } });

  function set(on) {
    playing = on;
    play.textContent = on ? "Pause" : "Play";
    before = 0;
    cancelAnimationFrame(waiting);
    clearTimeout(waiting);
    if (on) box.say("Playing.");
    if (on) waiting = calm ? setTimeout(jump, 1000) : requestAnimationFrame(move);
  }

  function move(time) {
    if (!playing) return;
    if (before) now += ((time - before) / 1000 / SECONDS) * (last - times[0]);
    before = time;
    slider.set(Math.min(last, Math.round(now)));
    if (now >= last) set(false);
    box.redraw();
    if (playing) waiting = requestAnimationFrame(move);
  }

  /** Without motion: from one measured step to the next, once a second. */
  function jump() {
    if (!playing) return;
    const next = times.find((t) => t > slider.get());
    if (next) slider.set(next);
    if (!next || next >= last) set(false);
    else waiting = setTimeout(jump, 1000);
    box.redraw();
  }

  return () => {
    const against = names.indexOf(reference.get());
    const at = slider.get();
    const { steps } = cells[Number(cell.get())];
    const series = names.map((name, i) => ({ name, values: steps.map((s) => s.cosines[against][i]) }))
      .filter((_, i) => i !== against);
    const plot = Explorables.axes(box, {
      xs: [0, last * 1.03], ys: Explorables.span([0, 1, ...series.flatMap((s) => s.values)], 0.03),
      xlabel: "steps of the training", ylabel: `cosine with ${box.label(names[against])}`,
      label: `Cosines up to step ${at}, one line a method.`,
    });
    Explorables.cursor(plot, at);
    const rows = series.map(({ name, values }) => {
      const here = times.length > 1 ? d3.scaleLinear(times, values).clamp(true)(at) : values[0];
      const until = times.filter((t) => t <= at);
      Explorables.line(plot, box.looks[name], [...until, at], [...values.slice(0, until.length), here],
        { marks: false });
      until.forEach((t, i) => Explorables.dot(plot, box.looks[name], t, values[i], 36));
      Explorables.dot(plot, box.looks[name], at, here, 90);
      return { name, here };
    }).sort((a, b) => b.here - a.here);
    const by = d3.format(".2f");
    box.show(rows.map((r) => [r.name, box.label(r.name), by(r.here)]));
    if (playing) return;  // nobody can listen to every frame
    const measured = times.includes(at) ? "" : " (between two measured steps)";
    box.say(`After ${at} of ${last} steps${measured}, cosine with ${box.label(names[against])}: ` +
      rows.map((r) => `${box.label(r.name)} ${by(r.here)}`).join(", ") + ".");
  };
});
