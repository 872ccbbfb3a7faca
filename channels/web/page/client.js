// The page's client of the HTTP API: one stream of events in, messages out until they are accepted.

const FIRST_DELAY = 500;
const MAX_DELAY = 10_000;
const READ_TIMEOUT = 40_000; // the gateway pings every 15 s
const INVISIBLE = /^\/(new|stop|answer)(\s|$)/i; // commands that are not shown as messages

export class Refused extends Error {}
export class SignInRequired extends Error {}
class Unavailable extends Error {}

/** The JSON answer. Throws `SignInRequired` without a valid cookie, `Refused` when a retry is useless, or any other error. */
export async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer.json();
  const message = await answer.json().then((body) => body.error, () => answer.statusText);
  if (answer.status === 401) throw new SignInRequired(message);
  if (answer.status >= 400 && answer.status < 500 && ![408, 429].includes(answer.status)) throw new Refused(message);
  throw new Unavailable(message);
}

/** A delay in ms that grows with the attempts, with jitter, so that many pages do not reconnect at once. */
export function backOff(attempt) {
  return Math.min(MAX_DELAY, FIRST_DELAY * 2 ** attempt) * (0.75 + Math.random() / 2);
}

/**
 * Watches one conversation until closed. `handle(name, data)` gets the events: on every connection first
 * `history`, which replaces all, so a lost connection loses and repeats nothing. `report(state, seconds)` gets
 * "connecting", "on", "off" (with the seconds until the next attempt) or "locked".
 */
export class Stream {
  constructor(chat, handle, report) {
    this.chat = chat;
    this.handle = handle;
    this.report = report;
    this.attempt = 0;
    this.open();
  }

  open() {
    this.stopWaiting();
    this.report("connecting");
    this.source = new EventSource(`/api/conversations/${this.chat}/events`);
    for (const name of ["history", "reply", "change", "message", "status", "ping"]) {
      this.source.addEventListener(name, (event) => this.received(name, event));
    }
    this.source.addEventListener("error", () => this.broken());
    this.watch();
  }

  received(name, event) {
    this.watch();
    if (name === "history") {
      this.attempt = 0;
      this.report("on");
    }
    if (name !== "ping") this.handle(name, JSON.parse(event.data));
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
      await ask("/api/conversations");
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
        const answer = await ask(`/api/conversations/${message.chat}/messages`, { method: "POST", body: form(message) });
        this.update(message, { state: answer.state, reason: answer.reason, id: answer.id });
        if (INVISIBLE.test(message.text)) this.remove(message);
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
  return press(chat, "stop", {});
}

/** Chooses an option, counted from 0, of an open question. */
export function answer(chat, question, option) {
  return press(chat, "answer", { question, option });
}

/** A button press is one event: it is retried with the same id until the gateway answers. */
async function press(chat, button, fields) {
  const body = JSON.stringify({ client_id: newId(), ...fields });
  for (let attempt = 0; attempt < 5; attempt += 1) {
    try {
      const accepted = await ask(`/api/conversations/${chat}/${button}`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
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
