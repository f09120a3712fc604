// Called by workflow/pdf.py. Screen and paper have one layout, so what is measured here holds there.

/** Wait for all formulas, fonts and images, and set what is wider than the page smaller. */
async function bookReady() {
  if (document.readyState !== "complete")
    await new Promise((loaded) => addEventListener("load", loaded, { once: true }));
  await MathJax.startup.promise;
  await document.fonts.ready;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const told = (element) => {
    const page = element.closest(".chapter");
    const text = element.textContent.trim().replace(/\s+/g, " ");
    return `${page ? page.id : "front"}: ${text.slice(0, 60)}`;
  };
  // What MathJax took for no formula, for a faulty one, or (in red) for one with an unknown name.
  const faults = all(".math:not(:has(mjx-container)), mjx-merror, mjx-mtext[style*='color: red']");
  for (const image of document.images) {
    const { naturalWidth: wide, naturalHeight: high } = image;
    const width = image.src.endsWith(".svg") ? DRAWING : wide * FIGURE;
    image.style.width = `${Math.min(width, (TALLEST * wide) / high)}px`;
  }
  const measured = [...all("mjx-container[display]"), ...all("table")];
  const wide = measured.filter((element) => !fit(element, element.parentElement.clientWidth));
  const missing = [...document.images].filter((image) => !image.naturalWidth);
  await name();
  return {
    formulas: all("img.tex").map((clear) => clear.alt),
    faults: faults.map(told),
    missing: missing.map((image) => image.src),
    wide: wide.map(told),
  };
}

const FIGURE = 0.72; // of a figure's pixels: its letters are then as large as a caption's
const DRAWING = 400; // pixels: a drawing has no size of its own
const TALLEST = 480; // pixels: half a page
const LEAST = 0.6; // of the size of its letters: a table is not set smaller
const SPARE = 0.97; // letters are a little wider on paper than on a screen

/** Set an element smaller until it has the width (pixels); false if its letters would be too small. */
function fit(element, width) {
  const number = element.parentElement.querySelector(":scope > .eqno");
  const room = SPARE * (width - (number ? number.offsetWidth : 0));
  const size = parseFloat(getComputedStyle(element).fontSize);
  for (let share = 1; share >= LEAST; share -= 0.05) {
    if (share < 1) element.style.setProperty("font-size", `${share * size}px`, "important");
    if (natural(element) <= room) return true;
  }
  return false;
}

/** The least width that an element can have, in pixels. */
function natural(element) {
  if (element.tagName !== "TABLE")
    return element.querySelector("mjx-math").getBoundingClientRect().width;
  element.style.width = "min-content";
  const width = element.offsetWidth;
  element.style.width = "";
  return width;
}

/**
 * A screen reader says a formula as its TeX. Glyphs of MathJax are content of style sheets, which no
 * tag of a PDF holds: so a clear picture lies over them, and has the TeX as its text.
 */
async function name() {
  for (const { math, typesetRoot } of MathJax.startup.document.math) {
    typesetRoot.querySelector("mjx-assistive-mml")?.remove();
    const clear = new Image();
    clear.src = CLEAR;
    clear.alt = math.trim().replace(/\s+/g, " ");
    clear.className = "tex";
    typesetRoot.append(clear);
    await clear.decode();
  }
}

const CLEAR = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

/** Write the page numbers: {anchor: page}. */
function setPages(pages) {
  for (const place of document.querySelectorAll(".page-of"))
    place.textContent = pages[place.dataset.of] ?? "";
}
