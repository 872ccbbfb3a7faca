// The audit log.

import { read } from "../api.js";
import { badge, empty, h, table } from "../dom.js";
import { moment } from "../format.js";

const COLOURS = { refused: "warn", denied: "warn", revoked: "bad", deleted: "bad", undelivered: "bad", admitted: "good", approved: "good" };

export function audit(place, { refresh }) {
  const kind = h(
    "select",
    { id: "kind", onchange: refresh, "data-testid": "kind" },
    h("option", { value: "" }, "everything"),
  );
  const content = h("div", { "data-testid": "audit" });
  place.append(h("div", { class: "line" }, h("label", { for: "kind" }, "Show"), kind), content);

  let shown = "";
  return async () => {
    const found = await read(`/audit?limit=300${kind.value ? `&event=${kind.value}` : ""}`);
    const said = JSON.stringify([found, kind.value]);
    if (said === shown) return;
    shown = said;
    if (kind.options.length === 1) kind.append(...found.kinds.map((name) => h("option", { value: name }, name.replace("_", " "))));
    content.replaceChildren(
      found.events.length
        ? table("Audit log", [["When", ""], ["What", ""], ["Who", ""], ["Details", "wide"]], found.events.map(row))
        : empty("Nothing of the kind in the last 30 days."),
    );
  };
}

function row(event) {
  return [
    moment(event.at),
    badge(event.event.replace("_", " "), COLOURS[event.event] ?? ""),
    h("span", { title: event.actor }, event.name || event.actor || "gateway"),
    h("span", { class: "details" }, words(event)),
  ];
}

function words(event) {
  const parts = Object.entries(event.detail)
    .filter(([, value]) => value !== "" && value !== null && !(Array.isArray(value) && !value.length))
    .map(([name, value]) => `${name.replace("_", " ")}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
  if (event.conversation) parts.push(event.conversation);
  return parts.join(" · ");
}
