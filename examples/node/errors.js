// node errors.js
//
// What a refusal says: a code, a constant reason, and each field that is at fault.

import { status } from "@grpc/grpc-js";

import { detailsOf } from "./details.js";
import { call, generation } from "./gateway.js";

const client = generation();
const request = { prompt: "Hello", sampling: { temperature: -1 }, stopping: { max_tokens: 0 } };
try {
  await call(client, "Generate", request);
} catch (error) {
  const { reason, violations, metadata } = detailsOf(error);
  console.log(`${status[error.code]} ${reason}`);
  for (const { field, description } of violations) console.log(`${field}: ${description}`);
  console.error(`request ${metadata.request_id}`);
}
client.close();
