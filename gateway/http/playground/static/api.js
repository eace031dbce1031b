// Requests to the gateway that the page came from.

const BASE = new URL(".", document.baseURI);
const KEY = "diplex-key";

/** What a request failed with: `status` 0 if there was no answer, `retryAfter` in seconds or `null`. */
export class Failure extends Error {
  constructor(message, { status = 0, code = "", requestId = "", retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId, retryAfter });
  }
}

let key = sessionStorage.getItem(KEY) || "";
let asking = null; // the promise of whoever asks for a key now
let askForKey = async () => "";

/** The API key of this tab; empty without one. */
export const currentKey = () => key;

/** Keeps a key until the tab is closed; an empty one forgets it. */
export function useKey(value) {
  key = value;
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** Says who asks the user for a key: `async (why) => key`, empty if there will be none. */
export function whenKeyIsNeeded(ask) {
  askForKey = ask;
}

/** A response that is fine. `body` goes as JSON. Without a valid key the user is asked for one. */
export async function request(path, { body, accept = "application/json", signal } = {}) {
  for (;;) {
    const used = key;
    const response = await send(path, { body, accept, signal });
    if (response.ok) return response;
    const failure = await failureOf(response);
    if (failure.status !== 401 || !(await anotherKey(used, failure.message))) throw failure;
  }
}

/** The objects of a stream of events, to its end. */
export async function* events(path, { body, signal } = {}) {
  const response = await request(path, { body, accept: "text/event-stream", signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const pieces = (held + value).split("\n\n");
      held = pieces.pop();
      for (const piece of pieces) {
        const data = piece.slice("data: ".length);
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.type === "error") throw asFailure(event.error, 200);
        yield event;
      }
    }
  } catch (error) {
    if (error instanceof Failure || error.name === "AbortError") throw error;
    throw new Failure("The connection broke before the end.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function send(path, { body, accept, signal }) {
  const headers = { accept };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key) headers.authorization = `Bearer ${key}`;
  const method = body === undefined ? "GET" : "POST";
  try {
    return await fetch(new URL(path, BASE), { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The gateway can't be reached.");
  }
}

async function anotherKey(used, why) {
  if (key !== used) return true; // another request has been given one meanwhile
  asking ??= askForKey(used ? why : "This gateway asks for a key.").finally(() => (asking = null));
  const given = await asking;
  if (given) useKey(given);
  return Boolean(given);
}

async function failureOf(response) {
  const retryAfter = Number(response.headers.get("retry-after-ms")) / 1000 || null;
  try {
    return asFailure((await response.json()).error, response.status, retryAfter);
  } catch {
    return new Failure(`The server answered ${response.status}.`, { status: response.status, retryAfter });
  }
}

function asFailure(error, status, retryAfter = null) {
  const requestId = error.diplex?.metadata?.request_id ?? "";
  return new Failure(error.message, { status, code: error.code, requestId, retryAfter });
}
