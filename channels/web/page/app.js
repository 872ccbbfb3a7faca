// The page: holds the state of the open conversation, and connects the user interface with the gateway.

import { icon } from "./icons.js";
import { NotFound, Outbox, SignInRequired, Stream, answer, ask, backOff, newId, pathOf, stop } from "./client.js";
import { arrange, bytes, chip, conversation } from "./view.js";

const at = (id) => document.getElementById(id);
const END_THRESHOLD = 60; // pixels
const LIST_INTERVAL = 10_000; // ms
const BUTTON_TIMEOUT = 3_000; // ms until a button may be pressed again
const CONTEXT_SHOWN_FROM = 0.5; // share of the model's context window
const MORE_FROM = 300; // pixels to the top from which earlier messages are asked for
const PAGE = 200; // messages and replies
const PLACE = /^#((?:web:[^:#]+:)?[A-Za-z0-9_-]{1,64})(?:\.([0-9]{1,9}))?$/; // a conversation, or an earlier one that /new ended in it
const STARTS_ANEW = /^\s*\/(new|reset)\s*$/i; // with an argument it is the gateway's
const SUGGESTIONS = ["What can you do?", "Draw me a bar chart", "Do a slow task that I can interrupt"];

const state = {
  chat: "", // its id in the API
  person: "", // the id of who writes here
  home: "", // what the ids of their conversations begin with
  generation: null, // of an earlier conversation, which can only be read
  items: [],
  before: null, // leads to the items before these
  reading: false, // those are being read
  conversations: [],
  earlier: [], // conversations that /new ended, with their generation
  context: null, // how full the model's context window is: {share, window}
  files: [], // selected, not sent: {file, url}
  uploadLimit: Infinity,
  stream: null,
  loaded: false,
  stopping: false,
  atEnd: true, // scrolled to the end, so the page follows new content
  top: 0, // last scroll position
  unseen: 0,
};

const outbox = new Outbox(() => draw());

// Events from the gateway

const HANDLERS = {
  snapshot({ items, before }) {
    Object.assign(state, { items, before, loaded: true });
    refreshContext();
    outbox.settle([...items.map((item) => item.message_id), ...accepted(state.chat)]);
    restoreDraftsWithoutFiles();
    outbox.send(state.chat);
  },
  reset() {}, // a snapshot follows
  ping() {},
  reply({ reply }) {
    putReply(reply);
    refreshList();
  },
  "reply.changed"(change) {
    const before = state.items.find((item) => item.reply?.id === change.turn);
    if (before) putReply(changed(before.reply, change));
  },
  message({ message }) {
    const place = state.items.findIndex((item) => item.kind === "message" && item.id === message.id);
    state.items = place < 0 ? [...state.items, message] : state.items.with(place, message);
    outbox.settle([message.message_id]);
    refreshList();
  },
  "message.state"({ id, state: now, reason, turn, step }) {
    state.items = state.items.map((item) => (item.kind === "message" && item.id === id ? { ...item, state: now, reason, turn, step } : item));
  },
  "conversation.changed": refreshList,
};

function handle(event) {
  HANDLERS[event.type](event);
  draw();
}

function changed(reply, { status, done, parked, order, segments, grown }) {
  const fresh = new Map([...reply.segments, ...segments].map((segment) => [segment.key, segment]));
  for (const [key, added] of Object.entries(grown)) {
    fresh.set(key, { ...fresh.get(key), markdown: fresh.get(key).markdown + added });
  }
  return { ...reply, status, done, parked, segments: order.map((key) => fresh.get(key)) };
}

function putReply(reply) {
  const place = state.items.findIndex((item) => item.reply?.id === reply.id);
  const before = state.items[place]?.reply;
  const item = { kind: "reply", reply };
  state.items = place < 0 ? state.items.toSpliced(indexAfterItsMessages(reply), 0, item) : state.items.with(place, item);
  if (reply.done && !before?.done) replyFinished(reply);
  if (reply.parked && !before?.parked) questionAsked(reply);
}

/** A reply comes after the messages that its turn began with, also when something else was answered meanwhile. */
function indexAfterItsMessages(reply) {
  const first = state.items.findIndex((item) => item.kind === "message" && item.message_id === reply.reply_to);
  if (first < 0) return state.items.length;
  let place = first + 1;
  while (state.items[place]?.kind === "message" && state.items[place].state === "read" && state.items[place].step === 1) place += 1;
  return place;
}

function replyFinished(reply) {
  state.stopping = false;
  const text = reply.segments.filter((segment) => segment.kind === "text" && !segment.secondary).map((segment) => segment.markdown).join(" ");
  announce("New answer", text);
  refreshList();
}

function questionAsked(reply) {
  announce("Question", reply.segments.filter((segment) => segment.kind === "question" && segment.open).map((segment) => segment.question).join(" "));
}

function announce(what, markdown) {
  at("announcer").textContent = `${what}: ${markdown.replace(/[#*_`>|]/g, "").slice(0, 300)}`;
  if (document.hidden) state.unseen += 1;
}

function accepted(chat) {
  return outbox.of(chat).filter((message) => message.id !== undefined).map((message) => message.client_id);
}

/** A reload loses the files of an unsent message: its text goes back into the input. */
function restoreDraftsWithoutFiles() {
  for (const message of outbox.of(state.chat)) {
    if (message.names.length === 0 || message.files || message.state === "unsent") continue;
    outbox.remove(message);
    const text = at("text");
    text.value = [message.text, text.value].filter(Boolean).join("\n");
    saveDraft();
    showProblem(`Please attach again: ${message.names.join(", ")}`);
  }
}

// Display

let drawing = false;

/** Draws with the next animation frame; a hidden page has none and uses a timer. */
function draw() {
  if (drawing) return;
  drawing = true;
  const now = () => {
    drawing = false;
    drawNow();
  };
  if (document.hidden) setTimeout(now, 50);
  else requestAnimationFrame(now);
}

function drawNow() {
  const unsent = isEarlier() ? [] : outbox.of(state.chat);
  arrange(at("log"), conversation(state.chat, state.person, state.items, unsent));
  at("more").hidden = state.before === null;
  at("welcome").hidden = !state.loaded || state.items.length + unsent.length > 0;
  drawRunning(isRunning());
  drawTitle();
  follow();
}

function isEarlier() {
  return state.generation !== null;
}

function isRunning() {
  if (isEarlier()) return false;
  const last = state.items.findLastIndex((item) => item.kind === "reply");
  return state.items.some((item, place) => (item.kind === "reply" ? !item.reply.done : isBeingAnswered(item, place > last)));
}

/** Also true for a message that was just read and whose reply has not begun. */
function isBeingAnswered(message, unanswered) {
  if (message.text.startsWith("/")) return false;
  return message.state === "waiting" || (message.state === "read" && unanswered && !(message.step > 1));
}

function drawRunning(running) {
  const parked = running && Boolean(currentReply()?.parked);
  if (!running && document.body.dataset.running === "true") refreshContext();
  document.body.dataset.running = running;
  document.body.dataset.parked = parked;
  at("stop").hidden = !running;
  at("stop").disabled = state.stopping;
  if (!running) state.stopping = false;
  at("text").placeholder = parked ? "Answer…" : running ? "Interject…" : "Write a message";
  at("hint").textContent = parked ? "will answer the question" : running ? "will reach the running task" : contextHint();
  at("status").hidden = !running;
  at("status-text").textContent = state.stopping ? "stopping…" : statusText();
}

function contextHint() {
  const { share = 0 } = state.context ?? {};
  return share < CONTEXT_SHOWN_FROM ? "" : `context ${Math.round(share * 100)}% full`;
}

/** Without an answer the last one stays: nothing depends on it. */
async function refreshContext() {
  const { chat, items } = state;
  const found = items.length ? await ask(pathOf(chat)).catch(() => null) : null;
  if (!found || chat !== state.chat) return;
  state.context = found.context;
  draw();
}

function statusText() {
  return currentReply()?.status || (currentReply()?.parked ? "waiting for your answer" : "working…");
}

function currentReply() {
  return state.items.findLast((item) => item.kind === "reply" && !item.reply.done)?.reply;
}

function drawTitle() {
  const known = listed().find(isOpen)?.title;
  const first = state.items.find((item) => item.kind === "message" && item.text)?.text.slice(0, 80);
  const title = known || first || "New conversation";
  at("title").textContent = title;
  document.title = `${state.unseen ? `(${state.unseen}) ` : ""}${title} · Interject`;
}

/** All conversations, most recent first. */
function listed() {
  return [...state.conversations, ...state.earlier].sort((one, other) => Date.parse(other.at) - Date.parse(one.at));
}

/** A conversation in the list, as the API describes it. */
function entryOf({ id, generation, title, last_at: at, running }) {
  return { chat: id, generation, title, at, running };
}

function isOpen({ chat, generation = null }) {
  return chat === state.chat && generation === state.generation;
}

function drawList() {
  const all = listed();
  const fresh = isEarlier() || all.some(isOpen) ? [] : [{ chat: state.chat, generation: null, title: "New conversation", running: false }];
  const wanted = at("find").value.trim().toLowerCase();
  const found = [...fresh, ...all].filter((each) => each.title.toLowerCase().includes(wanted));
  at("found").textContent = wanted && found.length === 0 ? "No title has these words." : "";
  arrange(at("conversations"), found.map((each) => ({ key: place(each), make: () => makeEntry(each), update: (entry) => updateEntry(entry, each) })));
}

/** What stands behind the # of the page's address: of one's own conversations the name. */
function place({ chat, generation = null }) {
  const name = chat.startsWith(state.home) ? chat.slice(state.home.length) : chat;
  return generation === null ? name : `${name}.${generation}`;
}

function makeEntry(each) {
  const entry = document.createElement("li");
  const link = document.createElement("a");
  link.href = `#${place(each)}`;
  link.dataset.testid = "conversation";
  link.dataset.chat = place(each);
  const title = document.createElement("span");
  title.dataset.testid = "conversation-title";
  link.append(title, document.createElement("time"));
  entry.append(link);
  return entry;
}

function updateEntry(entry, each) {
  const link = entry.firstElementChild;
  const [title, time] = link.children;
  title.textContent = each.title || "New conversation";
  time.hidden = !each.at;
  if (each.at) {
    time.dateTime = each.at;
    time.textContent = shortTime(new Date(each.at));
  }
  link.dataset.running = each.running;
  link.title = each.running ? `${each.title} (running)` : each.title;
  if (isOpen(each)) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

/** The time of today, else the date, with the year if it is another. */
function shortTime(date) {
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const year = date.getFullYear() === now.getFullYear() ? undefined : "numeric";
  return date.toLocaleDateString([], { day: "numeric", month: "short", year });
}

function isAtEnd() {
  const scroller = at("scroller");
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < END_THRESHOLD;
}

function scrollToEnd() {
  state.atEnd = true;
  follow();
}

function follow() {
  if (state.atEnd) at("scroller").scrollTop = at("scroller").scrollHeight;
  at("to-end").hidden = state.atEnd;
}

/** Only scrolling up leaves the end: a picture that loads moves the end away by itself. */
function scrolled() {
  const top = at("scroller").scrollTop;
  if (isAtEnd()) state.atEnd = true;
  else if (top < state.top) state.atEnd = false;
  if (top < MORE_FROM && top < state.top) readMore();
  state.top = top;
  at("to-end").hidden = state.atEnd;
}

function drawConnection(connection, seconds) {
  const texts = { connecting: "connecting…", on: "connected", off: `connection lost, next attempt in ${seconds} s`, locked: "Sign-in link required: open the link that Interject printed" };
  at("connection").dataset.state = connection;
  at("connection").textContent = texts[connection];
}

function showProblem(problem) {
  at("problem").textContent = problem;
  at("problem").hidden = !problem;
}

// Conversations

function go(chat, generation = null) {
  if (chat === state.chat && generation === state.generation) return;
  state.stream?.close();
  Object.assign(state, { chat, generation, items: [], before: null, reading: false, stream: null, loaded: false, stopping: false, context: null });
  document.body.dataset.earlier = isEarlier();
  at("composer").hidden = isEarlier();
  at("delete-conversation").hidden = isEarlier();
  at("earlier").hidden = !isEarlier();
  at("to-current").href = `#${place({ chat })}`;
  discardFiles();
  at("text").value = sessionStorage.getItem(draftKey(chat)) ?? "";
  fit();
  showProblem("");
  if (isEarlier()) readEarlier();
  else watch(chat);
  showSidebar(false);
  drawList();
  drawNow();
  scrollToEnd();
  if (!isEarlier() && matchMedia("(pointer: fine)").matches) at("text").focus();
}

function watch(chat) {
  const isShown = () => isOpen({ chat });
  state.stream = new Stream(chat, (event) => isShown() && handle(event), (...connection) => isShown() && drawConnection(...connection));
}

/** An earlier conversation does not change, so it is read once; without an answer, when the page is looked at again. */
async function readEarlier() {
  const { chat, generation } = state;
  drawConnection("connecting");
  try {
    const { items, before } = await ask(`${pathOf(chat)}/history?generation=${generation}&limit=${PAGE}`);
    if (!isOpen({ chat, generation })) return;
    Object.assign(state, { items, before, loaded: true });
    drawConnection("on");
    showProblem(items.length === 0 ? "There is nothing here: it may have been deleted." : "");
  } catch (error) {
    if (!isOpen({ chat, generation })) return;
    if (error instanceof SignInRequired) drawConnection("locked");
    else showProblem(`The conversation could not be read: ${error.message}`);
  }
  draw();
}

/** What was said before the shown items, put above them; what is being looked at stays where it is. */
async function readMore() {
  const { chat, generation, before } = state;
  if (before === null || state.reading) return;
  state.reading = true;
  const query = new URLSearchParams({ before, limit: PAGE, ...(generation === null ? {} : { generation }) });
  try {
    const page = await ask(`${pathOf(chat)}/history?${query}`);
    if (!isOpen({ chat, generation }) || state.before !== before) return;
    const known = new Set(state.items.map(itemKey));
    Object.assign(state, { items: [...page.items.filter((item) => !known.has(itemKey(item))), ...state.items], before: page.before });
    const scroller = at("scroller");
    const fromEnd = scroller.scrollHeight - scroller.scrollTop;
    drawNow();
    if (!state.atEnd) scroller.scrollTop = state.top = scroller.scrollHeight - fromEnd;
  } catch (error) {
    if (isOpen({ chat, generation })) showProblem(`Earlier messages could not be read: ${error.message}`);
  } finally {
    if (isOpen({ chat, generation })) state.reading = false;
  }
}

function itemKey(item) {
  return item.kind === "reply" ? `reply ${item.reply.id}` : `message ${item.id}`;
}

/** A conversation of its own, as the button begins: the one before stays as it is, except that its task is stopped. */
async function startAnew() {
  const before = state.chat;
  const running = isRunning();
  location.hash = `#${newId()}`;
  if (!running) return;
  try {
    await stop(before);
  } catch (error) {
    showProblem(`The task of the conversation before could not be stopped: ${error.message}`);
  }
}

function goToHash() {
  const [, chat, generation] = location.hash.match(PLACE) ?? [];
  const id = chat?.includes(":") ? chat : state.home + (chat ?? newId());
  const newest = chat === undefined ? state.conversations[0]?.chat : undefined;
  go(newest ?? id, generation === undefined ? null : Number(generation));
  if (chat === undefined) history.replaceState(null, "", `#${place(state)}`);
}

/** The gateway stops what runs in it and deletes messages, files and workspace. */
async function deleteConversation() {
  const chat = state.chat;
  const others = state.earlier.some((each) => each.chat === chat) ? ", also those before /new" : "";
  if (!confirm(`Delete this conversation for good, with all its messages${others} and files?`)) return;
  at("delete-conversation").disabled = true;
  showProblem("");
  try {
    await ask(pathOf(chat), { method: "DELETE" }).catch(ignoreMissing);
    sessionStorage.removeItem(draftKey(chat));
    await refreshList();
    if (state.chat === chat) location.hash = `#${newId()}`;
  } catch (error) {
    showProblem(`Not deleted: ${error.message}`);
  }
  at("delete-conversation").disabled = false;
}

/** What was never written to does not have to be deleted. */
function ignoreMissing(error) {
  if (!(error instanceof NotFound)) throw error;
}

let asking = false;
let askAgain = false;

async function refreshList() {
  if (asking) {
    askAgain = true;
    return;
  }
  asking = true;
  try {
    const [conversations, earlier] = await Promise.all([listOf({}), listOf({ earlier: true })]);
    Object.assign(state, { conversations, earlier });
    drawList();
    drawTitle();
  } catch (error) {
    if (error instanceof SignInRequired) drawConnection("locked"); // other failures: the stream reports a lost connection
  } finally {
    asking = false;
  }
  if (askAgain) {
    askAgain = false;
    await refreshList();
  }
}

/** One's own conversations of the web chat, the newest first. */
async function listOf(query) {
  const found = [];
  for (let before = ""; before !== null; ) {
    const page = await ask(`/conversations?${new URLSearchParams({ channel: "web", ...query, ...(before ? { before } : {}) })}`);
    found.push(...page.conversations.filter((each) => each.id.startsWith(state.home)).map(entryOf));
    before = page.before ?? null;
  }
  return found;
}

function showSidebar(shown) {
  document.body.classList.toggle("sidebar-open", shown);
  at("open-sidebar").setAttribute("aria-expanded", String(shown));
}

// Input

function submit() {
  const text = at("text").value;
  if (!text.trim() && state.files.length === 0) return;
  const total = state.files.reduce((sum, { file }) => sum + file.size, text.length);
  if (total > state.uploadLimit) {
    showProblem(`${bytes(total)} in one message; the limit is ${bytes(state.uploadLimit)}.`);
    return;
  }
  showProblem("");
  const anew = STARTS_ANEW.test(text) && state.files.length === 0;
  if (!anew) outbox.add(state.chat, text, state.files.map(({ file }) => file));
  at("text").value = "";
  discardFiles();
  saveDraft();
  fit();
  if (anew) {
    startAnew();
    return;
  }
  drawNow();
  scrollToEnd();
}

async function stopTurn() {
  if (!isRunning() || state.stopping) return;
  state.stopping = true;
  draw();
  try {
    await stop(state.chat);
    await new Promise((resolve) => setTimeout(resolve, BUTTON_TIMEOUT));
  } catch (error) {
    showProblem(`Stop failed: ${error.message}`);
  }
  state.stopping = false;
  draw();
}

/** The options disappear when the question is closed; until then a failed press may be repeated. */
async function choose(button) {
  const options = button.closest("fieldset");
  const chat = state.chat;
  options.disabled = true;
  button.setAttribute("aria-busy", "true");
  showProblem("");
  if (matchMedia("(pointer: fine)").matches) at("text").focus();
  try {
    await answer(chat, options.dataset.question, Number(button.dataset.option));
    await new Promise((resolve) => setTimeout(resolve, BUTTON_TIMEOUT));
  } catch (error) {
    if (state.chat === chat) showProblem(`The answer was not sent: ${error.message}`);
  }
  options.disabled = false;
  button.removeAttribute("aria-busy");
}

function saveDraft() {
  sessionStorage.setItem(draftKey(state.chat), at("text").value);
}

function draftKey(chat) {
  return `draft ${place({ chat })}`;
}

function fit() {
  const text = at("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, innerHeight * 0.4)}px`;
}

function attach(files) {
  if (isEarlier()) return;
  state.files.push(...Array.from(files, (file) => ({ key: newId(), file, url: file.type.startsWith("image/") ? URL.createObjectURL(file) : null })));
  drawFiles();
  at("text").focus();
}

function detach(chosen) {
  if (chosen.url) URL.revokeObjectURL(chosen.url);
  state.files = state.files.filter((each) => each !== chosen);
  drawFiles();
}

function discardFiles() {
  for (const { url } of state.files) if (url) URL.revokeObjectURL(url);
  state.files = [];
  drawFiles();
}

function drawFiles() {
  arrange(at("previews"), state.files.map((chosen) => ({ key: chosen.key, make: () => preview(chosen), update: () => {} })));
}

function preview(chosen) {
  const entry = document.createElement("li");
  entry.dataset.testid = "preview";
  if (chosen.url) {
    const image = document.createElement("img");
    image.src = chosen.url;
    image.alt = chosen.file.name;
    entry.append(image);
  } else {
    entry.append(chip(chosen.file.name, chosen.file.size));
  }
  const remove = document.createElement("button");
  remove.type = "button";
  remove.dataset.testid = "remove-file";
  remove.setAttribute("aria-label", `Remove ${chosen.file.name}`);
  remove.append(icon("close"));
  remove.addEventListener("click", () => detach(chosen));
  entry.append(remove);
  return entry;
}

// Event handlers

function wireComposer() {
  at("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  at("text").addEventListener("input", () => {
    saveDraft();
    fit();
  });
  at("text").addEventListener("keydown", (event) => {
    const plain = event.key === "Enter" && !event.shiftKey && !event.isComposing;
    if (!plain || (matchMedia("(pointer: coarse)").matches && !event.ctrlKey && !event.metaKey)) return;
    event.preventDefault();
    submit();
  });
  at("text").addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    attach(event.clipboardData.files);
  });
  at("attach").addEventListener("click", () => at("files").click());
  at("files").addEventListener("change", () => {
    attach(at("files").files);
    at("files").value = "";
  });
  at("stop").addEventListener("click", stopTurn);
  at("composer").addEventListener("click", (event) => event.target === at("composer") && at("text").focus());
}

function wireDrop() {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const show = (now) => {
    depth = now;
    document.body.classList.toggle("dropping", depth > 0);
  };
  addEventListener("dragenter", (event) => carriesFiles(event) && show(depth + 1));
  addEventListener("dragleave", (event) => carriesFiles(event) && show(Math.max(0, depth - 1)));
  addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    show(0);
    attach(event.dataTransfer.files);
  });
}

function wireLightbox() {
  const dialog = at("lightbox");
  at("lightbox-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => at("lightbox-picture").removeAttribute("src"));
}

function wirePage() {
  at("log").addEventListener("click", (event) => {
    const option = event.target.closest("[data-option]");
    if (option) choose(option);
  });
  at("new-conversation").addEventListener("click", () => (location.hash = newId()));
  at("delete-conversation").addEventListener("click", deleteConversation);
  at("sign-out").addEventListener("click", async () => {
    await fetch("/sign-in", { method: "DELETE" });
    location.assign("/");
  });
  at("open-sidebar").addEventListener("click", () => showSidebar(true));
  for (const id of ["close-sidebar", "veil"]) at(id).addEventListener("click", () => showSidebar(false));
  at("conversations").addEventListener("click", () => showSidebar(false));
  at("find").addEventListener("input", drawList);
  at("to-end").addEventListener("click", scrollToEnd);
  at("more").addEventListener("click", readMore);
  at("scroller").addEventListener("scroll", scrolled, { passive: true });
  const sizes = new ResizeObserver(follow); // pictures load, the window is resized, the input grows
  for (const id of ["log", "scroller"]) sizes.observe(at(id));
  addEventListener("hashchange", goToHash);
  addEventListener("online", retryNow);
  document.addEventListener("visibilitychange", () => document.hidden || retryNow());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || at("lightbox").open || event.isComposing) return;
    if (document.body.classList.contains("sidebar-open")) showSidebar(false);
    else stopTurn();
  });
  setInterval(() => document.hidden || refreshList(), LIST_INTERVAL);
}

function retryNow() {
  state.unseen = 0;
  state.stream?.retryNow();
  if (isEarlier() && !state.loaded) readEarlier();
  outbox.retryNow();
  refreshList();
  draw();
}

function setUp() {
  const icons = { "open-sidebar": "menu", "close-sidebar": "close", attach: "clip", send: "send" };
  for (const [id, name] of Object.entries(icons)) at(id).append(icon(name));
  at("new-conversation").prepend(icon("plus"));
  at("delete-conversation").append(icon("trash"));
  at("to-end").prepend(icon("down"));
  at("suggestions").append(...SUGGESTIONS.map((suggestion) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = suggestion;
    button.addEventListener("click", () => {
      at("text").value = suggestion;
      saveDraft();
      fit();
      at("text").focus();
    });
    return button;
  }));
}

/** Whom the gateway takes this browser for; asked until it answers. */
async function readSession() {
  for (let attempt = 0; !state.home; attempt += 1) {
    try {
      const { person, new_conversations: home, upload_limit: uploadLimit } = await ask("/session");
      Object.assign(state, { person: person.id, home, uploadLimit });
    } catch (error) {
      const delay = backOff(attempt);
      drawConnection(error instanceof SignInRequired ? "locked" : "off", Math.ceil(delay / 1000));
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}

setUp();
wireComposer();
wireDrop();
wireLightbox();
await readSession();
wirePage();
await refreshList();
goToHash();
