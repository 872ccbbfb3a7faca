// The operator page: sections by the address's hash, kept up to date by the events of the API.

import { follow, read, signOut } from "./api.js";
import { h } from "./dom.js";
import { tick } from "./format.js";
import { signIn } from "./sign_in.js";
import { audit } from "./views/audit.js";
import { catalog } from "./views/catalog.js";
import { channels } from "./views/channels.js";
import { conversation } from "./views/conversation.js";
import { log } from "./views/log.js";
import { now } from "./views/now.js";
import { people } from "./views/people.js";
import { settings } from "./views/settings.js";
import { trace } from "./views/trace.js";
import { usage } from "./views/usage.js";
import { workers } from "./views/workers.js";

// Each view: its title, the scope that it needs, and `open(place, tools)`, which fills the place and returns `refresh`, or
// also `close` to leave it.
const VIEWS = {
  now: ["Now", "operate", now],
  channels: ["Channels", "operate", channels],
  workers: ["Workers", "operate", workers],
  people: ["People", "operate", people],
  usage: ["Usage and cost", "operate", usage],
  catalog: ["Agents and tools", "operate", catalog],
  audit: ["Audit", "operate", audit],
  settings: ["Settings", "admin", settings],
  log: ["Log", "admin", log],
  conversation: ["Conversation", "operate", conversation],
  trace: ["Trace", "operate", trace],
};
const UNLISTED = ["conversation", "trace"];

const SCOPES = ["read", "chat", "operate", "admin"];
const PAUSE = 1000; // milliseconds between two refreshes, whatever happens
const SLOW = 10_000; // without an event
const FAST = 2_000; // without a stream of events, and for the log, which has none
const ON_EVENTS = ["now", "channels", "people"]; // the others are refreshed in time

const at = (id) => document.getElementById(id);
const state = { view: "", refresh: null, close: null, scope: "read", managesPeople: false, live: false, due: null, busy: false, again: false };

async function start() {
  addEventListener("hashchange", show);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  at("sign-out").addEventListener("click", leave);
  setInterval(tick, 1000);
  await enter();
}

async function enter() {
  if (location.pathname === "/sign-in") return lock();
  try {
    const caller = await read("/session");
    state.scope = caller.scope;
    state.managesPeople = caller.manages_people;
    at("who").textContent = caller.name;
    at("sign-out").hidden = false;
  } catch (refusal) {
    if (refusal.status === 401) return lock();
    connected("off", refusal.message);
    setTimeout(enter, FAST);
    return;
  }
  list();
  show();
  follow(happened, (now) => {
    state.live = now === "on";
    connected(now, now === "on" ? "live" : "no live connection: trying again");
  });
  later();
}

function lock() {
  connected("locked", "not signed in");
  at("title").textContent = "Sign in";
  at("views").replaceChildren();
  at("view").replaceChildren(signIn(() => location.assign("/admin")));
}

async function leave() {
  await signOut().catch(() => null);
  location.reload();
}

function may(scope) {
  return SCOPES.indexOf(state.scope) >= SCOPES.indexOf(scope);
}

function list() {
  const seen = Object.entries(VIEWS).filter(([name, [, scope]]) => may(scope) && !UNLISTED.includes(name));
  at("views").replaceChildren(
    ...seen.map(([name, [title]]) => h("li", {}, h("a", { href: `#${name}`, "data-testid": `to-${name}` }, title))),
  );
}

function show() {
  const [wanted, argument = ""] = location.hash.slice(1).split("/");
  if (!may("operate")) {
    at("title").textContent = "Operations";
    at("view").replaceChildren(h("p", { class: "empty" }, "This page is for admins. You are signed in to the API."));
    return;
  }
  const name = VIEWS[wanted] && may(VIEWS[wanted][1]) ? wanted : "now";
  const view = `${name}/${argument}`;
  if (view === state.view) return;
  state.close?.();
  state.view = view;
  const [title, , open] = VIEWS[name];
  at("title").textContent = title;
  document.title = `${title} · Interject`;
  for (const link of at("views").querySelectorAll("a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = h("div", { class: `view ${name}` });
  at("view").replaceChildren(place);
  at("scroller").scrollTop = 0;
  const opened = open(place, { act, refresh, managesPeople: state.managesPeople, argument: decodeURIComponent(argument) });
  state.refresh = opened.refresh ?? opened;
  state.close = opened.close ?? null;
  refresh();
}

// One refresh runs at a time; what is asked for meanwhile follows it.
async function refresh() {
  if (state.busy) {
    state.again = true;
    return;
  }
  state.busy = true;
  const asked = state.refresh;
  try {
    await asked?.();
    if (!state.live) connected("on", "up to date");
  } catch (refusal) {
    if (refusal.status === 401) return location.reload();
    connected("off", refusal.message);
  } finally {
    state.busy = false;
  }
  if (state.again || asked !== state.refresh) {
    state.again = false;
    soon();
  }
}

function happened() {
  if (ON_EVENTS.includes(state.view.split("/")[0])) soon();
}

function soon() {
  if (state.due !== null) return;
  state.due = setTimeout(() => {
    state.due = null;
    if (!document.hidden) refresh();
  }, PAUSE);
}

function later() {
  setTimeout(
    () => {
      if (!document.hidden) refresh();
      later();
    },
    state.live && !state.view.startsWith("log/") ? SLOW : FAST,
  );
}

// Does something, says what came of it, and shows the new state.
async function act(button, work, done) {
  button.disabled = true;
  try {
    const said = await work();
    notice(typeof done === "function" ? done(said) : done);
  } catch (refusal) {
    notice(refusal.message, "bad");
  } finally {
    button.disabled = false;
    refresh();
  }
}

let hiding = null;

function notice(text, kind = "good") {
  at("notice").textContent = text;
  at("notice").dataset.kind = kind;
  at("notice").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (at("notice").hidden = true), 6000);
}

function connected(kind, text) {
  at("connection").dataset.state = kind;
  at("connection").textContent = text;
}

start();
