// What was used and what it cost, as charts.

import { read } from "../api.js";
import { bars, ranking } from "../chart.js";
import { empty, h, section } from "../dom.js";
import { count, dollars, short } from "../format.js";

const DAY = 86_400_000;
const RANGES = [7, 30, 90];
const BY = [
  ["person", "By person"],
  ["conversation", "By conversation"],
  ["model", "By model"],
  ["channel", "By channel"],
];
const MOST = 8;

const MEASURES = {
  cost: ["Cost", (totals) => totals.cost, dollars],
  tokens: ["Tokens", (totals) => totals.input + totals.output, short],
  calls: ["Model calls", (totals) => totals.calls, count],
};

export function usage(place, { refresh }) {
  const chosen = { days: 30, measure: "cost" };
  const content = h("div", { class: "stack" });
  const choose = (name, value) => () => {
    chosen[name] = value;
    refresh();
  };
  place.append(
    h(
      "div",
      { class: "line choices" },
      choices("Time", RANGES.map((days) => [days, `${days} days`]), chosen.days, (days) => choose("days", days)()),
      choices("Measure", Object.entries(MEASURES).map(([key, [name]]) => [key, name]), chosen.measure, (key) =>
        choose("measure", key)(),
      ),
    ),
    content,
  );

  let shown = "";
  return async () => {
    const since = new Date(Math.floor(Date.now() / DAY) * DAY - (chosen.days - 1) * DAY);
    const path = (by) => `/usage?by=${by}&since=${encodeURIComponent(since.toISOString())}`;
    const [byDay, ...rest] = await Promise.all([read(path("day")), ...BY.map(([by]) => read(path(by)))]);
    const said = JSON.stringify([byDay, rest, chosen]);
    if (said === shown) return;
    shown = said;
    draw(content, chosen, since, byDay, rest);
  };
}

function draw(content, chosen, since, byDay, rest) {
  const [name, value, show] = MEASURES[chosen.measure];
  const known = new Map(byDay.rows.map((row) => [row.key, value(row.totals)]));
  const days = Array.from({ length: chosen.days }, (_, at) => new Date(since.getTime() + at * DAY).toISOString().slice(0, 10));
  const points = days.map((day) => [day, known.get(day) ?? 0]);
  const total = byDay.total;
  content.replaceChildren(
    h(
      "dl",
      { class: "tiles" },
      tile("Cost", dollars(total.cost)),
      tile("Model calls", count(total.calls)),
      tile("Input tokens", short(total.input)),
      tile("Output tokens", short(total.output)),
      tile("From the cache", total.input ? `${Math.round((100 * total.cache_read) / total.input)}%` : "0%"),
    ),
    total.unpriced
      ? h("p", { class: "fine" }, "The price of some calls is not known: they count as free.")
      : "",
    section(`${name} by day`, bars(`${name} by day`, points, show)),
    h(
      "div",
      { class: "columns" },
      BY.map(([, title], at) => {
        const rows = rest[at].rows.map((row) => [row.key, row.name, value(row.totals)]).sort((a, b) => b[2] - a[2]);
        return section(title, rows.length ? ranking(title, rows.slice(0, MOST), show) : empty("Nothing was used."));
      }),
    ),
  );
}

function tile(name, value) {
  return h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value));
}

function choices(label, options, first, chosen) {
  return h(
    "fieldset",
    { class: "choices" },
    h("legend", { class: "unseen" }, label),
    options.map(([value, name]) =>
      h(
        "label",
        {},
        h("input", { type: "radio", name: label, checked: value === first, onchange: () => chosen(value) }),
        h("span", {}, name),
      ),
    ),
  );
}
