// The processes that work on the database: who holds what, and the end of one.

import { read, send } from "../api.js";
import { badge, button, empty, h, keyed, section } from "../dom.js";
import { ago, count, plural } from "../format.js";

const STATES = { works: "good", draining: "warn", dead: "bad" };

export function workers(place, { act }) {
  const list = h("ul", { class: "cards", "data-testid": "workers" });
  const refused = empty("");
  place.append(section("Workers", list, refused));

  return async () => {
    const { workers } = await read("/workers").catch((refusal) => {
      // Who operates one channel only.
      if (refusal.status !== 403) throw refusal;
      refused.textContent = refusal.message;
      return { workers: [] };
    });
    refused.hidden = workers.length > 0;
    const working = workers.filter((each) => each.state === "works").length;
    const shown = workers.map((each) => ({ ...each, drains: each.state === "works" && working > 1 }));
    keyed(list, shown, (each) => each.id, (each) => worker(each, act));
  };
}

function worker(each, act) {
  const drain = (event) => {
    const text = `End the worker on ${each.host}? Others go on with its work, and it is started again only if its supervisor does that.`;
    if (confirm(text)) {
      act(event.currentTarget, () => send(`/workers/${encodeURIComponent(each.id)}/drain`), ({ turns }) =>
        turns ? `It ends after ${plural(turns, "running turn")}.` : "It ends.",
      );
    }
  };
  return h(
    "li",
    { class: "card" },
    h(
      "div",
      { class: "head" },
      h("strong", { class: "grow", title: each.id }, `${each.host}, process ${each.pid}`),
      each.asked && h("span", { class: "soft" }, "this page is from it"),
      badge(each.state, STATES[each.state]),
    ),
    h(
      "p",
      { class: "facts" },
      h("span", {}, `${plural(each.turns, "turn")} of at most ${count(each.room)}`),
      h("span", {}, "since ", ago(each.since)),
      h("span", {}, `version ${each.version}`),
      each.lease !== null && h("span", {}, `lease ${Math.round(each.lease)} s`),
      each.connectors.length > 0 && h("span", {}, "listens on ", each.connectors.join(", ")),
    ),
    each.drains && h("div", { class: "acts" }, button("Drain", drain, { class: "small danger", "data-testid": "drain" })),
  );
}
