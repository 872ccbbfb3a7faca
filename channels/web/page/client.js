// The page's line to the gateway: one stream of events in, messages out until they are accepted.

const FIRST_DELAY = 500;
const LONGEST_DELAY = 10_000;
const SILENCE = 40_000; // the gateway pings every 15 s
const UNTOLD = /^\/(new|stop|answer)(\s|$)/i; // commands that show by what they do

export class Refused extends Error {}
export class LockedOut extends Error {}
class Unavailable extends Error {}

/** Answers JSON. Raises `LockedOut` without a valid cookie, `Refused` when trying again is no use, or any other error. */
export async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer.json();
  const words = await answer.json().then((body) => body.error, () => answer.statusText);
  if (answer.status === 401) throw new LockedOut(words);
  if (answer.status >= 400 && answer.status < 500 && ![408, 429].includes(answer.status)) throw new Refused(words);
  throw new Unavailable(words);
}

/** A delay in ms that grows with the attempts, with jitter, so that many pages do not return in one wave. */
export function backOff(attempt) {
  return Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** attempt) * (0.75 + Math.random() / 2);
}

/**
 * Watches one conversation until closed. `hear(name, data)` gets the events: on every connection first
 * `history`, which replaces all, so nothing is lost or doubled by a broken line. `tell(state, seconds)` gets
 * "connecting", "on", "off" (with the seconds until the next attempt) or "locked".
 */
export class Stream {
  constructor(chat, hear, tell) {
    this.chat = chat;
    this.hear = hear;
    this.tell = tell;
    this.attempt = 0;
    this.open();
  }

  open() {
    this.stopWaiting();
    this.tell("connecting");
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
      this.tell("on");
    }
    if (name !== "ping") this.hear(name, JSON.parse(event.data));
  }

  watch() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.broken(), SILENCE);
  }

  async broken() {
    const source = this.source;
    this.close();
    const delay = backOff(this.attempt);
    this.attempt += 1;
    this.tell("off", Math.ceil(delay / 1000));
    this.retry = setTimeout(() => this.open(), delay);
    try {
      await ask("/api/conversations");
    } catch (error) {
      if (!(error instanceof LockedOut) || this.source !== source) return;
      this.close();
      this.tell("locked");
    }
  }

  /** Tries again at once if it is waiting to. */
  hurry() {
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
 * Messages on their way, sent one after another and each again, with the same id, until the gateway answers.
 * They survive a reload as far as a browser can keep them: their text does, their files do not.
 */
export class Outbox {
  constructor(changed) {
    this.changed = changed;
    this.letters = JSON.parse(sessionStorage.getItem("outbox") ?? "[]");
    this.sending = new Set();
  }

  /** Letters of a conversation not yet known to be accepted, oldest first. */
  of(chat) {
    return this.letters.filter((letter) => letter.chat === chat);
  }

  add(chat, text, files) {
    const names = files.map((file) => file.name);
    this.letters.push({ client_id: newId(), chat, text, names, at: new Date().toISOString(), state: "sending", reason: "", files });
    this.save();
    this.send(chat);
  }

  remove(letter) {
    this.letters = this.letters.filter((each) => each !== letter);
    this.save();
  }

  /** The gateway has these: nothing is left to do. */
  settle(clientIds) {
    const known = new Set(clientIds);
    if (!this.letters.some((letter) => known.has(letter.client_id))) return;
    this.letters = this.letters.filter((letter) => !known.has(letter.client_id));
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
    return this.of(chat).find((letter) => letter.state === "sending" || letter.state === "retrying");
  }

  async deliver(letter) {
    for (let attempt = 0; this.letters.includes(letter); attempt += 1) {
      try {
        const answer = await ask(`/api/conversations/${letter.chat}/messages`, { method: "POST", body: form(letter) });
        this.update(letter, { state: answer.state, reason: answer.reason, id: answer.id });
        if (UNTOLD.test(letter.text)) this.remove(letter);
        return;
      } catch (error) {
        if (error instanceof Refused) {
          this.update(letter, { state: "failed", reason: error.message });
          return;
        }
        const delay = backOff(attempt);
        this.update(letter, { state: "retrying", reason: error instanceof LockedOut || error instanceof Unavailable ? error.message : "" });
        await new Promise((resolve) => {
          this.wake = resolve;
          setTimeout(resolve, delay);
        });
      }
    }
  }

  hurry() {
    this.wake?.();
  }

  update(letter, change) {
    Object.assign(letter, change);
    this.save();
  }

  save() {
    sessionStorage.setItem("outbox", JSON.stringify(this.letters.map(({ files, ...kept }) => kept)));
    this.changed();
  }
}

/** Asks the gateway to stop what runs in the conversation. */
export function stop(chat) {
  return press(chat, "stop", {});
}

/** Chooses an option, counted from 0, of an open question. */
export function answer(chat, question, option) {
  return press(chat, "answer", { question, option });
}

/** A press of a button is one event: it is sent with one id, again until the gateway has heard it. */
async function press(chat, button, fields) {
  const body = JSON.stringify({ client_id: newId(), ...fields });
  for (let attempt = 0; attempt < 5; attempt += 1) {
    try {
      const accepted = await ask(`/api/conversations/${chat}/${button}`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
      if (accepted.state === "refused") throw new Refused(accepted.reason);
      return;
    } catch (error) {
      if (error instanceof Refused || error instanceof LockedOut) throw error;
      await new Promise((resolve) => setTimeout(resolve, backOff(attempt)));
    }
  }
  throw new Error("The gateway cannot be reached.");
}

export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function form(letter) {
  const data = new FormData();
  data.append("client_id", letter.client_id);
  data.append("text", letter.text);
  for (const file of letter.files ?? []) data.append("files", file, file.name);
  return data;
}
