// Sending, and what comes of it, into the conversation and onto the page.

import { events } from "./api.js";
import { announce, byId } from "./dom.js";
import { afterPainting, repaint } from "./frames.js";
import { duration } from "./receipt.js";
import { TurnView } from "./turns.js";

const NEAR_END_PX = 48;
const LONGEST_READ_OUT = 400; // characters

/** The chat: one answer at a time. `changed()` is called when it begins or ends to answer. */
export class Chat {
  constructor(conversation, settings, models, changed) {
    Object.assign(this, { conversation, settings, models, changed });
    this.scroller = byId("conversation");
    this.views = new Map(); // turn -> its view
    this.running = null; // ends the answer that is under way
    this.following = true; // the end of the conversation
    this.scroller.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.scroller;
      this.following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    }, { passive: true });
    afterPainting(() => this.#follow());
    for (const turn of conversation.turns) this.#restore(turn);
  }

  /** Whether an answer is under way. */
  get isAnswering() {
    return this.running !== null;
  }

  /** What would be sent: the conversation and one more message. */
  request(text, images) {
    const turn = { text: text || (images.length ? "" : "Hi"), images };
    const messages = this.conversation.messages(this.settings.system, turn);
    return { ...this.settings.fields(), messages };
  }

  /** Sends a message. */
  send(text, images) {
    const turn = this.conversation.add(text, images);
    const view = this.#add(turn);
    this.following = true;
    this.#answer(turn, view);
    if (this.settings.answers > 1) {
      // From the first of them on, since they don't grow.
      this.following = false;
      view.root.scrollIntoView();
    }
  }

  /** Answers a turn anew; what came behind it is gone. */
  again(turn = this.conversation.turns.at(-1)) {
    if (this.isAnswering || !turn) return;
    const { turns } = this.conversation;
    for (const later of turns.splice(turns.indexOf(turn) + 1)) {
      this.views.get(later).root.remove();
      this.views.delete(later);
    }
    this.#answer(turn, this.views.get(turn));
    byId("prompt").focus();
  }

  /** Ends the answer that is under way. */
  stop() {
    this.running?.abort();
  }

  /** Ends the conversation. */
  clear() {
    this.stop();
    this.conversation.clear();
    this.views.clear();
    byId("turns").replaceChildren();
    byId("empty").hidden = false;
    this.changed();
  }

  async #answer(turn, view) {
    const { signal } = (this.running = new AbortController());
    const count = this.settings.answers;
    Object.assign(turn, {
      answers: Array.from({ length: count }, () => ({ text: "", end: "" })),
      chosen: 0, facts: undefined, failure: undefined, stopped: false,
      model: byId("model").value, json: this.settings.json,
    });
    view.begin(turn.model, count);
    this.changed();
    this.#follow();
    const began = performance.now();
    try {
      await this.#load(view, signal);
      await this.#stream(turn, view, signal);
      announce(readOut(turn, performance.now() - began));
    } catch (error) {
      this.#fail(turn, error);
    }
    this.running = null;
    for (const index of turn.answers.keys()) view.grow(index);
    view.finish();
    this.changed();
    this.conversation.keep();
    repaint({ paint() {} }); // keeps to the end behind the receipt
  }

  /** Loads the model with progress, if it isn't; who may not load one sends all the same, and waits. */
  async #load(view, signal) {
    if (this.models.isReady || !this.models.chosen) return;
    view.say("loading the model…");
    const { model, backend, precision } = this.settings.fields();
    try {
      await this.models.load({ model, backend, precision }, { told: (text) => view.say(text), signal });
    } catch (error) {
      if (error.status !== 403) throw error;
    }
  }

  async #stream(turn, view, signal) {
    view.say("waiting…");
    announce("Waiting for the answer");
    const body = {
      ...this.settings.fields(),
      messages: this.conversation.messages(this.settings.system, turn),
      stream: true,
      stream_options: { include_usage: true },
    };
    const began = performance.now();
    let firstMs = null;
    for await (const chunk of events("v1/chat/completions", { body, signal })) {
      for (const { index, delta, finish_reason: reason } of chunk.choices) {
        const answer = turn.answers[index];
        if (delta.content) {
          if (firstMs === null) {
            firstMs = performance.now() - began;
            view.say(`first token after ${duration(firstMs)}`);
          }
          answer.text += delta.content;
          view.grow(index);
        }
        if (reason) {
          answer.end = reason === "stop" ? "end_of_sequence" : reason;
          view.ended(index);
        }
      }
      if (chunk.diplex) {
        chunk.diplex.finish_reasons.forEach((reason, index) => {
          turn.answers[index].end = reason;
          view.ended(index);
        });
        turn.facts = { usage: chunk.usage, receipt: chunk.diplex, firstMs, totalMs: performance.now() - began };
      }
    }
    if (!turn.facts) throw new Error("The answer broke off before its end.");
  }

  #fail(turn, error) {
    if (error.name === "AbortError") {
      turn.stopped = true;
      announce("Stopped");
      return;
    }
    const later = error.retryAfter ? ` Try again in ${Math.ceil(error.retryAfter)} s.` : "";
    turn.failure = `${error.message}${later}`;
  }

  #add(turn) {
    byId("empty").hidden = true;
    const on = { again: (which) => this.again(which), chosen: () => this.conversation.keep() };
    const view = new TurnView(turn, this.views.size + 1, on);
    this.views.set(turn, view);
    byId("turns").append(view.root);
    return view;
  }

  #restore(turn) {
    const view = this.#add(turn);
    view.begin(turn.model, turn.answers.length);
    for (const [index, answer] of turn.answers.entries()) {
      view.grow(index);
      if (answer.end) view.ended(index);
    }
    view.finish();
  }

  #follow() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

function readOut(turn, ms) {
  const [answer] = turn.answers;
  if (turn.answers.length > 1) return `${turn.answers.length} answers after ${duration(ms)}`;
  return answer.text.length <= LONGEST_READ_OUT ? `Answer: ${answer.text}` : `The answer is complete, after ${duration(ms)}`;
}
