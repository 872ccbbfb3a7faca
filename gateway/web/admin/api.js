// Requests to the control API, and its events.

const BASE = "/api/v1";
const PAUSE = 700; // milliseconds between two snapshots of a conversation

const HAPPENINGS = [
  "message",
  "message.state",
  "turn.started",
  "turn.step",
  "tool.started",
  "tool.ended",
  "turn.parked",
  "decision.asked",
  "decision.decided",
  "run.ended",
  "conversation.changed",
  "channel.trouble",
  "channel.ok",
  "reset",
];

export class Refusal extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export async function read(path) {
  return request("GET", path);
}

export async function send(path, body, method = "POST") {
  return request(method, path, body ?? {});
}

// Writes into a conversation in the name of whoever is signed in. Raises if it is refused.
export async function write(conversation, how, body) {
  const path = `/conversations/${encodeURIComponent(conversation)}/${how}`;
  const sent = await send(path, { client_id: newId(), ...body });
  if (sent.state === "refused") throw new Error(sent.reason);
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Calls `changed` when something happened, and `state` with "on" or "off". The stream reconnects by itself.
export function follow(changed, state) {
  const source = new EventSource(`${BASE}/events`);
  source.onopen = () => {
    state("on");
    changed();
  };
  source.onerror = () => state("off");
  for (const kind of HAPPENINGS) source.addEventListener(kind, changed);
  return () => source.close();
}

// Calls `show` with a snapshot of the conversation, and with a new one when something has happened there.
export function watch(path, show) {
  let source = null;
  let due = null;
  const open = () => {
    due = null;
    source = new EventSource(BASE + path);
    source.addEventListener("snapshot", (event) => show(JSON.parse(event.data)));
    for (const kind of [...HAPPENINGS, "reply", "reply.changed"]) source.addEventListener(kind, again);
  };
  const again = () => {
    source.close();
    due ??= setTimeout(open, PAUSE);
  };
  open();
  return () => {
    source.close();
    clearTimeout(due);
  };
}

// Signs this browser in, with {key} or {code}; or out.
export async function signInWith(given) {
  return request("POST", "/sign-in", given, "");
}

export async function signOut() {
  return request("DELETE", "/sign-in", undefined, "");
}

async function request(method, path, body, base = BASE) {
  const init = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(base + path, init);
  } catch {
    throw new Refusal(0, "unreachable", "The gateway does not answer.");
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refusal(answer.status, said.code ?? "", said.detail ?? `The gateway answers ${answer.status}.`);
  return said;
}
