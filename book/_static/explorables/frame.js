/* What all interactive figures share: controls, a readout in words, axes, marks, redrawing.

   A figure registers a function, which gets a `box` and returns a function that draws. It is called
   when a control moves, when the width changes, and nowhere else. */
"use strict";

var Explorables = (() => {
  const figures = {};
  const MARKERS = {
    o: [d3.symbolCircle, 0], s: [d3.symbolSquare, 0], "^": [d3.symbolTriangle, 0],
    v: [d3.symbolTriangle, 180], D: [d3.symbolDiamond, 0], X: [d3.symbolCross, 45],
    P: [d3.symbolCross, 0],
  };
  const PAPER = "var(--pst-color-background, #fff)";

  /** Gives `selection` (paths) the marker of an adapter's look; `size` is its area in px². */
  function mark(selection, look, size = 80) {
    const [shape, turn] = MARKERS[look.marker] || MARKERS.o;
    return selection
      .attr("d", d3.symbol(shape, size))
      .attr("fill", look.hollow ? PAPER : look.colour)
      .attr("stroke", look.colour)
      .attr("stroke-width", 1.6)
      .attr("data-turn", turn);
  }

  const moved = (x, y, path) => `translate(${x},${y}) rotate(${path.getAttribute("data-turn") || 0})`;

  /** The box of one figure: where its controls, its drawing, its values and its words go. */
  function makeBox(stage, name, held) {
    stage.innerHTML = "";
    const add = (tag, css, inside = stage) => {
      const made = document.createElement(tag);
      made.className = css;
      inside.appendChild(made);
      return made;
    };
    if (held.from_reference) {
      add("p", "explorable-note").textContent =
        "These numbers are the reference run's, as those of this chapter are.";
    }
    const controls = add("div", "explorable-controls");
    const figure = add("div", "explorable-figure");
    const values = add("ul", "explorable-values");
    const words = add("p", "explorable-words");
    words.setAttribute("aria-live", "polite");
    let count = 0;
    let draw = () => {};

    /** A row with a labelled control in it. */
    const labelled = (text, tag) => {
      const row = add("div", "explorable-control", controls);
      const label = add("label", "", row);
      label.textContent = text;
      const input = add(tag, "", row);
      input.id = label.htmlFor = `${name}-control-${++count}`;
      return { row, input };
    };

    const box = {
      data: held.data,
      looks: held.looks,
      figure,
      setDraw: (made) => { draw = made; draw(); },
      redraw: () => draw(),
      label: (who) => (held.looks[who] ? held.looks[who].label : who),

      /** A slider with its value beside it. `show` puts the value into words. */
      range(text, { min, max, step, value, show = String }) {
        const { row, input } = labelled(text, "input");
        Object.assign(input, { type: "range", min, max, step });
        input.value = value;
        const output = add("output", "", row);
        output.htmlFor = input.id;
        const tell = () => {
          output.textContent = show(+input.value);
          input.setAttribute("aria-valuetext", output.textContent);
        };
        input.addEventListener("input", () => { tell(); draw(); });
        tell();
        return { input, get: () => +input.value, set: (v) => { input.value = v; tell(); } };
      },

      /** A menu. `options`: [value, text] pairs. */
      select(text, options, value) {
        const { input } = labelled(text, "select");
        const fill = (pairs, chosen) => {
          input.innerHTML = "";
          for (const [key, words] of pairs) input.add(new Option(words, key, false, key === chosen));
        };
        fill(options, value);
        input.addEventListener("change", () => draw());
        return { input, fill, get: () => input.value };
      },

      /** Check boxes, one for each name, with the mark that it has in the figure. */
      checks(text, names, chosen) {
        const set = add("fieldset", "explorable-checks", controls);
        add("legend", "", set).textContent = text;
        const inputs = new Map();
        const fill = (listed, ticked) => {
          set.querySelectorAll("label").forEach((old) => old.remove());
          inputs.clear();
          for (const who of listed) {
            const label = add("label", "", set);
            const input = add("input", "", label);
            input.type = "checkbox";
            input.checked = ticked.includes(who);
            input.addEventListener("change", () => draw());
            if (held.looks[who]) label.appendChild(badge(held.looks[who]));
            label.append(box.label(who));
            inputs.set(who, input);
          }
        };
        fill(names, chosen);
        return { fill, get: () => [...inputs].filter(([, i]) => i.checked).map(([who]) => who) };
      },

      /** A button; `act` is called when it is pressed. */
      button(text, act) {
        const made = add("button", "explorable-button", controls);
        made.type = "button";
        made.textContent = text;
        made.addEventListener("click", act);
        return made;
      },

      /** The list below the drawing: [adapter or "", text, value] triples. */
      show(rows) {
        values.innerHTML = "";
        for (const [who, text, value] of rows) {
          const row = add("li", "", values);
          if (held.looks[who]) row.appendChild(badge(held.looks[who]));
          add("span", "", row).textContent = text;
          add("b", "", row).textContent = value;
        }
      },

      /** What is shown now, in words; read aloud when it has changed. */
      say(text) { if (words.textContent !== text) words.textContent = text; },
    };
    return box;
  }

  /** A small drawing of an adapter's mark, for lists. */
  function badge(look) {
    const svg = d3.create("svg").attr("width", 16).attr("height", 16).attr("aria-hidden", "true");
    const path = mark(svg.append("path"), look, 60);
    path.attr("transform", moved(8, 8, path.node()));
    return svg.node();
  }

  /** Axes in a new drawing. Returns the drawing, its scales x and y, its size and its edges.

      xs, ys: [low, high]. same: one unit on both axes. label: the drawing in words.
      holder: of this drawing, where a figure has several (`panels`). */
  function axes(box, { xs, ys, xlabel, ylabel, label, height = 300, same = false, xticks, yformat, holder }) {
    const place = holder || box.figure;
    const width = Math.max(260, place.clientWidth || 560);
    const edge = { left: 50, right: 14, top: 26, bottom: 42 };
    place.innerHTML = "";
    const svg = d3.select(place).append("svg")
      .attr("width", width).attr("height", height)
      .attr("role", "img").attr("aria-label", label);
    const x = d3.scaleLinear(xs, [edge.left, width - edge.right]);
    const y = d3.scaleLinear(ys, [height - edge.bottom, edge.top]);
    if (same) {
      const per = Math.max(
        (xs[1] - xs[0]) / (width - edge.left - edge.right),
        (ys[1] - ys[0]) / (height - edge.top - edge.bottom));
      const widen = (scale, [low, high], pixels) =>
        scale.domain([(low + high - per * pixels) / 2, (low + high + per * pixels) / 2]);
      widen(x, xs, width - edge.left - edge.right);
      widen(y, ys, height - edge.top - edge.bottom);
    }
    const across = d3.axisBottom(x).tickSizeOuter(0);
    if (xticks) across.tickValues(xticks).tickFormat(d3.format("~g"));
    else across.ticks(Math.min(8, width / 70));
    const up = d3.axisLeft(y).ticks(5).tickSize(-(width - edge.left - edge.right));
    if (yformat) up.tickFormat(yformat);
    svg.append("g").attr("class", "explorable-axis explorable-grid")
      .attr("transform", `translate(${edge.left},0)`).call(up);
    svg.append("g").attr("class", "explorable-axis")
      .attr("transform", `translate(0,${height - edge.bottom})`).call(across);
    svg.append("text").attr("x", width - edge.right).attr("y", height - 6)
      .attr("text-anchor", "end").text(xlabel);
    svg.append("text").attr("x", 4).attr("y", 14).text(ylabel);
    return { svg, x, y, width, height, edge };
  }

  /** So many holders in the figure, one below the other, made once. */
  function panels(box, count) {
    while (box.figure.children.length < count) {
      box.figure.appendChild(document.createElement("div"));
    }
    return [...box.figure.children];
  }

  /** A line through (xs, ys) in the look of an adapter; points whose y is null are left out. */
  function line(plot, look, xs, ys, { marks = true, faint = false } = {}) {
    const points = d3.zip(xs, ys).filter(([, y]) => y !== null);
    plot.svg.append("path")
      .attr("d", d3.line(([x]) => plot.x(x), ([, y]) => plot.y(y))(points))
      .attr("fill", "none").attr("stroke", look.colour)
      .attr("stroke-width", faint ? 0.9 : 2).attr("opacity", faint ? 0.55 : 1);
    if (marks && !faint) for (const [x, y] of points) dot(plot, look, x, y, 36);
  }

  /** A mark of an adapter at (x, y). */
  function dot(plot, look, x, y, size = 80) {
    const path = mark(plot.svg.append("path"), look, size);
    return path.attr("transform", moved(plot.x(x), plot.y(y), path.node()));
  }

  /** A level of chance, [low, ..., high], as a grey band over the whole width. */
  function chanceBand(plot, level) {
    const [low, high] = [level[0], level[level.length - 1]].map(plot.y);
    plot.svg.append("rect").attr("class", "chance")
      .attr("x", plot.edge.left).attr("width", plot.width - plot.edge.left - plot.edge.right)
      .attr("y", high).attr("height", Math.max(1.5, low - high));
  }

  /** An upright line at x. */
  function cursor(plot, x) {
    plot.svg.append("line").attr("class", "explorable-cursor")
      .attr("x1", plot.x(x)).attr("x2", plot.x(x))
      .attr("y1", plot.edge.top).attr("y2", plot.height - plot.edge.bottom);
  }

  /** The span of all numbers, null left out, with a little room around it. */
  function span(values, room = 0.06) {
    const [low, high] = d3.extent(values.filter((v) => v !== null));
    const more = (high - low || 1) * room;
    return [low - more, high + more];
  }

  function start() {
    for (const place of document.querySelectorAll("[data-explorable]")) {
      const name = place.dataset.explorable;
      const data = place.querySelector("script[type='application/json']");
      if (!data || !figures[name]) continue;
      const held = JSON.parse(data.textContent);
      const box = makeBox(place.querySelector(".explorable-stage"), name, held);
      box.setDraw(figures[name](box));
      let width = box.figure.clientWidth;
      new ResizeObserver(() => {
        if (box.figure.clientWidth !== width) { width = box.figure.clientWidth; box.redraw(); }
      }).observe(box.figure);
    }
  }

  return {
    register: (name, make) => { figures[name] = make; },
    start, axes, panels, line, dot, chanceBand, cursor, span,
  };
})();
