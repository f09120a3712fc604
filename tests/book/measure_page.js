// What tests/book/browser.py asks of a page: each function returns what is wrong, in words.
"use strict";

window.measurePage = (() => {
  /** The text of the page; the index and the search have no article. */
  const article = () => document.querySelector("article.bd-article") || document.querySelector("main");
  const shown = (element) => element.checkVisibility() && element.getClientRects().length > 0;
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)].filter(shown);
  const scrolls = (style) => ["auto", "scroll"].includes(style.overflowX);

  /** An element in so many words that a person finds it. */
  function name(element) {
    const near = element.closest("[id]");
    const words = (element.getAttribute("alt") || element.textContent || "").trim();
    return `${element.localName} in #${near ? near.id : "?"} (${words.replace(/\s+/g, " ").slice(0, 50)})`;
  }

  /** Of the ancestors, the first that cuts a box off on the right; null where all of it can be seen. */
  function cutBy(element) {
    const { left, right } = element.getBoundingClientRect();
    for (let outer = element.parentElement; outer && outer !== document.body; outer = outer.parentElement) {
      const style = getComputedStyle(outer);
      const edge = outer.getBoundingClientRect();
      if (scrolls(style)) return left < edge.left - 1 && outer.scrollLeft === 0 ? outer : null;
      if (style.overflowX !== "visible" && (right > edge.right + 1 || left < edge.left - 1)) return outer;
    }
    return right > document.scrollingElement.clientWidth + 1 ? document.body : null;
  }

  /** Everything that is folded away becomes visible. */
  function unfold() {
    document.querySelectorAll("main details").forEach((fold) => { fold.open = true; });
    document.querySelectorAll("main .toggle-hidden").forEach((fold) => fold.classList.remove("toggle-hidden"));
  }

  function sideways() {
    const { scrollWidth, clientWidth } = document.scrollingElement;
    if (scrollWidth <= clientWidth) return [];
    const wide = all("body *").filter((e) => cutBy(e) === document.body && !e.querySelector("*"));
    return [`${scrollWidth} px wide on a screen of ${clientWidth}: ${wide.slice(0, 3).map(name).join("; ")}`];
  }

  function formulas() {
    const faults = all("mjx-merror").map((e) => `MathJax refuses ${name(e)}`);
    for (const bare of all("main .math")) {
      if (!bare.querySelector("mjx-container")) faults.push(`not drawn: ${name(bare)}`);
    }
    for (const box of all("main mjx-container")) {
      const drawn = box.querySelector("mjx-math").getBoundingClientRect();
      const edge = box.getBoundingClientRect();
      const said = name(box.closest(".math") || box);
      if (cutBy(box)) faults.push(`cut off on the right by ${name(cutBy(box))}: ${said}`);
      if (!box.hasAttribute("display")) {
        const frame = box.closest(".math").getBoundingClientRect();
        const whole = drawn.top >= frame.top - 1 && drawn.bottom <= frame.bottom + 1;
        if (!whole) faults.push(`cut off above or below: ${said}`);
        continue;
      }
      if (drawn.right > edge.right + 1 && !scrolls(getComputedStyle(box))) faults.push(`runs out of its box: ${said}`);
      if (drawn.left < edge.left - 1) faults.push(`cut off on the left: ${said}`);
      if (drawn.top < edge.top - 1 || box.scrollHeight > box.clientHeight + 1) {
        faults.push(`cut off above or below: ${said}`);
      }
      const number = box.parentElement.querySelector(":scope > .eqno");
      if (!number) continue;
      const at = number.getBoundingClientRect();
      const beside = at.left >= edge.right - 1 || at.right <= edge.left + 1;
      const apart = at.top >= edge.bottom - 1 || at.bottom <= edge.top + 1;
      if (!beside && !apart) faults.push(`lies under its number: ${said}`);
    }
    return faults;
  }

  /** narrow: on a screen where a picture must have the whole width of the text. */
  function images(narrow) {
    const faults = [];
    for (const image of all("img", article())) {
      const { width } = image.getBoundingClientRect();
      const column = image.parentElement.getBoundingClientRect().width;
      if (!image.complete || image.naturalWidth === 0) faults.push(`broken: ${image.src}`);
      if (!image.alt.trim()) faults.push(`no alternative text: ${image.src}`);
      const vector = image.src.endsWith(".svg") || image.src.startsWith("data:image/svg");
      if (!vector && width > 1.05 * image.naturalWidth) faults.push(`blown up: ${name(image)}`);
      if (cutBy(image)) faults.push(`cut off: ${name(image)}`);
      if (narrow && width < column - 1) faults.push(`${width} px wide in a column of ${column}: ${name(image)}`);
    }
    return faults;
  }

  function headings() {
    const levels = all("h1, h2, h3, h4, h5, h6", article());
    const faults = levels.filter((h) => h.localName === "h1").length === 1 ? [] : ["not one h1"];
    levels.forEach((heading, i) => {
      const before = i ? +levels[i - 1].localName[1] : 0;
      if (+heading.localName[1] > before + 1) faults.push(`${heading.localName} after h${before}: ${name(heading)}`);
    });
    return faults;
  }

  /** Where the first press of Tab leads: to a link over all that stands before the text. */
  function firstTab() {
    const at = document.activeElement;
    const { top, height } = at.getBoundingClientRect();
    if (at.getAttribute("href") !== "#main-content") return [`the first Tab leads to ${name(at)}`];
    return top >= 0 && height > 0 ? [] : ["the link to the text does not show when it has the focus"];
  }

  /** After a press of Tab. What has the focus must differ to the eye from what has not. */
  function focus() {
    const looks = (element) => {
      const found = [];
      for (const one of [element, element.parentElement, ...element.querySelectorAll("*")]) {
        const s = getComputedStyle(one);
        const line = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0;
        found.push(line ? s.outline : "", s.boxShadow, s.backgroundColor, s.borderColor, s.transform);
      }
      return found.join();
    };
    const asked = "a[href], button, input, select, textarea, summary, [tabindex='0']";
    const faults = [];
    for (const element of all(asked)) {
      if (element.closest("svg")) continue;
      document.activeElement.blur();
      const before = looks(element);
      element.focus();
      if (document.activeElement !== element) continue;
      if (looks(element) === before) faults.push(`focus does not show: ${name(element)}`);
    }
    document.activeElement.blur();
    return faults;
  }

  /** Of an element: ink, ground, size and weight of its text, which decide the contrast. */
  function looks() {
    const grounds = new Map([[null, ""]]);
    const ground = (element) => {
      if (!grounds.has(element)) {
        const { backgroundColor, backgroundImage, opacity } = getComputedStyle(element);
        const own = [backgroundColor, backgroundImage, opacity].join();
        const opaque = backgroundColor.startsWith("rgb(") && opacity === "1";
        grounds.set(element, opaque ? own : `${own}/${ground(element.parentElement)}`);
      }
      return grounds.get(element);
    };
    return (element) => {
      const { color, fontSize, fontWeight } = getComputedStyle(element);
      return [color, fontSize, fontWeight, ground(element)].join();
    };
  }

  /** Takes away all texts but the first of each look, for one speaks for all; returns what puts them
      back. Formulas go, too: style sheets draw their signs, which axe-core cannot see. */
  function takeRepeated() {
    const look = looks();
    const seen = new Set();
    const taken = [...document.body.querySelectorAll("mjx-container")];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const text = walk.currentNode;
      const holder = text.parentElement;
      if (!text.data.trim() || holder.closest("mjx-container") || !shown(holder)) continue;
      const key = look(holder);
      if (seen.has(key)) taken.push(holder.matches("span") && holder.childNodes.length === 1 ? holder : text);
      seen.add(key);
    }
    const holes = taken.map(() => document.createComment(""));
    taken.forEach((node, i) => node.replaceWith(holes[i]));
    return () => holes.forEach((hole, i) => hole.replaceWith(taken[i]));
  }

  /** axe-core's grave findings, each place in words: of colours alone, or of all else. */
  async function axeFinds(colours) {
    const rule = "color-contrast";
    const putBack = colours ? takeRepeated() : () => {};
    const { violations } = await axe.run(document, {
      resultTypes: ["violations"],
      iframes: false,
      preload: false, // it would ask for style sheets, which no page from a folder may do
      ...(colours ? { runOnly: [rule] } : { rules: { [rule]: { enabled: false } } }),
    });
    putBack();
    return violations
      .filter(({ impact }) => ["serious", "critical"].includes(impact))
      .flatMap(({ id, impact, nodes }) => nodes.map(({ target, failureSummary }) =>
        `${id} (${impact}): ${target.flat().join(" ")}: ${failureSummary.replace(/\s+/g, " ")}`));
  }

  const places = () => ({
    links: [...document.links].map((link) => link.href),
    ids: [...document.querySelectorAll("[id]")].map((element) => element.id),
    files: [...document.images].map((image) => image.src),
  });

  return { unfold, sideways, formulas, images, headings, firstTab, focus, axeFinds, places };
})();
