// Who would serve the next message, asked before it is sent.

import { request } from "./api.js";
import { byId, el, setText } from "./dom.js";

const PAUSE_MS = 300;
// A plan depends on whether there are images, not on what they show; so they aren't uploaded for it.
const ANY_IMAGE =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=";

/** Shows the plan for `body()`, the request as it would be sent; `null` if it can't be. */
export class Plan {
  constructor(body) {
    this.body = body;
    byId("plan").addEventListener("click", () => this.#open(byId("plan-list").hidden));
  }

  /** Asks again, soon. */
  refresh() {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.#ask();
    }, PAUSE_MS);
  }

  async #ask() {
    const body = this.body();
    if (!body) return;
    this.asking?.abort();
    const { signal } = (this.asking = new AbortController());
    try {
      const response = await request("diplex/v1/plan", { body: withoutImages(body), signal });
      this.#show((await response.json()).candidates);
    } catch (error) {
      if (error.name !== "AbortError") this.#say(error.message, []);
    }
  }

  #show(candidates) {
    const first = candidates.find((it) => it.can_serve);
    const more = candidates.length - 1;
    const others = more ? ` (${more} ${more > 1 ? "others" : "other"})` : "";
    if (!first) this.#say(`Nobody can serve this: ${candidates[0]?.reason ?? "no worker"}`, candidates);
    else this.#say(`Goes to ${first.worker}: ${first.reason}${others}`, candidates);
  }

  #say(text, candidates) {
    setText(byId("plan-text"), text);
    const items = candidates.map((it, index) =>
      el(it.can_serve ? "li" : "li.unable", {}, el("strong", {}, `${index + 1}. ${it.model}`),
        ` ${placeOf(it)}`, el("span.muted", {}, it.can_serve ? it.reason : `can't: ${it.reason}`)));
    byId("plan-list").replaceChildren(...items);
  }

  #open(open) {
    byId("plan-list").hidden = !open;
    byId("plan").setAttribute("aria-expanded", String(open));
  }
}

const placeOf = ({ backend, precision, worker }) =>
  [backend, precision, `on ${worker}`].filter((word) => word !== "unspecified").join(" ");

function withoutImages({ stream, stream_options, ...body }) {
  const plain = (part) => (part.type === "image_url" ? { ...part, image_url: { url: ANY_IMAGE } } : part);
  const messages = body.messages.map((message) =>
    Array.isArray(message.content) ? { ...message, content: message.content.map(plain) } : message);
  return { ...body, messages };
}
