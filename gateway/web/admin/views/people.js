// Who may write to the bot, who asks for it, and who was refused.

import { read, send } from "../api.js";
import { badge, button, empty, h, keyed, section } from "../dom.js";
import { ago, duration, plural } from "../format.js";

const LISTS = { admin: "admin", member: "member", guest: "guest", allow: "allowlist" };

export function people(place, { act, managesPeople }) {
  const lists = {
    requests: list("requests", "Nobody asks for access."),
    paired: list("paired", "Nobody has access by pairing."),
    listed: list("listed", "The settings list nobody."),
    refused: list("refused", "Nobody was refused."),
  };
  place.append(
    section("Requests", ...lists.requests.nodes),
    section("Access by pairing", ...lists.paired.nodes),
    section("In the settings", ...lists.listed.nodes),
    section("Refused lately", ...lists.refused.nodes),
  );

  return async () => {
    const found = await read("/people");
    lists.requests.show(found.requests, (each) => request(each, managesPeople && act));
    lists.paired.show(found.paired, (each) => paired(each, managesPeople && act));
    lists.listed.show(found.listed, listed);
    lists.refused.show(found.refused, refused);
  };
}

function list(name, nothing) {
  const items = h("ul", { class: "cards", "data-testid": name });
  const none = empty(nothing);
  const show = (found, make) => {
    keyed(items, found, (each) => `${each.channel}:${each.list ?? ""}:${each.user ?? each.id}`, make);
    none.hidden = found.length > 0;
    items.hidden = found.length === 0;
  };
  return { nodes: [items, none], show };
}

function request(each, act) {
  const left = (Date.parse(each.expires_at) - Date.now()) / 1000;
  return row(
    each,
    h("span", { class: "soft" }, `for another ${duration(left)}`),
    act &&
      button(
        "Admit",
        (event) => act(event.currentTarget, () => send("/people/pair", { code: each.code }), `${each.name} may write now.`),
        { class: "small primary", "data-testid": "pair" },
      ),
  );
}

function paired(each, act) {
  const body = { channel: each.channel, id: each.id };
  return row(
    each,
    act &&
      button(
        "Revoke",
        (event) => {
          if (!confirm(`Take back the access of ${each.name || each.id}? What runs for them is stopped.`)) return;
          act(event.currentTarget, () => send("/people/revoke", body), `${each.name || each.id} may no longer write.`);
        },
        { class: "small danger", "data-testid": "revoke" },
      ),
  );
}

function listed(each) {
  const known = each.name || each.id;
  const name = each.user === "*" ? "everybody" : each.user;
  const whom = known && each.user !== "*" ? h("span", { class: "soft" }, ` is ${known} (${each.id})`) : null;
  const open = each.user.startsWith("@") && !known ? h("span", { class: "soft" }, " is not known yet") : null;
  return h(
    "li",
    { class: "card slim" },
    h("span", { class: "grow" }, name, whom, open),
    badge(each.channel),
    badge(LISTS[each.list], each.list === "admin" ? "accent" : ""),
  );
}

function refused(each) {
  return row(
    each,
    h("span", {}, plural(each.messages, "message")),
    h("span", { class: "soft" }, "last ", ago(each.last_at), " ago"),
  );
}

function row(each, ...more) {
  return h(
    "li",
    { class: "card slim" },
    h("span", { class: "grow" }, each.name || each.id, " ", h("span", { class: "soft" }, each.id)),
    badge(each.channel),
    ...more,
  );
}
