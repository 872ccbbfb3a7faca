// How a turn went: what happened when, on one scale of time.

import { read } from "../api.js";
import { h, svg } from "../dom.js";

const WORDS = {
  read: "read",
  model: "model",
  charge: "cost",
  tool: "tool",
  approval: "approval",
  event: "event",
  send: "shown",
  hook: "hook",
  task: "background",
};

export function trace(place, { argument: id }) {
  let shown = "";
  return async () => {
    const found = await read(`/turns/${encodeURIComponent(id)}/trace`);
    const said = JSON.stringify(found);
    if (said === shown) return;
    shown = said;
    place.replaceChildren(
      h("p", { class: "summary" }, found.summary),
      h("p", { class: "summary" }, h("a", { href: `#conversation/${encodeURIComponent(found.conversation)}` }, "The conversation")),
      h("ol", { class: "waterfall", "data-testid": "waterfall" }, found.rows.map((row) => line(row, found.end))),
    );
  };
}

function line(row, end) {
  return h(
    "li",
    { class: row.kind },
    h("span", { class: "time" }, row.at === null ? "" : seconds(row.at)),
    h("span", { class: "what" }, WORDS[row.kind] ?? row.kind),
    h("span", { class: "label" }, row.label),
    h("span", { class: "time" }, row.seconds === null ? "" : seconds(row.seconds)),
    row.at !== null && bar(row.at, row.seconds ?? 0, end),
  );
}

function bar(from, length, end) {
  const scale = end ? 1000 / end : 0;
  return svg(
    "svg",
    { viewBox: "0 0 1000 6", preserveAspectRatio: "none", class: "share", "aria-hidden": "true" },
    svg("rect", { class: "reach", x: 0, y: 0, width: 1000, height: 6 }),
    svg("rect", { class: "bar", x: Math.min(from * scale, 996), y: 0, width: Math.max(length * scale, 4), height: 6 }),
  );
}

function seconds(value) {
  return value < 10 ? `${value.toFixed(2)} s` : `${Math.round(value)} s`;
}
