// What has been said, as data; it outlives a reload of the page, and ends with the tab.

const STORE = "diplex-conversation";

/**
 * A list of turns. A turn is `{text, images, answers, chosen, facts, failure, stopped, model}`: what was asked, and
 * what came. An answer is `{text, end}`; `chosen` is the index of the one that the chat goes on with.
 */
export class Conversation {
  constructor() {
    this.turns = [];
    try {
      this.turns = JSON.parse(sessionStorage.getItem(STORE) || "[]");
    } catch {
      // Nothing is restored from what can't be read.
    }
  }

  /** Begins a turn. */
  add(text, images) {
    const turn = { text, images, answers: [], chosen: 0 };
    this.turns.push(turn);
    return turn;
  }

  /** Ends the conversation; the next turn begins another. */
  clear() {
    this.turns = [];
    this.keep();
  }

  /** Keeps it over a reload, without images if they are too large for that. */
  keep() {
    for (const turns of [this.turns, this.turns.map((turn) => ({ ...turn, images: [] })), []]) {
      try {
        sessionStorage.setItem(STORE, JSON.stringify(turns));
        return;
      } catch {
        // The storage is too small for it.
      }
    }
  }

  /** Messages up to a turn, perhaps a new one, whose answer is wanted. Turns without an answer are left out. */
  messages(system, last) {
    const messages = system ? [{ role: "system", content: system }] : [];
    const at = this.turns.indexOf(last);
    for (const turn of at < 0 ? this.turns : this.turns.slice(0, at)) {
      const answer = turn.answers[turn.chosen]?.text;
      if (!answer) continue;
      messages.push({ role: "user", content: contentOf(turn) }, { role: "assistant", content: answer });
    }
    return [...messages, { role: "user", content: contentOf(last) }];
  }
}

/** The content of a user's message: what the model sees, then what is asked of it. */
function contentOf({ text, images }) {
  if (!images.length) return text;
  const parts = images.map(({ url }) => ({ type: "image_url", image_url: { url } }));
  return text ? [...parts, { type: "text", text }] : parts;
}
