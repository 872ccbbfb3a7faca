// Charts as SVG, drawn from numbers: bars over days, and bars beside names. Each has its numbers as a table too.

import { h, svg, table } from "./dom.js";

const WIDTH = 760;
const HEIGHT = 200;
const LEFT = 56;
const BOTTOM = 24;
const TOP = 12;

// `points` are [label, value]; `show` puts a value into words.
export function bars(label, points, show) {
  const top = ceiling(Math.max(...points.map(([, value]) => value), 0));
  const room = (WIDTH - LEFT) / Math.max(points.length, 1);
  const height = (value) => (top ? ((HEIGHT - BOTTOM - TOP) * value) / top : 0);
  const width = Math.min(Math.max(room * 0.72, 2), 44);
  const every = Math.max(1, Math.ceil(points.length / 8));
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": label },
    [0, 0.5, 1].map((share) => line(top * share, HEIGHT - BOTTOM - height(top * share), show)),
    points.map(([name, value], at) => {
      const x = LEFT + room * at + (room - width) / 2;
      const tall = Math.max(height(value), value ? 2 : 0);
      return svg(
        "g",
        {},
        svg("title", {}, `${name}: ${show(value)}`),
        svg("rect", { class: "reach", x: LEFT + room * at, y: TOP, width: room, height: HEIGHT - BOTTOM - TOP }),
        svg("rect", { class: "bar", x, y: HEIGHT - BOTTOM - tall, width, height: tall, rx: Math.min(3, width / 3) }),
        at % every === 0
          ? svg("text", { class: "axis", x: x + width / 2, y: HEIGHT - 7, "text-anchor": "middle" }, day(name))
          : null,
      );
    }),
  );
  return h("figure", { class: "drawn" }, drawing, numbers(label, points, show));
}

// `rows` are [key, name, value], the largest first.
export function ranking(label, rows, show) {
  const most = Math.max(...rows.map(([, , value]) => value), 0);
  return h(
    "ol",
    { class: "ranking", "aria-label": label },
    rows.map(([key, name, value]) =>
      h(
        "li",
        {},
        h("span", { class: "name", title: key }, name || key),
        h("span", { class: "value" }, show(value)),
        svg(
          "svg",
          { viewBox: "0 0 100 4", preserveAspectRatio: "none", class: "share", "aria-hidden": "true" },
          svg("rect", { class: "reach", x: 0, y: 0, width: 100, height: 4 }),
          svg("rect", { class: "bar", x: 0, y: 0, width: most ? Math.max((100 * value) / most, 0.5) : 0, height: 4 }),
        ),
      ),
    ),
  );
}

function line(value, y, show) {
  return svg(
    "g",
    {},
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y, y2: y }),
    svg("text", { class: "axis", x: LEFT - 8, y: y + 4, "text-anchor": "end" }, show(value)),
  );
}

function numbers(label, points, show) {
  const rows = points.filter(([, value]) => value).map(([name, value]) => [name, show(value)]);
  return h("details", {}, h("summary", {}, "As a table"), table(label, [["Day", ""], ["", "number"]], rows));
}

function day(name) {
  return new Date(`${name}T00:00:00Z`).toLocaleDateString("en-US", { month: "short", day: "numeric", timeZone: "UTC" });
}

// The next round number: 1, 2 or 5 times a power of ten.
function ceiling(value) {
  if (!value) return 0;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
