// Formulas: shown as they are written until the gateway has made MathML of them, which the browser typesets.

import { request } from "./client.js";

const MATHML = "http://www.w3.org/1998/Math/MathML";
const MAX_BATCH = 100;
const MAX_KNOWN = 1000;
const ATTRIBUTES = new Set([
  "accent", "columnalign", "columnspacing", "depth", "display", "displaystyle", "fence", "form", "height", "largeop",
  "linethickness", "lspace", "mathvariant", "maxsize", "minsize", "movablelimits", "notation", "rowspacing", "rspace",
  "scriptlevel", "separator", "stretchy", "symmetric", "width",
]);

const known = new Map();
let waiting = [];

/** The node of a formula: `source` is what was written, `tex` the same without its delimiters. */
export function typeset(source, tex, display) {
  const node = document.createElement("code");
  node.className = "tex";
  node.textContent = source;
  const key = `${display} ${tex}`;
  if (known.has(key)) return known.get(key)?.cloneNode(true) ?? node;
  if (!waiting.length) setTimeout(askForAll, 0);
  waiting.push({ node, tex, display, key });
  return node;
}

async function askForAll() {
  const [batch, rest] = [waiting.slice(0, MAX_BATCH), waiting.slice(MAX_BATCH)];
  waiting = rest;
  if (rest.length) setTimeout(askForAll, 0);
  const formulas = batch.map(({ tex, display }) => ({ tex, display }));
  const answer = await request("/page/formulas", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ formulas }),
  }).catch(() => null); // as written is readable too
  if (!answer) return;
  if (known.size > MAX_KNOWN) known.clear();
  batch.forEach(({ node, key }, number) => {
    const math = answer.mathml[number] && parsed(answer.mathml[number], node.textContent);
    known.set(key, math || null);
    if (math) node.replaceWith(math.cloneNode(true));
  });
}

/** The MathML as nodes: known elements and attributes only, as what is in it comes from a model. */
function parsed(text, source) {
  const root = new DOMParser().parseFromString(text, "text/html").body.firstElementChild;
  if (root?.namespaceURI !== MATHML || root.localName !== "math") return null;
  const math = copied(root);
  math.setAttribute("title", source);
  return math;
}

function copied(node) {
  if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(node.data);
  if (node.namespaceURI !== MATHML || !/^m[a-z]+$/.test(node.localName)) return document.createTextNode(node.textContent);
  const copy = document.createElementNS(MATHML, node.localName);
  for (const { name, value } of node.attributes) if (ATTRIBUTES.has(name)) copy.setAttribute(name, value);
  copy.append(...[...node.childNodes].map(copied));
  return copy;
}
