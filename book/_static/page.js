// Two things that the theme leaves undone on every page. It runs before the theme's own scripts.
"use strict";

// A reader who has chosen no colours yet has those of the system: the theme expects a mode to be set.
if (!document.documentElement.dataset.mode) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  Object.assign(document.documentElement.dataset, { mode: "auto", theme: dark ? "dark" : "light" });
}

// What scrolls sideways is reached by Tab, so that arrow keys can scroll it. The theme sees to code,
// tables and outputs alone, and not again when a fold opens. And it is said, where a part is hidden.
document.addEventListener("DOMContentLoaded", () => {
  const text = document.querySelector("main");
  const boxes = "figure, table, pre, .math, mjx-container, .cell_output > .output, [class*=scrollable]";
  const mark = () => {
    for (const formula of text.querySelectorAll("span.math")) { // an accent may stick out, too
      formula.classList.toggle("long", formula.scrollWidth > formula.clientWidth + 8);
    }
    for (const box of text.querySelectorAll(boxes)) {
      const wide = box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX === "auto";
      if (wide) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
      box.classList.toggle("goes-on", wide);
    }
  };
  const mathjax = window.MathJax && window.MathJax.startup;
  if (mathjax) mathjax.promise.then(mark); // formulas are wide when they are drawn
  new ResizeObserver(mark).observe(text); // another window, a fold that opened, a figure redrawn
});
