// node stream.js "Why is the sky blue?"
//
// An answer as it is generated. Events come in this order: one `accepted`, any number of `delta`, a `finished` for each
// choice, one `receipt`.

import { caller, generation, within } from "./gateway.js";

const client = generation();
const request = {
  chat: { messages: [{ role: "ROLE_USER", parts: [{ text: process.argv[2] ?? "Why is the sky blue?" }] }] },
  stopping: { max_tokens: 60 },
};
const stream = client.GenerateStream(request, caller(), within(60));

for await (const event of stream) {
  if (event.event === "accepted") console.error(`${event.accepted.model} on ${event.accepted.worker}`);
  if (event.event === "delta") process.stdout.write(event.delta.text);
  if (event.event === "finished") console.error(`\n${event.finished.reason}`);
  if (event.event === "receipt") {
    const { usage, timings } = event.receipt;
    const rate = (1000 * (usage.completion_tokens - 1)) / timings.decode_ms;
    console.error(`${usage.completion_tokens} tokens, ${rate.toFixed(0)} a second`);
  }
}
client.close();
