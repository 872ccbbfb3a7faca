// Elements and texts. Nothing here interprets text as HTML: what people and models have written is only ever text.

const SVG = "http://www.w3.org/2000/svg";

// h("button", {class: "small", onclick: stop}, "Stop"): children are nodes, texts, or nothing (null, false).
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Shows one child of the parent for each item, by its key. A child whose item says the same as before stays untouched,
// and so does one in which somebody is writing.
export function keyed(parent, items, keyOf, make) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const key = String(keyOf(item));
    const said = JSON.stringify(item);
    const known = before.get(key);
    if (known && (known.dataset.said === said || isWritten(known))) return known;
    const made = make(item);
    made.dataset.key = key;
    made.dataset.said = said;
    if (known?.contains(document.activeElement)) focusAgain(known, made);
    return made;
  });
  if (wanted.length === parent.children.length && wanted.every((child, at) => parent.children[at] === child)) return;
  parent.replaceChildren(...wanted);
}

function isWritten(element) {
  return element.contains(document.activeElement) && document.activeElement.matches("input, textarea");
}

// The control that had the focus has it in the new element too.
function focusAgain(before, made) {
  const name = document.activeElement.getAttribute("data-testid");
  if (name) queueMicrotask(() => made.querySelector(`[data-testid="${name}"]`)?.focus());
}

// A table whose rows are `rows`, each a list of cells; `columns` are [title, class].
export function table(label, columns, rows) {
  return h(
    "div",
    { class: "table", role: "region", "aria-label": `Table: ${label}`, tabindex: "0" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)))),
      h(
        "tbody",
        {},
        rows.map((cells) => h("tr", {}, cells.map((cell, at) => h("td", { class: columns[at][1] }, cell ?? "")))),
      ),
    ),
  );
}

export function section(title, ...content) {
  return h("section", { class: "block" }, h("h2", {}, title), ...content);
}

export function empty(text) {
  return h("p", { class: "empty" }, text);
}

export function badge(text, kind = "") {
  return h("span", { class: `badge ${kind}` }, text);
}

export function button(text, onclick, props = {}) {
  return h("button", { type: "button", class: "small", onclick, ...props }, text);
}
