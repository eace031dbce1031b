// node deadline.js
//
// A call that may take one second. The deadline travels with every hop: the worker stops, too. What can be foreseen
// not to end in time is refused at once, with the time to come back.

import { status } from "@grpc/grpc-js";

import { detailsOf } from "./details.js";
import { call, generation, within } from "./gateway.js";

const client = generation();
const request = {
  prompt: "The history of the sea is a history of people who",
  sampling: { temperature: 0 },
  stopping: { max_tokens: 4000, min_tokens: 4000 },
};
const began = performance.now();
try {
  await call(client, "Generate", request, within(1));
} catch (error) {
  const { reason = "", retrySeconds } = detailsOf(error);
  const seconds = (performance.now() - began) / 1000;
  console.log(`${status[error.code]} ${reason}`.trim());
  console.error(`after ${seconds.toFixed(1)} s${retrySeconds ? `; come back in ${retrySeconds} s` : ""}`);
}
client.close();
