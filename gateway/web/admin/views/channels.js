// Channels and the other parts that may be in trouble.

import { read } from "../api.js";
import { badge, empty, h, keyed, section } from "../dom.js";
import { plural } from "../format.js";

const STATES = { running: "good", starting: "", down: "bad", signed_out: "warn", personal: "" };
const WORDS = { running: "running", starting: "starting", down: "down", signed_out: "not signed in", personal: "per person" };

export function channels(place) {
  const own = h("ul", { class: "cards", "data-testid": "channels" });
  const servers = h("ul", { class: "cards", "data-testid": "servers" });
  const none = empty("There are no MCP servers.");
  const parts = h("ul", { class: "cards" });
  const others = section("Other parts in trouble", parts);
  place.append(section("Channels", own), section("MCP servers", servers, none), others);

  return async () => {
    const [found, mcp] = await Promise.all([read("/channels"), read("/mcp-servers")]);
    keyed(own, found.channels, (each) => each.name, channel);
    keyed(servers, mcp.servers, (each) => each.name, server);
    none.hidden = mcp.servers.length > 0;
    const known = new Set(mcp.servers.map((each) => `MCP server ${each.name}`));
    const rest = Object.entries(found.parts).filter(([name]) => !known.has(name));
    keyed(parts, rest, ([name]) => name, part);
    others.hidden = rest.length === 0;
  };
}

function channel(each) {
  return h(
    "li",
    { class: "card" },
    h(
      "div",
      { class: "head" },
      h("strong", { class: "grow" }, each.name),
      !each.people && h("span", { class: "soft" }, "the owner's"),
      each.works ? badge("works", "good") : badge("trouble", "bad"),
    ),
    each.problem && h("p", { class: "reason" }, each.problem),
  );
}

function server(each) {
  return h(
    "li",
    { class: "card" },
    h(
      "div",
      { class: "head" },
      h("strong", { class: "grow" }, each.name),
      each.state === "running" && h("span", { class: "soft" }, plural(each.tools, "tool")),
      badge(WORDS[each.state], STATES[each.state]),
    ),
    each.problems.map((problem) => h("p", { class: "reason" }, problem)),
  );
}

function part([name, problem]) {
  return h("li", { class: "card" }, h("strong", {}, name), h("p", { class: "reason" }, problem));
}
