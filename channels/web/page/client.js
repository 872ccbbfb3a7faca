// The page's client of the HTTP API (docs/reference/http-api.md): one stream of events in, messages out until they are accepted.

const API = "/api/v1";
const FIRST_DELAY = 500;
const MAX_DELAY = 10_000;
const READ_TIMEOUT = 40_000; // the gateway pings every 15 s
const EVENTS = ["snapshot", "reset", "message", "message.state", "reply", "reply.changed", "conversation.changed", "ping"];
const INVISIBLE = ["new", "stop", "answer"]; // commands that are not shown as messages

export class Refused extends Error {}
export class SignInRequired extends Error {}
export class NotFound extends Refused {}
class Unavailable extends Error {}

/** The JSON answer of the API, see `request`. */
export function ask(path, options = {}) {
  return request(API + path, options);
}

/** The JSON answer. Throws `SignInRequired` without a valid cookie, `Refused` when a retry is useless, or any other error. */
export async function request(url, options = {}) {
  const answer = await fetch(url, options);
  if (answer.ok) return answer.json();
  const message = await answer.json().then((body) => body.detail ?? body.error, () => answer.statusText);
  if (answer.status === 401) throw new SignInRequired(message);
  if (answer.status === 404) throw new NotFound(message);
  if (answer.status >= 400 && answer.status < 500 && ![408, 429].includes(answer.status)) throw new Refused(message);
  throw new Unavailable(message);
}

/** The path of a conversation in the API. */
export function pathOf(chat) {
  return `/conversations/${encodeURIComponent(chat)}`;
}

/** The address of a file that a message or reply of the conversation shows. */
export function fileUrl(chat, { hash, name }) {
  return `${API}${pathOf(chat)}/files/${hash}/${encodeURIComponent(name.replace(/^\.+$/, "file"))}`;
}

/** A delay in ms that grows with the attempts, with jitter, so that many pages do not reconnect at once. */
export function backOff(attempt) {
  return Math.min(MAX_DELAY, FIRST_DELAY * 2 ** attempt) * (0.75 + Math.random() / 2);
}

/**
 * Watches one conversation until closed. `handle(event)` gets the events. A connection after a lost one goes on after
 * the last event, or begins with a snapshot, which replaces all: nothing is lost or repeated. `report(state, seconds)`
 * gets "connecting", "on", "off" (with the seconds until the next attempt) or "locked".
 */
export class Stream {
  constructor(chat, handle, report) {
    this.chat = chat;
    this.handle = handle;
    this.report = report;
    this.attempt = 0;
    this.lastId = "";
    this.open();
  }

  open() {
    this.stopWaiting();
    this.report("connecting");
    this.isOn = false;
    const after = this.lastId ? `?after=${encodeURIComponent(this.lastId)}` : "";
    this.source = new EventSource(`${API}${pathOf(this.chat)}/events${after}`);
    for (const type of EVENTS) this.source.addEventListener(type, (event) => this.received(event));
    this.source.addEventListener("error", () => this.broken());
    this.watch();
  }

  /** Each connection begins with an event. */
  received(event) {
    this.watch();
    this.lastId = event.lastEventId || this.lastId;
    if (!this.isOn) {
      this.isOn = true;
      this.attempt = 0;
      this.report("on");
    }
    this.handle(JSON.parse(event.data));
  }

  watch() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.broken(), READ_TIMEOUT);
  }

  async broken() {
    const source = this.source;
    this.close();
    const delay = backOff(this.attempt);
    this.attempt += 1;
    this.report("off", Math.ceil(delay / 1000));
    this.retry = setTimeout(() => this.open(), delay);
    try {
      await ask("/session");
    } catch (error) {
      if (!(error instanceof SignInRequired) || this.source !== source) return;
      this.close();
      this.report("locked");
    }
  }

  /** Reconnects at once if it is waiting to. */
  retryNow() {
    if (this.retry) this.open();
  }

  stopWaiting() {
    clearTimeout(this.retry);
    this.retry = null;
  }

  close() {
    this.stopWaiting();
    clearTimeout(this.watchdog);
    this.source.close();
  }
}

/**
 * Unsent messages: sent one after another, each retried with the same id until the gateway answers.
 * Their texts survive a reload; their files do not.
 */
export class Outbox {
  constructor(changed) {
    this.changed = changed;
    this.messages = JSON.parse(sessionStorage.getItem("outbox") ?? "[]");
    this.sending = new Set();
  }

  /** Messages of a conversation that are not known to be accepted, oldest first. */
  of(chat) {
    return this.messages.filter((message) => message.chat === chat);
  }

  add(chat, text, files) {
    const names = files.map((file) => file.name);
    this.messages.push({ client_id: newId(), chat, text, names, at: new Date().toISOString(), state: "sending", reason: "", files });
    this.save();
    this.send(chat);
  }

  remove(message) {
    this.messages = this.messages.filter((each) => each !== message);
    this.save();
  }

  /** The gateway has stored these. */
  settle(clientIds) {
    const known = new Set(clientIds);
    if (!this.messages.some((message) => known.has(message.client_id))) return;
    this.messages = this.messages.filter((message) => !known.has(message.client_id));
    this.save();
  }

  async send(chat) {
    if (this.sending.has(chat)) return;
    this.sending.add(chat);
    try {
      for (let next = this.next(chat); next; next = this.next(chat)) await this.deliver(next);
    } finally {
      this.sending.delete(chat);
    }
  }

  next(chat) {
    return this.of(chat).find((message) => message.state === "sending" || message.state === "retrying");
  }

  async deliver(message) {
    for (let attempt = 0; this.messages.includes(message); attempt += 1) {
      try {
        const { state, reason, id, command } = await ask(`${pathOf(message.chat)}/messages`, { method: "POST", body: form(message) });
        this.update(message, { state: state === "refused" ? state : "waiting", reason, id });
        if (INVISIBLE.includes(command)) this.remove(message);
        return;
      } catch (error) {
        if (error instanceof Refused) {
          this.update(message, { state: "unsent", reason: error.message });
          return;
        }
        const delay = backOff(attempt);
        this.update(message, { state: "retrying", reason: error instanceof SignInRequired || error instanceof Unavailable ? error.message : "" });
        await new Promise((resolve) => {
          this.wake = resolve;
          setTimeout(resolve, delay);
        });
      }
    }
  }

  retryNow() {
    this.wake?.();
  }

  update(message, change) {
    Object.assign(message, change);
    this.save();
  }

  save() {
    sessionStorage.setItem("outbox", JSON.stringify(this.messages.map(({ files, ...kept }) => kept)));
    this.changed();
  }
}

/** Stops the running task of the conversation. */
export function stop(chat) {
  return press(chat, "/stop");
}

/** Chooses an option, counted from 0, of an open question. */
export function answer(chat, question, option) {
  return press(chat, `/answer ${question} ${option}`);
}

/** A button press is one event: it is retried with the same id until the gateway answers. */
async function press(chat, command) {
  const body = JSON.stringify({ client_id: newId(), text: command, as: "command" });
  for (let attempt = 0; attempt < 5; attempt += 1) {
    try {
      const accepted = await ask(`${pathOf(chat)}/messages`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
      if (accepted.state === "refused") throw new Refused(accepted.reason);
      return;
    } catch (error) {
      if (error instanceof Refused || error instanceof SignInRequired) throw error;
      await new Promise((resolve) => setTimeout(resolve, backOff(attempt)));
    }
  }
  throw new Error("Gateway not reachable.");
}

export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function form(message) {
  const data = new FormData();
  data.append("client_id", message.client_id);
  data.append("text", message.text);
  for (const file of message.files ?? []) data.append("files", file, file.name);
  return data;
}
