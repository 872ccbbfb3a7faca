// The last lines of the gateway's log.

import { read } from "../api.js";
import { empty, h, keyed } from "../dom.js";

const LEVELS = { all: 0, warning: 2, error: 3 };
const RANK = { debug: 0, info: 1, warning: 2, error: 3, critical: 4 };

export function log(place, { refresh }) {
  const least = h(
    "select",
    { id: "level", onchange: refresh, "data-testid": "level" },
    h("option", { value: "all" }, "everything"),
    h("option", { value: "warning" }, "warnings and errors"),
    h("option", { value: "error" }, "errors"),
  );
  const lines = h("ol", { class: "lines", "data-testid": "lines" });
  const none = empty("Nothing was logged since the start.");
  place.append(h("div", { class: "line" }, h("label", { for: "level" }, "Show"), least), lines, none);

  return async () => {
    const found = await read("/logs");
    const seen = found.lines.filter((line) => (RANK[line.level] ?? 1) >= LEVELS[least.value]);
    const scroller = document.getElementById("scroller");
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    keyed(lines, seen.map((line, at) => ({ ...line, at_line: `${line.at}/${at}` })), (line) => line.at_line, row);
    none.hidden = seen.length > 0;
    lines.hidden = seen.length === 0;
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  };
}

function row(line) {
  const at = new Date(line.at);
  return h(
    "li",
    { class: line.level },
    h("time", { datetime: line.at, title: at.toLocaleString() }, at.toLocaleTimeString()),
    h("span", { class: "level" }, line.level),
    h("span", { class: "logger" }, line.logger),
    h("span", { class: "text" }, line.text),
  );
}
