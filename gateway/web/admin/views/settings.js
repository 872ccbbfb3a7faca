// The settings in force, without secrets.

import { read, send } from "../api.js";
import { badge, button, empty, h, table } from "../dom.js";

export function settings(place, { act, refresh }) {
  const find = h("input", {
    type: "search",
    "aria-label": "Find a setting",
    placeholder: "Find a setting",
    oninput: () => draw(),
    "data-testid": "find-setting",
  });
  const all = h("input", { type: "checkbox", id: "all", onchange: () => draw() });
  const content = h("div", { "data-testid": "settings" });
  place.append(
    h(
      "div",
      { class: "line" },
      find,
      h("label", { for: "all", class: "check" }, all, " with defaults"),
      button("Reload", (event) => act(event.currentTarget, () => send("/reload"), (said) => said.text), {
        "data-testid": "reload",
        title: "What was edited takes effect without a restart",
      }),
    ),
    content,
  );

  let known = [];
  let shown = "";
  const draw = () => {
    const wanted = find.value.trim().toLowerCase();
    const rows = known.filter((each) => (all.checked || !each.is_default) && `${each.key} ${each.value}`.toLowerCase().includes(wanted));
    content.replaceChildren(
      rows.length
        ? table(
            "Settings",
            [["Setting", ""], ["Value", "wide"]],
            rows.map((each) => [h("code", {}, each.key), [value(each), each.is_default ? badge("default") : null]]),
          )
        : empty("No setting matches."),
    );
  };
  return async () => {
    const found = await read("/settings");
    const said = JSON.stringify(found);
    if (said === shown) return;
    shown = said;
    known = found.settings;
    draw();
  };
}

function value(each) {
  return h("span", { class: "setting" }, each.value || "–", " ");
}
