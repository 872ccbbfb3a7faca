// What runs, what waits for people or to be read, what was not delivered, and what is scheduled.

import { renderMarkdown } from "/page/markdown.js";

import { read, send, write } from "../api.js";
import { badge, button, empty, h, keyed, section } from "../dom.js";
import { ago, count, dollars, moment, plural } from "../format.js";
import { stopped } from "./conversation.js";

const WAITS = { approval: "approval", answer: "an answer", results: "results" };

export function now(place, { act, refresh }) {
  const tiles = h("dl", { class: "tiles", "data-testid": "tiles" });
  const trouble = h("div", { "data-testid": "trouble" });
  const lists = {
    running: list("running", "Nothing runs at the moment."),
    parked: list("parked", "Nothing waits for people."),
    queues: list("queues", "No message waits to be read."),
    schedules: list("schedules", "Nothing is scheduled."),
    undelivered: list("undelivered", "Every reply was delivered."),
  };
  place.append(
    tiles,
    trouble,
    section("Running", ...lists.running.nodes),
    section("Waiting for people", ...lists.parked.nodes),
    section("Queues", ...lists.queues.nodes),
    section("Undelivered replies", ...lists.undelivered.nodes),
    section("Scheduled tasks", ...lists.schedules.nodes),
  );

  return async () => {
    const [state, { decisions }, undelivered, channels, { schedules }] = await Promise.all([
      read("/now"),
      read("/decisions"),
      read("/undelivered"),
      read("/channels"),
      read("/schedules"),
    ]);
    keyed(tiles, numbers(state), ([name]) => name, tile);
    keyed(trouble, channels.channels.filter((each) => !each.works), (each) => each.name, troubled);
    const asked = new Map(decisions.map((each) => [each.turn, each]));
    const active = state.running.map((each) => ({ ...each, decision: asked.get(each.turn) ?? null }));
    lists.running.show(active, (each) => each.turn, (each) => running(each, act));
    const parked = state.parked.map((each) => ({ ...each, decision: asked.get(each.turn) ?? null }));
    lists.parked.show(parked, (each) => each.turn, (each) => waiting(each, act));
    lists.queues.show(state.queues, (each) => each.place.conversation, queue);
    lists.schedules.show(schedules, (each) => each.id, (each) => scheduled(each, act));
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
          await write(turn.place.conversation, "steer", { text: words.value });
          words.value = "";
          steer.hidden = true;
          words.blur();
        }, "Sent.");
      },
    },
    words,
    h("button", { type: "submit", class: "small primary" }, "Send"),
  );
  const stop = () => send(`/conversations/${encodeURIComponent(turn.place.conversation)}/stop`);
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
    turn.decision && question(turn.decision),
    h(
      "div",
      { class: "acts" },
      turn.decision && options(turn.decision, act),
      !turn.delegated &&
        turn.kind === "turn" && [
          button("Stop", (event) => act(event.currentTarget, stop, stopped), {
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
    decision && question(decision),
    h("div", { class: "acts" }, decision && options(decision, act), open(turn.place)),
  );
}

function question(decision) {
  const container = h("div", { class: "asked markdown", tabindex: "0", role: "group", "aria-label": "What is asked" });
  renderMarkdown(container, decision.question);
  return container;
}

function options(decision, act) {
  const decide = (option) => send(`/decisions/${encodeURIComponent(decision.id)}`, { option });
  return decision.options.map((text, option) =>
    button(text, (event) => act(event.currentTarget, () => decide(option), `${text}: decided.`), { "data-testid": "option" }),
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

function scheduled(each, act) {
  const cancel = (event) => {
    const path = `/conversations/${encodeURIComponent(each.conversation)}/schedules/${encodeURIComponent(each.id)}`;
    act(event.currentTarget, () => send(path, null, "DELETE"), "It is cancelled.");
  };
  return h(
    "li",
    { class: "card slim" },
    h("span", { class: "grow" }, each.task, h("span", { class: "soft reason" }, each.conversation)),
    h("span", { class: "soft", title: each.owner.id }, each.owner.name || each.owner.id),
    h("span", {}, moment(each.due)),
    each.cron && badge(each.cron),
    button("Cancel", cancel, { class: "small danger", "data-testid": "cancel-schedule" }),
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

// The chat page shows conversations of the web channel, this one those of all.
function open(place) {
  return h("a", { class: "small", href: `#conversation/${encodeURIComponent(place.conversation)}`, "data-testid": "open" }, "Open");
}
