// Messages and replies as DOM nodes. Nodes are kept and changed in place: folds and selections stay.

import { fileUrl } from "./client.js";
import { icon } from "./icons.js";
import { renderMarkdown } from "./markdown.js";

const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const LONG_TEXT = 1500;
const CALL_STATES = {
  waiting: "waiting", running: "running", done: "done", failed: "failed", skipped: "skipped", cancelled: "cancelled", denied: "not allowed", unknown: "unknown", background: "in the background",
};

let shown = { chat: "", person: "" }; // the conversation, and the id of who writes on this page

/** Makes `parent` contain exactly the pieces, in order: `{key, make(), update(node)}`, reusing nodes by key. */
export function arrange(parent, pieces) {
  const before = parent.arranged ?? new Map();
  const wanted = new Set(pieces.map((piece) => piece.key));
  for (const [key, node] of before) if (!wanted.has(key)) node.remove();
  const after = new Map();
  let place = parent.firstElementChild;
  for (const piece of pieces) {
    const node = before.get(piece.key) ?? piece.make();
    after.set(piece.key, node);
    piece.update(node);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  parent.arranged = after;
}

/**
 * The pieces of a conversation. A message that a running turn read at some step is placed there:
 * between the parts of the reply before and after that step. `person` is the id of who writes on this page.
 */
export function conversation(chat, person, items, unsent) {
  shown = { chat, person };
  const pieces = [];
  let reply = null;
  for (const item of items) {
    if (item.kind === "message" && reply && item.step > 1) {
      reply.read.push(item);
    } else if (item.kind === "message") {
      pieces.push({ message: item });
    } else {
      const piece = { reply: item.reply, read: [] };
      pieces.push(piece);
      if (hasSteps(item.reply)) reply = piece;
    }
  }
  return [...pieces.flatMap((piece) => (piece.reply ? split(piece) : [messagePiece(piece.message)])), ...unsent.map(unsentPiece)];
}

function split({ reply, read }) {
  const parts = [];
  let segments = [];
  const waiting = [...read].sort((one, other) => one.step - other.step);
  const cut = () => {
    if (segments.length) parts.push(replyPiece(reply, segments, parts.length));
    segments = [];
    parts.push(messagePiece(waiting.shift()));
  };
  for (const segment of reply.segments) {
    while (waiting.length && segment.step >= waiting[0].step) cut();
    segments.push(segment);
  }
  while (waiting.length) cut();
  if (segments.length) parts.push(replyPiece(reply, segments, parts.length));
  return parts;
}

/** The answer to a command has no steps, and cannot be interrupted. */
function hasSteps(reply) {
  return !reply.done || reply.segments.some((segment) => segment.step > 0);
}

function replyPiece(reply, segments, part) {
  return {
    key: `reply ${reply.id} ${part}`,
    make: () => box("article", "reply", { testid: "reply", reply: reply.id }),
    update(node) {
      node.dataset.done = reply.done;
      arrange(node, segments.map((segment) => segmentPiece(segment)));
    },
  };
}

function segmentPiece(segment) {
  const { make, update } = { text: TEXT, media: MEDIA, call: CALL, question: QUESTION }[segment.kind];
  return {
    key: `${segment.kind} ${segment.key}`,
    make: () => make(segment),
    update(node) {
      if (node.shown === segment) return;
      node.shown = segment;
      update(node, segment);
    },
  };
}

const TEXT = {
  make: () => {
    const node = box("div", "text", { testid: "text-segment" });
    node.append(box("div", "markdown"));
    return node;
  },
  update(node, segment) {
    renderMarkdown(node.firstElementChild, segment.markdown);
    node.classList.toggle("open", segment.open);
    node.classList.toggle("secondary", segment.secondary);
    node.querySelector(":scope > .cut")?.remove();
    if (segment.interrupted) {
      const cut = segment.by_restart ? "interrupted by a restart" : "interrupted";
      node.append(words("p", "cut", cut, { testid: "interrupted" }));
    }
  },
};

const MEDIA = {
  make: (segment) => box(PICTURES.has(segment.attachment.media_type) ? "figure" : "div", "media", { testid: "media-segment" }),
  update(node, segment) {
    const shown = attachmentNode(segment.attachment, segment.caption);
    const caption = segment.caption ? [words(node.tagName === "FIGURE" ? "figcaption" : "p", "caption", segment.caption)] : [];
    node.replaceChildren(shown, ...caption);
  },
};

const CALL = {
  make: () => {
    const node = box("details", "call", { testid: "call" });
    const summary = box("summary");
    summary.append(box("span", "mark"), words("span", "call-title", ""), words("span", "call-state", ""), icon("chevron"));
    node.append(summary, words("pre", "call-detail", "", { testid: "call-detail" }));
    return node;
  },
  update(node, segment) {
    node.dataset.state = segment.state;
    node.dataset.name = segment.name;
    const mark = node.querySelector(".mark");
    mark.replaceChildren(segment.state === "running" ? box("span", "spinner") : icon(segment.state));
    node.querySelector(".call-title").textContent = segment.title || segment.name;
    node.querySelector(".call-state").textContent = CALL_STATES[segment.state] ?? segment.state;
    node.querySelector(".call-detail").textContent = segment.detail || (segment.state === "running" ? "no output yet" : "no output");
  },
};

const DECISIONS = { allowed: "done", denied: "denied", undecided: "waiting" };

/** The page listens for presses of the options (`data-option` inside `data-question`). */
const QUESTION = {
  make: (segment) => {
    const node = box("section", "question", { testid: "question" });
    const question = box("div", "markdown");
    question.id = `asked ${segment.key}`.replaceAll(" ", "-");
    node.setAttribute("aria-labelledby", question.id);
    const options = box("fieldset", "options", { testid: "options", question: segment.key });
    options.setAttribute("aria-labelledby", question.id);
    node.append(question, options, words("p", "answer", "", { testid: "answer" }));
    return node;
  },
  update(node, segment) {
    const [question, options, answer] = node.children;
    node.dataset.open = segment.open;
    renderMarkdown(question, segment.question);
    options.hidden = !segment.open || segment.options.length === 0;
    arrange(options, segment.options.map((text, number) => ({
      key: `${number} ${text}`,
      make: () => {
        const button = words("button", "option", text, { testid: "option", option: number });
        button.type = "button";
        return button;
      },
      update: () => {},
    })));
    answer.hidden = segment.open || !segment.answer;
    answer.dataset.decision = segment.decision;
    const label = segment.decision ? [] : [words("span", "unseen", "Answer: ")];
    answer.replaceChildren(icon(DECISIONS[segment.decision] ?? "done"), ...label, words("span", "", segment.answer));
  },
};

function messagePiece(message) {
  return bubble(message.message_id ?? String(message.id), message, message.files.map((each) => () => attachmentNode(each, "")));
}

/** A message of this page that the gateway has not confirmed yet. */
function unsentPiece(message) {
  const files = message.files ?? message.names.map((name) => ({ name, size: null }));
  return bubble(message.client_id, { ...message, sender: null, step: null }, files.map((file) => () => chip(file.name, file.size)));
}

function bubble(key, message, attachments) {
  return {
    key: `message ${key}`,
    make: () => {
      const own = !message.sender || message.sender.id === shown.person;
      const node = box("article", own ? "message" : "message theirs", { testid: "message", message: key });
      if (!own) node.append(words("p", "sender", message.sender.name, { testid: "sender" }));
      if (message.schedule) node.append(scheduled(message.schedule));
      const text = box("div", "body");
      node.append(text, box("div", "attachments"), words("p", "state", "", { testid: "message-state" }));
      if (message.text) text.append(...longText(message.text));
      else text.hidden = true;
      return node;
    },
    update(node) {
      const files = node.querySelector(".attachments");
      const known = message.sender === null ? "unsent" : message.files.map((file) => file.hash).join();
      if (files.known !== known) files.replaceChildren(...attachments.map((make) => make()));
      files.known = known;
      showState(node, message);
    },
  };
}

function scheduled(task) {
  const label = box("p", "scheduled", { testid: "scheduled" });
  label.append(icon("waiting"), words("span", "", `Scheduled task ${task}`));
  return label;
}

function longText(text) {
  const shown = words("p", "mine-text", text);
  if (text.length <= LONG_TEXT) return [shown];
  shown.classList.add("long");
  const more = words("button", "more", `Show all ${text.length.toLocaleString("en")} characters`);
  more.type = "button";
  more.addEventListener("click", () => {
    shown.classList.remove("long");
    more.remove();
  });
  return [shown, more];
}

function showState(node, message) {
  const state = node.querySelector(".state");
  const text = stateText(message);
  if (node.dataset.state === message.state && state.lastChild?.textContent === text) return;
  node.dataset.state = message.state;
  const name = {
    waiting: "waiting", read: "read", answered: "done", refused: "failed", failed: "failed", unsent: "failed", undelivered: "failed", stopped: "cancelled", withdrawn: "cancelled",
  }[message.state];
  state.replaceChildren(...(name ? [icon(name)] : [box("span", "spinner")]), words("span", "", text));
  const at = message.sent_at ?? message.at;
  state.title = at ? new Date(at).toLocaleString() : "";
}

function stateText({ state, step, reason }) {
  const detail = reason ? `: ${reason}` : "";
  const read = step ? `Read during step ${step}` : "Read";
  switch (state) {
    case "sending": return "Sending…";
    case "retrying": return `Not sent yet, retrying…${reason ? ` ${reason}` : ""}`;
    case "waiting": return "Queued";
    case "read": return read;
    case "answered": return (step > 1 ? `${read} · ` : "") + "Answered";
    case "failed": return `Failed${detail}`;
    case "stopped": return reason.startsWith("stopped by ") ? `S${reason.slice(1)}` : `Stopped${detail}`;
    case "undelivered": return `Not delivered${detail}`;
    case "withdrawn": return `Withdrawn${detail}`;
    case "refused": return `Refused${detail}`;
    case "unsent": return `Not sent${detail}`;
    default: return state;
  }
}

function attachmentNode(attachment, caption) {
  const url = fileUrl(shown.chat, attachment);
  return PICTURES.has(attachment.media_type) ? picture(attachment, url, caption) : download(attachment, url);
}

function picture(attachment, url, caption) {
  const button = box("button", "picture", { testid: "picture" });
  button.type = "button";
  button.setAttribute("aria-label", `Enlarge ${caption || attachment.name}`);
  const image = box("img");
  image.alt = caption || attachment.name;
  image.decoding = "async";
  if (attachment.width && attachment.height) {
    image.width = attachment.width;
    image.height = attachment.height;
  }
  image.src = url;
  image.addEventListener("error", () => button.replaceWith(download(attachment, url)));
  button.append(image);
  button.addEventListener("click", () => enlarge(url, attachment.name, image.alt));
  return button;
}

function download(attachment, url) {
  const link = chip(attachment.name, attachment.size, "a");
  link.href = url;
  link.download = attachment.name;
  return link;
}

export function chip(name, size, tag = "span") {
  const node = box(tag, "chip", { testid: "file" });
  node.append(icon("file"), words("span", "chip-name", name));
  if (size !== null) node.append(words("span", "chip-size", bytes(size)));
  return node;
}

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  const units = ["kB", "MB", "GB"];
  const power = Math.min(units.length, Math.floor(Math.log10(size) / 3));
  return `${(size / 1000 ** power).toLocaleString("en", { maximumFractionDigits: 1 })} ${units[power - 1]}`;
}

function enlarge(url, name, alt) {
  const dialog = document.getElementById("lightbox");
  const image = document.getElementById("lightbox-picture");
  image.src = url;
  image.alt = alt;
  document.getElementById("lightbox-name").textContent = name;
  document.getElementById("lightbox-open").href = url;
  dialog.showModal();
}

function box(tag, className = "", data = {}) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  Object.assign(node.dataset, data);
  return node;
}

function words(tag, className, text, data = {}) {
  const node = box(tag, className, data);
  node.textContent = text;
  return node;
}
