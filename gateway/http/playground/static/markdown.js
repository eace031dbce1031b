// Markdown as it streams in, into elements and text nodes. Never markup: what a model says can't become more than
// the few elements made here, and nothing is fetched.

import { el } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^`\n]*$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*$/;
const ITEM = /^( *)(?:([-*+])|(\d{1,9})[.)])[ \t]+(.*)$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const TABLE_RULE = /^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
// Bounded, so that no text takes more than linear time.
const INLINE =
  /\\([!-/:-@[-`{-~])|(`+)([^`]|[^`][^]{0,400}?[^`])\2(?!`)|(\*\*|__)(?=\S)([^]{0,400}?\S)\4|(?<!\w)([*_])(?=\S)([^]{0,400}?[^\s*_])\6(?!\w)|\[([^\]\n]{1,200})\]\((https?:\/\/[^\s)]{1,500})\)/g;
const PLAIN = /^[^\\`*_[\]#>|~+\n-]*$/;

const LONGEST_OPEN = 4000; // characters of a block that are made anew a frame
const DEEPEST_QUOTE = 6;

/** Writes a growing text into an element: blocks that are complete are left alone, the last one is made anew. */
export class Markdown {
  constructor(root) {
    this.root = root;
    this.open = ""; // source of the last block, which may go on
    this.block = null; // its element
    this.plain = null; // its text node, if it is a paragraph without anything in it
    this.code = null; // the text node of a code block that is open
    this.fence = ""; // what opened it
    this.held = ""; // of its last line, what may become the end of the block
    this.atStart = true; // whether what comes next begins a line of it
  }

  /** Takes in what comes next. */
  append(text) {
    if (this.code) this.#appendCode(text);
    else if (this.plain && PLAIN.test(text)) {
      this.open += text;
      this.plain.appendData(text);
    } else this.#appendText(text);
  }

  #appendText(text) {
    let source = this.open + text;
    this.block?.remove();
    this.block = this.plain = null;
    let start = 0; // of the line
    for (let end; (end = source.indexOf("\n", start)) >= 0; ) {
      const line = source.slice(start, end);
      const fence = FENCE.exec(line);
      if (fence) {
        this.#write(source.slice(0, start));
        this.open = "";
        this.#openCode(fence);
        this.#appendCode(source.slice(end + 1));
        return;
      }
      start = end + 1;
      if (!line.trim() || start > LONGEST_OPEN) {
        this.#write(source.slice(0, start));
        source = source.slice(start);
        start = 0;
      }
    }
    this.open = source;
    this.block = this.#write(source);
    if (this.block?.localName !== "p" || !PLAIN.test(source)) return;
    this.plain = this.block.firstChild;
    this.plain.data = source.trimStart(); // with the spaces at its end, behind which it goes on
  }

  #write(source) {
    if (!source.trim()) return null;
    const block = blockOf(source.replace(/\s+$/, "").split("\n"));
    this.root.append(block);
    return block;
  }

  #openCode([, fence, language]) {
    this.fence = fence;
    this.held = "";
    this.atStart = true;
    this.code = document.createTextNode("");
    const named = { "aria-label": language || "Code", "data-language": language || false };
    this.root.append(el("pre", { tabindex: "0", role: "group", ...named }, el("code", {}, this.code)));
  }

  #appendCode(text) {
    const source = this.held + text;
    this.held = "";
    for (let from = 0; from < source.length; ) {
      const end = source.indexOf("\n", from);
      const line = source.slice(from, end < 0 ? undefined : end);
      if (this.atStart && end < 0 && isFence(line, this.fence, 0)) {
        this.held = line;
        return;
      }
      if (this.atStart && isFence(line, this.fence, this.fence.length)) {
        this.code = null;
        this.#appendText(source.slice(end + 1));
        return;
      }
      this.code.appendData(end < 0 ? line : `${line}\n`);
      this.atStart = end >= 0;
      from = end < 0 ? source.length : end + 1;
    }
  }
}

/** Whether a line is made of the fence's character, at least so often. */
function isFence(line, fence, least) {
  const text = line.trim();
  return text.length >= least && text === fence[0].repeat(text.length);
}

function blockOf(lines, depth = 0) {
  if (lines.length === 1 && RULE.test(lines[0])) return el("hr");
  if (depth < DEEPEST_QUOTE && lines.every((line) => line.startsWith(">"))) {
    return el("blockquote", {}, blockOf(lines.map((line) => line.replace(/^> ?/, "")), depth + 1));
  }
  if (lines.length > 1 && lines[0].includes("|") && TABLE_RULE.test(lines[1])) return tableOf(lines);
  const parts = partsOf(lines);
  return parts.length === 1 ? parts[0] : el("div.group", {}, ...parts);
}

/** Paragraphs, headings and a list, which may follow each other without an empty line. */
function partsOf(lines) {
  const parts = [];
  let paragraph = [];
  const close = () => {
    if (paragraph.length) parts.push(el("p", {}, ...inline(paragraph.join("\n").trimStart())));
    paragraph = [];
  };
  for (const [index, line] of lines.entries()) {
    const heading = HEADING.exec(line);
    if (heading) {
      close();
      parts.push(el(`h${Math.min(6, heading[1].length + 2)}`, {}, ...inline(heading[2])));
    } else if (ITEM.test(line)) {
      close();
      parts.push(listOf(lines.slice(index)));
      break;
    } else paragraph.push(line);
  }
  close();
  return parts;
}

function listOf(lines) {
  const first = ITEM.exec(lines[0]);
  const list = first[2] ? el("ul") : el("ol", { start: first[3] });
  let item = [];
  const close = () => {
    if (!item.length) return;
    const [head, ...rest] = item;
    const nested = rest.findIndex((line) => ITEM.test(line));
    const own = [head, ...(nested < 0 ? rest : rest.slice(0, nested)).map((line) => line.trim())];
    const inner = nested < 0 ? [] : [listOf(rest.slice(nested))];
    list.append(el("li", {}, ...inline(own.join("\n")), ...inner));
  };
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (found && found[1].length <= first[1].length) {
      close();
      item = [found[4]];
    } else item.push(line);
  }
  close();
  return list;
}

function tableOf(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (kind, line) => el("tr", {}, ...cells(line).map((cell) => el(kind, {}, ...inline(cell))));
  const body = lines.slice(2).map((line) => row("td", line));
  const table = el("table", {}, el("thead", {}, row("th", lines[0])), el("tbody", {}, ...body));
  return el("div.table", { tabindex: "0", role: "group", "aria-label": "Table" }, table);
}

/** Nodes of a text with code, emphasis and links in it. */
function inline(text) {
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    if (found.index > at) nodes.push(document.createTextNode(text.slice(at, found.index)));
    at = found.index + found[0].length;
    const [, escaped, , code, , strong, , emphasis, label, url] = found;
    if (escaped !== undefined) nodes.push(document.createTextNode(escaped));
    else if (code !== undefined) nodes.push(el("code", {}, code));
    else if (strong !== undefined) nodes.push(el("strong", {}, ...inline(strong)));
    else if (emphasis !== undefined) nodes.push(el("em", {}, ...inline(emphasis)));
    else nodes.push(el("a", { href: url, title: url, target: "_blank", rel: "noopener noreferrer" }, label));
  }
  if (at < text.length || !nodes.length) nodes.push(document.createTextNode(text.slice(at)));
  return nodes;
}
