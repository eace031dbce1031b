// How a turn looks: what was asked, the answers as they stream in, and the receipt.

import { el, setText } from "./dom.js";
import { repaint } from "./frames.js";
import { Markdown } from "./markdown.js";
import { endOf, receiptView } from "./receipt.js";

/** One turn on the page; `on` has what its buttons do: `again(turn)`, `chosen(turn)`. */
export class TurnView {
  constructor(turn, number, on) {
    this.turn = turn;
    this.on = on;
    this.name = el("span.name", {}, turn.model ?? "");
    this.state = el("span.muted");
    this.body = el("div.body");
    this.foot = el("div.foot");
    this.root = el("li.turn", {}, questionOf(turn, number),
      el("article.answer", { "aria-label": `Answer ${number}` }, el("p.who", {}, this.name, this.state), this.body, this.foot));
    this.answers = [];
  }

  /** Takes away what came before, and makes room for so many answers. */
  begin(model, count) {
    setText(this.name, model);
    this.foot.replaceChildren();
    this.body.setAttribute("aria-busy", "true");
    this.root.classList.toggle("compared", count > 1);
    const named = `choice-${Math.random()}`;
    this.answers = this.turn.answers.map((answer, index) =>
      count > 1 ? new Card(this, index, named) : new Text(answer, this.turn.json));
    const legend = el("legend.hidden", {}, "With which answer the chat goes on");
    const made = this.answers.map((answer) => answer.root);
    this.body.replaceChildren(...(count > 1 ? [el("fieldset.cards", {}, legend, ...made)] : made));
  }

  /** Says what it waits for, or nothing. */
  say(text) {
    setText(this.state, text);
  }

  /** Shows more of an answer, in one of the next frames. */
  grow(index) {
    repaint(this.answers[index]);
  }

  /** Shows why a choice has ended. */
  ended(index) {
    this.answers[index].ended?.();
  }

  /** Shows how it ended. */
  finish() {
    const { turn } = this;
    this.body.removeAttribute("aria-busy");
    this.say(turn.stopped ? "stopped" : "");
    const beside = [];
    if (turn.failure) beside.push(el("p.fault.boxed", { role: "alert" }, turn.failure));
    if (turn.facts) beside.push(receiptView(turn.facts));
    const early = this.answers.length === 1 && turn.answers[0].end;
    if (early && early !== "end_of_sequence") beside.push(el("p.muted", {}, `Ended ${endOf(early)}.`));
    const copy = el("button.quiet", { type: "button", click: () => this.#copy(copy) }, "Copy");
    const again = el("button.quiet.again", { type: "button", click: () => this.on.again(turn) },
      turn.failure && !turn.answers.some((it) => it.text) ? "Try again" : "Again");
    beside.push(el("div.deeds", {}, ...(turn.answers.some((it) => it.text) ? [copy] : []), again));
    this.foot.replaceChildren(...beside);
  }

  async #copy(button) {
    try {
      await navigator.clipboard.writeText(this.turn.answers[this.turn.chosen].text);
      setText(button, "Copied");
    } catch {
      setText(button, "Can't copy here");
    }
    setTimeout(() => setText(button, "Copy"), 1500);
  }
}

/** One answer in the column. */
class Text {
  constructor(answer, isJson) {
    this.answer = answer;
    this.root = el("div.text");
    this.written = 0; // characters
    if (isJson) {
      this.code = document.createTextNode("");
      this.root.append(el("pre", { tabindex: "0", role: "group", "aria-label": "JSON" }, el("code", {}, this.code)));
    } else this.markdown = new Markdown(this.root);
  }

  paint() {
    const { text } = this.answer;
    const more = text.slice(this.written);
    this.written = text.length;
    if (!more) return;
    if (this.code) this.code.appendData(more);
    else this.markdown.append(more);
  }
}

/** One answer of several: a card whose size never changes, and which keeps to its end while it grows. */
class Card extends Text {
  constructor(view, index, named) {
    const { turn } = view;
    super(turn.answers[index], turn.json);
    this.choice = el("input", { type: "radio", name: named, checked: turn.chosen === index,
      change: () => {
        turn.chosen = index;
        view.on.chosen(turn);
      } });
    this.why = el("span.muted");
    this.scroller = el("div.scroller", {}, this.root);
    this.root = el("div.card", {}, el("label", {}, this.choice, el("span", {}, `${index + 1}`), this.why), this.scroller);
    this.scroller.addEventListener("wheel", () => (this.read = true), { passive: true });
    this.scroller.addEventListener("touchmove", () => (this.read = true), { passive: true });
  }

  settle() {
    if (!this.read && !this.answer.end) this.scroller.scrollTop = 1e9;
  }

  ended() {
    setText(this.why, endOf(this.answer.end));
    this.scroller.scrollTop = this.read ? this.scroller.scrollTop : 0;
  }
}

function questionOf(turn, number) {
  const images = turn.images.map((image) => el("img", { src: image.url, alt: image.name }));
  return el("article.question", { "aria-label": `Message ${number}` },
    ...(images.length ? [el("div.images", {}, ...images)] : []), turn.text ? el("p", {}, turn.text) : undefined);
}
