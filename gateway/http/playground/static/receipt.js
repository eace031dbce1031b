// What an answer cost and who gave it, as the gateway's receipt says.

import { el } from "./dom.js";

const WORDS = {
  end_of_sequence: "complete",
  stop: "at a stop string",
  max_tokens: "at the most tokens",
  context_length: "at the end of the context",
  time_limit: "at the time limit",
  tool_calls: "with calls",
};

/** Why a choice ended, for people. */
export const endOf = (reason) => WORDS[reason] ?? reason ?? "";

/** Milliseconds for people. */
export const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`);

/** A number of bytes for people. */
export function size(bytes) {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  return bytes >= 2 ** 20 ? `${Math.round(bytes / 2 ** 20)} MiB` : `${Math.ceil(bytes / 2 ** 10)} KiB`;
}

/** Tokens a second behind the first token of each choice; `null` if there is too little to tell. */
export function rate({ usage, receipt }) {
  const behind = usage.completion_tokens - receipt.finish_reasons.length;
  return behind > 0 && receipt.decode_ms > 0 ? (1000 * behind) / receipt.decode_ms : null;
}

/** The receipt: one line, and all of it on demand. `facts`: `{usage, receipt, firstMs, totalMs}`. */
export function receiptView(facts) {
  const { usage, receipt, firstMs } = facts;
  const pace = rate(facts);
  const cached = usage.prompt_tokens_details.cached_tokens;
  const line = [
    pace && `${pace.toFixed(pace < 10 ? 1 : 0)} tok/s`,
    firstMs !== null && `first token after ${duration(firstMs)}`,
    `${usage.prompt_tokens} + ${usage.completion_tokens} tokens`,
    `${cached} cached`,
    [receipt.backend, receipt.precision].filter(told).join(" "),
    receipt.worker,
  ];
  return el("details.receipt", {},
    el("summary", { title: "Receipt" }, ...line.filter(Boolean).map((text) => el("span", {}, text))),
    el("dl", {}, ...rows(facts).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}

function rows({ usage, receipt, firstMs, totalMs }) {
  const reasons = [...new Set(receipt.finish_reasons)].map(endOf).join(", ");
  const some = (count, text) => (count ? [[text, String(count)]] : []);
  return [
    ["Ended", reasons],
    ["Whole time, seen from here", duration(totalMs)],
    ...(firstMs === null ? [] : [["First token, seen from here", duration(firstMs)]]),
    ["Queue", duration(receipt.queue_ms)],
    ["Prompt", duration(receipt.prefill_ms)],
    ["Decoding", duration(receipt.decode_ms)],
    ["Prompt tokens", `${usage.prompt_tokens}, of them ${usage.prompt_tokens_details.cached_tokens} cached`],
    ["Tokens generated", String(usage.completion_tokens)],
    ...some(receipt.image_tokens, "Tokens of images"),
    ...some(receipt.cached_image_tokens, "Of them cached"),
    ...some(receipt.speculated_tokens, "Tokens guessed ahead"),
    ...some(receipt.dropped_messages, "Messages dropped from the prompt"),
    ["Seed", String(receipt.seed)],
    ["Worker", receipt.attempts > 1 ? `${receipt.worker}, at attempt ${receipt.attempts}` : receipt.worker],
    ["Model", receipt.model_digest || "unknown digest"],
    ["Request", receipt.request_id],
  ];
}

const told = (word) => word && word !== "unspecified";
