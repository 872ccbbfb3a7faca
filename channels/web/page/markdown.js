// Markdown to DOM nodes. Text from the model never becomes HTML: nodes are created one by one, and unknown syntax is
// shown as written.

import { typeset } from "./formulas.js";

const DEEPEST = 8;
const MAX_LABEL_LENGTH = 1000;

/** Makes `container` show `markdown`. Blocks that have not changed keep their nodes, so a growing text is cheap. */
export function renderMarkdown(container, markdown) {
  const blocks = parseBlocks(withOuterFences(markdown.replace(/\r\n?/g, "\n").split("\n")), 0);
  const shown = container.renderedBlocks ?? [];
  let same = 0;
  while (same < shown.length && same < blocks.length && shown[same].source === blocks[same].source) same += 1;
  for (const old of shown.slice(same)) old.node.remove();
  const fresh = blocks.slice(same).map((block) => ({ source: block.source, node: block.make() }));
  container.append(...fresh.map((block) => block.node));
  container.renderedBlocks = [...shown.slice(0, same), ...fresh];
}

// Blocks: each has its source lines (to tell whether it changed) and makes its node when asked.

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}>\s?(.*)$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const DISPLAY = { "$$": "$$", "\\[": "\\]" };
const MAX_FORMULA = 4000;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function parseBlocks(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const [end, make] = takeBlock(lines, at, depth);
    blocks.push({ source: lines.slice(at, end).join("\n"), make });
    at = end;
  }
  return blocks;
}

/** A fence of Markdown is made longer than the fences inside it, where that makes all of them even. */
function withOuterFences(lines) {
  const fences = lines.flatMap((line, at) => {
    const found = line.match(/^\s*(`{3,})\s*([^`]*)$/);
    return found ? [{ at, marks: found[1].length, info: found[2].trim() }] : [];
  });
  let next = 0;
  while (next < fences.length) {
    const isMarkdown = /^(markdown|md)$/i.test(fences[next].info);
    next = (isMarkdown && lengthen(lines, fences, next)) || afterFence(fences, next);
  }
  return lines;
}

/** Lengthens the fence with this number, if it has others inside; the number of the fence to go on with, or 0. */
function lengthen(lines, fences, first) {
  let longest = 0;
  let inside = false;
  for (let here = first + 1; here < fences.length; here += 1) {
    const fence = fences[here];
    if (fence.info && inside) return 0;
    if (!fence.info && !inside) {
      if (longest === 0) return here + 1;
      for (const { at } of [fences[first], fence]) lines[at] = lines[at].replace(/`{3,}/, "`".repeat(longest + 1));
      return here + 1;
    }
    if (fence.info) longest = Math.max(longest, fence.marks);
    inside = !inside;
  }
  return 0;
}

function afterFence(fences, first) {
  const end = fences.findIndex((fence, number) => number > first && !fence.info && fence.marks >= fences[first].marks);
  return end < 0 ? fences.length : end + 1;
}

function takeBlock(lines, at, depth) {
  const line = lines[at];
  const formula = takeFormula(lines, at);
  if (formula) return formula;
  if (FENCE.test(line)) return takeFence(lines, at);
  if (HEADING.test(line)) return takeHeading(lines, at);
  if (RULE.test(line)) return [at + 1, () => element("hr")];
  if (depth < DEEPEST && QUOTE.test(line)) return takeQuote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return takeList(lines, at, depth);
  if (isTable(lines, at)) return takeTable(lines, at);
  return takeParagraph(lines, at, depth);
}

function takeFence(lines, at) {
  const [, fence, info] = lines[at].match(FENCE);
  const closing = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  const code = lines.slice(at + 1, end).join("\n");
  return [Math.min(end + 1, lines.length), () => codeBlock(code, info.trim().split(/\s/)[0])];
}

/** A formula with lines of its own. */
function takeFormula(lines, at) {
  const first = lines[at].trim();
  const closing = DISPLAY[first.slice(0, 2)];
  if (!closing) return null;
  for (let last = at; last < lines.length && lines[last].trim() !== ""; last += 1) {
    const line = lines[last].trim();
    const found = line.indexOf(closing, last === at ? 2 : 0);
    if (found < 0) continue;
    if (found + 2 !== line.length) return null;
    const source = lines.slice(at, last + 1).map((each) => each.trim()).join("\n");
    return [last + 1, () => element("p", "formula", [typeset(source, source.slice(2, -2), true)])];
  }
  return null;
}

function takeHeading(lines, at) {
  const [, marks, text] = lines[at].match(HEADING);
  return [at + 1, () => inline(element(`h${marks.length}`), text)];
}

function takeQuote(lines, at, depth) {
  let end = at;
  while (end < lines.length && (QUOTE.test(lines[end]) || (lines[end].trim() !== "" && !startsBlock(lines[end])))) end += 1;
  const inner = lines.slice(at, end).map((line) => line.match(QUOTE)?.[1] ?? line);
  return [end, () => fill(element("blockquote"), parseBlocks(inner, depth + 1))];
}

function takeList(lines, at, depth) {
  const [, indent, first] = lines[at].match(ITEM);
  const ordered = /\d/.test(first);
  const items = [];
  let loose = false;
  let end = at;
  while (end < lines.length) {
    const found = lines[end].match(ITEM);
    if (!found || found[1].length > indent.length + 3 || /\d/.test(found[2]) !== ordered || RULE.test(lines[end])) break;
    const width = found[1].length + found[2].length + Math.min(Math.max(found[3].length, 1), 4);
    const [next, blank, inner] = takeItem(lines, end, width);
    items.push([found[4], ...inner]);
    loose ||= blank && next < lines.length && ITEM.test(lines[next]);
    end = next;
  }
  const make = () => {
    const list = element(ordered ? "ol" : "ul");
    if (ordered && parseInt(first, 10) !== 1) list.start = parseInt(first, 10);
    list.append(...items.map((item) => listItem(item, loose, depth)));
    return list;
  };
  return [end, make];
}

/** The lines of one item after its first: those indented under it, and the paragraph's lazy lines. */
function takeItem(lines, at, width) {
  const inner = [];
  let blank = false;
  let end = at + 1;
  while (end < lines.length) {
    const line = lines[end];
    const indent = line.length - line.trimStart().length;
    if (line.trim() === "") {
      blank = true;
      inner.push("");
    } else if (indent >= 2) {
      inner.push(line.slice(Math.min(indent, width)));
      blank = false;
    } else if (blank || startsBlock(line) || ITEM.test(line)) {
      break;
    } else {
      inner.push(line);
    }
    end += 1;
  }
  while (inner.length && inner[inner.length - 1] === "") inner.pop();
  return [end, blank, inner];
}

function listItem(lines, loose, depth) {
  const item = element("li");
  const task = lines[0].match(/^\[([ xX])\]\s+(.*)$/);
  if (task) {
    const box = element("input");
    box.type = "checkbox";
    box.checked = task[1] !== " ";
    box.disabled = true;
    item.className = "task";
    item.append(box);
    lines = [task[2], ...lines.slice(1)];
  }
  fill(item, parseBlocks(lines, depth + 1));
  const paragraph = item.querySelector(":scope > p");
  if (!loose && paragraph) paragraph.replaceWith(...paragraph.childNodes);
  return item;
}

function isTable(lines, at) {
  return lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") && TABLE_RULE.test(lines[at + 1])
    && cells(lines[at]).length === cells(lines[at + 1]).length;
}

function takeTable(lines, at) {
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && lines[end].trim() !== "") end += 1;
  return [end, () => table(lines.slice(at, end))];
}

function table([head, rule, ...rows]) {
  const aligns = cells(rule).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : ""));
  const row = (line, tag) => {
    const made = element("tr");
    cells(line).slice(0, aligns.length).forEach((cell, column) => {
      const box = cellContent(element(tag), cell);
      if (aligns[column]) box.className = aligns[column];
      made.append(box);
    });
    return made;
  };
  const whole = element("table");
  const [thead, tbody] = [element("thead"), element("tbody")];
  thead.append(row(head, "th"));
  tbody.append(...rows.map((line) => row(line, "td")));
  whole.append(thead, tbody);
  const frame = element("div", "table");
  frame.tabIndex = 0;
  frame.append(whole);
  return frame;
}

/** A cell cannot have lines of its own in Markdown, so that they are written as HTML. */
function cellContent(box, text) {
  const code = /(`+[^`]*`+)/;
  const lines = text.split(code).map((part) => (code.test(part) ? part : part.replace(/ *<br *\/?> */gi, "\n")));
  lines.join("").split("\n").forEach((line, number) => {
    if (number) box.append(element("br"));
    inline(box, line);
  });
  return box;
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function takeParagraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== "" && !startsBlock(lines[end]) && !isTable(lines, end)) end += 1;
  const text = lines.slice(at, end).map((line) => line.trimStart()).join("\n").trimEnd();
  return [end, () => inline(element("p"), text)];
}

function startsBlock(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || /^\s*([-*+]|1[.)])\s+\S/.test(line);
}

function fill(parent, blocks) {
  parent.append(...blocks.map((block) => block.make()));
  return parent;
}

function codeBlock(code, language) {
  const frame = element("div", "code");
  const bar = element("div", "code-bar");
  const name = element("span");
  name.textContent = language || "text";
  const copy = element("button", "copy");
  copy.type = "button";
  copy.textContent = "Copy";
  copy.dataset.testid = "copy-code";
  copy.addEventListener("click", async () => {
    copy.textContent = (await toClipboard(code)) ? "Copied" : "Select and copy by hand";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
  bar.append(name, copy);
  const pre = element("pre");
  pre.tabIndex = 0;
  const inner = element("code");
  inner.textContent = code;
  pre.append(inner);
  frame.append(bar, pre);
  return frame;
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no permission, or a page that did not come from this machine: browsers refuse the clipboard then
  }
}

// Inline text: one pass from left to right. A search that failed once is not made again, so that no text, however
// broken, takes more than about linear time.

function inline(parent, text, depth = 0) {
  new Inline(parent, text, depth).run();
  return parent;
}

class Inline {
  constructor(parent, text, depth) {
    this.parent = parent;
    this.text = text;
    this.depth = depth;
    this.plain = "";
    this.hopeless = new Set();
  }

  run() {
    let at = 0;
    while (at < this.text.length) {
      const end = this.depth < DEEPEST ? this.special(at) : 0;
      if (end > at) {
        at = end;
      } else {
        this.plain += this.text[at];
        at += 1;
      }
    }
    this.flush();
  }

  flush() {
    if (this.plain) this.parent.append(this.plain);
    this.plain = "";
  }

  add(node) {
    this.flush();
    this.parent.append(node);
  }

  /** Where what begins at `at` ends, once it is added; 0 if nothing special begins there. */
  special(at) {
    switch (this.text[at]) {
      case "\\":
        return this.formula(at) || this.escape(at);
      case "$":
        return this.formula(at);
      case "&":
        return this.entity(at);
      case "`":
        return this.code(at);
      case "*":
      case "_":
        return this.emphasis(at, 3) || this.emphasis(at, 2) || this.emphasis(at, 1);
      case "~":
        return this.emphasis(at, 2);
      case "!":
        return this.text[at + 1] === "[" ? this.link(at + 1) : 0;
      case "[":
        return this.link(at);
      case "<":
        return this.autolink(at);
      case "h":
        return this.bareLink(at);
      case "\n":
        return this.lineBreak(at);
      default:
        return 0;
    }
  }

  formula(at) {
    const opening = this.text.slice(at, at + 2);
    const closing = DISPLAY[opening] ?? (opening === "\\(" ? "\\)" : "");
    const isLink = (found) => opening === "\\[" && this.text[found + 2] === "("; // brackets of a link that was escaped
    if (closing) {
      const close = this.find(closing, at + 2, () => true);
      return isLink(close) ? 0 : this.addFormula(at, close, 2);
    }
    if (this.text[at] !== "$" || /\s|^$/.test(this.text[at + 1] ?? "")) return 0;
    const close = this.find("$", at + 1, () => true);
    const tex = this.text.slice(at + 1, close);
    if (close < 0 || /\s$|\n/.test(tex) || !/[\\^_={}]/.test(tex) || /\d/.test(this.text[close + 1] ?? "")) return 0;
    return this.addFormula(at, close, 1);
  }

  addFormula(at, close, marks) {
    if (close < 0 || close - at > MAX_FORMULA || !this.text.slice(at + marks, close).trim()) return 0;
    const source = this.text.slice(at, close + marks);
    this.add(typeset(source, source.slice(marks, -marks), false));
    return close + marks;
  }

  entity(at) {
    const found = this.text.slice(at, at + 40).match(/^&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});/i);
    if (!found) return 0;
    const decoder = document.createElement("textarea"); // its content is text, whatever is in it
    decoder.innerHTML = found[0];
    this.plain += decoder.value;
    return at + found[0].length;
  }

  escape(at) {
    const next = this.text[at + 1];
    if (/[,;]/.test(next ?? "")) return 0; // spaces of LaTeX
    if (next === "\n") {
      this.add(element("br"));
      return at + 2;
    }
    if (next === undefined || !/[!-/:-@[-`{-~]/.test(next)) return 0;
    this.plain += next;
    return at + 2;
  }

  lineBreak(at) {
    if (!this.plain.endsWith("  ")) return 0;
    this.plain = this.plain.trimEnd();
    this.add(element("br"));
    return at + 1;
  }

  code(at) {
    const run = this.text.slice(at).match(/^`+/)[0];
    const close = this.find(run, at + run.length, (found) => this.text[found - 1] !== "`" && this.text[found + run.length] !== "`");
    if (close < 0) {
      this.plain += run;
      return at + run.length;
    }
    const node = element("code");
    const inner = this.text.slice(at + run.length, close).replaceAll("\n", " ");
    node.textContent = /^ .* $/.test(inner) && inner.trim() ? inner.slice(1, -1) : inner;
    this.add(node);
    return close + run.length;
  }

  emphasis(at, length) {
    const mark = this.text[at];
    const run = mark.repeat(length);
    const inside = at + length;
    if (!this.text.startsWith(run, at) || !this.text[inside] || /[\s]/.test(this.text[inside]) || this.text[inside] === mark) return 0;
    if (mark === "_" && isWord(this.text[at - 1])) return 0;
    const close = this.find(run, inside + 1, (found) => this.closes(found, mark, length));
    if (close < 0) return 0;
    const tags = { 1: ["em"], 2: [mark === "~" ? "del" : "strong"], 3: ["strong", "em"] }[length];
    const nodes = tags.map((tag) => element(tag));
    nodes.reduce((outer, inner) => (outer.append(inner), inner));
    inline(nodes[nodes.length - 1], this.text.slice(inside, close), this.depth + 1);
    this.add(nodes[0]);
    return close + length;
  }

  closes(found, mark, length) {
    const before = this.text[found - 1];
    if (/\s/.test(before) || before === "\\") return false;
    if (length === 1 && (before === mark || this.text[found + 1] === mark)) return false;
    if (length === 2 && this.text[found + 2] === mark && before !== mark && mark !== "~") return this.text[found + 3] !== mark;
    return mark !== "_" || !isWord(this.text[found + length]);
  }

  link(at) {
    if (this.find("](", at, () => true) < 0) return 0;
    const close = this.bracket(at);
    if (close < 0 || this.text[close + 1] !== "(") return 0;
    const target = this.text.slice(close + 2, close + 2 + 2 * MAX_LABEL_LENGTH)
      .match(/^\s*<?((?:[^\s()<>]|\([^\s()<>]*\))+)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/);
    const url = target && webAddress(target[1]);
    if (!url) return 0;
    const label = this.text.slice(at + 1, close);
    const node = anchor(url);
    if (label.trim()) inline(node, label, DEEPEST - 1);
    else node.textContent = target[1];
    this.add(node);
    return close + 2 + target[0].length;
  }

  bracket(at) {
    let open = 0;
    for (let here = at; here < Math.min(this.text.length, at + MAX_LABEL_LENGTH); here += 1) {
      if (this.text[here] === "\\") here += 1;
      else if (this.text[here] === "[") open += 1;
      else if (this.text[here] === "]" && (open -= 1) === 0) return here;
    }
    return -1;
  }

  autolink(at) {
    const found = this.text.slice(at, at + 2 * MAX_LABEL_LENGTH).match(/^<(https?:\/\/[^\s<>]+)>/);
    const url = found && webAddress(found[1]);
    if (!url) return 0;
    const node = anchor(url);
    node.textContent = found[1];
    this.add(node);
    return at + found[0].length;
  }

  bareLink(at) {
    if (!this.text.startsWith("http", at) || isWord(this.text[at - 1])) return 0;
    const found = this.text.slice(at, at + 2 * MAX_LABEL_LENGTH).match(/^https?:\/\/[^\s<>"`|]+/);
    if (!found || this.parent.closest?.("a")) return 0;
    const written = trimAddress(found[0]);
    const url = webAddress(written);
    if (!url) return 0;
    const node = anchor(url);
    node.textContent = written;
    this.add(node);
    return at + written.length;
  }

  find(needle, from, fits) {
    if (this.hopeless.has(needle)) return -1;
    for (let found = this.text.indexOf(needle, from); found >= 0; found = this.text.indexOf(needle, found + 1)) {
      if (fits(found)) return found;
    }
    this.hopeless.add(needle);
    return -1;
  }
}

function trimAddress(written) {
  let trimmed = written.replace(/[.,;:!?'*_~\]]+$/, "");
  while (trimmed.endsWith(")") && trimmed.split(")").length > trimmed.split("(").length) {
    trimmed = trimmed.slice(0, -1).replace(/[.,;:!?'*_~\]]+$/, "");
  }
  return trimmed;
}

/** The address if it is one of the web's; everything else (scripts, files, relative paths) is no link. */
function webAddress(written) {
  if (!/^https?:\/\//i.test(written) || !URL.canParse(written)) return null;
  return new URL(written).href;
}

function anchor(url) {
  const node = element("a");
  node.href = url;
  node.target = "_blank";
  node.rel = "noopener noreferrer";
  return node;
}

function isWord(character) {
  return character !== undefined && /[\p{L}\p{N}_]/u.test(character);
}

const WITH_DIRECTION = new Set(["p", "li", "blockquote", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol"]);

/** Elements of text take their direction from its first letter, so that Arabic and Hebrew read from right to left. */
function element(tag, className = "", children = []) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (WITH_DIRECTION.has(tag)) node.dir = "auto";
  node.append(...children);
  return node;
}
