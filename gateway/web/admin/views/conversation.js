// One conversation, of any channel: what people wrote and what they were answered, as it grows.

import { renderMarkdown } from "/page/markdown.js";

import { read, send, watch, write } from "../api.js";
import { badge, button, empty, h } from "../dom.js";
import { moment } from "../format.js";

const STATES = {
  waiting: "queued",
  refused: "refused",
  withdrawn: "deleted",
  failed: "failed",
  stopped: "stopped",
  undelivered: "not delivered",
};

export function conversation(place, { act, argument: id }) {
  const path = `/conversations/${encodeURIComponent(id)}`;
  const log = h("div", { class: "transcript", "data-testid": "transcript" });
  const more = h("p", { class: "fine", hidden: true }, "There are earlier messages.");
  const words = h("input", {
    type: "text",
    "aria-label": "Message to this conversation",
    placeholder: "Write into this conversation",
    "data-testid": "words",
  });
  const compose = h(
    "form",
    {
      class: "line steer",
      onsubmit: (event) => {
        event.preventDefault();
        if (!words.value.trim()) return;
        act(event.submitter ?? words, async () => {
          await write(id, "messages", { text: words.value });
          words.value = "";
        }, "Sent.");
      },
    },
    words,
    h("button", { type: "submit", class: "small primary" }, "Send"),
    button("Stop", (event) => act(event.currentTarget, () => send(`${path}/stop`), stopped), {
      class: "small danger",
      "data-testid": "stop-here",
    }),
  );
  place.append(more, log, compose);

  const close = watch(`${path}/events`, (snapshot) => {
    more.hidden = !snapshot.more;
    log.replaceChildren(...(snapshot.items.length ? snapshot.items.map(item) : [empty("Nothing was said here.")]));
    const scroller = document.getElementById("scroller");
    if (!words.matches(":focus")) scroller.scrollTop = scroller.scrollHeight;
  });
  return { refresh: () => read("/session"), close };
}

export function stopped(said) {
  return said.turn ? `Stopped: ${said.task}` : "Nothing was running.";
}

function item(each) {
  return each.kind === "message" ? message(each) : reply(each.reply);
}

function message(each) {
  const state = STATES[each.state];
  return h(
    "article",
    { class: "said" },
    h("p", { class: "by" }, h("strong", {}, each.sender.name || each.sender.id), " ", moment(each.sent_at), each.schedule && [" ", badge(`scheduled task ${each.schedule}`)]),
    h("p", { class: "words" }, each.text),
    each.files.map(file),
    state && h("p", {}, badge(state, each.state === "waiting" ? "" : "warn"), " ", h("span", { class: "soft" }, each.reason)),
  );
}

function reply(each) {
  return h(
    "article",
    { class: "answered" },
    each.segments.map(segment),
    each.status && h("p", { class: "soft" }, each.status),
    h(
      "p",
      {},
      !each.done && [badge(each.parked ? "waits for people" : "running", each.parked ? "warn" : "accent"), " "],
      h("a", { class: "soft", href: `#trace/${encodeURIComponent(each.id)}`, "data-testid": "to-trace" }, "Trace"),
    ),
  );
}

function segment(each) {
  switch (each.kind) {
    case "text":
      return markdown(each.markdown, each.secondary ? "secondary" : "");
    case "media":
      return h("div", {}, file(each.attachment), markdown(each.caption));
    case "question":
      return h("div", { class: "asked" }, markdown(each.question), h("p", { class: "soft" }, each.answer || each.options.join(" · ")));
    case "call":
      return h("p", { class: "called" }, badge(each.state), " ", h("code", {}, each.name), " ", each.title);
    default:
      return null;
  }
}

function file(each) {
  return h("p", { class: "called" }, badge(each.media_type), " ", each.name);
}

function markdown(text, kind = "") {
  const container = h("div", { class: `markdown ${kind}` });
  if (text) renderMarkdown(container, text);
  return container;
}
