// What runs, what waits for people, what waits to be read, and what was not delivered.

import { read, send } from "../api.js";
import { badge, button, empty, h, keyed, section } from "../dom.js";
import { ago, count, dollars, moment, plural } from "../format.js";

const WAITS = { approval: "approval", answer: "an answer", results: "results" };

export function now(place, { act, refresh }) {
  const tiles = h("dl", { class: "tiles", "data-testid": "tiles" });
  const trouble = h("div", { "data-testid": "trouble" });
  const lists = {
    running: list("running", "Nothing runs at the moment."),
    parked: list("parked", "Nothing waits for people."),
    queues: list("queues", "No message waits to be read."),
    undelivered: list("undelivered", "Every reply was delivered."),
  };
  place.append(
    tiles,
    trouble,
    section("Running", ...lists.running.nodes),
    section("Waiting for people", ...lists.parked.nodes),
    section("Queues", ...lists.queues.nodes),
    section("Undelivered replies", ...lists.undelivered.nodes),
  );

  return async () => {
    const [state, decisions, undelivered, channels] = await Promise.all([
      read("/now"),
      read("/decisions").then((found) => found.decisions, () => []),
      read("/undelivered"),
      read("/channels"),
    ]);
    keyed(tiles, numbers(state), ([name]) => name, tile);
    keyed(trouble, channels.channels.filter((each) => !each.works), (each) => each.name, troubled);
    lists.running.show(state.running, (each) => each.turn, (each) => running(each, act));
    const asked = new Map(decisions.map((each) => [each.turn, each]));
    const parked = state.parked.map((each) => ({ ...each, decision: asked.get(each.turn) ?? null }));
    lists.parked.show(parked, (each) => each.turn, (each) => waiting(each, act));
    lists.queues.show(state.queues, (each) => each.place.conversation, queue);
    lists.undelivered.show(undelivered.replies, (each) => each.id, (each) => lost(each, act));
  };
}

function list(name, nothing) {
  const items = h("ul", { class: "cards", "data-testid": name });
  const none = empty(nothing);
  const show = (found, keyOf, make) => {
    keyed(items, found, keyOf, make);
    none.hidden = found.length > 0;
    items.hidden = found.length === 0;
  };
  return { nodes: [items, none], show };
}

function numbers(state) {
  const queued = state.queues.reduce((sum, each) => sum + each.messages, 0);
  return [
    ["Running", count(state.running.length), ""],
    ["Waiting for people", count(state.parked.length), state.parked.length ? "warn" : ""],
    ["Queued messages", count(queued), ""],
    ["Undelivered", count(state.undelivered), state.undelivered ? "bad" : ""],
    ["Cost today", dollars(state.cost_today), ""],
  ];
}

function tile([name, value, kind]) {
  return h("div", { class: `tile ${kind}` }, h("dt", {}, name), h("dd", {}, value));
}

function troubled(channel) {
  return h("p", { class: "trouble", role: "alert" }, h("strong", {}, channel.name), " ", channel.problem);
}

function running(turn, act) {
  const doing = turn.tools.length ? turn.tools.map((name) => h("code", {}, name)) : ["the model is answering"];
  const words = h("input", {
    type: "text",
    placeholder: "Say something to the running turn",
    "aria-label": `Message to ${where(turn.place)}`,
    "data-testid": "steer-text",
  });
  const steer = h(
    "form",
    {
      class: "line steer",
      hidden: true,
      onsubmit: (event) => {
        event.preventDefault();
        if (!words.value.trim()) return;
        act(event.submitter ?? words, async () => {
          await say(turn.place, "steer", { text: words.value });
          words.value = "";
          steer.hidden = true;
          words.blur();
        }, "Sent.");
      },
    },
    words,
    h("button", { type: "submit", class: "small primary" }, "Send"),
  );
  const stop = () => say(turn.place, "messages", { text: "/stop", as: "command" });
  return h(
    "li",
    { class: "card" },
    h("div", { class: "head" }, h("span", { class: "pulse", "aria-hidden": "true" }), ...head(turn)),
    h(
      "p",
      { class: "facts" },
      fact(h("span", {}, "step ", count(turn.step), ": ", doing)),
      fact(turn.agent),
      turn.model && fact(turn.model),
      fact(h("span", {}, "for ", ago(turn.since))),
      fact(dollars(turn.cost)),
    ),
    h(
      "div",
      { class: "acts" },
      !turn.delegated &&
        turn.kind === "turn" && [
          button("Stop", (event) => act(event.currentTarget, stop, "Stopped."), {
            class: "small danger",
            "data-testid": "stop",
          }),
          button("Steer", () => {
            steer.hidden = !steer.hidden;
            if (!steer.hidden) words.focus();
          }, { "data-testid": "steer" }),
        ],
      open(turn.place),
    ),
    steer,
  );
}

// Writes there, in the name of whoever is signed in. Raises if it is refused.
async function say(place, how, body) {
  const path = `/conversations/${encodeURIComponent(place.conversation)}/${how}`;
  const sent = await send(path, { client_id: newId(), ...body });
  if (sent.state === "refused") throw new Error(sent.reason);
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function waiting(turn, act) {
  const decision = turn.decision;
  return h(
    "li",
    { class: "card" },
    h("div", { class: "head" }, badge(WAITS[turn.waits_for] ?? "people", "warn"), ...head(turn)),
    h(
      "p",
      { class: "facts" },
      fact(h("span", {}, "asked by ", h("code", {}, turn.asked_by || "the agent"))),
      fact(h("span", {}, "since ", ago(turn.since))),
      turn.deadline && fact(h("span", {}, "until ", moment(turn.deadline))),
      fact(dollars(turn.cost)),
    ),
    decision && h("pre", { class: "asked" }, decision.text ?? decision.question ?? ""),
    h(
      "div",
      { class: "acts" },
      (decision?.options ?? []).map((option, number) =>
        button(typeof option === "string" ? option : option.label, (event) =>
          act(event.currentTarget, () => send(`/decisions/${decision.id}`, { option: number }), "Decided."),
        { "data-testid": "option" }),
      ),
      open(turn.place),
    ),
  );
}

function queue(each) {
  return h(
    "li",
    { class: "card slim" },
    h("span", { class: "grow" }, where(each.place)),
    badge(each.place.channel),
    h("span", {}, plural(each.messages, "message")),
    h("span", { class: "soft" }, "oldest ", ago(each.oldest)),
  );
}

function lost(reply, act) {
  return h(
    "li",
    { class: "card slim" },
    h("span", { class: "grow" }, where(reply.place), h("span", { class: "soft reason" }, reply.reason)),
    badge(reply.place.channel),
    h("span", { class: "soft" }, ago(reply.at), " ago"),
    button("Redeliver", (event) =>
      act(event.currentTarget, () => send(`/undelivered/${reply.id}/redeliver`), "It is being sent again."),
    { "data-testid": "redeliver" }),
  );
}

function head(turn) {
  return [
    h("strong", { class: "grow" }, where(turn.place)),
    turn.delegated && badge("delegated"),
    badge(turn.place.channel),
    h("span", { class: "soft", title: turn.person.id }, turn.person.name || turn.person.id),
  ];
}

function where(place) {
  return place.title || place.conversation;
}

function fact(content) {
  return h("span", {}, content);
}

// The chat page shows conversations of the web channel.
function open(place) {
  const [channel, , chat] = place.conversation.split(":");
  if (channel !== "web" || !chat) return null;
  return h("a", { class: "small", href: `/#${chat}` }, "Open");
}
