// What agents work with.

import { read } from "../api.js";
import { badge, empty, h, section, table } from "../dom.js";

const EFFECTS = { read: "", write: "warn", external: "accent" };
const APPROVALS = { never: "", once: "once per conversation", always: "each time" };

export function catalog(place) {
  let shown = "";
  return async () => {
    const [agents, models, tools, skills] = await Promise.all(
      ["/agents", "/models", "/tools", "/skills"].map((path) => read(path)),
    );
    const said = JSON.stringify([agents, models, tools, skills]);
    if (said === shown) return;
    shown = said;
    place.replaceChildren(
      section(
        "Agents",
        table(
          "Agents",
          [["Name", ""], ["Model", ""], ["For", "wide"]],
          agents.agents.map((each) => [h("strong", {}, each.name), each.model, each.description]),
        ),
      ),
      section(
        "Models",
        table(
          "Models",
          [["Name", ""], ["Default of", "wide"]],
          models.models.map((each) => [each.name, each.agents.join(", ")]),
        ),
      ),
      section(
        "Tools",
        table(
          "Tools",
          [["Name", ""], ["Effect", ""], ["Approval", ""], ["What it does", "wide"]],
          tools.tools.map((each) => [
            h("code", {}, each.name),
            badge(each.effect, EFFECTS[each.effect]),
            APPROVALS[each.approval],
            each.description.split("\n")[0],
          ]),
        ),
      ),
      section(
        "Skills",
        skills.skills.length
          ? table(
              "Skills",
              [["Name", ""], ["For", "wide"]],
              skills.skills.map((each) => [h("code", {}, each.name), each.description]),
            )
          : empty("There are no skills."),
        skills.invalid.map((text) => h("p", { class: "reason" }, text)),
      ),
    );
  };
}
